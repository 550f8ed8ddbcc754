//! The configuration: YAML documents, read into raw types that refuse unknown fields, checked into [`Config`].
//!
//! Each error names file, line and field and says what to write instead. What the values themselves get wrong is
//! reported all at once; a document of the wrong shape (not YAML, an unknown field) is reported for the first such
//! place in it, and the other documents are still checked.

pub mod access;
mod backend;
mod build;
mod check;
pub mod crd;
pub(crate) mod document;
mod error;
mod headers;
mod interception;
mod kind;
mod listener;
mod model;
mod probes;
mod proxy;
mod raw;
mod record;
pub mod route;
mod schema;
mod shape;
mod source;
mod target_ref;
mod tls;
pub mod traffic;
pub(crate) mod value;
mod yaml;

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

pub use error::{ConfigError, ConfigErrors};
pub use model::{
    AccessLog, Backend, Bypass, BypassRule, Config, DnsPort, Endpoint, Forwarded, Headers, Inbound,
    Interception, Limits, Listener, Location, LogFormat, Mode, OnProxyDown, Otlp, OtlpProtocol, Outbound,
    Ports, Probe, ProbeTarget, Protocol, ProtocolDetection, Recording, Target, Timeouts, Tracing, Unused,
};
pub use source::{MAX_FILE_BYTES, MAX_FILES};
pub use target_ref::{DEFAULT_NAMESPACE, ObjectName, TargetRef};
pub use tls::{BackendTls, CaCertificates, Trust};
pub use value::percent::Percent;

use crate::kubernetes::annotations::Overrides;

/// How many YAML documents a configuration may have.
pub const MAX_DOCUMENTS: usize = 1_000;

/// What the files of a configuration hold, or why they cannot be read.
pub struct Files {
    sources: Result<Vec<source::Source>, ConfigErrors>,
    overrides: Overrides,
}

impl Files {
    /// Reads what [`Config::load`] reads. Blocks on file I/O.
    pub fn read(path: &Path) -> Self {
        Self { sources: source::read(path), overrides: Overrides::default() }
    }

    /// With this in the place of what they say.
    #[must_use]
    pub fn overridden(self, overrides: Overrides) -> Self {
        Self { overrides, ..self }
    }

    /// What they were overridden with.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Differs where what is in the files does, or their names.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.sources {
            Ok(sources) => sources.hash(&mut hasher),
            Err(errors) => errors.to_string().hash(&mut hasher),
        }
        hasher.finish()
    }

    /// The configuration that they are.
    pub fn config(self) -> Result<Config, ConfigErrors> {
        let mut config = build::build(&self.sources?)?;
        self.overrides.apply(&mut config.interception);
        Ok(config)
    }
}

impl Config {
    /// Reads a file, or every `*.yaml`, `*.yml` and `*.json` of a directory in the order of their names.
    ///
    /// Names that begin with a dot are skipped and symbolic links followed, as a mounted `ConfigMap` needs.
    /// Blocks on file I/O.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Files::read(path).config()
    }

    /// Reads `text`, which errors call `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigErrors> {
        build::build(&[source::Source { name: name.to_owned(), text: text.to_owned() }])
    }
}
