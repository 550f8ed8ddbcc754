//! Takes in the documents about routes, one by one.

use std::collections::BTreeMap;

use super::model::Routes;
use super::service::Slice;
use super::{connections, direct_response, grpc, http, kubernetes, raw, resolve, service};
use crate::config::check::Check;
use crate::config::error::ConfigError;
use crate::config::kind::RoutingKind;
use crate::config::model::{Backend, Location, Unused};
use crate::config::raw::{Header, Manifest};
use crate::config::value::name;
use crate::config::{DEFAULT_NAMESPACE, ObjectName};

/// What the documents before said.
#[derive(Default)]
pub(in crate::config) struct RouteDocuments {
    routes: Routes,
    /// Where each object stands, also one that is wrong: it does exist.
    seen: BTreeMap<(RoutingKind, ObjectName), Location>,
    slices: Vec<(Slice, Unused)>,
}

// === impl RouteDocuments ===

impl RouteDocuments {
    /// Takes in the object called `name`. `Err`: it has the wrong shape.
    pub(in crate::config) fn document(
        &mut self,
        check: &mut Check<'_>,
        kind: RoutingKind,
        name: String,
        header: &Header,
    ) -> Result<(), ConfigError> {
        let namespace = match &header.metadata.namespace {
            // Our own kinds have no namespaces.
            _ if kind == RoutingKind::DirectResponse => DEFAULT_NAMESPACE.to_owned(),
            None => DEFAULT_NAMESPACE.to_owned(),
            Some(text) => match check.value("metadata.namespace", text, name::parse) {
                Some(namespace) => namespace,
                None => return Ok(()),
            },
        };
        let name = ObjectName { namespace, name };
        let text = &header.metadata.name;
        let line = text.line;
        if let Some(first) = self.seen.get(&(kind, name.clone())) {
            let kind = &header.kind.value;
            let why = format_args!("there is a {kind} of this name already, at {first}; rename one");
            check.refuse_value("metadata.name", text, why);
            return Ok(());
        }
        self.seen.insert((kind, name.clone()), check.document.at(line));
        self.take(check, kind, name, line)
    }

    fn take(
        &mut self,
        check: &mut Check<'_>,
        kind: RoutingKind,
        name: ObjectName,
        line: u64,
    ) -> Result<(), ConfigError> {
        let document = check.document;
        match kind {
            RoutingKind::HttpRoute => {
                let spec = document.read::<Manifest<_>>()?.spec.unwrap_or_default();
                self.routes.http.push(http::read(check, &spec, name, line));
            }
            RoutingKind::GrpcRoute => {
                let spec = document.read::<Manifest<_>>()?.spec.unwrap_or_default();
                self.routes.http.push(grpc::read(check, &spec, name, line));
            }
            RoutingKind::TcpRoute => {
                let spec = document.read::<Manifest<_>>()?.spec.unwrap_or_default();
                self.routes.tcp.push(connections::read_tcp(check, &spec, name, line));
            }
            RoutingKind::TlsRoute => {
                let spec = document.read::<Manifest<_>>()?.spec.unwrap_or_default();
                self.routes.tls.push(connections::read_tls(check, &spec, name, line));
            }
            RoutingKind::Service => {
                let spec = document.read::<kubernetes::Service>()?.spec.unwrap_or_default();
                self.routes.services.insert(name.clone(), service::read(check, &spec, name));
            }
            RoutingKind::EndpointSlice => {
                let slice: kubernetes::EndpointSlice = document.read()?;
                let unused =
                    Unused { kind: "EndpointSlice".to_owned(), name: name.name, location: document.at(line) };
                match service::read_slice(check, &slice, &name.namespace) {
                    Some(slice) => self.slices.push((slice, unused)),
                    None => check.unused.push(unused),
                }
            }
            RoutingKind::DirectResponse => {
                let Some(spec) = document.read::<Manifest<raw::DirectResponse>>()?.spec else {
                    check.refuse(line, "spec", "is required");
                    return Ok(());
                };
                let response = direct_response::read(check, &spec, name.name, line);
                self.routes.responses.extend(response.map(|response| (response.name.clone(), response)));
            }
        }
        Ok(())
    }

    /// True if there is such an answer, also if it is wrong.
    pub(in crate::config) fn has_response(&self, name: &str) -> bool {
        let name = ObjectName { namespace: DEFAULT_NAMESPACE.to_owned(), name: name.to_owned() };
        self.seen.contains_key(&(RoutingKind::DirectResponse, name))
    }

    /// All routes, with what they refer to looked up. Notes slices that are of no Service, and what is wrong.
    pub(in crate::config) fn finish(
        mut self,
        backends: &BTreeMap<String, Backend>,
        unused: &mut Vec<Unused>,
        errors: &mut Vec<ConfigError>,
    ) -> Routes {
        let (mut strays, mut wrong) = resolve::join_slices(&mut self.routes, self.slices);
        unused.append(&mut strays);
        errors.append(&mut wrong);
        resolve::backends(&mut self.routes, backends);
        self.routes
    }
}
