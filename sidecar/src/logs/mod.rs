//! `sidecar logs`: follows the files of a shared volume and writes their lines elsewhere, each once.
//!
//! [`follow`] knows which files there are and which were rotated away, [`tail`] reads one of them, [`sink`] writes a batch,
//! and only then [`checkpoint`] remembers how far it was read. One batch is under way at a time: an output that is slow holds the
//! reading, and what waits, waits in the files.

mod checkpoint;
mod counts;
mod follow;
mod glob;
mod identity;
mod line;
mod otlp;
mod record;
mod siblings;
mod sink;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub use self::checkpoint::CheckpointError;
use self::checkpoint::{Checkpoint, Saved};
use self::counts::{Counts, Scrape, add};
use self::follow::{Bounds, Follower};
pub use self::glob::{Glob, GlobError};
use self::record::Batch;
pub use self::record::Origin;
use self::sink::Sink;
pub use self::sink::{Output, OutputError, SinkError};
use self::watch::Watch;
use crate::admin::serve::{Limits, serve};
use crate::cli::signals::Signals;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which files.
    pub sources: Vec<Glob>,
    /// Where it is remembered how far they were read. `None`: nowhere.
    pub checkpoint: Option<PathBuf>,
    /// Where lines go.
    pub output: Output,
    /// What is said of them.
    pub origin: Origin,
    /// The bytes of a line; longer ones come in pieces. Not 0.
    pub max_line: usize,
    /// Files that are followed at a time.
    pub max_files: usize,
    /// How long it is gone on after a signal, while something is written.
    pub drain: Duration,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// Following ended.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The output.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The metrics' port.
    #[error("listen on {0} for metrics")]
    Metrics(SocketAddr, #[source] std::io::Error),
    /// A thread that reads.
    #[error("a thread that reads ended")]
    Thread(#[from] tokio::task::JoinError),
}

/// After a signal: for so long nothing came, so that nothing more is expected. The application may end beside us.
const QUIET: Duration = Duration::from_secs(1);

/// The end, once it was asked for.
#[derive(Clone, Copy)]
struct Ending {
    latest: Instant,
    quiet_since: Instant,
}

/// Follows until a signal asks this process to end and nothing more comes.
pub async fn run(settings: Settings, signals: &mut Signals) -> Result<(), LogsError> {
    let Settings { sources, checkpoint, output, origin, max_line, max_files, drain, metrics } = settings;
    let counts = Counts::default();
    // Ends with this.
    let mut serving = JoinSet::new();
    if let Some(address) = metrics {
        let listener =
            TcpListener::bind(address).await.map_err(|error| LogsError::Metrics(address, error))?;
        serving.spawn(serve(listener, Limits::default(), Scrape::new(&counts)));
    }
    let (checkpoint, saved) = match &checkpoint {
        Some(path) => Checkpoint::open(path).map(|(checkpoint, saved)| (Some(checkpoint), saved))?,
        None => (None, None),
    };
    let sink = Sink::new(&output, &origin, &counts)?;
    let bounds = Bounds { files: max_files, line: max_line };
    let mut watch = Watch::new();
    let mut follower = Follower::new(sources, bounds, counts.clone(), saved);
    let mut ending: Option<Ending> = None;
    loop {
        let batch;
        (follower, batch) = read(follower).await?;
        watch.set(&follower.directories);
        let now = Instant::now();
        if batch.is_empty() {
            follower.commit();
            if ending.is_some_and(|end| now >= end.latest || now >= end.quiet_since + QUIET) {
                break;
            }
            tokio::select! {
                () = watch.changed() => {}
                () = signals.end(), if ending.is_none() => ending = Some(Ending::new(drain)),
            }
            continue;
        }
        if let Some(end) = &mut ending {
            end.quiet_since = now;
        }
        // Before anything is written: what is written again after a kill has the same ids.
        if follower.has_news() {
            save(checkpoint.as_ref(), &mut follower)?;
        }
        let batch = Arc::new(batch);
        if !send(&sink, &batch, &origin, signals, &mut ending, drain).await? {
            tracing::warn!(lines = batch.records.len(), "the output did not take the last lines in time");
            return Ok(());
        }
        add(&counts.lines, batch.records.len());
        follower.commit();
        save(checkpoint.as_ref(), &mut follower)?;
    }
    finish(checkpoint.as_ref(), follower, &sink, &origin, ending).await
}

/// Looks which files there are, and reads them, on a thread that may wait for a disk.
async fn read(mut follower: Follower) -> Result<(Follower, Batch), LogsError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut batch = Batch::default();
        follower.look();
        follower.read(&mut batch);
        (follower, batch)
    });
    Ok(read.await?)
}

fn save(checkpoint: Option<&Checkpoint>, follower: &mut Follower) -> Result<(), LogsError> {
    if let Some(checkpoint) = checkpoint {
        checkpoint.save(&Saved::new(follower.entries()))?;
    }
    follower.told();
    Ok(())
}

/// False: it was asked to end, and the time for that is over.
async fn send(
    sink: &Sink,
    batch: &Arc<Batch>,
    origin: &Origin,
    signals: &mut Signals,
    ending: &mut Option<Ending>,
    drain: Duration,
) -> Result<bool, LogsError> {
    let mut sending = pin!(sink.send(Arc::clone(batch), origin));
    loop {
        let latest = ending.map(|end| end.latest);
        let too_late = async {
            match latest {
                Some(latest) => sleep_until(latest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            sent = sending.as_mut() => return Ok(sent.map(|()| true)?),
            () = signals.end(), if ending.is_none() => *ending = Some(Ending::new(drain)),
            () = too_late => return Ok(false),
        }
    }
}

/// Without a checkpoint nobody comes back for a line whose end did not come.
async fn finish(
    checkpoint: Option<&Checkpoint>,
    mut follower: Follower,
    sink: &Sink,
    origin: &Origin,
    ending: Option<Ending>,
) -> Result<(), LogsError> {
    if checkpoint.is_some() {
        return save(checkpoint, &mut follower);
    }
    let mut rest = Batch::default();
    follower.read_rest(&mut rest);
    let latest = ending.map_or_else(Instant::now, |end| end.latest.max(Instant::now() + QUIET));
    tokio::select! {
        sent = sink.send(Arc::new(rest), origin) => Ok(sent?),
        () = sleep_until(latest) => Ok(()),
    }
}

impl Ending {
    fn new(drain: Duration) -> Self {
        let now = Instant::now();
        Self { latest: now + drain, quiet_since: now }
    }
}
