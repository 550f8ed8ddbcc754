//! See `sidecar::fuzzing::headers`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sidecar::fuzzing::headers(bytes));

#[cfg(not(fuzzing))]
fn main() {}
