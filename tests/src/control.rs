//! An instance's control socket: HTTP over a Unix socket.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wait::DEADLINE;

/// The body of `path`, asked for at the socket `socket`. Anything but status 200 is an error.
///
/// The request is HTTP/1.0, so that the answer ends with the connection and has no chunks (RFC 9112, section 6.1).
pub(crate) fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: sidecar\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::new(ErrorKind::InvalidData, format!("{path}: {head}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answering(answer: &'static str) -> Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            get(&socket, "/connections")
        })
    }

    #[test]
    fn gives_the_body_of_status_200_only() {
        assert_eq!(answering("HTTP/1.0 200 OK\r\na: b\r\n\r\n[]").unwrap(), "[]");
        assert!(answering("HTTP/1.0 503 no\r\n\r\n").unwrap_err().to_string().contains("503"));
    }
}
