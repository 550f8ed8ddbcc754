//! `cargo xtask`: set-up, build, run, test and lint.
fn main() {}
