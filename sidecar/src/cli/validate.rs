//! `sidecar validate FILE...`

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::Config;

/// Checks each file or directory as a configuration of its own and returns the exit status.
///
/// Prints `FILE: ok` to standard output; what is wrong, and what has no effect yet, to standard error.
/// 0: all are fine; 1: some are not.
pub fn run(files: &[PathBuf]) -> u8 {
    // Nobody reads on: then nothing is left to say.
    check(files, &mut io::stdout(), &mut io::stderr()).unwrap_or(1)
}

fn check(files: &[PathBuf], out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let mut status = 0;
    for file in files {
        match Config::load(file) {
            Ok(config) => {
                for unused in &config.unused {
                    writeln!(err, "{unused}")?;
                }
                writeln!(out, "{}: ok", file.display())?;
            }
            Err(errors) => {
                writeln!(err, "{errors}")?;
                status = 1;
            }
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_complaints_go_apart() -> io::Result<()> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let files = [PathBuf::from("/dev/null"), PathBuf::from("/nowhere.yaml")];
        assert_eq!(check(&files, &mut out, &mut err)?, 1);
        assert_eq!(String::from_utf8_lossy(&out), "/dev/null: ok\n");
        let err = String::from_utf8_lossy(&err);
        assert!(err.starts_with("/nowhere.yaml: cannot read: "), "{err}");
        assert_eq!(err.lines().count(), 1);
        assert_eq!(check(&files[..1], &mut Vec::new(), &mut Vec::new())?, 0);
        Ok(())
    }
}
