//! gRPC through the sidecar: calls of every kind end as they would without it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use sidecar_tests::{DEADLINE, Finished, Mode, POD4, Place, Program, eventually, in_modes, require, tool};

use super::{Http, Way};

const PORT: u16 = 8085;

fn script(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(tool("grpcio", "python").unwrap());
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/programs/grpc_calls.py")).args(args);
    command
}

#[track_caller]
fn calls(way: Way, mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let http = Http::before(PORT, way, mode, |config| config);
    let place = if way == Way::Inbound { http.sidecar.place() } else { http.net.peer.place() };
    let mut server = Program::start(&mut script(&place, &["serve", &PORT.to_string()]));
    server.wait_for_output("listening");
    let (host, port) = way.reached(PORT);
    let said = Finished::of(&mut script(&http.from(), &["client", host, &port.to_string()])).success();
    assert_eq!(said, "ok\n");
    for (method, status) in [("Split", 0), ("Fail", 10), ("Nothing", 12)] {
        let line = http.logged(&format!("/test.Calls/{method}"));
        assert_eq!((&line["grpcStatus"], &line["status"]), (&status.into(), &200.into()), "{line}");
        assert_eq!(line["protocol"], "HTTP/2", "{line}");
    }
    let line = http.logged("/test.Calls/Endless");
    assert_eq!((&line["status"], &line["flags"]), (&200.into(), &"DC".into()), "{line}");
}

fn outbound(mode: Mode) {
    calls(Way::Outbound, mode);
}
in_modes!(outbound: Ebpf, Iptables);

fn inbound(mode: Mode) {
    calls(Way::Inbound, mode);
}
in_modes!(inbound: Ebpf, Iptables);

fn listener(mode: Mode) {
    calls(Way::Listener, mode);
}
in_modes!(listener: Ebpf);

/// Where nobody is reached, a client is told in its own terms.
fn absent(mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let http = Http::start(mode);
    let (host, port) = http.way.reached(PORT);
    let said = Finished::of(&mut script(&http.from(), &["absent", host, &port.to_string()])).success();
    assert_eq!(said, "ok upstream-connect-refused\n");
    let line = http.logged("/test.Calls/Echo");
    assert_eq!(
        (&line["reason"], &line["flags"]),
        (&"upstream-connect-refused".into(), &"UF".into()),
        "{line}"
    );
}
in_modes!(absent: Ebpf, Iptables);

/// A server of HTTP/2 may send its settings before it has heard of its client (RFC 9113 section 3.4), and gRPC's does: that
/// makes the connection no other protocol's, however late the client speaks.
fn server_settings_first(mode: Mode) {
    require!(@ tool("grpcio", "python"));
    let http = Http::before(PORT, Way::Inbound, mode, |config| config);
    let mut server = Program::start(&mut script(&http.sidecar.place(), &["serve", &PORT.to_string()]));
    server.wait_for_output("listening");
    let _client = http.net.peer.enter(|| {
        let mut stream = TcpStream::connect((POD4, PORT)).unwrap();
        // The settings may come through, or be kept until the client speaks.
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.read(&mut [0; 64]);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        stream
    });
    eventually(DEADLINE, "the connection to be one of HTTP/2", || {
        let connection = http.sidecar.connection("inbound", &crate::at(POD4, PORT));
        (connection.text("protocol") == "http2").then_some(())
    });
}
in_modes!(server_settings_first: Ebpf, Iptables);
