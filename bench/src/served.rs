//! What proxies say of themselves.

use serde_json::Value;

/// Whose connections a proxy captures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Those that clients open.
    Client,
    /// Those that servers accept.
    Server,
}

/// What a proxy has served, since it started or between two looks.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Served {
    pub(crate) connections: f64,
    /// Requests on them, where it knows requests.
    pub(crate) requests: f64,
    /// The program's payload, both ways.
    pub(crate) bytes: f64,
    /// The part of it that went past TCP.
    pub(crate) bypassed: f64,
    /// What it sent past TCP to a proxy of another Pod.
    pub(crate) to_proxies: f64,
}

impl Side {
    /// The direction, as metrics have it.
    fn label(self) -> &'static str {
        match self {
            Self::Client => "outbound",
            Self::Server => "inbound",
        }
    }
}

impl Served {
    /// From the text of the metrics endpoint; of requests, those whose labels have `route`.
    pub(crate) fn of_sidecar(metrics: &str, side: Side, route: &str) -> Self {
        let direction = format!("{{direction=\"{}\"", side.label());
        let sum = |name: &str, label: &str| -> f64 {
            let asked = |rest: &str| rest.starts_with(&direction) && rest.contains(label);
            let samples = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(asked));
            samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let bytes = |label| {
            sum("sidecar_tcp_sent_bytes_total", label) + sum("sidecar_tcp_received_bytes_total", label)
        };
        let to_proxies = metrics.lines().find_map(|line| line.strip_prefix("sidecar_same_node_bytes_total "));
        Self {
            connections: sum("sidecar_tcp_connections_opened_total", ""),
            requests: sum("sidecar_requests_total", route),
            bytes: bytes(""),
            bypassed: bytes("path=\"bypass\""),
            to_proxies: to_proxies.and_then(|value| value.parse().ok()).unwrap_or_default(),
        }
    }

    /// From Envoy's administration page.
    pub(crate) fn of_envoy(stats: &str, side: Side) -> Option<Self> {
        let stats: Value = serde_json::from_str(stats).ok()?;
        let value = |name: &str| -> Option<f64> {
            let is_it = |one: &&Value| {
                let layers = ["tcp", "http"].map(|layer| format!("{layer}.{}.", side.label()));
                layers.iter().any(|layer| {
                    one["name"].as_str().and_then(|it| it.strip_prefix(layer.as_str())) == Some(name)
                })
            };
            stats["stats"].as_array()?.iter().find(is_it)?["value"].as_f64()
        };
        let bytes = value("downstream_cx_rx_bytes_total")? + value("downstream_cx_tx_bytes_total")?;
        Some(Self {
            connections: value("downstream_cx_total")?,
            requests: value("downstream_rq_total").unwrap_or_default(),
            bytes,
            bypassed: 0.0,
            to_proxies: 0.0,
        })
    }

    /// The difference to what it had served `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            connections: self.connections - before.connections,
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
            bypassed: self.bypassed - before.bypassed,
            to_proxies: self.to_proxies - before.to_proxies,
        }
    }

    /// What this proxy and the next one on the way have both served.
    pub(crate) fn and_by(self, next: Self) -> Self {
        Self {
            connections: self.connections.min(next.connections),
            requests: self.requests.min(next.requests),
            bytes: self.bytes.min(next.bytes),
            bypassed: self.bypassed.min(next.bypassed),
            to_proxies: self.to_proxies + next.to_proxies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn both_paths_are_added_up() {
        let metrics = r#"# HELP sidecar_tcp_sent_bytes Payload
sidecar_tcp_connections_opened_total{direction="inbound"} 3
sidecar_tcp_connections_opened_total{direction="outbound"} 5
sidecar_tcp_sent_bytes_total{direction="outbound",path="tcp"} 100
sidecar_tcp_sent_bytes_total{direction="outbound",path="bypass"} 200
sidecar_tcp_sent_bytes_total{direction="inbound",path="bypass"} 300
sidecar_tcp_received_bytes_total{direction="outbound",path="bypass"} 700
sidecar_same_node_bytes_total 40
"#;
        let seen = |Served { connections, bytes, bypassed, to_proxies, .. }: Served| {
            [connections, bytes, bypassed, to_proxies].map(|value| value.round().to_string())
        };
        let of = |side| Served::of_sidecar(metrics, side, "");
        assert_eq!(seen(of(Side::Client)), ["5", "1000", "900", "40"]);
        assert_eq!(seen(of(Side::Client).and_by(of(Side::Server))), ["3", "300", "300", "80"]);
    }

    #[test]
    fn requests_past_the_route_do_not_count() {
        let metrics = r#"sidecar_requests_total{direction="outbound",route="default/bench/0",code="200"} 3
sidecar_requests_total{direction="outbound",route="passthrough",code="200"} 4
"#;
        let seen = ["", routes::LABEL]
            .map(|route| Served::of_sidecar(metrics, Side::Client, route).requests.to_string());
        assert_eq!(seen, ["7", "3"]);
    }

    #[test]
    fn envoys_counters_are_read_by_name() {
        let stats = r#"{"stats":[{"name":"tcp.outbound.downstream_cx_total","value":7},
            {"name":"tcp.outbound.downstream_cx_rx_bytes_total","value":1},
            {"name":"tcp.outbound.downstream_cx_tx_bytes_total","value":2}]}"#;
        let served = Served::of_envoy(stats, Side::Client).unwrap();
        assert_eq!([served.connections, served.bytes].map(|value| value.round().to_string()), ["7", "3"]);
        assert!(Served::of_envoy(stats, Side::Server).is_none());
    }
}
