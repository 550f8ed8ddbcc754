//! nginx behind the sidecar, and curl before it: what a web server does comes through as it is, also where it is large.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sidecar_tests::{DEADLINE, Finished, Mode, Nginx, Program, Sidecar, eventually, python, require};

use super::curl::{fetch, same};
use super::{Http, Way, by_every_way};

const PORT: u16 = 8087;

/// The size of a large file: far more than all buffers on its way hold.
const LARGE: u64 = 100_000_000;

/// What the sidecar may need more for a large file than it needed before. Buffers of both hops are the kernel's.
const MEMORY_KIB: u64 = 16 << 10;

/// nginx with files: `small.txt`, `page.html`, which it compresses, `large`, and what is put into `put/`.
struct Served {
    http: Http,
    _nginx: Nginx,
}

impl Served {
    #[track_caller]
    fn start(way: Way, mode: Mode) -> Self {
        let http = Http::before(PORT, way, mode, |config| config);
        let root = http.logs.path().join("root");
        std::fs::create_dir_all(root.join("put")).unwrap();
        std::fs::write(root.join("small.txt"), "0123456789\n".repeat(100)).unwrap();
        std::fs::write(root.join("empty.txt"), "").unwrap();
        std::fs::write(root.join("page.html"), "<p>much of the same</p>\n".repeat(5000)).unwrap();
        let server = format!(
            "log_format seen '$connection $request_uri';
             client_max_body_size 0;
             server {{
                 listen 0.0.0.0:{PORT}; root {}; access_log {} seen;
                 gzip on; gzip_types text/html; gzip_vary on;
                 location /put/ {{ dav_methods PUT; }}
                 location /echo {{ return 200 '$request_method $http_content_length $http_transfer_encoding\\n'; }}
                 location /away {{ return 302 /small.txt; }}
             }}",
            root.display(),
            http.logs.path().join("nginx.log").display(),
        );
        // `types` of the distribution are not read: a map of our own names what is compressed.
        let types = "types { text/html html; text/plain txt; }";
        let nginx = Nginx::serving(http.netns(), &http.to(), PORT, &format!("{types} {server}"));
        Self { http, _nginx: nginx }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.http.logs.path().join("root").join(name)
    }

    /// The path of a large file.
    fn large(&self) -> PathBuf {
        let path = self.file("large");
        let mut file = std::fs::File::create(&path).unwrap();
        // 997 is prime: what moves by a buffer's size is not the same.
        let block: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 997).to_le_bytes()[0]).collect();
        (0..LARGE / 1_000_000).for_each(|_| file.write_all(&block).unwrap());
        path
    }
}

/// The most memory that the sidecar had since this was asked last: it is counted anew from here on (proc(5), `clear_refs`).
fn peak_kib(sidecar: &mut Sidecar) -> u64 {
    let process = Path::new("/proc").join(sidecar.program().pid().to_string());
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    std::fs::write(process.join("clear_refs"), "5").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[track_caller]
fn assert_same_files(one: &Path, other: &Path) {
    Finished::of(Command::new("cmp").arg(one).arg(other)).success();
}

/// Whatever curl asks for, it gets what it gets without the sidecar: header, framing and body.
fn as_without(way: Way, mode: Mode) {
    require!(program "nginx");
    require!(program "curl");
    let served = Served::start(way, mode);
    let http = &served.http;
    let etag = same(http, PORT, &[], "/small.txt").field("etag").unwrap().to_owned();
    let small = served.file("small.txt");
    let small = format!("@{}", small.display());
    let gzip = "Accept-Encoding: gzip";
    let cases: [(&str, &[&str], &str, &str); 23] = [
        ("a file", &[], "/small.txt", "200"),
        ("nothing", &[], "/empty.txt", "200"),
        ("HTTP/1.0", &["--http1.0"], "/small.txt", "200"),
        ("a header", &["--head"], "/small.txt", "200"),
        ("one of what comes in chunks", &["--head", "-H", gzip], "/page.html", "200"),
        ("none there", &[], "/none", "404"),
        ("a header of none there", &["--head"], "/none", "404"),
        ("compressed", &["-H", gzip], "/page.html", "200"),
        ("unpacked", &["--compressed"], "/page.html", "200"),
        ("the same again", &["-H", &format!("If-None-Match: {etag}")], "/small.txt", "304"),
        ("its header", &["--head", "-H", &format!("If-None-Match: {etag}")], "/small.txt", "304"),
        ("another", &["-H", "If-None-Match: \"other\""], "/small.txt", "200"),
        ("only another", &["-H", "If-Match: \"other\""], "/small.txt", "412"),
        ("a range", &["-r", "5-14"], "/small.txt", "206"),
        ("its end", &["-r", "-7"], "/small.txt", "206"),
        ("the rest", &["-r", "1000-"], "/small.txt", "206"),
        ("two ranges", &["-r", "0-1,10-12"], "/small.txt", "206"),
        ("beyond its end", &["-r", "5000-"], "/small.txt", "416"),
        ("elsewhere", &["--location", "-w", "%{num_redirects} %{url_effective}"], "/away", "200"),
        ("sent where it is not taken", &["-d", "a=b"], "/small.txt", "405"),
        ("sent with a length", &["-d", &small], "/echo", "200"),
        ("sent in chunks", &["-H", "Transfer-Encoding: chunked", "-d", &small], "/echo", "200"),
        ("a path as it is", &["--path-as-is"], "/put/../small.txt", "200"),
    ];
    for (name, options, path, status) in cases {
        let seen = same(http, PORT, options, path);
        assert_eq!(seen.status(), status, "{name}: {seen:#?}");
    }
    let chunked = same(http, PORT, &["-H", gzip], "/page.html");
    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"), "{chunked:#?}");
    assert_eq!((chunked.field("content-encoding"), &chunked.body[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));
    let unpacked = same(http, PORT, &["--compressed"], "/page.html");
    assert_eq!(unpacked.body, std::fs::read(served.file("page.html")).unwrap());
}
by_every_way!(as_without: Ebpf, Iptables);

/// One connection of curl's is one connection to nginx.
fn keeps_alive(way: Way, mode: Mode) {
    require!(program "nginx");
    require!(program "curl");
    let served = Served::start(way, mode);
    let http = &served.http;
    let options = ["-w", "%{num_connects}"];
    let seen = fetch(&http.from(), way.reached(PORT), http.logs.path(), &options, "/small.txt?reuse[1-40]");
    assert_eq!(seen.said, format!("1{}", "0".repeat(39)));
    let log = std::fs::read_to_string(http.logs.path().join("nginx.log")).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("reuse")).collect();
    let connections: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((lines.len(), connections.len()), (40, 1), "{log}");
}
by_every_way!(keeps_alive: Ebpf, Iptables);

/// A client that does not read a large answer stops its server, not the sidecar's memory; then it gets all of it.
fn slow_reader(way: Way, mode: Mode) {
    require!(program "nginx");
    let mut served = Served::start(way, mode);
    let original = served.large();
    let (host, port) = way.reached(PORT);
    let http = &served.http;
    same(http, PORT, &[], "/small.txt");
    // What it took to begin does not count.
    peak_kib(&mut served.http.sidecar);
    let before = peak_kib(&mut served.http.sidecar);
    let http = &served.http;
    let mut lag = python(&http.from(), "http_client.py");
    let lag = lag.args(["lag", host, &port.to_string(), "/large", &LARGE.to_string()]);
    let mut client = Program::start(lag);
    client.wait_for_output("/large");
    // Bytes come, and then no more, for as long as it takes to look fifty times.
    let (mut passed, mut looks) = (0, 0);
    eventually(DEADLINE, "the server to be stopped", || {
        let moved = |one: &sidecar_tests::Connection| one.number("bytesSent") + one.number("bytesReceived");
        let now: u64 = http.sidecar.connections().iter().map(moved).sum();
        (passed, looks) = (now, if now == passed && now > 10_000 { looks + 1 } else { 0 });
        (looks == 50).then_some(())
    });
    assert!(passed < LARGE / 2, "{passed} bytes came through to a client that does not read");
    client.close_stdin();
    let said = client.wait_for(3 * DEADLINE).success();
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["missing"], 0, "{said}");
    // All the time at a slower pace than the server's.
    let options = ["--limit-rate", "40M", "-w", "%{http_code} %{size_download}"];
    let files = http.logs.path();
    let mut curl = http.from().command("curl");
    curl.args(["-sS", "--max-time", "40"]).args(options).arg("-o").arg(files.join("copy"));
    let seen = Finished::of(curl.arg(format!("http://{host}:{port}/large?slow"))).success();
    assert_eq!(seen, format!("200 {LARGE}"));
    assert_same_files(&original, &files.join("copy"));
    assert_eq!(http.logged("/large?slow")["responseBytes"], LARGE);
    let after = peak_kib(&mut served.http.sidecar);
    assert!(after < before + MEMORY_KIB, "{before} KiB before, {after} KiB with the large file");
}
by_every_way!(slow_reader: Ebpf);

/// A large file is put as it is, by its length and in chunks; the client sends it when it is told to go on.
fn large_upload(way: Way, mode: Mode) {
    require!(program "nginx");
    require!(program "curl");
    let mut served = Served::start(way, mode);
    let original = served.large();
    let http = &served.http;
    same(http, PORT, &[], "/small.txt");
    // What it took to begin does not count.
    peak_kib(&mut served.http.sidecar);
    let before = peak_kib(&mut served.http.sidecar);
    let http = &served.http;
    let file = original.to_str().unwrap();
    // curl would send without having been told to only after the time that it is given here.
    let told = ["-T", file, "-H", "Expect: 100-continue", "--expect100-timeout", "30", "-w", "%{time_total}"];
    let chunks = ["-H", "Transfer-Encoding: chunked"];
    for (name, more) in [("length", &[][..]), ("chunks", &chunks[..])] {
        let path = format!("/put/{name}");
        let options = [&told[..], more].concat();
        let seen = fetch(&http.from(), way.reached(PORT), http.logs.path(), &options, &path);
        assert_eq!(seen.heads.iter().map(|head| &*head[0]).collect::<Vec<_>>(), ["100", "201"], "{seen:#?}");
        assert!(seen.said.parse::<f64>().unwrap() < 30.0, "{seen:#?}");
        assert_same_files(&original, &served.file(&path[1..]));
        assert_eq!(http.logged(&path)["requestBytes"], LARGE);
    }
    let after = peak_kib(&mut served.http.sidecar);
    assert!(after < before + MEMORY_KIB, "{before} KiB before, {after} KiB with the large file");
}
by_every_way!(large_upload: Ebpf);
