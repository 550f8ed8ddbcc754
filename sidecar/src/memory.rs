//! The allocator, and memory that goes back to the system when it is not used any more.
//!
//! A connection that rests leaves holes of all sizes between what it keeps. glibc gives back only what happens to be whole pages: of
//! what a thousand connections had taken it kept half, and more with each time that they woke. jemalloc keeps each size in
//! pages of its own.

use std::ffi::c_char;
use std::fs;
use std::ptr;
use std::time::Duration;

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

/// What a proxy did until it was last looked at.
#[derive(Default)]
struct Rest {
    before: u64,
    /// When code was given back last; `None`: not since the start.
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

/// Gives back the code of starting when that is over, and the code that connections ran when many have begun or gone to rest,
/// and none does any more. `count`: of those so far. What they allocated goes by itself. Never ends.
pub async fn tidy(count: impl Fn() -> u64) {
    let mut rest = Rest::default();
    loop {
        tokio::time::sleep(SETTLED).await;
        if rest.is_due(count()) {
            // If the process ends meanwhile, nothing is lost.
            let _ = tokio::task::spawn_blocking(give_back_code).await;
        }
    }
}

/// Gives back the code that ran so far, and its constants: much of the executable and of its libraries is for starting. What of it
/// is needed again comes from the page cache. Takes milliseconds.
fn give_back_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut last = "";
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let Some((_, file)) = rest.split_once(" /") else { continue };
        let is_first = std::mem::replace(&mut last, file) != file;
        // The first part of a file is constants, which nothing relocates; a later one that can only be read was written before.
        let is_clean = line.contains(" r-xp ") || (is_first && line.contains(" r--p 00000000 "));
        let Some((start, end)) = range.split_once('-').filter(|_| is_clean) else { continue };
        let bound = |text| usize::from_str_radix(text, 16);
        if let (Ok(start), Ok(end)) = (bound(start), bound(end)) {
            // SAFETY: pages of a file that are mapped to be read or run, and were never written: the kernel reads them
            // from the file again (madvise(2)).
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

// === impl Rest ===

impl Rest {
    /// True when nothing was done since the last look, and enough before that since code was given back.
    fn is_due(&mut self, now: u64) -> bool {
        let is_settled = now == std::mem::replace(&mut self.before, now);
        let is_due = is_settled && self.given.is_none_or(|given| now - given >= ENOUGH);
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
    fn code_is_given_back_when_all_is_quiet() {
        let mut rest = Rest::default();
        let seen = [3, 3, 3, 66, 66, 67, 70, 70, 70, 134, 134].map(|count| rest.is_due(count));
        // Once the start is over, and after 64 more.
        assert_eq!(seen.map(u8::from), [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1]);
    }
}
