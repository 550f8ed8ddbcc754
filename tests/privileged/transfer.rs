//! No byte is lost, moved or invented, however few or many there are.

use sidecar_tests::{
    Config, Kind, Mode, PEER4, POD4, Pair, Place, Sidecar, in_modes, probe, serve, transfer_bytes,
};

/// How much the large transfers carry: `SIDECAR_TEST_BYTES`, or 1 GiB where the kernel half steers and 64 MiB where
/// it is iptables' turn, whose copying is the same.
fn large(mode: Mode) -> String {
    let bytes = transfer_bytes().unwrap_or(match mode {
        Mode::Ebpf => 1 << 30,
        Mode::Iptables => 64 << 20,
    });
    bytes.to_string()
}

/// Compares what `client` and a server at `host` make of the same bytes.
fn transfers(servers: &Place, client: &Place, host: &str, command: &str, bytes: &str) {
    let (kind, expected) = match command {
        "upload" => (Kind::Sink, "sent"),
        "download" => (Kind::Source, "expected"),
        _ => (Kind::Echo, "sent"),
    };
    let _server = serve(servers, kind, "0.0.0.0:9000");
    let seen = probe(client, &[command, host, "9000", bytes]);
    assert!(seen[expected].as_str().unwrap().starts_with(&format!("{bytes} ")), "{seen}");
    assert_eq!(seen["received"], seen[expected], "{command} of {bytes} bytes");
}

fn one_byte(mode: Mode) {
    let net = Pair::new("byte");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    for command in ["upload", "download", "echo"] {
        transfers(&net.peer.place(), &sidecar.place(), PEER4, command, "1");
        transfers(&sidecar.place(), &net.peer.place(), POD4, command, "1");
    }
}
in_modes!(one_byte: Ebpf, Iptables);

fn large_upload(mode: Mode) {
    let net = Pair::new("upload");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    transfers(&net.peer.place(), &sidecar.place(), PEER4, "upload", &large(mode));
}
in_modes!(large_upload: Ebpf, Iptables);

fn large_download(mode: Mode) {
    let net = Pair::new("download");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    transfers(&net.peer.place(), &sidecar.place(), PEER4, "download", &large(mode));
}
in_modes!(large_download: Ebpf, Iptables);

/// Both directions at once, in both roles.
fn echo(mode: Mode) {
    let net = Pair::new("echo");
    let sidecar = Sidecar::start(&net.pod, &Config::new(mode));
    let bytes = (64 << 20).to_string();
    transfers(&net.peer.place(), &sidecar.place(), PEER4, "echo", &bytes);
    transfers(&sidecar.place(), &net.peer.place(), POD4, "echo", &bytes);
}
in_modes!(echo: Ebpf, Iptables);
