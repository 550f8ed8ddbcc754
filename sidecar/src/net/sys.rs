//! System calls that no library wraps: socket options, our own (see `sidecar_common::option`), `TCP_INFO`, `SO_NETNS_COOKIE`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use sidecar_common::bypass::Answer;
use sidecar_common::connection::Record;
use sidecar_common::flow::{NetnsCookie, Role};
use sidecar_common::option::{self, Announce, Forward};
use sidecar_common::stats::Counters;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::ReadBuf;

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

/// The answer to what this UDP socket just asked. ENOPROTOOPT: nobody answers.
pub fn answer(socket: &impl AsFd) -> io::Result<Answer> {
    let mut answer = MaybeUninit::<Answer>::uninit();
    match get(socket, option::LEVEL, option::ANSWER, &mut answer)? {
        // SAFETY: the option was answered with a whole answer, any bit pattern of which is valid.
        size if size == size_of::<Answer>() => Ok(unsafe { answer.assume_init() }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What the kernel half has counted on all CPUs; `None`: there is none that knows this process for its proxy.
pub fn counters(socket: &impl AsFd) -> Option<Counters> {
    let of_cpu = |cpu| {
        let mut counters = MaybeUninit::<Counters>::uninit();
        let size = get(socket, option::LEVEL, option::COUNTERS.checked_add(cpu)?, &mut counters).ok()?;
        // SAFETY: the option was answered with whole counters, any bit pattern of which is valid.
        (size == size_of::<Counters>()).then(|| unsafe { counters.assume_init() })
    };
    let sum = Counters::sum((0..).map_while(of_cpu));
    // It may have gone meanwhile, and the sum be one of some.
    of_cpu(0).map(|_| sum)
}

/// `TCP_INFO` (tcp(7)).
pub fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    // SAFETY: zeroed, then filled in part by the kernel; all fields are integers.
    let info = unsafe { info.assume_init() };
    Ok(TcpInfo { rtt_us: info.tcpi_rtt, retransmits: info.tcpi_total_retrans })
}

/// Reads into what of a buffer is not filled, at most so many bytes. Nothing is written there but what came.
pub fn receive(socket: &impl AsFd, buffer: &mut ReadBuf<'_>, most: usize) -> io::Result<usize> {
    let most = buffer.remaining().min(most);
    // SAFETY: recv() only writes, so nothing that is initialised becomes uninitialised.
    let came = SockRef::from(socket).recv(unsafe { &mut buffer.unfilled_mut()[..most] })?;
    // SAFETY: the kernel has written so many bytes, at the beginning of what was not filled.
    unsafe { buffer.assume_init(came) };
    buffer.advance(came);
    Ok(came)
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

/// Writes to a Unix socket, with a file descriptor for whoever reads the first of these bytes (unix(7), `SCM_RIGHTS`).
pub fn send_with(socket: &impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[] } else { &rights[..] };
    let socket = socket.as_fd().as_raw_fd();
    Ok(sendmsg::<()>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Reads from a Unix socket, with a file descriptor that came along. Of more than one, all but the first are closed.
pub fn receive_with(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(buffer)];
    let socket = socket.as_fd().as_raw_fd();
    let received = recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut came = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            // SAFETY: the kernel has just made these file descriptors for us.
            came.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((received.bytes, came.into_iter().next()))
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
