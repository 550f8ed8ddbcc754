//! Paths of files and Unix sockets.

use std::path::PathBuf;

/// Why a text is not a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::config) enum PathError {
    #[error("write a path, without NUL characters")]
    Malformed,
    #[error("write an absolute path of up to {MAX_SOCKET_BYTES} bytes, without NUL characters")]
    Socket,
}

/// What `sun_path` holds beside its final NUL (unix(7)).
const MAX_SOCKET_BYTES: usize = 107;

/// Reads the path of a file.
pub(in crate::config) fn parse(text: &str) -> Result<PathBuf, PathError> {
    if text.is_empty() || text.contains('\0') { Err(PathError::Malformed) } else { Ok(PathBuf::from(text)) }
}

/// Reads the path of a Unix socket.
pub(in crate::config) fn parse_socket(text: &str) -> Result<PathBuf, PathError> {
    if !text.starts_with('/') || text.len() > MAX_SOCKET_BYTES {
        return Err(PathError::Socket);
    }
    parse(text).map_err(|_| PathError::Socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_fits_its_address() {
        let longest = format!("/{}", "a".repeat(106));
        assert_eq!(parse_socket(&longest), Ok(PathBuf::from(&longest)));
        let long = format!("{longest}a");
        for bad in ["", "run/a.sock", "@abstract", "/a\0b", &long] {
            assert_eq!(parse_socket(bad), Err(PathError::Socket), "{bad:?}");
        }
        assert_eq!(parse(""), Err(PathError::Malformed));
        assert_eq!(parse("access.log"), Ok(PathBuf::from("access.log")));
    }
}
