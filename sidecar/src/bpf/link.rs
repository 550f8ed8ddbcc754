//! bpf(2) on links: made here rather than by aya, whose links of sockopt programs cannot be pinned, and detached by
//! number, for what a killed process left behind.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// The start of `union bpf_attr`; the kernel takes what lies beyond for zero.
#[repr(C)]
union Attr {
    words: [u32; 4],
    long_first: LongFirst,
}

/// Commands that begin with a pointer, or with two words and a pointer.
#[repr(C)]
#[derive(Clone, Copy)]
struct LongFirst {
    pointer_or_words: u64,
    pointer_or_word: u64,
}

/// The start of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    reserved: u32,
}

/// Attaches a program to a cgroup or network namespace. The program stays attached while the link is open or pinned.
pub fn create(program: BorrowedFd<'_>, target: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let words = [number(program.as_raw_fd())?, number(target.as_raw_fd())?, attach_type, 0];
    let fd = bpf(BPF_LINK_CREATE, &mut Attr { words })?;
    // SAFETY: the kernel has just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a link to a path on bpffs.
pub fn pin(link: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = u64::from(number(link.as_raw_fd())?);
    let mut attr =
        Attr { long_first: LongFirst { pointer_or_words: path.as_ptr() as u64, pointer_or_word: fd } };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// The kernel's number of a link.
pub fn id(link: &OwnedFd) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let words = u64::from(number(link.as_raw_fd())?) | (size_of::<LinkInfo>() as u64) << 32;
    let mut attr =
        Attr { long_first: LongFirst { pointer_or_words: words, pointer_or_word: (&raw mut info) as u64 } };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.id)
}

/// Detaches a link from its cgroup or network namespace, wherever it is pinned. `Ok(false)`: there is none.
/// Needs CAP_SYS_ADMIN.
pub fn detach(id: u32) -> io::Result<bool> {
    let fd = match bpf(BPF_LINK_GET_FD_BY_ID, &mut Attr { words: [id, 0, 0, 0] }) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has just made this file descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    match bpf(BPF_LINK_DETACH, &mut Attr { words: [number(link.as_raw_fd())?, 0, 0, 0] }) {
        Ok(_) => Ok(true),
        // Its cgroup or network namespace is gone already.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(error) => Err(error),
    }
}

fn number(fd: i32) -> io::Result<u32> {
    u32::try_from(fd).map_err(io::Error::other)
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is valid for the size that is passed; pointers in it are to values that outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
