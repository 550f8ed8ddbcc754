//! The configuration that runs, and the last one that was refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::fixed;
use crate::config::{Config, ConfigErrors, Files};
use crate::observe::access_log;
use crate::observe::metrics::Metrics;

/// The configuration that runs. A handle: clones share it.
#[derive(Clone)]
pub struct Live {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
    swap: Arc<dyn Fn(&Config) + Send + Sync>,
}

struct State {
    config: Arc<Config>,
    rejected: Option<Rejected>,
    needs_restart: Vec<String>,
}

/// A version of the files that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Rejected {
    /// When (RFC 3339).
    at: String,
    /// Why: `FILE:LINE: FIELD: WHY`.
    errors: Vec<String>,
}

/// The answer of `/config_dump`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dump<'a> {
    #[serde(flatten)]
    config: &'a Config,
    /// How often a configuration was accepted.
    generation: u64,
    /// The files' latest version, if it was refused.
    rejected: &'a Option<Rejected>,
    /// Fields whose values in the files take effect at the next start.
    needs_restart: &'a [String],
}

impl Live {
    /// With the configuration of the start, which is counted. `swap` is given each further one.
    pub fn new(config: Config, metrics: Metrics, swap: impl Fn(&Config) + Send + Sync + 'static) -> Self {
        metrics.config_accepted();
        let state = State { config: Arc::new(config), rejected: None, needs_restart: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), metrics, swap: Arc::new(swap) }
    }

    /// The configuration that runs.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// What runs, and what does not and why, for `/config_dump`.
    pub fn dump(&self) -> serde_json::Value {
        let state = self.lock();
        let State { config, rejected, needs_restart } = &*state;
        let generation = self.metrics.config_generation();
        serde_json::to_value(Dump { config, generation, rejected, needs_restart }).unwrap_or_default()
    }

    /// Takes these files over if they are valid; if not, all stays as it is.
    pub async fn offer(&self, files: Files) {
        if let Some(config) = self.read(files).await {
            self.accept(config);
        }
    }

    /// The same of files that have not changed, for what they name may have: certificates, keys.
    pub async fn offer_again(&self, files: Option<Files>) {
        let Some(files) = files else { return };
        match self.read(files).await {
            Some(config) if config == *self.config() => {
                tracing::info!("the configuration and the files that it names are as they were");
            }
            Some(config) => self.accept(config),
            None => {}
        }
    }

    /// `None`: they are not valid, which is said and counted.
    async fn read(&self, files: Files) -> Option<Config> {
        // Large files take a while, and this thread answers probes.
        match tokio::task::spawn_blocking(move || files.config()).await {
            Ok(Ok(config)) => return Some(config),
            Ok(Err(errors)) => self.reject(&errors),
            Err(error) => tracing::error!(%error, "the configuration was not read to the end"),
        }
        None
    }

    fn accept(&self, mut config: Config) {
        for unused in &config.unused {
            tracing::warn!("{unused}");
        }
        let needs_restart = fixed::keep(&self.config(), &mut config);
        for field in &needs_restart {
            tracing::warn!("{field}: is changed, which takes a restart; until then it is as it was");
        }
        (self.swap)(&config);
        let mut state = self.lock();
        *state = State { config: Arc::new(config), rejected: None, needs_restart };
        self.metrics.config_accepted();
        tracing::info!(generation = self.metrics.config_generation(), "a new configuration is in use");
    }

    fn reject(&self, errors: &ConfigErrors) {
        let errors: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
        for error in &errors {
            tracing::error!("{error}");
        }
        tracing::warn!("the configuration is refused, the one before stays in use");
        self.metrics.config_rejected();
        let at = access_log::now().unwrap_or_default();
        self.lock().rejected = Some(Rejected { at, errors });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
