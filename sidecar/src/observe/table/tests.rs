use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::net::addrs::{ClientAddr, Direction};
use crate::observe::connection::{Program, State};

struct Fixed;

impl Probe for Fixed {
    fn probe(&self) -> Probed {
        let program = Program { pid: 42, comm: "curl".into(), cgroup: Some("/app".into()) };
        Probed { rtt_us: Some(85), retransmits: Some(2), program: Some(program) }
    }
}

fn opening(id: u64, probe: &Arc<Fixed>) -> Opening {
    let probe: Weak<Fixed> = Arc::downgrade(probe);
    Opening {
        id: ConnectionId(id),
        direction: Direction::Outbound,
        source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
        original_destination: None,
        program: None,
        probe,
    }
}

fn table(capacity: usize) -> ConnectionTable {
    ConnectionTable::new("run-1".into(), capacity)
}

#[test]
fn a_connection_is_listed_as_the_proxy_and_its_probe_know_it() {
    let (table, probe) = (table(8), Arc::new(Fixed));
    let tracked = table.open(opening(1, &probe));
    tracked.connected(UpstreamAddr("10.0.0.2:80".parse().unwrap()));
    tracked.policy("passthrough");
    tracked.counters().sent.store(5, Ordering::Relaxed);
    let list = table.snapshot();
    assert_eq!(list.len(), 1);
    let one = &list[0];
    assert_eq!((one.instance.as_str(), one.state, one.bytes_sent), ("run-1", State::Open, 5));
    assert_eq!((one.pid, one.cgroup.as_deref(), one.rtt_us), (Some(42), Some("/app"), Some(85)));
    assert_eq!((one.policy.as_deref(), one.close_reason), (Some("passthrough"), None));
    tracked.close(CloseReason::Finished);
    assert!(table.snapshot().is_empty());
}

#[test]
fn a_dropped_guard_aborts() {
    let (table, probe) = (table(8), Arc::new(Fixed));
    let mut events = table.watch();
    drop(table.open(opening(1, &probe)));
    assert!(matches!(events.try_recv(), Ok(ConnectionEvent::Open(one)) if one.pid == Some(42)));
    let Ok(ConnectionEvent::Close(last)) = events.try_recv() else { panic!("no close") };
    assert_eq!((last.state, last.close_reason), (State::Closed, Some(CloseReason::Aborted)));
    assert_eq!(last.retransmits, Some(2), "probed at the close");
    assert_eq!(table.totals().of(Direction::Outbound).closed[CloseReason::Aborted as usize], 1);
}

#[test]
fn list_and_watch_tell_each_connection_once() {
    let (table, probe) = (table(8), Arc::new(Fixed));
    let first = table.open(opening(1, &probe));
    let (list, mut events) = table.list_and_watch();
    let _second = table.open(opening(2, &probe));
    first.close(CloseReason::Finished);
    assert_eq!(list.iter().map(|one| one.id).collect::<Vec<_>>(), [1]);
    assert!(matches!(events.try_recv(), Ok(ConnectionEvent::Open(one)) if one.id == 2));
    assert!(matches!(events.try_recv(), Ok(ConnectionEvent::Close(one)) if one.id == 1));
    assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_slow_watcher_misses_and_is_told_how_many() {
    let (table, probe) = (table(8), Arc::new(Fixed));
    let mut events = table.watch();
    for id in 0..WATCH_BACKLOG as u64 {
        table.open(opening(id, &probe)).close(CloseReason::Finished);
    }
    assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Lagged(WATCH_BACKLOG as u64));
}

#[test]
fn beyond_capacity_connections_are_served_counted_and_told_of_at_the_end() {
    let (table, probe) = (table(1), Arc::new(Fixed));
    let _listed = table.open(opening(1, &probe));
    let mut events = table.watch();
    let unlisted = table.open(opening(2, &probe));
    unlisted.counters().received.store(9, Ordering::Relaxed);
    assert_eq!(table.snapshot().len(), 1);
    assert_eq!((table.totals().unlisted, table.totals().of(Direction::Outbound).open()), (1, 2));
    unlisted.close(CloseReason::IdleTimeout);
    assert!(
        matches!(events.try_recv(), Ok(ConnectionEvent::Close(one)) if one.id == 2 && one.bytes_received == 9)
    );
    assert_eq!(table.snapshot().len(), 1, "the listed one is still there");
    let totals = table.totals();
    assert_eq!(totals.of(Direction::Outbound).open(), 1);
    assert_eq!(totals.of(Direction::Outbound).bytes_received, 9);
}

#[test]
fn bytes_are_counted_while_and_after_a_connection_lives() {
    let (table, probe) = (table(8), Arc::new(Fixed));
    let tracked = table.open(opening(1, &probe));
    tracked.counters().sent.store(10, Ordering::Relaxed);
    assert_eq!(table.totals().of(Direction::Outbound).bytes_sent, 10);
    assert_eq!(table.totals().of(Direction::Inbound).bytes_sent, 0);
    tracked.counters().sent.store(30, Ordering::Relaxed);
    tracked.close(CloseReason::Finished);
    assert_eq!(table.totals().of(Direction::Outbound).bytes_sent, 30);
}

#[test]
fn reconcile_closes_what_has_no_record() {
    let table = table(8);
    let half = |id| KernelHalf {
        id: ConnectionId(id),
        direction: Direction::Inbound,
        source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
        original_destination: None,
        program: Program { pid: 0, comm: String::new(), cgroup: None },
        bytes_sent: 0,
        bytes_received: 0,
        rtt_us: None,
        retransmits: 0,
    };
    table.kernel_event(KernelEvent::Open(half(1)));
    table.kernel_event(KernelEvent::Open(half(2)));
    let later = Instant::now() + PATIENCE + Duration::from_secs(1);
    table.sweep(later);
    assert_eq!(table.snapshot().len(), 2);
    assert_eq!(table.open_in_kernel().len(), 2);
    table.kernel_lost(ConnectionId(1), later);
    let left = table.snapshot();
    assert_eq!(left.iter().map(|one| (one.id, one.pid)).collect::<Vec<_>>(), [(2, None)]);
}

#[tokio::test]
async fn the_access_log_gets_each_close() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = AccessLog::open(crate::observe::access_log::Format::Json, &path).unwrap();
    let (table, probe) = (table(8), Arc::new(Fixed));
    table.log_to(log.clone());
    table.open(opening(3, &probe)).close(CloseReason::ConnectRefused);
    log.flush().await;
    let line: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&line["id"], &line["flags"], &line["comm"]), (&3.into(), &"UF".into(), &"curl".into()));
}
