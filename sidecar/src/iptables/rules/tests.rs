#![allow(clippy::unwrap_used, reason = "tests")]

use super::{Chains, Family, fnv1a, install, remove};
use crate::iptables::{Exempt, IptablesError, Spec};

fn spec(instance: &str, exempt: Exempt) -> Spec {
    Spec { instance: instance.into(), inbound_port: None, ..Spec::probe(exempt) }
}

fn full() -> Spec {
    Spec {
        inbound_port: Some(15006),
        scope: Some("user.slice/sidecar-web/app".into()),
        include_cidrs: vec!["10.1.2.3/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        exclude_cidrs: vec!["169.254.169.254/32".parse().unwrap(), "fd00::/8".parse().unwrap()],
        include_outbound_ports: vec![80, 443],
        exclude_outbound_ports: vec![2379],
        include_inbound_ports: vec![8080],
        exclude_inbound_ports: vec![9901],
        ..spec("web", Exempt::Cgroup("user.slice/sidecar-web/proxy".into()))
    }
}

#[test]
fn plain_outbound_v4() {
    let text = install(&spec("run-4711", Exempt::Uid(1337)), Family::V4).unwrap();
    assert_eq!(
        text,
        "*nat
:SIDECAR_run-4711_OUT - [0:0]
-A SIDECAR_run-4711_OUT -m owner --uid-owner 1337 -j RETURN
-A SIDECAR_run-4711_OUT -d 127.0.0.0/8 -j RETURN
-A SIDECAR_run-4711_OUT -p tcp -j REDIRECT --to-ports 15001
-I OUTPUT -p tcp --syn -j SIDECAR_run-4711_OUT
COMMIT
"
    );
}

#[test]
fn plain_both_directions_v6_with_loopback() {
    let spec = Spec { inbound_port: Some(15006), capture_loopback: true, ..spec("web", Exempt::Mark(1337)) };
    assert_eq!(
        install(&spec, Family::V6).unwrap(),
        "*nat
:SIDECAR_web_OUT - [0:0]
:SIDECAR_web_IN - [0:0]
-A SIDECAR_web_OUT -m mark --mark 0x539 -j RETURN
-A SIDECAR_web_OUT -p tcp -j REDIRECT --to-ports 15001
-I OUTPUT -p tcp --syn -j SIDECAR_web_OUT
-A SIDECAR_web_IN -p tcp -m multiport --dports 15006,15001 -j RETURN
-A SIDECAR_web_IN -p tcp -m multiport --dports 22,15000:15090 -j RETURN
-A SIDECAR_web_IN -p tcp -j REDIRECT --to-ports 15006
-I PREROUTING -p tcp --syn -m addrtype --dst-type LOCAL -j SIDECAR_web_IN
COMMIT
"
    );
}

#[test]
fn every_list_v4() {
    assert_eq!(
        install(&full(), Family::V4).unwrap(),
        "*nat
:SIDECAR_web_OUT - [0:0]
:SIDECAR_web_IN - [0:0]
-A SIDECAR_web_OUT -m cgroup --path \"user.slice/sidecar-web/proxy\" -j RETURN
-A SIDECAR_web_OUT -m cgroup ! --path \"user.slice/sidecar-web/app\" -j RETURN
-A SIDECAR_web_OUT -d 127.0.0.0/8 -j RETURN
-A SIDECAR_web_OUT -d 169.254.169.254/32 -j RETURN
-A SIDECAR_web_OUT -p tcp -m multiport --dports 2379 -j RETURN
-A SIDECAR_web_OUT -d 10.0.0.0/8 -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 15001
-I OUTPUT -p tcp --syn -j SIDECAR_web_OUT
-A SIDECAR_web_IN -p tcp -m multiport --dports 15006,15001,9901 -j RETURN
-A SIDECAR_web_IN -p tcp -m multiport --dports 8080 -j REDIRECT --to-ports 15006
-I PREROUTING -p tcp --syn -m addrtype --dst-type LOCAL -j SIDECAR_web_IN
COMMIT
"
    );
}

#[test]
fn every_list_v6() {
    let text = install(&full(), Family::V6).unwrap();
    let outbound: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("-A SIDECAR_web_OUT ")).collect();
    assert_eq!(
        outbound[2..],
        [
            "-d ::1/128 -j RETURN",
            "-d fd00::/8 -j RETURN",
            "-p tcp -m multiport --dports 2379 -j RETURN",
            "-d 2001:db8::/32 -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 15001",
        ]
    );
}

#[test]
fn networks_of_one_family_leave_out_the_other() {
    let spec = Spec { include_cidrs: vec!["10.0.0.0/8".parse().unwrap()], ..spec("web", Exempt::Uid(1337)) };
    assert!(install(&spec, Family::V4).unwrap().contains("REDIRECT"));
    assert!(!install(&spec, Family::V6).unwrap().contains("REDIRECT"));
}

#[test]
fn a_rule_holds_fifteen_ports() {
    let spec = Spec { include_outbound_ports: (1..=16).collect(), ..spec("web", Exempt::Uid(1337)) };
    let text = install(&spec, Family::V4).unwrap();
    let redirects: Vec<_> = text.lines().filter(|line| line.contains("REDIRECT")).collect();
    assert_eq!(redirects.len(), 2);
    assert!(redirects[0].contains("--dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 "), "{text}");
    assert!(redirects[1].contains("--dports 16 "), "{text}");
}

#[test]
fn paths_are_one_argument() {
    let path = |path: &str| install(&spec("web", Exempt::Cgroup(path.into())), Family::V4);
    let text = path("a b/dev\\x2d\"sda\".scope").unwrap();
    assert!(text.contains(r#"--path "a b/dev\\x2d\"sda\".scope" -j RETURN"#), "{text}");

    let error = path("a\nCOMMIT").unwrap_err();
    assert!(matches!(error, IptablesError::CgroupPath(_)));
    assert_eq!(
        error.to_string(),
        r#"cgroup path "a\nCOMMIT": control characters cannot be written in a rule"#
    );
}

#[test]
fn chain_names_are_short_plain_and_distinct() {
    let names = [
        "web",
        "0123456789abcdef",
        "0123456789abcdefg",
        "0123456789abcdefh",
        "",
        "web.1",
        "web\n-F\nCOMMIT",
        "ünïcödé",
        "a -j ACCEPT",
        "a -j ACCEP",
    ];
    let mut seen = Vec::new();
    for name in names {
        let Chains { outbound, inbound } = Chains::of(name);
        for chain in [outbound, inbound] {
            assert!(chain.len() <= 28, "{chain}");
            assert!(chain.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{chain}");
            assert!(!seen.contains(&chain), "{chain}");
            seen.push(chain);
        }
    }
}

#[test]
fn chain_names_stay_the_same_over_versions() {
    // The vector of draft-eastlake-fnv, appendix C.
    assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    assert_eq!(Chains::of("foobar.").outbound, format!("SIDECAR_foobar.{:08x}_OUT", fnv1a(b"foobar.")));
}

#[test]
fn removal_undoes_what_is_there_and_no_more() {
    let saved = "# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:SIDECAR_web_IN - [0:0]
:SIDECAR_web_OUT - [0:0]
:SIDECAR_web-2_OUT - [0:0]
-A PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m addrtype --dst-type LOCAL -j SIDECAR_web_IN
-A OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SIDECAR_web-2_OUT
-A OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SIDECAR_web_OUT
-A OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SIDECAR_web_OUT
-A OUTPUT -m comment --comment SIDECAR_web_OUT -j ACCEPT
-A SIDECAR_web_OUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
";
    assert_eq!(
        remove(&Chains::of("web"), saved).unwrap(),
        "*nat
-D PREROUTING -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m addrtype --dst-type LOCAL -j SIDECAR_web_IN
-D OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SIDECAR_web_OUT
-D OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j SIDECAR_web_OUT
-F SIDECAR_web_IN
-F SIDECAR_web_OUT
-X SIDECAR_web_IN
-X SIDECAR_web_OUT
COMMIT
"
    );
    assert_eq!(remove(&Chains::of("other"), saved), None);
}
