//! The kinds Service and EndpointSlice.

use std::net::IpAddr;

use super::kubernetes as raw;
use super::model::{Service, ServiceEndpoint, ServicePort, TargetPort};
use crate::config::ObjectName;
use crate::config::check::Check;
use crate::config::raw::Text;
use crate::config::value::{choice, port};

/// Kubernetes allows two addresses (one of each family), and 100 ports of an EndpointSlice.
const MAX_PORTS: usize = 100;
const MAX_ADDRESSES: usize = 2;
/// As many as Kubernetes allows in a slice, and each may have 100 addresses, of which the first counts.
const MAX_ENDPOINTS: usize = 1_000;
const MAX_ENDPOINT_ADDRESSES: usize = 100;
/// What names the Service of a slice.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The endpoints of a Service, or a part of them.
pub(super) struct Slice {
    pub service: ObjectName,
    pub endpoints: Vec<ServiceEndpoint>,
}

/// Why a text is not an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write an IP address")]
struct AddressError;

/// The Service of this name.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::ServiceSpec, name: ObjectName) -> Service {
    // `clusterIPs` has the first one again.
    let ips = if raw.cluster_ips.is_empty() { raw.cluster_ip.as_slice() } else { &raw.cluster_ips };
    let field = if raw.cluster_ips.is_empty() { "spec.clusterIP" } else { "spec.clusterIPs" };
    let cluster_ips = check.list(field, ips, MAX_ADDRESSES, |check, field, text| match text.value.as_str() {
        "" | "None" => None,
        _ => check.value(field, text, parse_ip),
    });
    let ports = check.list("spec.ports", &raw.ports, MAX_PORTS, |check, field, raw| {
        let raw = &raw.value;
        if !is_tcp(raw.protocol.as_ref()) {
            return None;
        }
        let port = check.value(&format!("{field}.port"), &raw.port, port::parse)?;
        let target = match &raw.target_port {
            // Zero is not set, for Kubernetes.
            Some(text) if text.value != "0" => target(&text.value),
            _ => TargetPort::Number(port),
        };
        let app_protocol = raw.app_protocol.as_ref().map(|text| text.value.clone());
        Some(ServicePort {
            name: raw.name.as_ref().map(|text| text.value.clone()),
            port,
            target,
            app_protocol,
        })
    });
    Service { name, cluster_ips, ports, endpoints: Vec::new() }
}

/// The endpoints of a slice in `namespace`. `None`: of no Service, or with no IP addresses.
pub(super) fn read_slice(check: &mut Check<'_>, raw: &raw::EndpointSlice, namespace: &str) -> Option<Slice> {
    let service = raw.metadata.labels.get(SERVICE_LABEL)?;
    if raw.address_type.as_ref().is_some_and(|text| text.value == "FQDN") {
        return None;
    }
    let ports: Vec<(Option<String>, u16)> =
        check.list("ports", &raw.ports, MAX_PORTS, |check, field, raw| {
            let raw = &raw.value;
            if !is_tcp(raw.protocol.as_ref()) {
                return None;
            }
            let port = check.value(&format!("{field}.port"), raw.port.as_ref()?, port::parse)?;
            Some((raw.name.as_ref().map(|text| text.value.clone()), port))
        });
    let endpoints: Vec<(IpAddr, bool, Option<String>)> =
        check.list("endpoints", &raw.endpoints, MAX_ENDPOINTS, |check, field, raw| {
            let raw = &raw.value;
            let ready = raw.conditions.as_ref().and_then(|conditions| conditions.ready.as_ref());
            let ready = check.value_or(&format!("{field}.conditions.ready"), ready, true, choice::parse_bool);
            let field = format!("{field}.addresses");
            let addresses =
                check.list(&field, &raw.addresses, MAX_ENDPOINT_ADDRESSES, |check, field, text| {
                    check.value(field, text, parse_ip)
                });
            // Of further ones nobody says what they mean (EndpointSlice's own documentation).
            Some((*addresses.first()?, ready, raw.zone.as_ref().map(|text| text.value.clone())))
        });
    let endpoints = endpoints.iter().flat_map(|(address, ready, zone)| {
        ports.iter().map(|(port_name, port)| ServiceEndpoint {
            address: *address,
            port_name: port_name.clone(),
            port: *port,
            ready: *ready,
            zone: zone.clone(),
        })
    });
    let service = ObjectName { namespace: namespace.to_owned(), name: service.value.clone() };
    Some(Slice { service, endpoints: endpoints.collect() })
}

fn is_tcp(protocol: Option<&Text>) -> bool {
    protocol.is_none_or(|text| text.value == "TCP")
}

fn target(text: &str) -> TargetPort {
    port::parse(text).map_or_else(|_| TargetPort::Name(text.to_owned()), TargetPort::Number)
}

fn parse_ip(text: &str) -> Result<IpAddr, AddressError> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| AddressError)
}
