//! How a connection came to the proxy.

use std::sync::Arc;

use sidecar_common::flow::Role;

use crate::config::{Config, Listener, Mode, Protocol};
use crate::net::addrs::Direction;
use crate::settings::Settings;
use crate::upstream::backend::Backend;

/// How a connection came.
#[derive(Clone)]
pub enum Ingress {
    /// Captured on its way out.
    Outbound,
    /// Steered on its way in.
    Inbound,
    /// Through an explicit listener.
    Listener(Arc<Front>),
}

/// An explicit listener.
pub struct Front {
    /// Its name.
    pub name: String,
    /// Where connections go that no route is for.
    pub forward: Option<Backend>,
}

impl Ingress {
    /// Its listener may forward elsewhere by now.
    pub(super) fn by(self, settings: &Settings) -> Self {
        match self {
            Self::Listener(front) => Self::Listener(settings.front(&front.name).unwrap_or(front)),
            other => other,
        }
    }

    /// A client of an explicit listener comes in.
    pub fn direction(&self) -> Direction {
        match self {
            Self::Outbound => Direction::Outbound,
            Self::Inbound | Self::Listener(_) => Direction::Inbound,
        }
    }

    /// What the kernel half is told of its listeners.
    pub fn role(&self, mode: Mode) -> Option<Role> {
        let role = match self {
            Self::Outbound => Role::Outbound,
            Self::Inbound => Role::Inbound,
            Self::Listener(_) => Role::Own,
        };
        (mode == Mode::Ebpf).then_some(role)
    }

    /// What decides where it goes if no route does.
    pub fn policy(&self) -> Arc<str> {
        match self {
            Self::Outbound | Self::Inbound => "passthrough".into(),
            Self::Listener(front) => match &front.forward {
                Some(backend) => format!("forward:{}", backend.name()).into(),
                None => format!("listener:{}", front.name).into(),
            },
        }
    }
}

impl Front {
    /// As the configuration has it.
    pub fn new(listener: &Listener, config: &Config) -> Self {
        let forward = listener.forward.as_ref().and_then(|name| config.backends.get(name));
        Self { name: listener.name.clone(), forward: forward.cloned().map(Backend::new) }
    }

    /// The same is said of both.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let like = |one: &Backend| other.forward.as_ref().is_some_and(|other| one.is_like(other));
        self.forward.as_ref().map_or(other.forward.is_none(), like)
    }

    /// It forwards bytes, whatever they are.
    pub(super) fn is_opaque(&self) -> bool {
        self.forward.as_ref().is_some_and(|backend| backend.protocol() == Protocol::Tcp)
    }
}
