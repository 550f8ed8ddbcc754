//! The intercepting sidecar of deploy/examples: a program asks a port of loopback on which nobody listens.

use sidecar_tests::{Finished, Pair, Sidecar, configurations, examples, require};

#[test]
fn a_port_that_nobody_has_is_answered() {
    require!(root);
    require!(program "curl");
    let net = Pair::new("intercepting");
    let configuration = configurations(&examples().join("intercepting/app.yaml")).remove(0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.yaml");
    std::fs::write(&file, configuration).unwrap();
    let mut sidecar = Sidecar::start_by(&net.pod.place(), &net.pod, &file);
    let ask = |path: &str| {
        let url = format!("http://localhost:7979{path}");
        let mut curl = sidecar.place().command("curl");
        Finished::of(curl.args(["-s", "--max-time", "10", "-w", "%{http_code}", &url])).stdout
    };
    assert_eq!(ask("/hello"), "hello from the sidecar\n200");
    assert_eq!(ask("/other"), "404");
    sidecar.program().wait_for_output("\"path\":\"/hello\"");
}
