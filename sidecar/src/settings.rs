//! What a connection keeps from its beginning to its end, whatever the configuration becomes meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Config, Headers, Limits, ProtocolDetection, Timeouts};
use crate::connection::Front;

/// The settings of connections that begin now.
pub struct Settings {
    /// How long it waits.
    pub timeouts: Timeouts,
    /// How the protocol is found out.
    pub detection: ProtocolDetection,
    /// Bounds on what clients may ask for.
    pub limits: Limits,
    /// What requests and answers say of their way.
    pub headers: Headers,
    /// CONNECT is passed on.
    pub allow_connect: bool,
    /// The explicit listeners by name.
    fronts: BTreeMap<String, Arc<Front>>,
}

/// Holds the latest settings.
pub struct Latest(RwLock<Arc<Settings>>);

impl Settings {
    fn new(config: &Config, before: Option<&Self>) -> Self {
        let fronts = config.listeners.iter().map(|listener| {
            let front = Front::new(listener, config);
            // What is known of the names of a backend that stays goes on to count.
            let old =
                before.and_then(|before| before.front(&listener.name)).filter(|old| old.is_like(&front));
            (listener.name.clone(), old.unwrap_or_else(|| Arc::new(front)))
        });
        Self {
            timeouts: config.timeouts,
            detection: config.protocol_detection.clone(),
            limits: config.limits,
            headers: config.headers.clone(),
            allow_connect: config.allow_connect,
            fronts: fronts.collect(),
        }
    }

    /// The listener of this name.
    pub fn front(&self, name: &str) -> Option<Arc<Front>> {
        self.fronts.get(name).cloned()
    }
}

impl Latest {
    /// By the configuration of the start.
    pub fn new(config: &Config) -> Self {
        Self(RwLock::new(Arc::new(Settings::new(config, None))))
    }

    /// Connections that begin from now on follow this configuration.
    pub fn replace(&self, config: &Config) {
        let settings = Arc::new(Settings::new(config, Some(&self.now())));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Those that hold now.
    pub fn now(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
