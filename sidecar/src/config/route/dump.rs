//! How values of other crates are dumped.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::model::Service;
use crate::config::ObjectName;
use crate::config::value::duration;

/// A header field, as the Gateway API writes it.
#[derive(Serialize)]
struct Field<'a> {
    name: &'a str,
    value: String,
}

struct Written(Duration);

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        duration::serialize(&self.0, to)
    }
}

pub(super) fn fields<S: Serializer>(fields: &[(HeaderName, HeaderValue)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(fields.iter().map(|(name, value)| Field {
        name: name.as_str(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    }))
}

pub(super) fn each<S: Serializer>(values: &[impl Display], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(ToString::to_string))
}

#[allow(clippy::ref_option, reason = "serde passes a field by reference")]
pub(super) fn optional<S: Serializer>(value: &Option<impl Display>, to: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(to)
}

#[allow(clippy::ref_option, reason = "serde passes a field by reference")]
pub(super) fn optional_duration<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    value.map(Written).serialize(to)
}

pub(super) fn named<S: Serializer>(
    services: &BTreeMap<ObjectName, Service>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(services.iter().map(|(name, service)| (name.to_string(), service)))
}
