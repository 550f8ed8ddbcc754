//! A reader that stops holds its sender: what is under way between them has a bound, in bytes and in kernel memory, for
//! one connection and for a thousand. `torture stall` is both sides: non-blocking, with epoll, and 64 messages and
//! answers before the reader stops, so that the bypass was earned.

use std::process::Command;

use serde_json::Value;
use sidecar_tests::{Config, DEADLINE, Finished, Mode, Netns, Program, Sidecar, eventually, in_modes};

/// The most that a send buffer and a receive buffer may grow to: the last numbers of `tcp_wmem` and `tcp_rmem`.
#[derive(Clone, Copy)]
struct Buffers {
    send: u64,
    receive: u64,
}

/// The most payload of a segment within the machine (tcp(7) has no name for it; `GSO_LEGACY_MAX_SIZE`): a queue that is
/// not full yet takes one more.
const SEGMENT: u64 = 64 << 10;

/// What the proxy holds of each direction while its receiver has no room (`net/copy.rs`).
const COPY: u64 = 64 << 10;

/// From sender to proxy, from proxy to reader: each has a send buffer and a receive buffer. The kernel counts a queue's
/// memory, which is more than its bytes. With the bypass, what is redirected counts against the same receive buffers.
const QUEUES: u64 = 2;

/// What two sockets may have beside their queues' bytes: each segment's own description, and memory in reserve
/// (`sk_forward_alloc`).
const BESIDE: u64 = 32 << 10;

impl Buffers {
    /// What a sender may get rid of while its reader reads nothing.
    fn bytes(self) -> u64 {
        QUEUES * (self.send + SEGMENT + self.receive + SEGMENT) + COPY
    }

    /// The same as memory of the kernel.
    fn memory(self) -> u64 {
        QUEUES * (self.send + SEGMENT + self.receive + SEGMENT + BESIDE)
    }
}

/// What all TCP sockets of a namespace hold: queued for reading and for writing, and reserved (ss(8), skmem). The sum in
/// /proc/net/sockstat is the whole machine's.
fn memory(net: &Netns) -> u64 {
    let mut ss: Command = net.place().command("ss");
    let listed = Finished::of(ss.args(["-tanmOH"])).success();
    let held = |socket: &str| {
        let fields = socket.split_once("skmem:(")?.1.split_once(')')?.0;
        let field = |name: char| {
            let mut all = fields.split(',').filter_map(|field| field.strip_prefix(name));
            // What a socket has charged beyond its reserve is negative, and ss prints it unsigned.
            all.find_map(|value| value.parse::<u32>().ok())
                .map_or(0, |value| u64::try_from(value.cast_signed()).unwrap_or(0))
        };
        Some(field('r') + field('w') + field('f'))
    };
    listed.lines().filter_map(held).sum()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Lets the readers of so many connections stop and go on, in both roles.
fn stalled(mode: Mode, bypass: &str, connections: u64, buffers: Buffers) {
    for role in [&[][..], &["--down"]] {
        let net = Netns::new("stall");
        net.sysctl("net/ipv4/tcp_wmem", &format!("4096 16384 {}", buffers.send));
        net.sysctl(
            "net/ipv4/tcp_rmem",
            &format!("4096 {} {}", buffers.receive.min(131_072), buffers.receive),
        );
        let config = Config::new(mode).bypass(bypass).with("interception.outbound.captureLoopback", true);
        let sidecar = Sidecar::start(&net, &config);
        let mut command = sidecar.place().command(env!("CARGO_BIN_EXE_torture"));
        command.args(["stall", "--connections", &connections.to_string()]).args(role);
        // Not held at all would soon be more memory than there is.
        command.args(["--limit", &(4 * buffers.bytes()).to_string()]);
        let mut program = Program::start(&mut command);
        let said = program.wait_for_output("stalled");
        let stalled = json(said.lines().next().unwrap());
        let (most, held) = (stalled["most"].as_u64().unwrap(), memory(&net));
        let case = format!(
            "bypass {bypass}, {connections} connections, {role:?}: {stalled}, {held} bytes of memory"
        );
        assert_eq!(stalled["stalled"], connections);
        assert!(most <= buffers.bytes(), "more than {} bytes: {case}", buffers.bytes());
        // Otherwise nobody would know that the sender was held by its reader.
        assert!(most >= buffers.receive / 2, "held too early: {case}");
        let bound = connections * buffers.memory();
        assert!(held <= bound, "more than {bound} bytes of memory: {case}");
        program.say("go on\n");
        let said = program.wait_for(3 * DEADLINE).success();
        assert_eq!(json(said.lines().last().unwrap())["drained"], stalled["total"], "{case}");
        eventually(DEADLINE, "the memory to be free", || (memory(&net) <= BESIDE).then_some(()));
        let captured = sidecar.metric("sidecar_bpf_captured_outbound_total");
        assert_eq!(captured, connections, "{case}");
        println!("{case}; bounds {} and {bound}", buffers.bytes());
    }
}

/// With as much room as Linux gives by default.
const ONE: Buffers = Buffers { send: 4 << 20, receive: 6 << 20 };

/// With so little that a thousand are not many.
const THOUSAND: Buffers = Buffers { send: 64 << 10, receive: 64 << 10 };

fn one(mode: Mode) {
    stalled(mode, "off", 1, ONE);
}
in_modes!(one: Ebpf);

fn one_bypassed(mode: Mode) {
    stalled(mode, "full", 1, ONE);
}
in_modes!(one_bypassed: Ebpf);

fn thousand(mode: Mode) {
    stalled(mode, "off", 1000, THOUSAND);
}
in_modes!(thousand: Ebpf);

fn thousand_bypassed(mode: Mode) {
    stalled(mode, "full", 1000, THOUSAND);
}
in_modes!(thousand_bypassed: Ebpf);
