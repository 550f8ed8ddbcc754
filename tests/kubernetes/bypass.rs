//! Pod to Pod on one node, past the TCP stack.

use std::env;
use std::path::Path;
use std::process::Command;

use sidecar_tests::Finished;

use crate::cluster::Namespace;
use crate::workload::{injected, metric, pod};

/// Where Debian has its programs.
const PROGRAMS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-benchmark"];

/// Two programs with an event loop, each with a proxy of its own: bytes between each program and its proxy are redirected.
#[test]
fn redis() {
    image_of("localhost/redis:1", &PROGRAMS);
    let namespace = Namespace::new("bypass", "");
    let annotations = "sidecar.dev/bypass: \"full\"";
    let server = pod(
        "server",
        annotations,
        "localhost/redis:1",
        &[PROGRAMS[0], "--protected-mode", "no", "--save", ""],
    );
    namespace.apply(&injected(&server, &[]));
    let server = namespace.ready("server");
    let load = [PROGRAMS[1], "-h", server.ip(), "-l", "-t", "set,get", "-d", "4096", "-c", "20", "-q"];
    namespace.apply(&injected(&pod("client", annotations, "localhost/redis:1", &load), &[]));
    let client = namespace.ready("client");
    for pod in [&server, &client] {
        namespace.eventually("bytes past the TCP stack", |_| {
            let sent = metric(pod, "sidecar_tcp_sent_bytes_total", &[r#"path="bypass""#]);
            (sent > 1e6).then_some(())
        });
    }
}

/// Makes an image of programs that are installed here, with the libraries that they load, and imports it.
fn image_of(name: &str, programs: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let add = |file: &str| {
        let target = root.path().join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    };
    for program in programs {
        assert!(Path::new(program).exists(), "needs {program}: `cargo xtask setup --tests` installs it");
        add(program);
        let libraries = Finished::of(Command::new("ldd").arg(program)).success();
        libraries.split_whitespace().filter(|word| word.starts_with('/')).for_each(add);
    }
    let script = env::var_os("SIDECAR_KUBERNETES_SH").unwrap();
    Finished::of(Command::new(script).args(["mkimage", name]).arg(root.path()).arg(programs[0])).success();
}
