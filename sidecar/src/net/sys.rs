//! System calls that no library wraps: memory given back, and socket options: our own (see `sidecar_common::option`), `TCP_INFO`, `SO_NETNS_COOKIE`.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use sidecar_common::connection::Record;
use sidecar_common::flow::{NetnsCookie, Role};
use sidecar_common::option::{self, Announce, Forward};
use socket2::{Domain, SockRef, Socket, Type};

use super::addrs::{ClientAddr, ConnectionId};

/// What TCP knows of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpInfo {
    /// Smoothed round-trip time, in microseconds.
    pub rtt_us: u32,
    /// Segments sent again since the connection opened.
    pub retransmits: u32,
}

/// Tells the kernel half what a socket of the proxy is for, before listen(). ENOPROTOOPT: no kernel half listens.
pub fn announce(socket: &impl AsFd, role: Role) -> io::Result<()> {
    let cookie = SockRef::from(socket).cookie()?;
    set(socket, option::LEVEL, option::ROLE, &Announce { cookie, role: role as u32, reserved: 0 })
}

/// Tells the kernel half what the connection is for that this socket is about to make. `client` is shown to the
/// server that accepts it. EPERM: the kernel half has no room to note it.
pub fn forward(socket: &impl AsFd, id: ConnectionId, client: ClientAddr) -> io::Result<()> {
    let cookie = SockRef::from(socket).cookie()?;
    set(socket, option::LEVEL, option::FORWARD, &Forward { cookie, id: id.0, client: client.0.into() })
}

/// The kernel half's record of the connection that this socket of the proxy belongs to; `None`: it has none.
pub fn record(socket: &impl AsFd) -> Option<Record> {
    let mut record = MaybeUninit::<Record>::uninit();
    let size = get(socket, option::LEVEL, option::RECORD, &mut record).ok()?;
    // SAFETY: the option was answered with a whole record, any bit pattern of which is valid.
    (size == size_of::<Record>()).then(|| unsafe { record.assume_init() })
}

/// `TCP_INFO` (tcp(7)).
pub fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    // SAFETY: zeroed, then filled in part by the kernel; all fields are integers.
    let info = unsafe { info.assume_init() };
    Ok(TcpInfo { rtt_us: info.tcpi_rtt, retransmits: info.tcpi_total_retrans })
}

/// Bytes that were written and not acknowledged by the peer yet, `SIOCOUTQ` (tcp(7)). Stays as it was on a socket that was
/// reset; 0 where the kernel does not say.
pub fn unacknowledged(socket: &impl AsFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is valid for writes during the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).unwrap_or_default() } else { 0 }
}

/// Bytes that wait to be read, `FIONREAD` (tcp(7)).
pub fn unread(socket: &impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is valid for writes during the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == 0 { Ok(u64::try_from(bytes).unwrap_or_default()) } else { Err(io::Error::last_os_error()) }
}

/// Gives memory that is not used any more back to the system: what the allocator would keep, and the code of the start-up,
/// which is much of the executable. Code that is needed again comes from the page cache.
pub fn give_back_memory() {
    let Ok(own) = fs::read_link("/proc/self/exe") else { return };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let code = maps.lines().filter(|line| line.contains(" r-xp ") && line.ends_with(&*own.to_string_lossy()));
    for (start, end) in code.filter_map(|line| line.split_once(' ')?.0.split_once('-')) {
        let bound = |text| usize::from_str_radix(text, 16);
        if let (Ok(start), Ok(end)) = (bound(start), bound(end)) {
            // SAFETY: pages of a file that are mapped to be read and run, and were never written: the kernel reads them
            // from the file again (madvise(2)).
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    trim_heap();
}

/// Gives free memory back that the allocator would keep.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and moves nothing that is in use (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The cookie of this thread's network namespace; 0 on kernels without `SO_NETNS_COOKIE` (before 5.14).
pub fn netns_cookie() -> io::Result<NetnsCookie> {
    /// include/uapi/asm-generic/socket.h
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut cookie = MaybeUninit::<u64>::zeroed();
    match get(&socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie) {
        // SAFETY: zeroed, then written by the kernel; an integer.
        Ok(_) => Ok(unsafe { cookie.assume_init() }),
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(0),
        Err(error) => Err(error),
    }
}

fn set<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is valid for reads of `size` bytes during the call.
    let result = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns how many bytes the kernel wrote.
fn get<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut MaybeUninit<T>,
) -> io::Result<usize> {
    let mut size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is valid for writes of `size` bytes during the call.
    let result = unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut size) };
    if result == 0 { Ok(size as usize) } else { Err(io::Error::last_os_error()) }
}
