use clap::Parser;
use proptest::prelude::*;

use super::*;
use crate::config::{Bypass, Interception, OnProxyDown};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    overrides: Overrides,
}

fn annotations(given: &[(&str, &str)]) -> Annotations {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn overrides(given: &[(&str, &str)]) -> Result<Overrides, String> {
    Overrides::from_annotations(&annotations(given)).map_err(|error| error.to_string())
}

fn applied(given: &[(&str, &str)]) -> Interception {
    let mut interception = Interception::default();
    interception.inbound.exclude_ports = vec![22];
    overrides(given).unwrap().apply(&mut interception);
    interception
}

#[test]
fn every_annotation_sets_its_field() {
    let set = applied(&[
        ("sidecar.dev/bypass", "off"),
        ("sidecar.dev/on-proxy-down", "closed"),
        ("sidecar.dev/capture-loopback", "true"),
        ("sidecar.dev/include-inbound-ports", "8080, 80,80"),
        ("sidecar.dev/exclude-inbound-ports", "9090"),
        ("sidecar.dev/include-outbound-ports", "443"),
        ("sidecar.dev/exclude-outbound-ports", "2379"),
        ("sidecar.dev/include-outbound-cidrs", "10.0.0.0/8,fd00::/8"),
        ("sidecar.dev/exclude-outbound-cidrs", "10.96.0.1/32"),
    ]);
    assert_eq!((set.bypass, set.on_proxy_down), (Bypass::Off, OnProxyDown::Closed));
    assert!(set.outbound.capture_loopback);
    assert_eq!(set.inbound.include_ports, [80, 8080]);
    assert_eq!(set.inbound.exclude_ports, [9090]);
    assert_eq!((&set.outbound.include_ports[..], &set.outbound.exclude_ports[..]), (&[443][..], &[2379][..]));
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    assert_eq!(set.outbound.include_cidrs, networks(&["10.0.0.0/8", "fd00::/8"]));
    assert_eq!(set.outbound.exclude_cidrs, networks(&["10.96.0.1/32"]));
}

#[test]
fn what_no_annotation_names_stays() {
    let set = applied(&[("example.com/other", "x")]);
    assert_eq!(set.inbound.exclude_ports, [22]);
    assert!(overrides(&[]).unwrap().to_args().is_empty());
}

#[test]
fn istios_spelling_means_the_same_and_ours_wins() {
    let istio = "traffic.sidecar.istio.io/excludeInboundPorts";
    assert_eq!(applied(&[(istio, "15090")]).inbound.exclude_ports, [15090]);
    let both = [(istio, "15090"), ("sidecar.dev/exclude-inbound-ports", "")];
    assert!(applied(&both).inbound.exclude_ports.is_empty());
    let ranges = applied(&[("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/8")]);
    assert_eq!(ranges.outbound.exclude_cidrs.len(), 1);
}

#[test]
fn a_star_is_all_and_nothing_is_none() {
    let all = Interception::default();
    let everything = &all.outbound.include_cidrs;
    for name in ["sidecar.dev/include-inbound-ports", "traffic.sidecar.istio.io/includeInboundPorts"] {
        assert_eq!(applied(&[(name, "*")]).inbound.exclude_cidrs, []);
        assert_eq!(&applied(&[(name, "")]).inbound.exclude_cidrs, everything);
        assert_eq!(applied(&[(name, "")]).outbound, all.outbound);
    }
    assert_eq!(&applied(&[("sidecar.dev/exclude-inbound-ports", "*")]).inbound.exclude_cidrs, everything);
    for none in [
        ("sidecar.dev/include-outbound-cidrs", ""),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", ""),
        ("sidecar.dev/exclude-outbound-cidrs", "*"),
        ("sidecar.dev/exclude-outbound-ports", "*"),
        ("sidecar.dev/include-outbound-ports", ""),
    ] {
        assert_eq!(&applied(&[none]).outbound.exclude_cidrs, everything, "{none:?}");
        assert_eq!(applied(&[none]).inbound.exclude_cidrs, []);
    }
    assert_eq!(applied(&[("traffic.sidecar.istio.io/includeOutboundPorts", "")]).outbound, all.outbound);
}

#[test]
fn an_error_names_annotation_and_remedy() {
    let why = |name, value| overrides(&[(name, value)]).unwrap_err();
    assert_eq!(
        why("sidecar.dev/bypass", "on"),
        r#"sidecar.dev/bypass: "on": write off or to-proxy or full or auto"#
    );
    let ports = why("traffic.sidecar.istio.io/excludeOutboundPorts", "80,http");
    assert_eq!(
        ports,
        "traffic.sidecar.istio.io/excludeOutboundPorts: \"80,http\": write ports from 1 to 65535 with commas between \
         them, or * for all"
    );
    assert!(why("sidecar.dev/include-outbound-cidrs", "10.0.0.1").contains("10.0.0.1/32"));
    assert!(why("sidecar.dev/exclude-inbound-ports", "80,").contains("write ports"));
    assert!(why("sidecar.dev/capture-loopback", &"x".repeat(1000)).len() < 200);
}

#[test]
fn a_pods_wish_is_read_from_both_places() {
    let yes = annotations(&[(INJECT, "true")]);
    let no = annotations(&[(INJECT, "false")]);
    let none = Annotations::new();
    assert_eq!(asks_for_sidecar(&none, &none), Ok(None));
    assert_eq!(asks_for_sidecar(&yes, &none), Ok(Some(true)));
    assert_eq!(asks_for_sidecar(&none, &yes), Ok(Some(true)));
    assert_eq!(asks_for_sidecar(&no, &yes), Ok(Some(false)));
    assert_eq!(asks_for_sidecar(&yes, &no), Ok(Some(false)));
    let error = asks_for_sidecar(&none, &annotations(&[(INJECT, "yes")])).unwrap_err();
    assert_eq!(error.to_string(), r#"sidecar.dev/inject: "yes": write true or false"#);
}

#[test]
fn mode_and_configuration_are_named() {
    assert_eq!(mode(&annotations(&[(MODE, "agent")])), Ok(Some(PodMode::Agent)));
    assert!(mode(&annotations(&[(MODE, "node")])).is_err());
    assert_eq!(config_map(&annotations(&[(CONFIG, "my.config")])), Ok(Some("my.config".to_owned())));
    assert!(config_map(&annotations(&[(CONFIG, "My Config")])).is_err());
    assert!(config_map(&annotations(&[(CONFIG, "")])).is_err());
}

fn list(item: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        Just(String::new()),
        proptest::collection::vec(item, 1..4).prop_map(|items| items.join(", ")),
    ]
}

proptest! {
    /// What an annotation says reaches the injected commands unchanged.
    #[test]
    fn flags_say_the_same(
        bypass in "off|to-proxy|full|auto",
        down in "open|closed",
        loopback: bool,
        ports in list("[1-9][0-9]{0,3}"),
        networks in list("10\\.[0-9]\\.0\\.0/(8|16|32)|fd0[0-9]::/64"),
    ) {
        let given = [
            ("sidecar.dev/bypass", bypass.as_str()),
            ("sidecar.dev/on-proxy-down", &down),
            ("sidecar.dev/capture-loopback", if loopback { "true" } else { "false" }),
            ("sidecar.dev/include-inbound-ports", &ports),
            ("sidecar.dev/exclude-outbound-ports", &ports),
            ("sidecar.dev/include-outbound-cidrs", &networks),
            ("sidecar.dev/exclude-outbound-cidrs", &networks),
        ];
        let read = overrides(&given).unwrap();
        let args = std::iter::once("sidecar".to_owned()).chain(read.to_args());
        prop_assert_eq!(Flags::try_parse_from(args).unwrap().overrides, read);
    }

    #[test]
    fn no_value_panics(name in "bypass|capture-loopback|include-inbound-ports|include-outbound-cidrs", value: String) {
        let _ = overrides(&[(&format!("sidecar.dev/{name}"), &value)]);
    }
}
