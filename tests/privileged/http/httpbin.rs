//! httpbin behind the sidecar, and curl before it with its real options.

use sidecar_tests::{DEADLINE, Mode, Program, eventually, require, tool};

use super::curl::{fetch, same};
use super::{Http, Way, by_every_way};

const PORT: u16 = 8088;

#[track_caller]
fn httpbin(http: &Http) -> Program {
    let mut gunicorn = http.to().command(tool("httpbin", "gunicorn").unwrap());
    gunicorn.args(["--bind", &format!("0.0.0.0:{PORT}"), "--worker-class", "gthread", "--threads", "8"]);
    gunicorn.args(["--no-control-socket", "--keep-alive", "60", "httpbin:app"]);
    // It has a worker to end.
    let mut program = Program::start(&mut gunicorn).ended_by(nix::sys::signal::Signal::SIGTERM);
    eventually(DEADLINE, "httpbin's worker", || {
        assert!(!program.has_ended(), "{}", program.stderr());
        program.stderr().contains("Booting worker").then_some(())
    });
    program
}

fn as_without(way: Way, mode: Mode) {
    require!(program "curl");
    require!(@ tool("httpbin", "gunicorn"));
    let http = Http::before(PORT, way, mode, |config| config);
    let _server = httpbin(&http);
    let upload = http.logs.path().join("upload.bin");
    std::fs::write(&upload, (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let (form, data) = (format!("file=@{}", upload.display()), format!("@{}", upload.display()));
    let jar = http.logs.path().join("jar");
    let jar = jar.to_str().unwrap();
    let json = ["-H", "Content-Type: application/json", "-d", r#"{"a": [1, "\u00e4"]}"#];
    let many =
        ["-H", "X-Many: 1", "-H", "X-Many: 2", "-H", "X-Empty;", "-A", "tester/1.0", "-e", "http://a/"];
    let redirects = ["--location", "-w", "%{num_redirects} %{url_effective}"];
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "/get?a=1&a=2&b=%20%C3%A4", "200"),
        (&many, "/headers", "200"),
        (&["--head"], "/image/png", "200"),
        (&["-d", "a=1&b=2"], "/post", "200"),
        (&json, "/post", "200"),
        (&["-F", &form, "-F", "more=text"], "/post", "200"),
        (&["--data-binary", &data], "/post", "200"),
        (&["-H", "Transfer-Encoding: chunked", "--data-binary", &data], "/post", "200"),
        (&["-X", "PUT", "-d", "put"], "/put", "200"),
        (&["-X", "PATCH", "-d", "patch"], "/patch", "200"),
        (&["-X", "DELETE"], "/delete", "200"),
        (&["-X", "DELETE", "-d", "with a body"], "/delete", "200"),
        (&["-X", "OPTIONS"], "/get", "200"),
        (&["-X", "TRACE"], "/anything/traced", "200"),
        (&["-X", "POST"], "/get", "405"),
        (&redirects, "/redirect/5", "200"),
        (&redirects, "/relative-redirect/3", "200"),
        (&redirects, "/absolute-redirect/2", "200"),
        (&["--location", "--post302", "-d", "a=b"], "/redirect-to?url=/post&status_code=302", "200"),
        (&["--location", "-d", "a=b"], "/redirect-to?url=/anything&status_code=307", "200"),
        (&["--location", "-c", jar, "-b", jar], "/cookies/set?one=1&two=2", "200"),
        (&["-b", "one=1; two=2"], "/cookies", "200"),
        (&["-u", "user:secret"], "/basic-auth/user/secret", "200"),
        (&["-u", "user:wrong"], "/basic-auth/user/secret", "401"),
        (&["-H", "Authorization: Bearer abc"], "/bearer", "200"),
        (&["-N"], "/drip?duration=1&numbytes=5&code=200&delay=0", "200"),
        (&[], "/stream-bytes/100000?seed=7&chunk_size=777", "200"),
        (&[], "/bytes/100000?seed=7", "200"),
        (&["-r", "100-199"], "/range/1000", "206"),
        (&[], "/range/1000?duration=1&chunk_size=100", "200"),
        (&["--compressed"], "/gzip", "200"),
        (&["--compressed"], "/deflate", "200"),
        (&["--compressed"], "/brotli", "200"),
        (&["-H", "If-None-Match: abc"], "/etag/abc", "304"),
        (&["-H", "If-Match: other"], "/etag/abc", "412"),
        (&["-H", "If-Modified-Since: Mon, 30 Nov 2026 00:00:00 GMT"], "/cache", "304"),
        (&[], "/response-headers?X-One=1&X-One=2&Set-Cookie=a%3Db", "200"),
        (&[], "/encoding/utf8", "200"),
        (&[], "/image/png", "200"),
        (&[], "/delay/1", "200"),
        (&["--http1.0"], "/stream-bytes/5000?seed=1", "200"),
    ];
    for (options, path, status) in cases {
        let seen = same(&http, PORT, options, path);
        assert_eq!(seen.status(), *status, "{path} {options:?}: {seen:#?}");
    }
    for status in
        ["200", "201", "202", "204", "300", "304", "400", "404", "410", "418", "429", "500", "503", "599"]
    {
        let seen = same(&http, PORT, &[], &format!("/status/{status}"));
        assert_eq!(seen.status(), status, "{seen:#?}");
        assert_eq!(seen.field("x-sidecar-reason"), None, "{seen:#?}");
    }
    // Each line tells of the request, and so of what the sidecar added.
    let streamed = fetch(&http.from(), way.reached(PORT), http.logs.path(), &[], "/stream/50");
    assert_eq!(streamed.field("transfer-encoding"), Some("chunked"), "{streamed:#?}");
    let lines = streamed.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let numbers: Vec<u64> = lines
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}
by_every_way!(as_without: Ebpf, Iptables);
