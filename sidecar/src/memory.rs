//! The allocator, and memory that goes back to the system when it is not used any more.
//!
//! A connection that rests leaves holes of all sizes between what it keeps. glibc gives back only what happens to be whole pages: of
//! what a thousand connections had taken it kept half, and more with each time that they woke. jemalloc keeps each size in
//! pages of its own.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;
use std::{ptr, slice};

use nix::unistd::{SysconfVar, sysconf};
use tikv_jemallocator::Jemalloc;

/// So many connections must have begun, or gone to rest, before it is worth anything, and none for so long.
const ENOUGH: u64 = 64;
const SETTLED: Duration = Duration::from_secs(1);

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Its settings, under the name by which it finds them (jemalloc(3), "Tuning"): two arenas, since there are few threads; what is
/// free goes back after a second, by a thread of its own; no thread keeps hyper's buffers for itself.
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: Settings = Settings(
    c"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,tcache_max:4096".as_ptr(),
);

#[repr(transparent)]
struct Settings(*const c_char);

// SAFETY: points to a constant.
unsafe impl Sync for Settings {}

/// How many connections had begun or gone to rest.
#[derive(Default)]
struct Activity {
    /// At the last look.
    before: u64,
    /// When code was given back last; `None`: never.
    given: Option<u64>,
}

/// Gives back all that starting took, at once.
pub fn give_back() {
    // MALLCTL_ARENAS_ALL (jemalloc(3), "arena.<i>.purge").
    // SAFETY: a name that ends with 0, and neither a value to be read nor one to be written.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            c"arena.4096.purge".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    give_back_code();
}

/// Gives back the code of starting a second later, and the code that connections ran each time that many have begun or gone to
/// rest, and none does any more. `count`: of those so far. What they allocated goes by itself. Never ends.
pub async fn tidy(count: impl Fn() -> u64) {
    let mut activity = Activity::default();
    loop {
        tokio::time::sleep(SETTLED).await;
        if activity.is_due(count()) {
            // If the process ends meanwhile, nothing is lost.
            let _ = tokio::task::spawn_blocking(give_back_code).await;
        }
    }
}

/// Gives back the code that ran so far, and its constants: much of the executable and of its libraries is for starting. What of it
/// is needed again comes from the page cache. Takes milliseconds. Breakpoints and uprobes in it are lost.
fn give_back_code() {
    // SAFETY: the callback needs no data.
    unsafe { libc::dl_iterate_phdr(Some(give_back_segments), ptr::null_mut()) };
}

/// Those of one of the process's files that are never written. The C library holds its lock on the list of files meanwhile, so that none
/// goes away.
unsafe extern "C" fn give_back_segments(
    file: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let Some(page) = page.and_then(|size| u64::try_from(size).ok()) else { return 0 };
    // SAFETY: the loader's, with as many headers as it says, all valid during the call.
    let (file, name, headers) = unsafe {
        let file = &*file;
        let headers = slice::from_raw_parts(file.dlpi_phdr, file.dlpi_phnum.into());
        (file, CStr::from_ptr(file.dlpi_name).to_bytes(), headers)
    };
    // The executable has no name. What has one without a path is the kernel's (vdso(7)).
    if !name.is_empty() && !name.contains(&b'/') {
        return 0;
    }
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = file.dlpi_addr.wrapping_add(header.p_vaddr);
        let before = start % page;
        // SAFETY: pages of a file that are mapped to be read or run, and were never written, since linkers refuse relocations in
        // code: the kernel reads them from the file again (madvise(2)).
        unsafe {
            libc::madvise(
                (start - before) as *mut c_void,
                usize::try_from(before + header.p_filesz).unwrap_or_default(),
                libc::MADV_DONTNEED,
            )
        };
    }
    0
}

// === impl Activity ===

impl Activity {
    /// True at the first look; and when there was nothing since the last one, and enough before that since code was given back.
    fn is_due(&mut self, now: u64) -> bool {
        let is_settled = now == std::mem::replace(&mut self.before, now);
        let is_due = self.given.is_none_or(|given| is_settled && now - given >= ENOUGH);
        if is_due {
            self.given = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_given_back_after_the_start_and_when_all_is_quiet() {
        let mut activity = Activity::default();
        let seen = [3, 3, 66, 66, 67, 70, 70, 70, 134, 134].map(|count| activity.is_due(count));
        assert_eq!(seen.map(u8::from), [1, 0, 0, 0, 0, 0, 1, 0, 0, 1]);
    }
}
