//! Services and EndpointSlices as Kubernetes writes them: shape only, and of that what counts here. Their further
//! fields are many and grow with its versions; they are passed over.

use std::collections::BTreeMap;

use crate::config::shape::Spanned;
use serde::Deserialize;

use crate::config::raw::Text;

#[derive(Deserialize)]
pub(super) struct Service {
    pub spec: Option<ServiceSpec>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Text>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<Text>,
    pub ports: Vec<Spanned<ServicePort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort {
    pub name: Option<Text>,
    pub protocol: Option<Text>,
    pub app_protocol: Option<Text>,
    pub port: Text,
    pub target_port: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub metadata: SliceMetadata,
    pub address_type: Option<Text>,
    #[serde(default)]
    pub endpoints: Vec<Spanned<Endpoint>>,
    #[serde(default)]
    pub ports: Vec<Spanned<EndpointPort>>,
}

#[derive(Deserialize)]
pub(super) struct SliceMetadata {
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
pub(super) struct Endpoint {
    #[serde(default)]
    pub addresses: Vec<Text>,
    pub conditions: Option<Conditions>,
    pub zone: Option<Text>,
}

#[derive(Deserialize)]
pub(super) struct Conditions {
    pub ready: Option<Text>,
}

#[derive(Deserialize)]
pub(super) struct EndpointPort {
    pub name: Option<Text>,
    pub protocol: Option<Text>,
    pub port: Option<Text>,
}
