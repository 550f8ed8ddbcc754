//! The kind `ProxyConfig`.

use std::ops::RangeInclusive;

use super::build::Forward;
use super::check::Check;
use super::model::{
    AccessLog, Config, Limits, LogFormat, Otlp, OtlpProtocol, Ports, ProtocolDetection, Timeouts, Tracing,
    Unused,
};
use super::raw::{self, Text};
use super::value::number::number;
use super::value::percent::Percent;
use super::value::size::ByteSize;
use super::value::{address, choice, duration, path, port};
use super::{headers, interception, listener, probes, record};

/// More connections than this need more file descriptors than Linux allows a process by default
/// (`fs.nr_open`, 1,048,576): each takes two.
const CONNECTIONS: RangeInclusive<usize> = 1..=524_288;
/// hyper keeps a buffer of at least 8 KiB for a header.
const HEADER_BYTES: RangeInclusive<ByteSize> = ByteSize(8 * 1024)..=ByteSize(1024 * 1024);
const HEADERS: RangeInclusive<usize> = 1..=10_000;

/// Puts the document into `config` and returns which backends it names.
pub(super) fn apply(check: &mut Check<'_>, raw: raw::ProxyConfig, config: &mut Config) -> Vec<Forward> {
    note_unused(check, &raw, config);
    config.interception = interception::read(check, raw.interception.unwrap_or_default());
    config.ports = ports(check, &raw.ports.unwrap_or_default());
    config.protocol_detection = protocol_detection(check, raw.protocol_detection.unwrap_or_default());
    config.limits = limits(check, &raw.limits.unwrap_or_default());
    config.timeouts = timeouts(check, &raw.timeouts.unwrap_or_default());
    config.access_log = access_log(check, &raw.access_log.unwrap_or_default());
    config.headers = headers::read(check, &raw.headers.unwrap_or_default());
    let allow_connect = raw.allow_connect.as_ref();
    config.allow_connect = check.value_or("spec.allowConnect", allow_connect, false, choice::parse_bool);
    config.tracing = raw.tracing.and_then(|raw| tracing(check, &raw));
    let (probes, mut forwards) = probes::read(check, &raw.probes);
    config.probes = probes;
    forwards.extend(listener::apply(check, &raw.listeners, config));
    forwards
}

/// What is asked for and comes with later versions.
fn note_unused(check: &Check<'_>, raw: &raw::ProxyConfig, config: &mut Config) {
    let bypass = raw.interception.as_ref().and_then(|interception| interception.bypass.as_ref());
    // Only the kernel half has one.
    let mode = raw.interception.as_ref().and_then(|interception| interception.mode.as_ref());
    let without = mode.is_some_and(|mode| matches!(mode.value.as_str(), "iptables" | "none"));
    let bypass = bypass.filter(|text| without && !matches!(text.value.as_str(), "off" | "auto"));
    let tracing = raw.tracing.as_ref().map(|tracing| &tracing.otlp.endpoint);
    let asked = [("spec.interception.bypass", bypass), ("spec.tracing", tracing)];
    for (field, text) in asked {
        if let Some(text) = text {
            let location = check.document.at(text.line);
            config.unused.push(Unused { kind: "ProxyConfig".to_owned(), name: field.to_owned(), location });
        }
    }
}

fn ports(check: &mut Check<'_>, raw: &raw::Ports) -> Ports {
    let mut taken: Vec<(u16, &str)> = Vec::new();
    let mut port = |field: &'static str, text: &Option<Text>| {
        let text = text.as_ref()?;
        let path = format!("spec.ports.{field}");
        let port = check.value(&path, text, port::parse_or_free)??;
        if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == port) {
            let why =
                format_args!("is also the port of spec.ports.{other}; write another, or 0 for a free one");
            check.refuse_value(&path, text, why);
            return None;
        }
        taken.push((port, field));
        Some(port)
    };
    Ports {
        outbound: port("outbound", &raw.outbound),
        inbound: port("inbound", &raw.inbound),
        admin: port("admin", &raw.admin),
        metrics: port("metrics", &raw.metrics),
        health: port("health", &raw.health),
    }
}

fn protocol_detection(check: &mut Check<'_>, raw: raw::ProtocolDetection) -> ProtocolDetection {
    let default = ProtocolDetection::default();
    let field = "spec.protocolDetection.timeout";
    ProtocolDetection {
        timeout: check.value_or(field, raw.timeout.as_ref(), default.timeout, duration::parse_positive),
        opaque_ports: raw.opaque_ports.map_or(default.opaque_ports, |texts| {
            check.set("spec.protocolDetection.opaquePorts", &texts, port::parse)
        }),
    }
}

fn limits(check: &mut Check<'_>, raw: &raw::Limits) -> Limits {
    let default = Limits::default();
    Limits {
        max_connections: raw.max_connections.as_ref().map(|text| {
            let field = "spec.limits.maxConnections";
            check.value_or(field, Some(text), default.connections(), number(CONNECTIONS))
        }),
        max_request_header_bytes: check.value_or(
            "spec.limits.maxRequestHeaderBytes",
            raw.max_request_header_bytes.as_ref(),
            default.max_request_header_bytes,
            ByteSize::parse_within(HEADER_BYTES),
        ),
        max_request_headers: check.value_or(
            "spec.limits.maxRequestHeaders",
            raw.max_request_headers.as_ref(),
            default.max_request_headers,
            number(HEADERS),
        ),
        request_header_timeout: check.value_or(
            "spec.limits.requestHeaderTimeout",
            raw.request_header_timeout.as_ref(),
            default.request_header_timeout,
            duration::parse_positive,
        ),
    }
}

fn timeouts(check: &mut Check<'_>, raw: &raw::Timeouts) -> Timeouts {
    let Timeouts { connect, idle, drain } = Timeouts::default();
    let positive = duration::parse_positive;
    Timeouts {
        connect: check.value_or("spec.timeouts.connect", raw.connect.as_ref(), connect, positive),
        idle: check.value_or("spec.timeouts.idle", raw.idle.as_ref(), idle, positive),
        drain: check.value_or("spec.timeouts.drain", raw.drain.as_ref(), drain, duration::parse),
    }
}

fn access_log(check: &mut Check<'_>, raw: &raw::AccessLog) -> AccessLog {
    let default = AccessLog::default();
    let log = AccessLog {
        format: check.value_or("spec.accessLog.format", raw.format.as_ref(), default.format, choice::parse),
        path: check.value_or("spec.accessLog.path", raw.path.as_ref(), default.path, path::parse),
        record: raw.record.as_ref().and_then(|raw| record::read(check, raw)),
    };
    if let (LogFormat::Text, Some(text), Some(_)) = (log.format, &raw.format, &log.record) {
        let why = "has no room for what accessLog.record asks for; write json";
        check.refuse_value("spec.accessLog.format", text, why);
    }
    log
}

fn tracing(check: &mut Check<'_>, raw: &raw::Tracing) -> Option<Tracing> {
    let protocol = check.value_or(
        "spec.tracing.otlp.protocol",
        raw.otlp.protocol.as_ref(),
        OtlpProtocol::default(),
        choice::parse,
    );
    let sampling =
        check.value_or("spec.tracing.sampling", raw.sampling.as_ref(), Percent::ONE, str::parse::<Percent>);
    let endpoint = check.value("spec.tracing.otlp.endpoint", &raw.otlp.endpoint, address::parse_url)?;
    Some(Tracing { otlp: Otlp { endpoint, protocol }, sampling })
}
