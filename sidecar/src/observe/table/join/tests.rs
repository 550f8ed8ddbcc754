use std::collections::HashMap;
use std::sync::Weak;

use super::*;
use crate::observe::connection::Program;
use crate::observe::table::half::Probe;

struct NoProbe;

impl Probe for NoProbe {
    fn probe(&self) -> Probed {
        Probed::default()
    }
}

/// A table, a clock, and what was told.
struct Bench {
    joined: Joined,
    now: Instant,
    told: Vec<String>,
    /// The latest half of each id.
    halves: HashMap<u64, Arc<ProxyHalf>>,
}

impl Bench {
    fn new(capacity: usize) -> Self {
        Self { joined: Joined::new(capacity), now: Instant::now(), told: Vec::new(), halves: HashMap::new() }
    }

    fn step(&mut self, f: impl FnOnce(&mut Joined, Instant, &mut Vec<Change>)) {
        let mut changes = Vec::new();
        f(&mut self.joined, self.now, &mut changes);
        for change in changes {
            self.told.push(match change {
                Change::Opened(entry) => format!("open {}", entry.facts.id),
                Change::Closed(entry) => {
                    let last = entry.last_snapshot("x", self.now);
                    format!("close {} {} {}", last.id, last.close_reason.unwrap().as_str(), last.bytes_sent)
                }
            });
        }
    }

    fn proxy_opens(&mut self, id: u64) -> bool {
        let mut listed = false;
        let half = Arc::new(ProxyHalf::new(opening(id)));
        half.counters.sent.store(100, std::sync::atomic::Ordering::Relaxed);
        self.halves.insert(id, half.clone());
        self.step(|joined, now, changes| listed = joined.proxy_opens(half, now, changes));
        listed
    }

    fn proxy_closes(&mut self, id: u64) {
        let half = self.halves[&id].clone();
        self.step(|joined, at, changes| {
            let closed = ProxyClosed { at, reason: CloseReason::Finished, probed: Probed::default() };
            assert!(joined.proxy_closes(&half, closed, changes).is_none(), "{id} is listed");
        });
    }

    fn kernel_opens(&mut self, id: u64) {
        self.step(|joined, now, changes| joined.kernel_tells(kernel(id), false, now, changes));
    }

    fn kernel_closes(&mut self, id: u64) {
        self.step(|joined, now, changes| joined.kernel_tells(kernel(id), true, now, changes));
    }

    fn sweep_after(&mut self, time: Duration) {
        self.now += time;
        self.step(Joined::sweep);
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn opening(id: u64) -> Opening {
    Opening {
        id: ConnectionId(id),
        direction: Direction::Outbound,
        source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
        original_destination: None,
        program: None,
        probe: Weak::<NoProbe>::new(),
    }
}

fn kernel(id: u64) -> KernelHalf {
    KernelHalf {
        id: ConnectionId(id),
        direction: Direction::Outbound,
        source: ClientAddr("10.0.0.1:1000".parse().unwrap()),
        original_destination: Some(OrigDst("10.0.0.2:80".parse().unwrap())),
        program: Program { pid: 42, comm: "curl".into(), cgroup: None },
        bytes_sent: 7,
        bytes_received: 8,
        rtt_us: Some(85),
        retransmits: 1,
    }
}

const MOMENT: Duration = Duration::from_millis(10);
const ALMOST: Duration = Duration::from_millis(990);

#[test]
fn the_proxys_half_alone_is_told_at_once() {
    let mut bench = Bench::new(8);
    assert!(bench.proxy_opens(1));
    bench.proxy_closes(1);
    assert_eq!(bench.told(), ["open 1", "close 1 finished 100"]);
}

#[test]
fn two_halves_are_one_connection_in_any_order() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    assert!(bench.told().is_empty(), "the proxy's half may still come");
    bench.proxy_opens(1);
    bench.sweep_after(PATIENCE);
    assert_eq!(bench.told(), ["open 1"]);
    bench.proxy_closes(1);
    assert!(bench.told().is_empty(), "the program's socket is still open");
    bench.kernel_closes(1);
    assert_eq!(bench.told(), ["close 1 finished 100"], "the proxy's bytes count");

    bench.proxy_opens(2);
    bench.kernel_opens(2);
    bench.kernel_closes(2);
    bench.sweep_after(PATIENCE * 3600);
    assert_eq!(bench.told(), ["open 2"], "the proxy still serves it");
    bench.proxy_closes(2);
    assert_eq!(bench.told(), ["close 2 finished 100"]);
}

#[test]
fn a_kernel_half_alone_is_told_after_a_while() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    bench.sweep_after(ALMOST);
    assert!(bench.told().is_empty());
    bench.sweep_after(MOMENT);
    assert_eq!(bench.told(), ["open 1"]);
    bench.kernel_closes(1);
    assert_eq!(bench.told(), ["close 1 notProxied 7"], "the kernel's bytes are all there is");
}

#[test]
fn a_short_kernel_half_waits_for_the_backlog_of_the_proxy() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    bench.kernel_closes(1);
    assert!(bench.told().is_empty());
    bench.proxy_opens(1);
    bench.proxy_closes(1);
    assert_eq!(bench.told(), ["open 1", "close 1 finished 100"]);

    bench.kernel_opens(2);
    bench.kernel_closes(2);
    bench.sweep_after(PATIENCE);
    assert_eq!(bench.told(), ["open 2", "close 2 notProxied 7"]);
}

#[test]
fn a_lost_close_of_the_kernel_ends_after_a_while() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    bench.proxy_opens(1);
    bench.proxy_closes(1);
    bench.sweep_after(ALMOST);
    assert_eq!(bench.told(), ["open 1"]);
    bench.sweep_after(MOMENT);
    assert_eq!(bench.told(), ["close 1 finished 100"]);
    assert!(bench.joined.live.is_empty());
}

#[test]
fn a_lost_close_of_a_kernel_half_alone_ends_by_its_record() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    bench.sweep_after(PATIENCE);
    assert_eq!(bench.joined.open_in_kernel(), [ConnectionId(1)]);
    bench.step(|joined, now, changes| joined.kernel_lost(ConnectionId(1), now, changes));
    assert_eq!(bench.told(), ["open 1", "close 1 notProxied 7"]);
    assert!(bench.joined.live.is_empty());
}

#[test]
fn late_events_do_not_open_a_connection_again() {
    let mut bench = Bench::new(8);
    bench.proxy_opens(1);
    bench.proxy_closes(1);
    bench.told();
    bench.kernel_opens(1);
    bench.kernel_closes(1);
    bench.sweep_after(PATIENCE);
    assert!(bench.told().is_empty());
    assert!(bench.joined.live.is_empty() && bench.joined.finished.is_empty(), "nothing stays behind");
}

#[test]
fn a_socket_that_connects_again_is_a_new_connection() {
    let mut bench = Bench::new(8);
    bench.kernel_opens(1);
    bench.proxy_opens(1);
    bench.proxy_closes(1);
    assert!(bench.proxy_opens(1), "before the kernel told of the first close");
    assert_eq!(bench.told(), ["open 1", "close 1 finished 100", "open 1"]);
    bench.kernel_closes(1);
    bench.kernel_opens(1);
    bench.proxy_closes(1);
    bench.kernel_closes(1);
    assert_eq!(bench.told(), ["close 1 finished 100"]);
    assert!(bench.proxy_opens(1), "after it closed");
}

#[test]
fn capacity_bounds_all_that_is_kept() {
    let mut bench = Bench::new(2);
    assert!(bench.proxy_opens(1) && bench.proxy_opens(2));
    assert!(!bench.proxy_opens(3), "full");
    bench.kernel_opens(4);
    assert_eq!(bench.joined.live.len(), 2);
    for id in 1..=2 {
        bench.proxy_closes(id);
    }
    assert!(bench.proxy_opens(5));
    bench.proxy_closes(5);
    assert_eq!(bench.joined.finished.len(), 2);
}

#[test]
fn states_follow_the_halves() {
    let mut bench = Bench::new(8);
    let state = |bench: &Bench| {
        bench
            .joined
            .announced()
            .map(|entry| entry.snapshot("x", bench.now, Probed::default()))
            .next()
            .unwrap()
    };
    bench.kernel_opens(1);
    bench.proxy_opens(1);
    assert_eq!(state(&bench).state, State::Connecting);
    assert_eq!((state(&bench).pid, state(&bench).rtt_us), (Some(42), Some(85)), "the kernel's word");
    let upstream = crate::net::addrs::UpstreamAddr("10.0.0.2:80".parse().unwrap());
    let served = bench.joined.announced().find_map(Entry::served).unwrap();
    served.upstream.set(upstream).unwrap();
    assert_eq!(state(&bench).state, State::Open);
    bench.proxy_closes(1);
    let closing = state(&bench);
    assert_eq!((closing.state, closing.close_reason), (State::Closing, Some(CloseReason::Finished)));
}

#[test]
fn a_socket_that_connects_again_takes_its_id_over_at_once() {
    let mut bench = Bench::new(8);
    assert!(bench.proxy_opens(1));
    let first = bench.halves[&ConnectionId(1).0].clone();
    assert!(bench.proxy_opens(1));
    bench.step(|joined, at, changes| {
        let closed = ProxyClosed { at, reason: CloseReason::ClientReset, probed: Probed::default() };
        assert!(joined.proxy_closes(&first, closed, changes).is_some(), "the id is the second one's");
    });
    bench.proxy_closes(1);
    assert_eq!(bench.told(), ["open 1", "open 1", "close 1 finished 100"]);
}
