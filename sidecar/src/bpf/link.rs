//! bpf(2) on links: made here rather than by aya, whose links of sockopt programs cannot be pinned, and detached by
//! number, for what a killed process left behind. Also the older attaching to a map, and running a program oneself.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// The start of `union bpf_attr`; the kernel takes what lies beyond for zero, and writes within this as it answers.
#[repr(C)]
struct Attr([u64; 8]);

/// The start of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    reserved: u32,
    /// What follows is of its kind: of a cgroup's, the cgroup's number; of a network namespace's, its inode and another word.
    target: [u32; 2],
}

/// enum `bpf_prog_type`.
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// enum `bpf_link_type`.
const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_NETNS: u32 = 5;

/// Attaches a program to a cgroup or network namespace. The program stays attached while the link is open or pinned.
pub fn create(program: BorrowedFd<'_>, target: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    link_to(program, number(target.as_raw_fd())?, attach_type)
}

/// Attaches a program to an interface of this thread's network namespace, likewise.
pub fn create_at_interface(program: BorrowedFd<'_>, index: u32, attach_type: u32) -> io::Result<OwnedFd> {
    link_to(program, index, attach_type)
}

/// Whether programs can be attached to an interface so; EINVAL: this kernel knows no such hook.
pub fn has_hook_at_interface(index: u32, attach_type: u32) -> io::Result<()> {
    bpf(BPF_PROG_QUERY, &mut Attr::of_words([index, attach_type, 0, 0])).map(drop)
}

fn link_to(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let words = [number(program.as_raw_fd())?, target, attach_type, 0];
    let fd = bpf(BPF_LINK_CREATE, &mut Attr::of_words(words))?;
    // SAFETY: the kernel has just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a map of sockets. There is no link: it stays attached while a file descriptor or pin of the map
/// does, and to each socket in it while that is in it.
pub fn attach_to_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>, attach_type: u32) -> io::Result<()> {
    let words = [number(map.as_raw_fd())?, number(program.as_raw_fd())?, attach_type, 0];
    bpf(BPF_PROG_ATTACH, &mut Attr::of_words(words)).map(drop)
}

/// Whether this kernel accepts a classifier of these instructions (`struct bpf_insn`, as words).
pub fn accepts(instructions: &[u64]) -> bool {
    let Ok(count) = u32::try_from(instructions.len()) else { return false };
    let (instructions, license) = (instructions.as_ptr() as u64, c"Dual BSD/GPL".as_ptr() as u64);
    let mut attr = Attr([pair(BPF_PROG_TYPE_SCHED_CLS, count), instructions, license, 0, 0, 0, 0, 0]);
    // SAFETY: the kernel has just made this file descriptor for us.
    bpf(BPF_PROG_LOAD, &mut attr).map(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) })).is_ok()
}

/// Runs a program once on a packet, which it may change.
pub fn run(program: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<()> {
    let size = u32::try_from(packet.len()).map_err(io::Error::other)?;
    let data = packet.as_mut_ptr() as u64;
    // The program; its result; the sizes of what goes in and may come out, and where; how often.
    let sizes = pair(size, size);
    let mut attr = Attr([number(program.as_raw_fd())?.into(), sizes, data, data, 1, 0, 0, 0]);
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

/// Pins a link, program or map to a path on bpffs.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr([path.as_ptr() as u64, number(object.as_raw_fd())?.into(), 0, 0, 0, 0, 0, 0]);
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens what is pinned there. Asks for the right to read and write the file, and for no capability.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = bpf(BPF_OBJ_GET, &mut Attr([path.as_ptr() as u64, 0, 0, 0, 0, 0, 0, 0]))?;
    // SAFETY: the kernel has just made this file descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's number of a link.
pub fn id(link: &OwnedFd) -> io::Result<u32> {
    info(link).map(|info| info.id)
}

/// Whether a link to a cgroup or network namespace still has it: the kernel detaches links from what goes.
pub fn is_attached(link: &OwnedFd) -> io::Result<bool> {
    let LinkInfo { kind, target: [first, second], .. } = info(link)?;
    Ok(match kind {
        BPF_LINK_TYPE_CGROUP => (first, second) != (0, 0),
        BPF_LINK_TYPE_NETNS => first != 0,
        _ => true,
    })
}

/// Detaches a link from its cgroup or network namespace. Fine when it is detached.
pub fn detach_open(link: &OwnedFd) -> io::Result<bool> {
    match bpf(BPF_LINK_DETACH, &mut Attr::of_words([number(link.as_raw_fd())?, 0, 0, 0])) {
        Ok(_) => Ok(true),
        // Its cgroup or network namespace is gone already.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(false),
        Err(error) => Err(error),
    }
}

fn info(link: &OwnedFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let size = u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?;
    let mut attr = Attr([pair(number(link.as_raw_fd())?, size), (&raw mut info) as u64, 0, 0, 0, 0, 0, 0]);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Detaches a link from its cgroup or network namespace, wherever it is pinned. `Ok(false)`: there is none.
/// Needs CAP_SYS_ADMIN.
pub fn detach(id: u32) -> io::Result<bool> {
    let fd = match bpf(BPF_LINK_GET_FD_BY_ID, &mut Attr::of_words([id, 0, 0, 0])) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has just made this file descriptor for us.
    detach_open(&unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Attr {
    fn of_words([a, b, c, d]: [u32; 4]) -> Self {
        Self([pair(a, b), pair(c, d), 0, 0, 0, 0, 0, 0])
    }
}

/// Two neighbouring 32-bit fields.
fn pair(first: u32, second: u32) -> u64 {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&first.to_ne_bytes());
    both[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(both)
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
