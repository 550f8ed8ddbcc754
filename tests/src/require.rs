//! What a test needs of the machine. A test that cannot run says why and passes; with `REQUIRE_PRIVILEGED=1`, which
//! CI sets, it fails instead.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::environment;

/// Ends the test early when the machine lacks something: `require!(root)`, `require!(program "nginx")`; or
/// `require!(optional program "java")`, which set-up does not install everywhere.
#[macro_export]
macro_rules! require {
    (root) => {
        $crate::require!(@ $crate::require::root())
    };
    (program $name:expr) => {
        $crate::require!(@ $crate::require::program($name))
    };
    (optional program $name:expr) => {
        $crate::require!(optional @ $crate::require::program($name))
    };
    (optional @ $check:expr) => {
        if let Err(reason) = $check {
            $crate::require::say_skipped(&reason);
            return;
        }
    };
    (envoy) => {
        $crate::require!(@ $crate::Envoy::find())
    };
    (@ $check:expr) => {
        if let Err(reason) = $check {
            $crate::require::skip(&reason);
            return;
        }
    };
}

/// Wraps a scenario in one `#[test]` for each mode: `in_modes!(v4: Ebpf, Iptables)` runs `fn v4(mode: Mode)` as the
/// tests `v4::Ebpf` and `v4::Iptables`.
#[macro_export]
macro_rules! in_modes {
    ($scenario:ident: $($mode:ident),+) => {
        mod $scenario {
            $(
                #[test]
                #[allow(non_snake_case, reason = "named after the mode's variant")]
                fn $mode() {
                    $crate::require!(root);
                    super::$scenario($crate::Mode::$mode);
                }
            )+
        }
    };
}

/// Whether this is root, who may make namespaces and load programs.
pub fn root() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err("needs root".to_owned()) }
}

/// A program of the Python environment that set-up made for `package` in `target/tools`.
pub fn tool(package: &str, name: &str) -> Result<PathBuf, String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let program = tools.join(package).join("bin").join(name);
    if program.is_file() { Ok(program) } else { Err(format!("needs {name} of {package} in target/tools")) }
}

/// Whether a program is installed.
pub fn program(name: &str) -> Result<(), String> {
    let found = environment::program_directories().iter().any(|directory| directory.join(name).is_file());
    if found || Path::new(name).is_file() { Ok(()) } else { Err(format!("needs the program `{name}`")) }
}

/// Says why the current test is skipped, past libtest's capture; a failure under `REQUIRE_PRIVILEGED=1`.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    assert!(!environment::skips_are_failures(), "{test} cannot run here, and REQUIRE_PRIVILEGED=1: {reason}");
    say_skipped(reason);
}

/// The same for what set-up does not install, which is never a failure: `require!(optional program "java")`.
pub fn say_skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    // The print macros would be captured, and shown only for tests that fail.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn finds_programs_by_name_and_by_path() {
        assert_eq!(super::program("sh"), Ok(()));
        assert_eq!(super::program("/bin/sh"), Ok(()));
        assert!(super::program("no-such-program").unwrap_err().contains("no-such-program"));
    }
}
