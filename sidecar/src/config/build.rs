//! Puts the documents together.

use std::collections::BTreeMap;

use super::check::{Check, Reference, Referent};
use super::document::{Document, split};
use super::error::{ConfigError, ConfigErrors};
use super::kind::{Kind, UnknownKind, recognise};
use super::model::{Config, Location};
use super::raw::{Header, HeaderMetadata, Manifest, Text};
use super::route::RouteDocuments;
use super::source::Source;
use super::target_ref::{DEFAULT_NAMESPACE, ObjectName, TargetRef};
use super::value::name;
use super::{MAX_DOCUMENTS, access, backend, proxy, traffic};

/// What the documents before said.
#[derive(Default)]
struct Builder {
    config: Config,
    /// Where the `ProxyConfig` stands.
    proxy: Option<Location>,
    /// Where each backend stands, also one that is wrong: it does exist.
    backends: BTreeMap<String, Location>,
    forwards: Vec<Forward>,
    /// Where each traffic policy stands, and what they say of whom.
    traffic: BTreeMap<ObjectName, Location>,
    claims: traffic::Claims,
    /// Where each access policy stands.
    access: BTreeMap<ObjectName, Location>,
    routes: RouteDocuments,
    references: Vec<Reference>,
    errors: Vec<ConfigError>,
}

/// A reference to a backend, which may stand in a later document.
pub(super) struct Forward {
    pub backend: String,
    pub field: String,
    pub at: Location,
}

/// Checks the documents of all files.
pub(super) fn build(sources: &[Source]) -> Result<Config, ConfigErrors> {
    let documents: Vec<Document<'_>> = sources.iter().flat_map(split).collect();
    if let Some(document) = documents.get(MAX_DOCUMENTS) {
        let why = format_args!("the configuration has more than {MAX_DOCUMENTS} documents; leave some out");
        return Err(ConfigError { field: None, ..ConfigError::of_field(document.at(1), "", why) }.into());
    }
    let mut builder = Builder::default();
    for document in documents {
        let mut check = Check::new(document);
        if let Err(error) = builder.document(&mut check) {
            check.errors.push(error);
        }
        builder.errors.append(&mut check.errors);
        builder.references.append(&mut check.references);
        builder.config.unused.append(&mut check.unused);
    }
    builder.finish()
}

// === impl Builder ===

impl Builder {
    /// Takes in one document. `Err`: it has the wrong shape.
    fn document(&mut self, check: &mut Check<'_>) -> Result<(), ConfigError> {
        let header: Header = check.document.read()?;
        let name = check.value("metadata.name", &header.metadata.name, name::parse);
        let kind = match recognise(&header.api_version.value, &header.kind.value) {
            Ok(kind) => kind,
            Err(why @ UnknownKind::Kind) => {
                check.refuse_value("kind", &header.kind, why);
                return Ok(());
            }
            Err(why @ UnknownKind::ApiVersion { .. }) => {
                check.refuse_value("apiVersion", &header.api_version, why);
                return Ok(());
            }
        };
        match (kind, name) {
            (Kind::ProxyConfig, _) => self.proxy(check, &header.kind),
            (Kind::Backend, Some(name)) => self.backend(check, name, &header.metadata.name),
            (Kind::TrafficPolicy, Some(name)) => self.traffic(check, name, &header),
            (Kind::AccessPolicy, Some(name)) => self.access_policy(check, name, &header),
            (Kind::Routing(kind), Some(name)) => self.routes.document(check, kind, name, &header),
            (_, None) => Ok(()),
        }
    }

    fn proxy(&mut self, check: &mut Check<'_>, kind: &Text) -> Result<(), ConfigError> {
        let line = kind.line;
        if let Some(first) = &self.proxy {
            check.refuse(
                line,
                "kind",
                format_args!("there is a ProxyConfig already, at {first}; leave one out"),
            );
            return Ok(());
        }
        self.proxy = Some(check.document.at(line));
        let spec = check.document.read::<Manifest<_>>()?.spec.unwrap_or_default();
        self.forwards.extend(proxy::apply(check, spec, &mut self.config));
        Ok(())
    }

    fn backend(&mut self, check: &mut Check<'_>, name: String, text: &Text) -> Result<(), ConfigError> {
        if let Some(first) = self.backends.get(&name) {
            let why = format_args!("there is a Backend of this name already, at {first}; rename one");
            check.refuse_value("metadata.name", text, why);
            return Ok(());
        }
        let line = text.line;
        self.backends.insert(name.clone(), check.document.at(line));
        let spec = check.document.read::<Manifest<_>>()?.spec.unwrap_or_default();
        if let Some(backend) = backend::read(check, &spec, name, line) {
            self.config.backends.insert(backend.name.clone(), backend);
        }
        Ok(())
    }

    fn traffic(&mut self, check: &mut Check<'_>, name: String, header: &Header) -> Result<(), ConfigError> {
        let namespace = match &header.metadata.namespace {
            Some(text) => match check.value("metadata.namespace", text, name::parse) {
                Some(namespace) => namespace,
                None => return Ok(()),
            },
            None => DEFAULT_NAMESPACE.to_owned(),
        };
        let (object, text) = (ObjectName { namespace, name }, &header.metadata.name);
        if let Some(first) = self.traffic.get(&object) {
            let why = format_args!("there is a TrafficPolicy of this name already, at {first}; rename one");
            check.refuse_value("metadata.name", text, why);
            return Ok(());
        }
        let line = text.line;
        self.traffic.insert(object.clone(), check.document.at(line));
        let spec: traffic::Raw = check.document.read::<Manifest<_>>()?.spec.unwrap_or_default();
        let policy = traffic::read(check, &spec, object, line, &mut self.claims);
        for (i, target) in policy.targets.iter().enumerate() {
            // Where a target is wrong, the places do not fit; but then there is an error already.
            let (TargetRef::Backend(backend), Some(raw)) = (target, spec.target_refs.get(i)) else {
                continue;
            };
            let field = format!("spec.targetRefs[{i}].name");
            let at = check.document.at(raw.line);
            self.forwards.push(Forward { backend: backend.clone(), field, at });
        }
        self.config.traffic.push(policy);
        Ok(())
    }

    fn access_policy(
        &mut self,
        check: &mut Check<'_>,
        name: String,
        header: &Header,
    ) -> Result<(), ConfigError> {
        let HeaderMetadata { name: text, namespace } = &header.metadata;
        let namespace = match namespace {
            Some(text) => check.value("metadata.namespace", text, name::parse),
            None => Some(DEFAULT_NAMESPACE.to_owned()),
        };
        let Some(namespace) = namespace else { return Ok(()) };
        let (name, line) = (ObjectName { namespace, name }, text.line);
        if let Some(first) = self.access.get(&name) {
            let why = format_args!("there is an AccessPolicy of this name already, at {first}; rename one");
            check.refuse_value("metadata.name", text, why);
            return Ok(());
        }
        self.access.insert(name.clone(), check.document.at(line));
        let spec = check.document.read::<Manifest<_>>()?.spec.unwrap_or_default();
        let policy = access::read(check, &spec, name, line);
        self.config.access.push(policy);
        Ok(())
    }

    /// A policy whose target is not there would protect nothing, and nobody would notice.
    fn missing_targets(&self) -> Vec<ConfigError> {
        let mut missing = Vec::new();
        for policy in &self.config.access {
            let Some(at) = self.access.get(&policy.name) else { continue };
            for (i, target) in policy.targets.iter().enumerate() {
                let (kind, name) = match target {
                    TargetRef::Backend(name) if !self.backends.contains_key(name) => ("Backend", name),
                    // A listener that is wrong itself is not in the list.
                    TargetRef::Listener(name) if self.errors.is_empty() && !self.has_listener(name) => {
                        ("Listener", name)
                    }
                    _ => continue,
                };
                let why = format_args!("{name:?}: there is no {kind} of this name; add one");
                let field = format!("spec.targetRefs[{i}].name");
                missing.push(ConfigError::of_field(at.clone(), &field, why));
            }
        }
        missing
    }

    fn has_listener(&self, name: &str) -> bool {
        self.config.listeners.iter().any(|listener| listener.name == name)
    }

    fn finish(mut self) -> Result<Config, ConfigErrors> {
        for Forward { backend, field, at } in std::mem::take(&mut self.forwards) {
            if !self.backends.contains_key(&backend) {
                let why = format_args!("{backend:?}: there is no Backend of this name; add one");
                self.errors.push(ConfigError::of_field(at, &field, why));
            }
        }
        let mut missing = self.missing_targets();
        self.errors.append(&mut missing);
        self.look_up();
        let Config { backends, unused, .. } = &mut self.config;
        let routes = self.routes.finish(backends, unused, &mut self.errors);
        self.config.routes = routes;
        self.config
            .unused
            .sort_by(|a, b| (&a.location.file, a.location.line).cmp(&(&b.location.file, b.location.line)));
        ConfigErrors::unless(self.errors, self.config)
    }

    /// Looks up what documents refer to.
    fn look_up(&mut self) {
        for Reference { to, name, field, at } in std::mem::take(&mut self.references) {
            let (exists, kind) = match to {
                Referent::Listener => {
                    (self.config.listeners.iter().any(|listener| listener.name == name), "listener")
                }
                Referent::DirectResponse => (self.routes.has_response(&name), "DirectResponse"),
            };
            if !exists {
                let why = format_args!("{name:?}: there is no {kind} of this name; add one");
                self.errors.push(ConfigError::of_field(at, &field, why));
            } else if to == Referent::Listener {
                // Now something decides where its requests go.
                self.config.unused.retain(|unused| unused.kind != "Listener" || unused.name != name);
            }
        }
    }
}
