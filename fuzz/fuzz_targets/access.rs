//! See `sidecar::fuzzing::access`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sidecar::fuzzing::access(bytes));

#[cfg(not(fuzzing))]
fn main() {}
