//! Where it is asked who asks, what is no request is closed.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use sidecar_tests::{Config, DEADLINE, Kind, Mode, POD4, Pair, Sidecar, eventually, in_modes, serve};
use tempfile::TempDir;

use super::super::documents::access;
use super::super::{Way, get, log_of};

const PORT: u16 = 8090;

/// A server that takes anything, and a policy for it that every request satisfies.
struct Guarded {
    net: Pair,
    logs: TempDir,
    _sidecar: Sidecar,
    _server: sidecar_tests::Program,
}

impl Guarded {
    #[track_caller]
    fn start(mode: Mode, kind: Kind, guarded: bool, change: impl FnOnce(Config) -> Config) -> Self {
        let (net, logs) = (Pair::new("guarded"), tempfile::tempdir().unwrap());
        let mut config = super::super::scene::config(Way::Inbound, mode, &logs, []);
        if guarded {
            let target = json!({"group": "sidecar.dev", "kind": "Inbound", "port": PORT});
            config = config.with_documents([access("all", target, json!({"rules": [{"action": "ALLOW"}]}))]);
        }
        let sidecar = Sidecar::start(&net.pod, &change(config));
        let server = serve(&sidecar.place(), kind, &format!("0.0.0.0:{PORT}"));
        Self { net, logs, _sidecar: sidecar, _server: server }
    }

    /// What comes back for these bytes until the connection ends, or is the same for a second.
    fn told(&self, bytes: &[u8]) -> String {
        self.net.peer.enter(|| {
            let mut stream = TcpStream::connect((POD4, PORT)).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let _ = stream.write_all(bytes);
            let mut told = [0; 64];
            let read = stream.read(&mut told).unwrap_or(0);
            String::from_utf8_lossy(&told[..read]).into_owned()
        })
    }

    #[track_caller]
    fn is_denied(&self) {
        eventually(DEADLINE, "accessDenied in the log", || {
            let log = std::fs::read_to_string(log_of(&self.logs)).ok()?;
            log.contains("\"closeReason\":\"accessDenied\"").then_some(())
        });
    }
}

fn bytes(mode: Mode) {
    let text = b"*1\r\n$4\r\nPING\r\n";
    let open = Guarded::start(mode, Kind::Echo, false, |config| config);
    assert_eq!(open.told(text).as_bytes(), text);
    let guarded = Guarded::start(mode, Kind::Echo, true, |config| config);
    assert_eq!(guarded.told(text), "");
    guarded.is_denied();
}
in_modes!(bytes: Ebpf, Iptables);

fn tls(mode: Mode) {
    // The beginning of a ClientHello (RFC 8446 section 5.1).
    let guarded = Guarded::start(mode, Kind::Echo, true, |config| config);
    assert_eq!(guarded.told(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "");
    guarded.is_denied();
}
in_modes!(tls: Ebpf);

/// A server that speaks first is not heard.
fn server_first(mode: Mode) {
    let open = Guarded::start(mode, Kind::Banner, false, |config| config);
    assert!(open.told(b"").starts_with("220 "));
    let guarded = Guarded::start(mode, Kind::Banner, true, |config| config);
    assert_eq!(guarded.told(b""), "");
    guarded.is_denied();
}
in_modes!(server_first: Ebpf, Iptables);

/// Not even a request, on a port that is not looked at.
fn opaque_port(mode: Mode) {
    let opaque = |config: Config| config.with("protocolDetection.opaquePorts", json!([PORT]));
    let guarded = Guarded::start(mode, Kind::Echo, true, opaque);
    assert_eq!(guarded.told(get("/").as_bytes()), "");
    guarded.is_denied();
}
in_modes!(opaque_port: Ebpf);
