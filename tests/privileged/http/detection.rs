//! What is no HTTP, or is not to be taken as such, goes through as it is.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use sidecar_tests::{
    Config, DEADLINE, Finished, Kind, Mode, Nginx, PEER4, POD4, Pair, Redis, Sidecar, eventually, in_modes,
    probe, require, serve,
};

use super::{FRONT, Http, PORT, Way, get};

/// On an opaque port not even HTTP is HTTP: it comes to the server as it was sent, and no request is logged.
fn opaque_port(mode: Mode) {
    let http =
        Http::with(Way::Outbound, mode, |config| config.with("protocolDetection.opaquePorts", json!([PORT])));
    let text = "GET /echo HTTP/1.1\r\nX: a\r\n folded\r\n\r\n";
    assert_eq!(http.one(text)["status"], 200);
    assert_eq!(http.heads(), [text]);
    let line = eventually(DEADLINE, "the connection's line", || {
        let log = std::fs::read_to_string(super::log_of(&http.logs)).ok()?;
        log.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok())
    });
    assert_eq!((&line["path"], &line["status"]), (&"tcp".into(), &Value::Null), "{line}");
}
in_modes!(opaque_port: Ebpf, Iptables);

/// TLS goes through, with the client's own address, and what is in it is between the two.
fn tls(mode: Mode) {
    require!(program "nginx");
    require!(program "openssl");
    let http = Http::by(Way::Inbound, mode);
    let (key, certificate) = (http.logs.path().join("key.pem"), http.logs.path().join("cert.pem"));
    let mut openssl = http.net.pod.place().command("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]);
    Finished::of(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).success();
    let server = format!(
        "server {{ listen 0.0.0.0:8443 ssl http2; ssl_certificate {}; ssl_certificate_key {};
         return 200 '$remote_addr $server_protocol\\n'; }}",
        certificate.display(),
        key.display()
    );
    let _nginx = Nginx::serving(&http.net.pod, &http.sidecar.place(), 8443, &server);
    let mut curl = http.net.peer.place().command("curl");
    curl.args(["-sS", "--fail", "--max-time", "10", "--cacert"]).arg(&certificate);
    curl.args(["--resolve", &format!("test:8443:{POD4}"), "https://test:8443/"]);
    let seen = Finished::of(&mut curl).success();
    let client = if mode == Mode::Ebpf { PEER4 } else { "" };
    assert!(seen.starts_with(client) && seen.ends_with(" HTTP/2.0\n"), "{seen}");
}
in_modes!(tls: Ebpf, Iptables);

/// redis takes commands as words on a line, some of which begin like requests.
fn redis_inline(mode: Mode) {
    require!(program "redis-server");
    let net = Pair::new("inline");
    let config = Config::new(mode).with("protocolDetection.opaquePorts", json!([]));
    let sidecar = Sidecar::start(&net.pod, &config);
    let _redis = Redis::start(&net.pod, &sidecar.place());
    for (command, wanted) in [
        ("GET nothing\r\n", "$-1\r\n"),
        ("PING\r\n", "+PONG\r\n"),
        ("COPY a b\r\n", ":0\r\n"),
        ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
    ] {
        let answer = net.peer.enter(|| {
            let mut stream = TcpStream::connect((POD4, 6379)).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(command.as_bytes()).unwrap();
            let mut answer = vec![0; wanted.len()];
            stream.read_exact(&mut answer).unwrap();
            String::from_utf8(answer).unwrap()
        });
        assert_eq!(answer, wanted, "to {command:?}");
    }
}
in_modes!(redis_inline: Ebpf, Iptables);

/// A server that speaks first is heard, also behind a listener, whose clients may be routed by what they say.
fn server_first(mode: Mode) {
    let net = Pair::new("first");
    let config = Way::Listener.configured(Config::new(mode), 2525);
    let _sidecar = Sidecar::start(&net.pod, &config);
    let _server = serve(&net.peer.place(), Kind::Banner, "0.0.0.0:2525");
    let seen = probe(&net.peer.place(), &["connect", POD4, &FRONT.to_string(), "--read"]);
    assert_eq!(seen["reply"]["text"], "220 ready");
    assert!(seen["elapsedMs"].as_u64().unwrap() < 2000, "a silent client must not be waited for: {seen}");
}
in_modes!(server_first: Ebpf);

/// A client may think before it speaks; what it says then is HTTP all the same.
fn late_client(mode: Mode) {
    let http = Http::by(Way::Inbound, mode);
    let answer = http.net.peer.enter(|| {
        let mut stream = TcpStream::connect((POD4, PORT)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The sidecar knows of the connection before a byte was said.
        http.sidecar.connection("inbound", &crate::at(POD4, PORT));
        stream.write_all(get("/echo?late").as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        String::from_utf8(first.to_vec()).unwrap()
    });
    assert_eq!(answer, "HTTP/1.1 200");
    assert_eq!(http.logged("/echo?late")["status"], 200);
}
in_modes!(late_client: Ebpf, Iptables);
