//! The proxy's own log: to stderr, with a level that can be changed while it runs.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// How the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// Shows and changes the level of the log.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// The level was not set.
#[derive(thiserror::Error, Debug)]
pub enum LogError {
    /// It is none.
    #[error(
        "{0:?} is no log level: off, error, warn, info, debug, trace, or a list like `info,sidecar::net=debug`"
    )]
    Level(String),
    /// Something else in this process logs already.
    #[error("the log is set up already")]
    Twice,
    /// The log is gone.
    #[error("the log is closed")]
    Closed,
}

// === impl ===

/// Sends the events of this process to stderr, from now on.
pub fn start(level: &str, format: LogFormat) -> Result<LogLevel, LogError> {
    let (filter, level) = LogLevel::new(level)?;
    let lines = match format {
        LogFormat::Text => fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|_| LogError::Twice)?;
    Ok(level)
}

impl LogLevel {
    /// A filter, and the handle that changes it while the filter lives.
    pub fn new(level: &str) -> Result<(reload::Layer<EnvFilter, Registry>, Self), LogError> {
        let (filter, handle) = reload::Layer::new(parse(level)?);
        Ok((filter, Self(handle)))
    }

    /// The level now.
    pub fn get(&self) -> Result<String, LogError> {
        self.0.with_current(ToString::to_string).map_err(|_| LogError::Closed)
    }

    /// Another level from now on. A bad one changes nothing.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(parse(level)?).map_err(|_| LogError::Closed)
    }
}

/// Whether this is a level.
pub fn check(level: &str) -> Result<(), LogError> {
    parse(level).map(drop)
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    let bad = || LogError::Level(level.to_owned());
    // EnvFilter takes a bare word that is no level for a module's name, and an empty one for `error`.
    let is_level = |directive: &str| !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
    let known = |directive: &str| directive.contains('=') || is_level(directive);
    if !level.split(',').all(|directive| known(directive.trim())) {
        return Err(bad());
    }
    EnvFilter::try_new(level).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::LogLevel;

    #[test]
    fn the_level_changes_and_bad_ones_do_not_count() {
        let (_filter, level) = LogLevel::new("info").unwrap();
        level.set("debug,sidecar::net=trace").unwrap();
        for bad in ["", "loud", "info,loud", "sidecar=loud", "info,"] {
            let error = level.set(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?} is no log level")), "{error}");
        }
        let shown = level.get().unwrap();
        assert!(shown.contains("debug") && shown.contains("sidecar::net=trace"), "{shown}");
    }

    #[test]
    fn a_closed_log_says_so() {
        let (filter, level) = LogLevel::new("info").unwrap();
        drop(filter);
        assert_eq!(level.set("debug").unwrap_err().to_string(), "the log is closed");
    }
}
