//! Metrics in the `OpenMetrics` text format. Every label value is one of a fixed set; clients cannot make new ones.

use std::fmt::{self, Debug};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::close_reason::CloseReason;
use super::process::Process;
use super::requests::{RequestMetrics, Requests};
use super::table::{ConnectionTable, Totals};
use crate::net::addrs::Direction;

/// What [`Metrics::encode`] returns (`OpenMetrics` 1.0, section "Protocol negotiation").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of an instance. A handle: clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    config_generation: Gauge<u64, AtomicU64>,
    config_rejected: Counter,
    requests: Arc<Requests>,
}

/// Knows the state of the kernel half. Asked at each scrape, on a thread that may block.
pub trait BpfStats: Send + Sync {
    /// The state now.
    fn stats(&self) -> BpfSample;
}

/// The state of the kernel half.
#[derive(Clone, Default, Debug)]
pub struct BpfSample {
    /// True while its programs are attached and traffic is steered.
    pub armed: bool,
    /// Its counters.
    pub counters: Vec<BpfCounter>,
    /// Its maps that can fill up.
    pub maps: Vec<MapUse>,
}

/// A counter of the kernel half: `sidecar_bpf_<name>_total`.
#[derive(Clone, Debug)]
pub struct BpfCounter {
    /// Its name, in snake case.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its value.
    pub value: u64,
}

/// How full a map is.
#[derive(Clone, Debug)]
pub struct MapUse {
    /// Its name.
    pub map: &'static str,
    /// How many entries it holds.
    pub entries: u64,
    /// How many it can hold.
    pub capacity: u64,
}

struct Connections(ConnectionTable);

struct Bpf(Arc<dyn BpfStats>);

// === impl Metrics ===

impl Metrics {
    /// The metrics of the connections in this table, of this process, and of its configuration.
    pub fn new(table: ConnectionTable) -> Self {
        let mut registry = Registry::default();
        let config_generation = Gauge::default();
        let config_rejected = Counter::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("sidecar_build", "The version that runs", build);
        registry.register(
            "sidecar_config_generation",
            "How often a configuration was accepted",
            config_generation.clone(),
        );
        registry.register(
            "sidecar_config_rejected",
            "Configurations that were refused",
            config_rejected.clone(),
        );
        registry.register_collector(Box::new(Connections(table)));
        let requests = Arc::<Requests>::default();
        registry.register_collector(Box::new(RequestMetrics(Arc::clone(&requests))));
        registry.register_collector(Box::new(Process));
        Self { registry: Arc::new(Mutex::new(registry)), config_generation, config_rejected, requests }
    }

    /// Where requests are counted.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Adds the kernel half's. To be called once.
    pub fn add_bpf(&self, stats: Arc<dyn BpfStats>) {
        self.lock().register_collector(Box::new(Bpf(stats)));
    }

    /// Adds the data plane's. To be called once.
    pub fn add(&self, collector: Box<dyn Collector>) {
        self.lock().register_collector(collector);
    }

    /// A configuration was accepted.
    pub fn config_accepted(&self) {
        self.config_generation.inc();
    }

    /// How often one was.
    pub fn config_generation(&self) -> u64 {
        self.config_generation.get()
    }

    /// A configuration was refused.
    pub fn config_rejected(&self) {
        self.config_rejected.inc();
    }

    /// All of them, as [`CONTENT_TYPE`]. May block for as long as the kernel half is asked.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock())?;
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        // A collector that panicked has changed nothing.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Connections ===

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let totals = self.0.totals();
        let each =
            [Direction::Inbound, Direction::Outbound].map(|direction| (direction, totals.of(direction)));

        let mut opened = counter(&mut encoder, "sidecar_tcp_connections_opened", "Connections begun")?;
        for (direction, of) in each {
            let labels = [("direction", direction.as_str())];
            count(&mut opened, &labels, of.opened)?;
        }
        let mut closed = counter(&mut encoder, "sidecar_tcp_connections_closed", "Connections ended")?;
        by_reason(&mut closed, &totals, |_| true)?;
        let mut failures = counter(
            &mut encoder,
            "sidecar_tcp_connect_failures",
            "Connections that ended since the upstream could not be reached",
        )?;
        by_reason(&mut failures, &totals, CloseReason::is_connect_failure)?;
        let mut open = encoder.encode_descriptor(
            "sidecar_tcp_open_connections",
            "Connections that are up",
            None,
            MetricType::Gauge,
        )?;
        for (direction, of) in each {
            let labels = [("direction", direction.as_str())];
            ConstGauge::new(of.open()).encode(open.encode_family(&labels)?)?;
        }
        let mut sent = counter(&mut encoder, "sidecar_tcp_sent_bytes", "Payload from the program")?;
        for (direction, of) in each {
            by_path(&mut sent, direction, of.bytes_sent, of.bypass_sent)?;
        }
        let mut received = counter(&mut encoder, "sidecar_tcp_received_bytes", "Payload to the program")?;
        for (direction, of) in each {
            by_path(&mut received, direction, of.bytes_received, of.bypass_received)?;
        }
        let unlisted = counter(
            &mut encoder,
            "sidecar_connections_unlisted",
            "Connections served but not listed, since the connection table was full",
        )?;
        ConstCounter::new(totals.unlisted).encode(unlisted)?;
        let dropped = counter(
            &mut encoder,
            "sidecar_access_log_dropped",
            "Lines that the access log lost, since its output was too slow or failed",
        )?;
        ConstCounter::new(self.0.access_log_dropped()).encode(dropped)
    }
}

fn by_reason(
    family: &mut MetricEncoder,
    totals: &Totals,
    wanted: impl Fn(CloseReason) -> bool,
) -> Result<(), fmt::Error> {
    for direction in [Direction::Inbound, Direction::Outbound] {
        // The proxy never closes a connection that it did not have.
        let reasons = CloseReason::ALL.into_iter().filter(|&reason| reason != CloseReason::NotProxied);
        for reason in reasons.filter(|&reason| wanted(reason)) {
            let labels = [("direction", direction.as_str()), ("reason", reason.as_str())];
            count(family, &labels, totals.of(direction).closed[reason as usize])?;
        }
    }
    Ok(())
}

fn by_path(
    family: &mut MetricEncoder,
    direction: Direction,
    all: u64,
    bypassed: u64,
) -> Result<(), fmt::Error> {
    for (path, bytes) in [("tcp", all.saturating_sub(bypassed)), ("bypass", bypassed)] {
        count(family, &[("direction", direction.as_str()), ("path", path)], bytes)?;
    }
    Ok(())
}

fn counter<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &'a str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn count<const N: usize>(
    family: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    value: u64,
) -> Result<(), fmt::Error> {
    ConstCounter::new(value).encode(family.encode_family(labels)?)
}

impl Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.0.instance()).finish()
    }
}

// === impl Bpf ===

impl Collector for Bpf {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let BpfSample { armed, counters, maps } = self.0.stats();
        let gauge = ConstGauge::new(u64::from(armed));
        let help = "1 while programs are attached and traffic is steered";
        gauge.encode(encoder.encode_descriptor("sidecar_bpf_armed", help, None, MetricType::Gauge)?)?;
        for BpfCounter { name, help, value } in counters {
            let name = format!("sidecar_bpf_{name}");
            let metric = counter(&mut encoder, &name, help)?;
            ConstCounter::new(value).encode(metric)?;
        }
        let mut gauges = |name: &str, help: &str, value: fn(&MapUse) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            maps.iter().try_for_each(|map| {
                ConstGauge::new(value(map)).encode(family.encode_family(&[("map", map.map)])?)
            })
        };
        gauges("sidecar_bpf_map_entries", "Entries that a map holds", |map| map.entries)?;
        gauges("sidecar_bpf_map_capacity", "Entries that a map can hold", |map| map.capacity)
    }
}

impl Debug for Bpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bpf")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Weak;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::net::addrs::{ClientAddr, ConnectionId};
    use crate::observe::table::{Opening, Probe, Probed};

    struct NoProbe;

    impl Probe for NoProbe {
        fn probe(&self) -> Probed {
            Probed::default()
        }
    }

    struct Fixed;

    impl BpfStats for Fixed {
        fn stats(&self) -> BpfSample {
            BpfSample {
                armed: true,
                counters: vec![BpfCounter { name: "events_lost", help: "Events lost", value: 3 }],
                maps: vec![MapUse { map: "RECORDS", entries: 2, capacity: 65536 }],
            }
        }
    }

    fn opening(id: u64, direction: Direction) -> Opening {
        Opening {
            id: ConnectionId(id),
            direction,
            source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
            original_destination: None,
            program: None,
            probe: Weak::<NoProbe>::new(),
        }
    }

    #[test]
    fn connections_configuration_and_kernel_half_are_counted() {
        let table = ConnectionTable::new("run-1".into(), 1);
        let metrics = Metrics::new(table.clone());
        metrics.add_bpf(Arc::new(Fixed));
        metrics.config_accepted();
        metrics.config_rejected();
        let tracked = table.open(opening(1, Direction::Outbound));
        tracked.counters().sent.store(5, Ordering::Relaxed);
        table.open(opening(2, Direction::Inbound)).close(CloseReason::ConnectRefused);
        let text = metrics.encode().unwrap();
        for line in [
            r#"sidecar_tcp_connections_opened_total{direction="outbound"} 1"#,
            r#"sidecar_tcp_connections_closed_total{direction="inbound",reason="connectRefused"} 1"#,
            r#"sidecar_tcp_connect_failures_total{direction="inbound",reason="connectRefused"} 1"#,
            r#"sidecar_tcp_open_connections{direction="outbound"} 1"#,
            r#"sidecar_tcp_open_connections{direction="inbound"} 0"#,
            r#"sidecar_tcp_sent_bytes_total{direction="outbound",path="tcp"} 5"#,
            r#"sidecar_tcp_received_bytes_total{direction="outbound",path="tcp"} 0"#,
            "sidecar_connections_unlisted_total 1",
            "sidecar_access_log_dropped_total 0",
            "sidecar_config_generation 1",
            "sidecar_config_rejected_total 1",
            concat!("sidecar_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "sidecar_bpf_armed 1",
            "sidecar_bpf_events_lost_total 3",
            r#"sidecar_bpf_map_entries{map="RECORDS"} 2"#,
            r#"sidecar_bpf_map_capacity{map="RECORDS"} 65536"#,
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let mut types = HashSet::new();
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            assert!(types.insert(name), "{name} is there twice");
        }
    }

    #[test]
    fn without_a_kernel_half_nothing_is_said_of_it() {
        let text = Metrics::new(ConnectionTable::new("x".into(), 1)).encode().unwrap();
        assert!(!text.contains("sidecar_bpf_"), "{text}");
    }
}
