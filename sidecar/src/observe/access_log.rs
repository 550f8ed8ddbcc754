//! The access log: a line for each request, and for each connection that carries no requests, written when it ends.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::connection::{Snapshot, printable};
use super::probes::ProbeLine;
use super::request_line::RequestLine;

/// How many lines may wait for the disk before further ones are dropped and counted.
pub const BACKLOG: usize = 8192;

/// How a line looks. Without a log, there is no [`AccessLog`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A [`Snapshot`] with the keys `time` and `flags`.
    Json,
    /// For people.
    Text,
}

/// The access log cannot be opened.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    /// The file.
    #[error("accessLog.path: cannot open {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that writes.
    #[error("cannot start the access log's thread")]
    Thread(#[source] io::Error),
}

/// A handle to the access log; clones share it. A thread of its own writes, since a full disk or a pipe that nobody
/// reads blocks.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Connection(Box<Snapshot>),
    Request(Box<RequestLine>),
    Probe(Box<ProbeLine>),
    Flush(oneshot::Sender<()>),
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    #[serde(flatten)]
    connection: &'a Snapshot,
    /// Envoy's response flags.
    flags: Option<&'static str>,
}

#[derive(Serialize)]
struct Timed<'a, T> {
    time: &'a str,
    #[serde(flatten)]
    line: &'a T,
}

// === impl ===

impl AccessLog {
    /// Opens the log: appends to `path`, or writes to our own standard streams for `/dev/stdout` and `/dev/stderr`
    /// (opening these by path fails where they are sockets, and for pipes of another user).
    pub fn open(format: Format, path: &Path) -> Result<Self, OpenError> {
        let output: Box<dyn Write + Send> = match path.to_str() {
            Some("/dev/stdout") => Box::new(io::stdout()),
            Some("/dev/stderr") => Box::new(io::stderr()),
            _ => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Box::new(file.map_err(|source| OpenError::File { path: path.to_owned(), source })?)
            }
        };
        Self::start(format, output, BACKLOG)
    }

    fn start(format: Format, output: Box<dyn Write + Send>, backlog: usize) -> Result<Self, OpenError> {
        let (queue, messages) = mpsc::channel(backlog);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(format, output, messages, &lost))
            .map_err(OpenError::Thread)?;
        Ok(Self { queue, dropped })
    }

    /// Takes a line for writing. Never waits: a full queue drops and counts it.
    pub fn write(&self, connection: Snapshot) {
        self.send(Message::Connection(Box::new(connection)));
    }

    /// The same of a request.
    pub fn write_request(&self, request: Box<RequestLine>) {
        self.send(Message::Request(request));
    }

    /// The same of a probe's request.
    pub fn write_probe(&self, probe: Box<ProbeLine>) {
        self.send(Message::Probe(probe));
    }

    fn send(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines so far are written. Cancel safe; waits as long as the output blocks, so give it a
    /// deadline.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            // An error says that the writer is gone: nothing is left to wait for.
            let _ = written.await;
        }
    }

    /// Lines lost: the queue was full, or the output failed.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write_all(
    format: Format,
    output: Box<dyn Write + Send>,
    mut messages: mpsc::Receiver<Message>,
    dropped: &AtomicU64,
) {
    let mut output = BufWriter::new(output);
    let mut line = Vec::new();
    while let Some(message) = messages.blocking_recv() {
        line.clear();
        let rendered = match message {
            Message::Connection(connection) => render(format, &connection, &mut line),
            Message::Request(request) => render_line(format, &*request, || request.as_text(), &mut line),
            Message::Probe(probe) => render_line(format, &*probe, || probe.as_text(), &mut line),
            Message::Flush(done) => {
                // A failure shows at the next line; whoever waits may have left.
                let _ = output.flush();
                let _ = done.send(());
                continue;
            }
        };
        let written = rendered.and_then(|()| output.write_all(&line));
        dropped.fetch_add(u64::from(written.is_err()), Ordering::Relaxed);
        if messages.is_empty() && output.flush().is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The time, as RFC 3339 writes it.
pub(crate) fn now() -> io::Result<String> {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time)).map_err(io::Error::other)?;
    Ok(time)
}

fn render_line(
    format: Format,
    what: &impl Serialize,
    as_text: impl FnOnce() -> String,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    let time = now()?;
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *line, &Timed { time: &time, line: what })?;
            line.push(b'\n');
            Ok(())
        }
        Format::Text => writeln!(line, "{time} {}", as_text()),
    }
}

fn render(format: Format, connection: &Snapshot, line: &mut Vec<u8>) -> io::Result<()> {
    let time = now()?;
    let flags = connection.close_reason.and_then(super::close_reason::CloseReason::as_flags);
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *line, &Line { time: &time, connection, flags })?;
            line.push(b'\n');
            Ok(())
        }
        Format::Text => {
            let or_dash = |address: Option<std::net::SocketAddr>| {
                address.map_or_else(|| "-".to_owned(), |address| address.to_string())
            };
            writeln!(
                line,
                "{time} {direction} {comm}[{pid}] {source} -> {destination} upstream={upstream} \
                 sent={sent} received={received} duration={age}ms policy={policy} reason={reason} flags={flags}",
                direction = connection.direction,
                comm = printable(connection.comm.as_deref().unwrap_or("-")),
                pid = connection.pid.unwrap_or_default(),
                source = connection.source,
                destination = or_dash(connection.original_destination),
                upstream = or_dash(connection.upstream),
                sent = connection.bytes_sent,
                received = connection.bytes_received,
                age = connection.age_ms,
                policy = printable(connection.policy.as_deref().unwrap_or("-")),
                reason = connection.close_reason.map_or("-", super::close_reason::CloseReason::as_str),
                flags = flags.unwrap_or("-"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::*;
    use crate::observe::close_reason::CloseReason;
    use crate::observe::connection::tests::sample;

    #[tokio::test]
    async fn json_lines_are_appended_to_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        std::fs::write(&path, "before\n").unwrap();
        let log = AccessLog::open(Format::Json, &path).unwrap();
        log.write(Snapshot { close_reason: Some(CloseReason::ConnectRefused), ..sample(1) });
        log.write(sample(2));
        log.flush().await;
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "before");
        let first: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!((&first["id"], &first["flags"]), (&1.into(), &"UF".into()));
        assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_programs_name_cannot_forge_a_line() {
        let mut line = Vec::new();
        let forged = Snapshot { comm: Some("x\ny".into()), ..sample(1) };
        render(Format::Text, &forged, &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(" outbound x?y[42] 10.0.0.1:40000 -> [2001:db8::1]:80 upstream=- "), "{line}");
    }

    #[test]
    fn an_unopenable_file_is_named() {
        let error = AccessLog::open(Format::Text, Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "accessLog.path: cannot open /nowhere/at/all");
    }

    /// An output that says when it is written to, and then waits until the other end is dropped.
    struct Stalled(std_mpsc::Sender<()>, std_mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stalled_output_drops_and_counts() {
        let (reached, stalled) = std_mpsc::channel();
        let (release, wait) = std_mpsc::channel();
        let log = AccessLog::start(Format::Text, Box::new(Stalled(reached, wait)), 2).unwrap();
        log.write(sample(0));
        stalled.recv().unwrap();
        for id in 1..=5 {
            log.write(sample(id));
        }
        assert_eq!(log.dropped(), 3, "two wait, three are lost");
        drop(release);
        log.flush().await;
        assert_eq!(log.dropped(), 3);
    }
}
