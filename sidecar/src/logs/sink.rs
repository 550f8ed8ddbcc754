//! Where lines go.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::Uri;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::counts::Counts;
use super::otlp::Receiver;
use super::record::{Batch, Origin};
use crate::observe::access_log::now;

/// What the command line says of the output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Output {
    /// A line of JSON for each.
    #[default]
    Stdout,
    /// A receiver of OTLP over HTTP.
    Otlp(Uri),
}

/// Why a text is no [`Output`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write stdout, or otlp=http://HOST:4318/v1/logs")]
pub struct OutputError;

/// The lines cannot be written any more.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Standard output failed.
    #[error("write to standard output")]
    Stdout(#[source] io::Error),
    /// Standard output cannot be had.
    #[error("standard output cannot be used")]
    Open(#[source] io::Error),
}

/// Takes batches, one at a time.
pub(super) enum Sink {
    Stdout(Arc<File>),
    Otlp(Box<Receiver>),
}

/// What a pipe takes whole or not at all (pipe(7)), so that a kill cuts no line of this length.
const WHOLE: usize = 4096;

// === impl ===

impl FromStr for Output {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        let uri: Uri = text.strip_prefix("otlp=").ok_or(OutputError)?.parse().map_err(|_| OutputError)?;
        let plain = uri.scheme_str() == Some("http");
        let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if plain && named { Ok(Self::Otlp(uri)) } else { Err(OutputError) }
    }
}

impl Sink {
    pub(super) fn new(output: &Output, origin: &Origin, counts: &Counts) -> Result<Self, SinkError> {
        Ok(match output {
            Output::Stdout => {
                let owned = io::stdout().as_fd().try_clone_to_owned().map_err(SinkError::Open)?;
                Self::Stdout(Arc::new(File::from(owned)))
            }
            Output::Otlp(uri) => Self::Otlp(Box::new(Receiver::new(uri, origin.clone(), counts.clone()))),
        })
    }

    /// Resolves when all lines are taken. Waits as long as the output does.
    pub(super) async fn send(&self, batch: Arc<Batch>, origin: &Origin) -> Result<(), SinkError> {
        match self {
            Self::Stdout(file) => {
                let (file, origin) = (Arc::clone(file), origin.clone());
                // It blocks while nobody reads.
                let written = tokio::task::spawn_blocking(move || write(&file, &batch, &origin)).await;
                written.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(SinkError::Stdout)
            }
            Self::Otlp(receiver) => {
                receiver.send(&batch, SystemTime::now()).await;
                Ok(())
            }
        }
    }
}

fn write(mut file: &File, batch: &Batch, origin: &Origin) -> io::Result<()> {
    let time = now()?;
    let mut lines = Vec::new();
    for record in &batch.records {
        let before = lines.len();
        serde_json::to_writer(&mut lines, &record.shown(&time, origin))?;
        lines.push(b'\n');
        if before > 0 && lines.len() > WHOLE {
            write_all(&mut file, &lines[..before])?;
            lines.drain(..before);
        }
    }
    write_all(&mut file, &lines)
}

/// Also where the other end made the pipe one that does not block.
fn write_all(file: &mut &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named() {
        assert_eq!("stdout".parse(), Ok(Output::Stdout));
        let uri = "http://127.0.0.1:4318/v1/logs";
        assert_eq!(format!("otlp={uri}").parse(), Ok(Output::Otlp(uri.parse().unwrap())));
        for bad in ["", "stderr", "otlp=", "otlp=https://a/", "otlp=a", "otlp=http://u:p@a/", uri] {
            assert_eq!(bad.parse::<Output>(), Err(OutputError), "{bad}");
        }
    }
}
