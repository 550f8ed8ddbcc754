use std::io;

use super::*;

fn report(rows: Vec<Row>) -> Report {
    Report {
        kernel: "6.18.0".into(),
        ebpf: Verdict::of(&rows),
        iptables: Verdict::Full,
        bypass: Verdict::Unavailable,
        rows,
        programs: Vec::new(),
    }
}

#[test]
fn the_worst_row_decides() {
    let of = |all: &[Status]| {
        Verdict::of(&all.iter().map(|status| row("x", *status, "", None)).collect::<Vec<_>>())
    };
    assert_eq!(of(&[]), Verdict::Full);
    assert_eq!(of(&[Status::Ok, Status::Ok]), Verdict::Full);
    assert_eq!(of(&[Status::Ok, Status::Degraded]), Verdict::Degraded);
    assert_eq!(of(&[Status::Missing, Status::Degraded, Status::Ok]), Verdict::Unavailable);
}

#[test]
fn the_table_has_a_line_for_each_row_with_its_remedy() {
    let rows = vec![
        row("btf", Status::Ok, "there", None),
        row("outbound ipv4-mapped", Status::Missing, "two\nlines", Some("do this")),
    ];
    let expected = "\
Linux 6.18.0
interception: ebpf      does not work
interception: iptables  works
bypass                  does not work

ok        btf                   there
missing   outbound ipv4-mapped  two?lines: do this
";
    assert_eq!(report(rows).table(), expected);
}

#[test]
fn json_is_as_documented() {
    let rows =
        vec![row("btf", Status::Ok, "there", None), row("bpffs", Status::Degraded, "none", Some("mount it"))];
    let expected = serde_json::json!({
        "kernel": "6.18.0",
        "ebpf": "degraded",
        "iptables": "full",
        "bypass": "unavailable",
        "programs": [],
        "rows": [
            { "name": "btf", "status": "ok", "detail": "there", "remedy": null },
            { "name": "bpffs", "status": "degraded", "detail": "none", "remedy": "mount it" },
        ],
    });
    assert_eq!(serde_json::to_value(report(rows)).unwrap(), expected);
}

#[test]
fn iptables_that_is_not_there_or_lacks_something() {
    let status = |available| {
        let row = iptables(available);
        (row.status, row.detail)
    };
    let found = Available { version: "v1".into(), ipv6_skipped: None, cgroup_match: true };
    assert_eq!(status(Ok(found.clone())), (Status::Ok, "v1".into()));
    let no_match = Available { cgroup_match: false, ..found.clone() };
    assert_eq!(status(Ok(no_match)), (Status::Degraded, "v1: rules cannot tell cgroups apart".into()));
    let v4_only = Available { ipv6_skipped: Some("why".into()), ..found };
    assert_eq!(status(Ok(v4_only)), (Status::Degraded, "v1: IPv6 is left alone: why".into()));
    let missing = IptablesError::Missing { program: "iptables-restore" };
    assert_eq!(status(Err(missing)), (Status::Missing, "iptables-restore: not found".into()));
    let denied = IptablesError::Scratch(io::Error::from_raw_os_error(libc::EPERM));
    assert_eq!(
        status(Err(denied)),
        (
            Status::Missing,
            "cannot make a network namespace to try iptables in: Operation not permitted (os error 1)".into()
        )
    );
}
