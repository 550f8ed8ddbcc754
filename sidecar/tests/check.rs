//! `sidecar check` on the real kernel, as a program of its own: it moves itself to another cgroup.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use serde_json::Value;
use sidecar::host::cgroup::Hierarchy;

/// Whoever is nobody.
const NOBODY: u32 = 65534;

#[test]
fn this_kernel_can_do_it_and_nothing_is_left() {
    if !Uid::effective().is_root() {
        return skip("check needs root");
    }
    let child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
        .args(["check", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let scratch = format!("sidecar-check-{}", child.id());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let statuses = statuses(&report);
    for proven in [
        "cgroup v2",
        "bpffs",
        "programs",
        "attach",
        "refusal",
        "outbound ipv4",
        "outbound ipv6",
        "outbound ipv4-mapped",
        "inbound ipv4",
        "inbound ipv6",
        "records",
        "events",
        "bypass",
        "ordering",
        "end of file",
        "FIONREAD",
        "one queue",
        "epoll level",
        "epoll edge",
        "blocking read",
        "MSG_PEEK",
        "splice",
        "slow reader",
        "close races",
    ] {
        assert_eq!(statuses.get(proven).map(String::as_str), Some("ok"), "{proven}: {report:#}");
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_ne!(report["ebpf"], "unavailable");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    if let Some(hierarchy) = Hierarchy::visible() {
        let cgroup = hierarchy.own().unwrap().child(&scratch);
        assert!(!hierarchy.directory(&cgroup).exists());
    }
}

#[test]
fn without_privilege_every_line_says_why() {
    if !Uid::effective().is_root() {
        return skip("becoming somebody else needs root");
    }
    // The binary may lie where nobody else can look.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let copy = directory.path().join("sidecar");
    fs::copy(env!("CARGO_BIN_EXE_sidecar"), &copy).unwrap();
    let run = |arguments: &[&str]| {
        Command::new(&copy).args(arguments).current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap()
    };

    let output = run(&["check", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ebpf"], "unavailable", "{report:#}");
    let programs = row(&report, "programs");
    assert!(programs["detail"].as_str().unwrap().ends_with("operation not permitted"), "{programs}");
    assert!(
        programs["remedy"].as_str().unwrap().contains("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        "{programs}"
    );
    assert_eq!(row(&report, "capabilities")["status"], "missing");
    assert_eq!(row(&report, "outbound ipv4")["status"], "missing");

    let output = run(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.contains("interception: ebpf      does not work\n"), "{table}");
    assert_eq!(table.lines().count(), 5 + report["rows"].as_array().unwrap().len(), "{table}");
}

#[test]
fn namespaces_that_cannot_be_made_are_done_without() {
    if !Uid::effective().is_root() {
        return skip("giving up capabilities needs root");
    }
    let Ok(setpriv) = Command::new("setpriv").arg("--version").output() else {
        return skip("setpriv is not installed");
    };
    assert!(setpriv.status.success());
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", env!("CARGO_BIN_EXE_sidecar")])
        .args(["check", "-o", "json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ebpf"], "degraded", "{report:#}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let statuses = statuses(&report);
    for proven in ["programs", "attach", "outbound ipv4", "outbound ipv6", "records", "events"] {
        assert_eq!(statuses.get(proven).map(String::as_str), Some("ok"), "{proven}: {report:#}");
    }
    assert_eq!(statuses["capabilities"], "degraded");
}

fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

fn statuses(report: &Value) -> BTreeMap<String, String> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    report["rows"].as_array().unwrap().iter().map(|row| (word(&row["name"]), word(&row["status"]))).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn skip(why: &str) {
    assert!(std::env::var_os("REQUIRE_PRIVILEGED").is_none_or(|value| value != "1"), "{why}");
    eprintln!("skipped: {why}");
}
