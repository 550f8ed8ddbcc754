//! See `sidecar::fuzzing::framing`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sidecar::fuzzing::framing(bytes));

#[cfg(not(fuzzing))]
fn main() {}
