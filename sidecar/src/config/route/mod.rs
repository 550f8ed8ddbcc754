//! Where requests and connections go: the routes of the Gateway API 1.5, the Services and EndpointSlices of
//! Kubernetes, and fixed answers.

mod backends;
mod connections;
mod cors;
mod direct_response;
mod documents;
mod dump;
mod filters;
mod grpc;
mod header_edits;
mod hostname;
mod http;
mod kubernetes;
mod matches;
mod model;
mod parents;
mod path;
mod pattern;
mod raw;
mod resolve;
mod service;

#[cfg(test)]
mod tests;

pub(super) use documents::RouteDocuments;
pub use hostname::Hostname;
pub use model::{
    BackendRef, BackendTarget, Cors, DirectResponse, FieldMatch, Filter, Fraction, HeaderEdits, HttpMatch,
    HttpRoute, HttpRule, Mirror, OriginMatch, ParentRef, PathEdit, PathMatch, Redirect, Retry, Rewrite,
    Routes, RuleTimeouts, Service, ServiceEndpoint, ServicePort, TargetPort, TcpRoute, TextMatch, TlsRoute,
};
pub use pattern::Pattern;

pub(super) use raw::DirectResponse as RawDirectResponse;
