//! What a program's executable says of it.

use std::fs::{self, File};
use std::io;

use object::read::{Object, ReadCache};

/// Imports splice(2) to offer it to scripts (`os.splice`); nothing in its own library calls it on a connection.
const OFFERS: &str = "python";

/// True when a process's program may call splice(2) on its connections: it imports it, or is written in Go, whose
/// `io.Copy` calls it by itself. A static program tells nothing, so it may.
pub fn may_splice(pid: u32) -> io::Result<bool> {
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(OFFERS.as_bytes())) {
        return Ok(false);
    }
    let cache = ReadCache::new(File::open(format!("/proc/{pid}/exe"))?);
    let executable = object::File::parse(&cache).map_err(io::Error::other)?;
    if executable.section_by_name(".go.buildinfo").is_some() {
        return Ok(true);
    }
    let imports = executable.imports().map_err(io::Error::other)?;
    Ok(imports.is_empty() || imports.iter().any(|import| import.name() == b"splice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_import_it_may_not() {
        let mut sleep = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let answer = may_splice(sleep.id());
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        assert!(!answer.unwrap());
        assert!(may_splice(u32::MAX).is_err());
    }
}
