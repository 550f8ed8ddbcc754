//! Reading fields of the kernel's own structures, at the offsets that userspace found in the running kernel's BTF.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::mem::{MaybeUninit, size_of, transmute};
use core::ptr::read_volatile;
use sidecar_common::bypass::{Layout, RDONLY_CAST};

/// All zero until userspace sets it; the programs that use it are not loaded before.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout {
    sock_cookie: 0,
    sock_state: 0,
    sock_rmem_alloc: 0,
    sock_rcvbuf: 0,
    sock_rcvlowat: 0,
    sock_flags: 0,
    sock_rcvbuf_lock: 0,
    sock_net: 0,
    net_tcp_rmem: 0,
    sock_socket: 0,
    socket_sk: 0,
    socket_file: 0,
    file_flags: 0,
    file_epoll: 0,
    file_private: 0,
    task_files: 0,
    files_table: 0,
    table_files: 0,
    csk_ulp_ops: 0,
    tcp_write_seq: 0,
    tcp_snd_una: 0,
    tcp_copied_seq: 0,
    tcp_rcv_nxt: 0,
    tcp_rcv_wup: 0,
    tcp_rcv_wnd: 0,
    zerocopy_bit: 0,
    type_tcp_sock: 0,
    type_net: 0,
    type_socket: 0,
    type_file: 0,
    rdonly_cast: 0,
};

/// include/uapi/asm-generic/fcntl.h
const O_NONBLOCK: u32 = 0o4000;

/// A field's offset. Volatile: the compiler must not take the zero above for it.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a reference to a static; aligned.
        unsafe { read_volatile(&raw const LAYOUT.$field) }
    };
}

/// The address of a `struct tcp_sock`, whose first member is the `struct sock`. What is read through a stale one is of no
/// use, and does no harm: the kernel checks each read, or finds nothing where there is no memory.
#[derive(Clone, Copy)]
pub struct Socket(pub u64);

/// The socket that a program was called for: the verifier knows it, and lets it be read without asking for each byte
/// whether it is there.
#[derive(Clone, Copy)]
pub struct Own(*const u8);

/// A `struct file` behind a socket.
#[derive(Clone, Copy)]
pub struct File(u64);

impl Socket {
    /// Its cookie; 0: it has none.
    #[inline(always)]
    pub fn cookie(self) -> Option<u64> {
        self.read(offset!(sock_cookie))
    }

    /// Its TCP state.
    #[inline(always)]
    pub fn state(self) -> Option<u8> {
        self.read(offset!(sock_state))
    }

    /// True when its program has read all that TCP received, and what comes next has this number.
    #[inline(always)]
    pub fn all_read_until(self, next: u32) -> Option<bool> {
        let received: u32 = self.read(offset!(tcp_rcv_nxt))?;
        let copied: u32 = self.read(offset!(tcp_copied_seq))?;
        Some(received == next && copied == next)
    }

    /// The sequence number that comes next, when its program has read all that TCP received.
    #[inline(always)]
    pub fn all_read(self) -> Option<u32> {
        let received: u32 = self.read(offset!(tcp_rcv_nxt))?;
        let copied: u32 = self.read(offset!(tcp_copied_seq))?;
        (received == copied).then_some(copied)
    }

    /// The sequence number that comes next, when no byte that was written is still to be acknowledged.
    #[inline(always)]
    pub fn acknowledged_until(self) -> Option<u32> {
        let written: u32 = self.read(offset!(tcp_write_seq))?;
        let acknowledged: u32 = self.read(offset!(tcp_snd_una))?;
        (written == acknowledged).then_some(written)
    }

    /// The sequence number of the byte that is written next.
    #[inline(always)]
    pub fn written_until(self) -> Option<u32> {
        self.read(offset!(tcp_write_seq))
    }

    /// True when its receive buffer takes so many bytes more, of which the first would have this number.
    ///
    /// And when what its window lets TCP send from there on (`tcp_receive_window`) fits as well: in the buffer as it is, or as TCP
    /// makes it when it is full (`tcp_clamp_window`). Otherwise it would be dropped, and come again only when the retransmission
    /// timer has run out, which doubles for as long as the reader reads nothing.
    #[inline(always)]
    pub fn has_room_for(self, bytes: u32, next: u32) -> Option<bool> {
        let used: i32 = self.read(offset!(sock_rmem_alloc))?;
        let size: i32 = self.read(offset!(sock_rcvbuf))?;
        let advertised_at: u32 = self.read(offset!(tcp_rcv_wup))?;
        let window: u32 = self.read(offset!(tcp_rcv_wnd))?;
        let promised = advertised_at.wrapping_add(window).wrapping_sub(next) as i32;
        let then = i64::from(used) + i64::from(bytes);
        let with_promised = then + i64::from(promised.max(0));
        if with_promised <= i64::from(size) {
            return Some(true);
        }
        Some(then <= i64::from(size) && with_promised <= i64::from(self.most_buffer()?))
    }

    /// What its receive buffer may grow to.
    #[inline(always)]
    fn most_buffer(self) -> Option<i32> {
        let lock = offset!(sock_rcvbuf_lock);
        let locks: u8 = self.read(lock / 8)?;
        if locks >> (lock % 8) & 1 != 0 {
            return Some(0);
        }
        let net: u64 = self.read(offset!(sock_net))?;
        read(net, offset!(type_net), offset!(net_tcp_rmem) + 2 * size_of::<i32>() as u32)
    }

    /// True when its program waits for more than one byte at a time (`SO_RCVLOWAT`, socket(7)).
    #[inline(always)]
    pub fn waits_for_more(self) -> Option<bool> {
        let lowat: i32 = self.read(offset!(sock_rcvlowat))?;
        Some(lowat > 1)
    }

    /// True when an upper-layer protocol such as kTLS sits on it.
    #[inline(always)]
    pub fn has_ulp(self) -> Option<bool> {
        let ulp: u64 = self.read(offset!(csk_ulp_ops))?;
        Some(ulp != 0)
    }

    /// True when its program may write without copying, and waits to hear when that is done.
    #[inline(always)]
    pub fn is_zerocopy(self) -> Option<bool> {
        let flags: u64 = self.read(offset!(sock_flags))?;
        Some(flags >> (offset!(zerocopy_bit) & 63) & 1 != 0)
    }

    /// Its file; `None`: it is not accepted yet, or closed.
    #[inline(always)]
    pub fn file(self) -> Option<File> {
        let socket: u64 = self.read(offset!(sock_socket))?;
        if socket == 0 {
            return None;
        }
        let file: u64 = read(socket, offset!(type_socket), offset!(socket_file))?;
        (file != 0).then_some(File(file))
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> Option<T> {
        read(self.0, offset!(type_tcp_sock), offset)
    }
}

impl Own {
    /// Of the helper `bpf_skc_to_tcp_sock`, not null.
    #[inline(always)]
    pub fn new(socket: *const u8) -> Self {
        Self(socket)
    }

    /// Its cookie; 0: it has none.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        self.load(offset!(sock_cookie))
    }

    /// The sequence number that comes next, when no byte that was written is still to be acknowledged.
    #[inline(always)]
    pub fn acknowledged_until(self) -> Option<u32> {
        let written: u32 = self.load(offset!(tcp_write_seq));
        let acknowledged: u32 = self.load(offset!(tcp_snd_una));
        (written == acknowledged).then_some(written)
    }

    /// The number of the byte that its program reads next.
    #[inline(always)]
    pub fn copied_until(self) -> u32 {
        self.load(offset!(tcp_copied_seq))
    }

    /// True when an upper-layer protocol such as kTLS sits on it.
    #[inline(always)]
    pub fn has_ulp(self) -> bool {
        self.load::<u64>(offset!(csk_ulp_ops)) != 0
    }

    /// True when its program may write without copying, and waits to hear when that is done.
    #[inline(always)]
    pub fn is_zerocopy(self) -> bool {
        self.load::<u64>(offset!(sock_flags)) >> (offset!(zerocopy_bit) & 63) & 1 != 0
    }

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the verifier checks each load against the kernel's own type. Volatile keeps its width.
        unsafe { read_volatile(self.0.add(offset as usize).cast::<T>()) }
    }
}

impl File {
    /// What a task calls by this number.
    #[inline(always)]
    pub fn of(task: u64, number: u32) -> Option<Self> {
        let files: u64 = probe(task, offset!(task_files))?;
        let table: u64 = probe(files, offset!(files_table))?;
        let open: u64 = probe(table, offset!(table_files))?;
        let file: u64 = probe(open + u64::from(number) * 8, 0)?;
        (file != 0).then_some(Self(file))
    }

    /// The socket behind it. What is no socket does not point back to its file.
    #[inline(always)]
    pub fn socket(self) -> Option<Socket> {
        let socket: u64 = self.read(offset!(file_private))?;
        // It need not be one: these may fail.
        let file: u64 = probe(socket, offset!(socket_file))?;
        let sk: u64 = probe(socket, offset!(socket_sk))?;
        (file == self.0 && sk != 0).then_some(Socket(sk))
    }

    /// True when reading and writing never wait.
    #[inline(always)]
    pub fn is_nonblocking(self) -> bool {
        matches!(self.read::<u32>(offset!(file_flags)), Some(flags) if flags & O_NONBLOCK != 0)
    }

    /// True when an epoll instance watches it.
    #[inline(always)]
    pub fn is_watched(self) -> bool {
        let watchers: Option<u64> = self.read(offset!(file_epoll));
        let Some(watchers) = watchers.filter(|head| *head != 0) else { return false };
        matches!(probe::<u64>(watchers, 0), Some(first) if first != 0)
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: u32) -> Option<T> {
        read(self.0, offset!(type_file), offset)
    }
}

/// Reads a field of a structure of this type at this address. With the cast it is a plain load, which gives 0 where there is no memory
/// (a35b9af4ec2c, `BPF_PROBE_MEM`); a message takes a dozen of them.
#[inline(always)]
fn read<T: Copy>(base: u64, of: u32, offset: u32) -> Option<T> {
    if offset!(rdonly_cast) == 0 {
        return probe(base, offset);
    }
    // SAFETY: userspace puts the kernel's function here, which takes an address and the number of a type.
    let cast: unsafe extern "C" fn(u64, u32) -> *const u8 = unsafe { transmute(RDONLY_CAST as usize) };
    // SAFETY: the verifier checks each load against the kernel's own type. Volatile keeps its width.
    Some(unsafe { read_volatile(cast(base, of).add(offset as usize).cast::<T>()) })
}

#[inline(always)]
fn probe<T: Copy>(base: u64, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let from = base + u64::from(offset);
    // SAFETY: the helper writes `size_of::<T>()` bytes to `value`, or zeroes, and survives any source address.
    let result = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            from as *const core::ffi::c_void,
        )
    };
    // SAFETY: written, and an integer.
    (result == 0).then(|| unsafe { value.assume_init() })
}
