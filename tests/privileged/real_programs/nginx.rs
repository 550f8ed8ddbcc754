//! nginx serves a file to nginx as a reverse proxy, and that to curl; every connection is used again.

use sidecar_tests::{Finished, Mode, Nginx, in_modes, require};

use super::{armed, assert_bypassed, assert_captured};

const REQUESTS: usize = 300;

/// A line for each of its numbers, so that a part that is missing or moved is missed.
fn page() -> String {
    (0..8000).fold(String::new(), |page, number| page + &number.to_string() + "\n")
}

fn chain(mode: Mode) {
    require!(program "nginx");
    let (sidecar, net) = armed(mode, "nginx");
    let pages = tempfile::tempdir().unwrap();
    std::fs::write(pages.path().join("page"), page()).unwrap();
    // The workers have given up root, and the directory is root's.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(pages.path(), open).unwrap();
    let root = pages.path().display();
    let origin = format!("server {{ listen 127.0.0.1:8081; sendfile on; root {root}; }}");
    let front = "upstream origin { server 127.0.0.1:8081; keepalive 4; }
        server { listen 127.0.0.1:8080; location / {
            proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; } }";
    let _origin = Nginx::serving(&net, &sidecar.place(), 8081, &origin);
    let _front = Nginx::serving(&net, &sidecar.place(), 8080, front);
    let url = format!("http://127.0.0.1:8080/page?[1-{REQUESTS}]");
    let mut curl = sidecar.place().command("curl");
    let answers = Finished::of(curl.args(["-sS", "--fail", "--max-time", "50", &url])).success();
    assert!(answers == page().repeat(REQUESTS), "{} bytes came", answers.len());
    assert_captured(&sidecar, 2);
    assert_bypassed(&sidecar);
}
in_modes!(chain: Ebpf);
