//! What must hold for any bytes whatsoever, for the fuzz targets in `fuzz/`. It is no part of the library: it exists only under
//! `cfg(fuzzing)`, and in this crate's own tests, which try the targets' seeds.
//!
//! Each function takes the bytes that the fuzzer made up, and panics where a property does not hold.
#![allow(clippy::missing_panics_doc, reason = "that is what all of them do")]

mod access;
mod config;
mod detection;
mod paths;
mod reader;

pub use access::access;
pub use config::config;
pub use detection::detection;
pub use paths::paths;

pub(crate) use reader::ends;

/// The framing guard of HTTP/1.1 passes what has one meaning alone, however it is cut into pieces.
pub fn framing(bytes: &[u8]) {
    crate::http::fuzzing::framing(bytes);
}

/// What is for one hop goes no further, and all else does.
pub fn headers(bytes: &[u8]) {
    crate::http::fuzzing::headers(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    type Target = fn(&[u8]);

    /// Seeds are what the fuzzer begins with, and inputs that once were trouble.
    #[test]
    fn seeds_keep_their_properties() {
        let targets: [(&str, Target); 6] = [
            ("access", access),
            ("config", config),
            ("detection", detection),
            ("framing", framing),
            ("headers", headers),
            ("paths", paths),
        ];
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        let known: Vec<_> = fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(known.iter().all(|name| targets.iter().any(|(target, _)| *name == **target)), "{known:?}");
        for (target, check) in targets {
            let files: Vec<_> = fs::read_dir(seeds.join(target)).unwrap().collect();
            assert!(!files.is_empty(), "{target} has no seeds");
            for file in files {
                let path = file.unwrap().path();
                println!("{}", path.display());
                check(&fs::read(path).unwrap());
            }
        }
    }
}
