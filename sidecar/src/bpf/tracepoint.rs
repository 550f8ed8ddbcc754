//! Attaching to a tracepoint. Its number is read from tracefs, which is mounted for that, and nowhere to be seen, where
//! it is not there already.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::link;

/// Where it usually is.
const TRACEFS: &str = "/sys/kernel/tracing";
/// include/uapi/linux/mount.h
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
/// include/uapi/linux/perf_event.h
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
/// enum `bpf_attach_type` (include/uapi/linux/bpf.h).
const BPF_PERF_EVENT: u32 = 41;

/// The first version of `struct perf_event_attr`; the kernel takes the rest for zero.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

/// Runs the program at each passing of the tracepoint, while what is returned is open: a link, which can be pinned, or
/// before Linux 5.15 (b89fbfbb854c) an event, which cannot.
pub(super) fn attach(program: BorrowedFd<'_>, category: &str, name: &str) -> io::Result<OwnedFd> {
    let size = u32::try_from(size_of::<PerfEvent>()).map_err(io::Error::other)?;
    let mut event = PerfEvent {
        kind: PERF_TYPE_TRACEPOINT,
        size,
        config: number(category, name)?,
        ..PerfEvent::default()
    };
    let (any_process, first_cpu, no_group) = (-1, 0, -1);
    // SAFETY: `event` is valid for the size that it says. A program on a tracepoint runs on every CPU, whichever the
    // event is for.
    let fd = call(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut event,
            any_process,
            first_cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    })?;
    control(&fd, PERF_EVENT_IOC_ENABLE, 0)?;
    if let Ok(link) = link::create(program, fd.as_fd(), BPF_PERF_EVENT) {
        return Ok(link);
    }
    control(&fd, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd())?;
    Ok(fd)
}

/// A tracepoint's number.
fn number(category: &str, name: &str) -> io::Result<u64> {
    let path = format!("events/{category}/{name}/id");
    let text = match fs::read_to_string(Path::new(TRACEFS).join(&path)) {
        Ok(text) => text,
        Err(_) => read_below(&tracefs()?, &path)?,
    };
    text.trim().parse().map_err(|_| io::Error::other(format!("tracefs: {path} is no number")))
}

/// A mount that is in no mount namespace, and goes with its file descriptor.
fn tracefs() -> io::Result<OwnedFd> {
    const NAME: &CStr = c"tracefs";
    // SAFETY: the name is a string that ends.
    let context = call(unsafe { libc::syscall(libc::SYS_fsopen, NAME.as_ptr(), 0) })?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value.
    let created =
        unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    call(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0) })
}

fn read_below(directory: &OwnedFd, path: &str) -> io::Result<String> {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(directory, path, flags, nix::sys::stat::Mode::empty())?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

fn control(event: &OwnedFd, request: libc::c_ulong, argument: RawFd) -> io::Result<()> {
    // SAFETY: both requests take a number.
    if unsafe { libc::ioctl(event.as_raw_fd(), request, argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A file descriptor that a system call has made.
fn call(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
