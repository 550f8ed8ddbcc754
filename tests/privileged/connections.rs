//! What can be seen of a connection.

use sidecar_tests::{
    Config, DEADLINE, Kind, Mode, PEER4, POD4, Pair, Place, Probe, Program, Sidecar, binary, cli, eventually,
    in_modes, serve,
};

use crate::at;

/// The banner server says `220 ready\n`; the probe says `hello\n`; the server says `250 hello\n`.
const SAID: u64 = 6;
const HEARD: u64 = 20;

fn bytes_of(sidecar: &Sidecar, direction: &str, destination: &str) {
    eventually(DEADLINE, "the bytes to be counted", || {
        let connection = sidecar.connection(direction, destination);
        let (sent, received) = (connection.number("bytesSent"), connection.number("bytesReceived"));
        // Seen from the program: an inbound connection's program is the server.
        let (said, heard) = if direction == "outbound" { (sent, received) } else { (received, sent) };
        assert!(said <= SAID && heard <= HEARD, "{connection:?}");
        (said == SAID && heard == HEARD).then_some(())
    });
}

fn outbound_bytes(mode: Mode) {
    let net = Pair::new("bytes-out");
    let _server = serve(&net.peer.place(), Kind::Banner, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _held = sidecar.hold(&["connect", PEER4, "9000", "--say", "hello", "--read"]);
    bytes_of(&sidecar, "outbound", &at(PEER4, 9000));
}
in_modes!(outbound_bytes: Ebpf, Iptables);

fn inbound_bytes(mode: Mode) {
    let net = Pair::new("bytes-in");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let _server = serve(&sidecar.place(), Kind::Banner, "0.0.0.0:9000");
    let _held = Probe::hold(&net.peer.place(), &["connect", POD4, "9000", "--say", "hello", "--read"]);
    bytes_of(&sidecar, "inbound", &at(POD4, 9000));
}
in_modes!(inbound_bytes: Ebpf, Iptables);

/// Every key of the contract is there, and a closed connection is gone.
fn contract(mode: Mode) {
    let net = Pair::new("contract");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let held = sidecar.hold(&["connect", PEER4, "9000", "--read"]);
    let connection = sidecar.connection("outbound", &at(PEER4, 9000));
    for key in [
        "id",
        "direction",
        "pid",
        "comm",
        "cgroup",
        "source",
        "originalDestination",
        "upstream",
        "protocol",
        "state",
        "ageMs",
        "bytesSent",
        "bytesReceived",
        "path",
        "bypassBytesSent",
        "bypassBytesReceived",
        "rttUs",
        "retransmits",
        "policy",
        "closeReason",
    ] {
        connection.field(key);
    }
    assert_eq!(connection.text("path"), "tcp");
    held.finish();
    eventually(DEADLINE, "the closed connection to go", || sidecar.connections().is_empty().then_some(()));
}
in_modes!(contract: Ebpf, Iptables);

/// For people: one line a connection, with where it goes and who it is.
fn table(mode: Mode) {
    let net = Pair::new("table");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9000");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let held = sidecar.hold(&["connect", PEER4, "9000", "--read"]);
    for format in ["table", "wide"] {
        let printed =
            cli(&Place::default(), &["connections", "-o", format, "--instance", sidecar.name()]).success();
        let pid = held.pid().to_string();
        let line = printed.lines().find(|line| line.contains(&at(PEER4, 9000)) && line.contains(&pid));
        assert!(line.is_some_and(|line| line.contains("python3")), "{printed}");
    }
}
in_modes!(table: Ebpf);

/// Opens and closes are streamed, one object a line.
fn watch(mode: Mode) {
    let net = Pair::new("watch");
    let _server = serve(&net.peer.place(), Kind::Peername, "0.0.0.0:9017");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let watch =
        Program::start(Place::default().command(binary()).args(["connections", "--watch", "-o", "json"]));
    let lines = eventually(DEADLINE, "an open and a close in the stream", || {
        sidecar.probe(&["connect", PEER4, "9017", "--read"]);
        let streamed = watch.stdout();
        // The last line may be half written.
        let whole = &streamed[..streamed.rfind('\n').map_or(0, |end| end + 1)];
        let own: Vec<String> =
            whole.lines().filter(|line| line.contains(&at(PEER4, 9017))).map(str::to_owned).collect();
        (own.len() >= 2).then_some(own)
    });
    for line in lines {
        serde_json::from_str::<serde_json::Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
in_modes!(watch: Ebpf);
