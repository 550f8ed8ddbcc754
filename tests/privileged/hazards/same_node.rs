//! A connection between two Pods of one machine, each with its own proxy: what is between the proxies skips the TCP stack too,
//! by the option `bypassSameNode`.

use std::thread;

use serde_json::Value;
use sidecar_tests::{
    Config, Connection, DEADLINE, Finished, Mode, Mounts, Netns, PEER4, Pair, Probe, Program, Sidecar, cli,
    eventually, python, require, serve_http,
};

use super::{PORT, number};
use crate::at;

/// Two Pods of one node. Fields are dropped in order.
struct Pods {
    client: Sidecar,
    server: Sidecar,
    net: Pair,
    node: Mounts,
}

impl Pods {
    #[track_caller]
    fn new(config: &Config) -> Self {
        Self::of([config, config])
    }

    /// With the configurations of the client's Pod and of the server's.
    #[track_caller]
    fn of([client, server]: [&Config; 2]) -> Self {
        let (net, node) = (Pair::new("same-node"), Mounts::with_bpffs());
        let server = Sidecar::start_at(&net.peer.place().in_mounts(&node), &net.peer, server);
        let client = Sidecar::start_at(&net.pod.place().in_mounts(&node), &net.pod, client);
        Self { client, server, net, node }
    }

    /// A server in its Pod, and what a client in its own says, with its connection open. Both check all bytes.
    #[track_caller]
    fn talk(&self, options: &[&str]) -> (Probe, Probe) {
        self.talk_to(PORT, options)
    }

    #[track_caller]
    fn talk_to(&self, port: &str, options: &[&str]) -> (Probe, Probe) {
        let echo = [&["echo", port, "--host", PEER4], options].concat();
        let echo = Probe::hold_both_ends(&self.server.place(), &echo);
        let talk = [&["talk", port, "--host", PEER4], options].concat();
        (Probe::hold_both_ends(&self.client.place(), &talk), echo)
    }

    /// The hop between the proxies, as either tells of it.
    #[track_caller]
    fn hops(&self) -> [Hop; 2] {
        let to = at(PEER4, 9000);
        [("outbound", &self.client), ("inbound", &self.server)]
            .map(|(direction, sidecar)| Hop(sidecar.connection(direction, &to)))
    }

    /// What the instances share, by its name below the machine's bpffs.
    #[track_caller]
    fn shared(&self) -> Vec<String> {
        let pinned = self.node.pinned();
        pinned.into_iter().filter(|path| path.starts_with("sidecar/_")).collect()
    }

    /// The ends of connections in what they share.
    #[track_caller]
    fn ends(&self) -> usize {
        self.node.entries("sidecar/_node_*/NODE_PEERS")
    }
}

/// What a proxy says of its hop to the other.
struct Hop(Connection);

impl Hop {
    fn field(&self) -> &Value {
        self.0.field("sameNode")
    }

    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        number(self.field(), name)
    }

    #[track_caller]
    fn is(&self, standing: &str, reason: &str) {
        assert_eq!(self.field()["bypass"], standing, "{:?}", self.0);
        let said = self.field()["bypassReason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        assert_eq!(self.number("messages") > 0, standing == "earned", "{:?}", self.0);
    }
}

fn config(level: &str) -> Config {
    Config::new(Mode::Ebpf).bypass(level).with("interception.bypassSameNode", true)
}

fn bytes_skip_tcp_between_proxies(level: &str) {
    let pods = Pods::new(&config(level));
    let (client, _server) = pods.talk(&["--times", "1000", "--size", "20000"]);
    let sent = number(client.seen(), "sent");
    let [there, here] = pods.hops();
    for hop in [&there, &here] {
        hop.is("earned", "another proxy of this machine");
        assert!(hop.number("bytesSent") > sent * 9 / 10, "{sent} bytes: {:?}", hop.0);
    }
    // Both tell of the same hop.
    assert_eq!(there.number("bytesSent"), here.number("bytesReceived"));
    assert_eq!(here.number("bytesSent"), there.number("bytesReceived"));
    client.finish();
    // One that nobody looks at is counted to its last byte as well, when it is over.
    let (again, _other) = pods.talk_to("9001", &["--times", "300", "--size", "20000"]);
    let more = number(&again.finish(), "sent") * 9 / 10;
    for (sidecar, hop) in [(&pods.client, &there), (&pods.server, &here)] {
        assert_eq!(sidecar.metric("sidecar_same_node_hops_total"), 2);
        let least = hop.number("bytesSent") + more;
        eventually(DEADLINE, "what was sent to be counted", || {
            (sidecar.metric("sidecar_same_node_bytes_total") > least).then_some(())
        });
    }
    eventually(DEADLINE, "both ends to be forgotten", || (pods.ends() == 0).then_some(()));
}
in_levels!(bytes_skip_tcp_between_proxies: full, to_proxy, auto);

/// Requests go over connections of the proxy's pool, which no program opened.
#[test]
fn requests_skip_it_too() {
    require!(root);
    let pods = Pods::new(&config("full"));
    let _server = serve_http(&pods.server.place(), 9000);
    let url = format!("http://{}/count", at(PEER4, 9000));
    let mut curl = pods.client.place().command("curl");
    curl.args(["--silent", "--show-error", "--fail"]).args(vec![&url; 100]);
    Finished::of(&mut curl).success();
    for sidecar in [&pods.client, &pods.server] {
        assert_eq!(sidecar.metric("sidecar_same_node_hops_total"), 1);
        // The last look but one was after 64 messages.
        assert!(sidecar.metric("sidecar_same_node_messages_total") >= 32);
    }
}

/// Nothing is shared, and nobody looks for another proxy, unless both are told to.
#[test]
fn is_an_option_of_both() {
    require!(root);
    let (with, without) = (config("full"), Config::new(Mode::Ebpf).bypass("full"));
    for configs in [[&with, &without], [&without, &with], [&without, &without]] {
        let pods = Pods::of(configs);
        let (_client, _server) = pods.talk(&[]);
        for (hop, config) in pods.hops().iter().zip(configs) {
            if std::ptr::eq(config, &raw const with) {
                hop.is("remote", "no open socket of an armed program");
            } else {
                assert_eq!(hop.field(), &Value::Null, "{:?}", hop.0);
            }
        }
        let is_shared = configs.iter().any(|config| std::ptr::eq(*config, &raw const with));
        assert_eq!(!pods.shared().is_empty(), is_shared, "{:?}", pods.shared());
    }
}

/// Instances that come at once, as after a reboot of a node, make one thing to share.
#[test]
fn is_one_for_all() {
    const INSTANCES: usize = 6;
    require!(root);
    let node = Mounts::with_bpffs();
    let netns = [(); INSTANCES].map(|()| Netns::new("same-node"));
    let config = config("full");
    let begin = |netns| Sidecar::begin_at(&Netns::place(netns).in_mounts(&node), netns, &config);
    let mut instances = netns.each_ref().map(begin);
    instances.iter_mut().for_each(Sidecar::wait_until_ready);
    let mut ids = node.map_ids("sidecar/_node_*/NODE_SOCKETS sidecar/*/_node_*");
    assert_eq!(ids.len(), 1 + INSTANCES, "{:#?}", node.pinned());
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    thread::scope(|scope| {
        for instance in &mut instances {
            scope.spawn(move || instance.terminate());
        }
    });
    assert_eq!(node.pinned(), Vec::<String>::new());
}

/// What instances share goes with the last of them.
#[test]
fn goes_with_the_last_instance() {
    require!(root);
    let Pods { mut client, mut server, net: _net, node } = Pods::new(&config("full"));
    let shared = || node.pinned().iter().any(|path| path.starts_with("sidecar/_node_"));
    assert!(shared());
    client.terminate();
    assert!(shared(), "the other one needs it");
    server.terminate();
    assert_eq!(node.pinned(), Vec::<String>::new());
}

/// Two pairs of Pods of one node, in networks that know nothing of each other, with the same addresses and one port to dial from:
/// their connections have the same addresses and ports at both ends. (All pairs of namespaces here have the same addresses.)
struct Networks {
    pods: [(Sidecar, Sidecar, Pair); 2],
    _node: Mounts,
}

impl Networks {
    /// With the configurations of client and server in both.
    #[track_caller]
    fn of(configs: [[&Config; 2]; 2]) -> Self {
        let node = Mounts::with_bpffs();
        let pods = configs.map(|[of_client, of_server]| {
            let net = Pair::new("same-node");
            let start =
                |netns, config| Sidecar::start_at(&Netns::place(netns).in_mounts(&node), netns, config);
            let (server, client) = (start(&net.peer, of_server), start(&net.pod, of_client));
            net.pod.sysctl("net/ipv4/ip_local_port_range", "50000 50000");
            (client, server, net)
        });
        Self { pods, _node: node }
    }

    /// A connection in each, with contents of its own, which programs check; and what the proxies say of them.
    #[track_caller]
    fn talk(&self) -> [[Hop; 2]; 2] {
        let mut programs = Vec::new();
        for ((client, server, _), seed) in self.pods.iter().zip(["1", "2"]) {
            let echo = ["echo", PORT, "--host", PEER4, "--seed", seed];
            programs.push(Probe::hold_both_ends(&server.place(), &echo));
            let talk = ["talk", PORT, "--host", PEER4, "--seed", seed, "--times", "1000"];
            programs.push(Probe::hold_both_ends(&client.place(), &talk));
        }
        self.pods.each_ref().map(|(client, server, _)| {
            let to = at(PEER4, 9000);
            let hops = [client.connection("outbound", &to), server.connection("inbound", &to)].map(Hop);
            assert_eq!(hops[1].0.text("source"), "10.7.0.1:50000");
            hops
        })
    }
}

/// The first network's meet, and leave the second's alone.
#[test]
fn hazard_10_same_addresses_at_once() {
    require!(root);
    let with = config("full");
    let [first, second] = Networks::of([[&with, &with], [&with, &with]]).talk();
    for (hops, standing, reason) in
        [(first, "earned", "another proxy"), (second, "remote", "the same addresses")]
    {
        for hop in hops {
            hop.is(standing, reason);
        }
    }
}

/// Two that are offered, and are not each other's ends.
#[test]
fn hazard_10_same_addresses_are_no_proof() {
    require!(root);
    let (with, without) = (config("full"), Config::new(Mode::Ebpf).bypass("full"));
    let [[_, server], [client, _]] = Networks::of([[&without, &with], [&with, &without]]).talk();
    for hop in [server, client] {
        hop.is("remote", "no open socket of an armed program");
    }
}

/// Connections whose readers stop.
const READERS: u64 = 100;
/// Their send and receive buffers to begin with.
const BUFFER: u64 = 64 << 10;

/// A reader that stops in one Pod holds its sender in the other, with no more under way than fits: three hops with a send and a
/// receive buffer each, and what two proxies copy.
#[test]
fn hazard_3_slow_readers() {
    require!(root);
    slow_readers(&config("full"), READERS, BUFFER);
}

/// Readers go on one after another, as soon as their turn comes, with receive buffers that cannot grow: redirected bytes have not
/// taken the room that TCP was promised, so that it had nothing to drop and is not waiting for its timer.
#[test]
fn hazard_16_promised_room() {
    require!(root);
    slow_readers(&Config::new(Mode::Ebpf).bypass("full"), 0, BUFFER);
}

/// The same with buffers that grow when they are full.
#[test]
fn hazard_16_room_to_grow() {
    require!(root);
    slow_readers(&Config::new(Mode::Ebpf).bypass("full"), 0, 8 * BUFFER);
}

#[track_caller]
fn slow_readers(config: &Config, hops: u64, most_to_receive: u64) {
    // Of each hop, a queue on both sides takes a segment of 64 KiB more than its size, when it is not full yet.
    let bound = 3 * (BUFFER + most_to_receive + 2 * (64 << 10)) + 2 * (256 << 10);
    let pods = Pods::new(config);
    for netns in [&pods.net.pod, &pods.net.peer] {
        netns.sysctl("net/ipv4/tcp_wmem", &format!("4096 16384 {BUFFER}"));
        netns.sysctl("net/ipv4/tcp_rmem", &format!("4096 {BUFFER} {most_to_receive}"));
    }
    let number_of_readers = READERS.to_string();
    let start = |sidecar: &Sidecar, command: &str, more: &[&str]| {
        let args = [&[command, PORT, "--host", PEER4, "--times", &number_of_readers], more].concat();
        Program::start(python(&sidecar.place(), "bypass.py").args(args))
    };
    let mut server = start(&pods.server, "deaf", &[]);
    server.wait_for_output("listening");
    let mut client = start(&pods.client, "flood", &["--size", &(4 * bound).to_string()]);
    let stalled: Value = serde_json::from_str(client.wait_for_output("\n").trim()).unwrap();
    let (most, sent) = (number(&stalled, "most"), number(&stalled, "sent"));
    assert!(most <= bound, "more than {bound}: {stalled}");
    assert_eq!(pods.client.metric("sidecar_same_node_hops_total"), hops);
    server.say("go on\n");
    client.say("end\n");
    let received: Value =
        serde_json::from_str(server.wait_for_output("received").lines().last().unwrap()).unwrap();
    assert_eq!(number(&received, "received"), sent);
    client.wait_for(DEADLINE).success();
    println!("{stalled}; bound {bound}");
}

/// A proxy that is killed takes its connections along, and leaves no end behind.
#[test]
fn a_killed_proxy_leaves_nothing() {
    require!(root);
    let mut pods = Pods::new(&config("full"));
    let (client, server) = pods.talk(&[]);
    pods.hops()[0].is("earned", "another proxy");
    assert_eq!(pods.ends(), 2);
    pods.server.kill();
    drop((client, server));
    eventually(DEADLINE, "both ends to be forgotten", || (pods.ends() == 0).then_some(()));
    // The client's proxy goes on, with what is there now.
    let place = pods.net.peer.place().in_mounts(&pods.node);
    cli(&place, &["detach", pods.server.name()]).success();
    assert!(!pods.node.pinned().iter().any(|path| path.ends_with(pods.server.name())));
    assert!(!pods.shared().is_empty(), "the client's still holds it");
    pods.client.terminate();
    assert_eq!(pods.node.pinned(), Vec::<String>::new());
}
