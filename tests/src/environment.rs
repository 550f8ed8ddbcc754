//! What the environment says to the tests; README.md lists it.
#![allow(clippy::disallowed_methods, reason = "the one place where the tests read the environment")]

use std::path::PathBuf;

/// `REQUIRE_PRIVILEGED=1`: a skip is a failure.
pub(crate) fn skips_are_failures() -> bool {
    std::env::var_os("REQUIRE_PRIVILEGED").is_some_and(|value| value == "1")
}

/// `SIDECAR_BIN`: the binary under test.
pub(crate) fn binary() -> Option<PathBuf> {
    std::env::var_os("SIDECAR_BIN").map(PathBuf::from)
}

/// `SIDECAR_ENVOY`: an Envoy.
pub(crate) fn envoy() -> Option<PathBuf> {
    std::env::var_os("SIDECAR_ENVOY").map(PathBuf::from)
}

/// `SIDECAR_TEST_BYTES`: the length of large transfers.
pub fn transfer_bytes() -> Option<u64> {
    let value = std::env::var("SIDECAR_TEST_BYTES").ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("SIDECAR_TEST_BYTES={value}: {error}")))
}

/// What `SIDECAR_TORTURE_SECONDS`, `SIDECAR_TORTURE_SEED` and `SIDECAR_TORTURE_BYPASS` say of the torture test, or these
/// defaults.
pub fn torture(seconds: u64, seed: u64, bypass: &str) -> (u64, u64, String) {
    let number = |name: &str, default| {
        let Ok(value) = std::env::var(name) else { return default };
        value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
    };
    let bypass = std::env::var("SIDECAR_TORTURE_BYPASS").unwrap_or_else(|_| bypass.to_owned());
    (number("SIDECAR_TORTURE_SECONDS", seconds), number("SIDECAR_TORTURE_SEED", seed), bypass)
}

/// The directories of `PATH`, and those of system programs.
pub(crate) fn program_directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}
