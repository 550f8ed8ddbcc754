mod files;

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Every field of every kind that is acted on, each with a value that is not its default.
const FULL: &str = r#"apiVersion: sidecar.dev/v1alpha1
kind: ProxyConfig
metadata: {name: full, labels: {a: b}, annotations: {c: d}}
spec:
  interception:
    mode: iptables
    bypass: to-proxy
    onProxyDown: closed
    outbound:
      captureLoopback: true
      includeCIDRs: ["10.1.2.3/8", "fd00::/8", "10.0.0.0/8"]
      excludeCIDRs: ["169.254.169.254/32", "::ffff:10.2.0.0/112"]
      includePorts: [443, 80, 443]
      excludePorts: [2379]
    inbound:
      includePorts: [8080]
      excludePorts: [22, 9901]
      includeCIDRs: ["192.168.0.0/16"]
      excludeCIDRs: ["192.168.7.0/24"]
  ports: {outbound: 15001, inbound: 15006, admin: 15000, metrics: 0, health: 15021}
  listeners:
  - name: front
    address: 0.0.0.0:8081
    forward: app
  - {name: routed, address: "[::]:0"}
  protocolDetection: {timeout: 2s, opaquePorts: [25]}
  limits:
    maxConnections: 1000
    maxRequestHeaderBytes: 16KiB
    maxRequestHeaders: 50
    requestHeaderTimeout: 500ms
  timeouts: {connect: 1s, idle: 1h30m, drain: 0s}
  headers: {via: edge, forwarded: replace, captured: true}
  allowConnect: true
  accessLog: {format: text, path: /var/log/access.log}
  tracing: {otlp: {endpoint: "http://127.0.0.1:4317", protocol: http}, sampling: 0.5%}
---
apiVersion: sidecar.dev/v1alpha1
kind: Backend
metadata: {name: app}
spec:
  protocol: grpc
  endpoints:
  - {address: "127.0.0.1:8080", weight: 2, zone: a}
  - {dns: App.example.com:9080, weight: 0}
  - {unix: /run/app.sock}
"#;

const HEAD: &str = "apiVersion: sidecar.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: default}\nspec:\n";

fn parse(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors of a text, one a line.
fn errors(text: &str) -> Vec<String> {
    match Config::parse(text, "f") {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The errors of `spec`, which begins on line 5.
fn spec_errors(spec: &str) -> Vec<String> {
    errors(&format!("{HEAD}{spec}"))
}

fn backend(endpoints: &str) -> String {
    format!("apiVersion: sidecar.dev/v1alpha1\nkind: Backend\nmetadata: {{name: app}}\nspec:\n{endpoints}")
}

fn networks(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[test]
fn every_field_is_read() {
    let config = parse(FULL);

    let interception = &config.interception;
    assert_eq!(interception.mode, Mode::Iptables);
    assert_eq!(interception.bypass, Bypass::ToProxy);
    assert_eq!(interception.on_proxy_down, OnProxyDown::Closed);
    let outbound = Outbound {
        capture_loopback: true,
        include_cidrs: networks(&["10.0.0.0/8", "fd00::/8"]),
        exclude_cidrs: networks(&["10.2.0.0/16", "169.254.169.254/32"]),
        include_ports: vec![80, 443],
        exclude_ports: vec![2379],
    };
    assert_eq!(interception.outbound, outbound);
    let inbound = Inbound {
        include_ports: vec![8080],
        exclude_ports: vec![22, 9901],
        include_cidrs: networks(&["192.168.0.0/16"]),
        exclude_cidrs: networks(&["192.168.7.0/24"]),
    };
    assert_eq!(interception.inbound, inbound);

    let ports = Ports {
        outbound: Some(15_001),
        inbound: Some(15_006),
        admin: Some(15_000),
        metrics: None,
        health: Some(15_021),
    };
    assert_eq!(config.ports, ports);

    let [front, routed] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!((front.name.as_str(), front.forward.as_deref()), ("front", Some("app")));
    assert_eq!(front.address.to_string(), "0.0.0.0:8081");
    assert_eq!((routed.name.as_str(), routed.forward.as_deref()), ("routed", None));

    let detection = ProtocolDetection { timeout: Duration::from_secs(2), opaque_ports: vec![25] };
    assert_eq!(config.protocol_detection, detection);
    let limits = Limits {
        max_connections: Some(1000),
        max_request_header_bytes: 16_384,
        max_request_headers: 50,
        request_header_timeout: Duration::from_millis(500),
    };
    assert_eq!(config.limits, limits);
    let timeouts =
        Timeouts { connect: Duration::from_secs(1), idle: Duration::from_secs(5_400), drain: Duration::ZERO };
    assert_eq!(config.timeouts, timeouts);
    let headers = Headers { via: Some("edge".to_owned()), forwarded: Forwarded::Replace, captured: true };
    assert_eq!(config.headers, headers);
    assert!(config.allow_connect && !Config::default().allow_connect);
    let log = AccessLog { format: LogFormat::Text, path: PathBuf::from("/var/log/access.log"), record: None };
    assert_eq!(config.access_log, log);

    let tracing = config.tracing.as_ref().map(|tracing| {
        let Tracing { otlp: Otlp { endpoint, protocol }, sampling } = tracing;
        (endpoint.to_string(), *protocol, sampling.millionths())
    });
    assert_eq!(tracing, Some(("http://127.0.0.1:4317/".to_owned(), OtlpProtocol::Http, 5_000)));

    let app = &config.backends["app"];
    assert_eq!(app.protocol, Protocol::Grpc);
    let targets: Vec<_> = app.endpoints.iter().map(|endpoint| &endpoint.target).collect();
    let name = DnsPort { name: "app.example.com".to_owned(), port: 9080 };
    let expected = [
        &Target::Address(([127, 0, 0, 1], 8080).into()),
        &Target::Dns(name),
        &Target::Unix(PathBuf::from("/run/app.sock")),
    ];
    assert_eq!(targets, expected);
    assert_eq!(app.endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(app.endpoints[0].zone.as_deref(), Some("a"));
}

#[test]
fn what_is_not_said_is_the_default() {
    let default = Config::default();
    for text in ["", "# nothing\n---\n# more\n", HEAD, &format!("{HEAD}  ports:\n  listeners:\n")] {
        assert_eq!(parse(text), default, "{text}");
    }
    let empty_lists = "  interception: {outbound: {includeCIDRs: [], includePorts: []}, inbound: {}}\n";
    assert_eq!(parse(&format!("{HEAD}{empty_lists}")), default);
    assert_eq!(default.interception.outbound.include_cidrs, networks(&["0.0.0.0/0", "::/0"]));
    assert_eq!(default.interception.mode, Mode::Ebpf);
    assert_eq!(default.interception.bypass, Bypass::Auto);
    assert_eq!(default.interception.on_proxy_down, OnProxyDown::Open);
    assert_eq!(default.limits.connections(), 65_536);
    assert_eq!(default.timeouts.connect, Duration::from_secs(5));
}

#[test]
fn every_wrong_value_is_reported_with_its_place_and_remedy() {
    let spec = r#"  interception:
    mode: bpf
    outbound:
      captureLoopback: yes
      includeCIDRs:
      - 10.0.0.0/8
      - "10.0.0.0/33"
      excludePorts: [1, 0]
  ports: {outbound: 15001, inbound: 15001, admin: 70000}
  limits: {maxConnections: 0, maxRequestHeaderBytes: 1KiB, requestHeaderTimeout: 0s}
  timeouts:
    connect: 5
  tracing: {otlp: {endpoint: "127.0.0.1:4317"}, sampling: 1}
"#;
    let expected = [
        r#"f:6: spec.interception.mode: "bpf": write ebpf or iptables or none"#,
        r#"f:8: spec.interception.outbound.captureLoopback: "yes": write true or false"#,
        r#"f:11: spec.interception.outbound.includeCIDRs[1]: "10.0.0.0/33": the prefix length of an IPv4 network is 0 to 32"#,
        r#"f:12: spec.interception.outbound.excludePorts[1]: "0": write a port from 1 to 65535"#,
        r#"f:13: spec.ports.inbound: "15001": is also the port of spec.ports.outbound; write another, or 0 for a free one"#,
        r#"f:13: spec.ports.admin: "70000": write a port from 1 to 65535, or 0 for a free one"#,
        r#"f:14: spec.limits.maxRequestHeaderBytes: "1KiB": write a size from 8KiB to 1MiB"#,
        r#"f:14: spec.limits.maxConnections: "0": write a whole number from 1 to 524288"#,
        r#"f:14: spec.limits.requestHeaderTimeout: "0s": must be longer than 0s"#,
        r#"f:17: spec.tracing.sampling: "1": write a share from 0% to 100% with a percent sign and up to 4 digits after the point, such as 1% or 0.5%"#,
        r#"f:17: spec.tracing.otlp.endpoint: "127.0.0.1:4317": write a URL such as http://127.0.0.1:4317"#,
    ];
    let found = spec_errors(spec);
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line}\nnot in\n{}", found.join("\n"));
    }
    assert!(
        found.iter().any(|line| line.starts_with(r#"f:16: spec.timeouts.connect: "5": write a duration"#))
    );
    assert_eq!(found.len(), expected.len() + 1, "{}", found.join("\n"));
    assert!(found.is_sorted_by_key(|line| line.split(':').nth(1).and_then(|n| n.parse::<u32>().ok())));
}

#[test]
fn a_wrong_shape_names_the_field() {
    let cases = [
        ("  prots: {}", "f:5: spec.prots: unknown field; the fields here are interception, ports, "),
        ("  ports:\n    value: 1", "f:6: spec.ports.value: unknown field; the fields here are outbound, "),
        (
            "  ports:\n    outbound: [1]",
            "f:6: spec.ports.outbound: write a single value here, not a list or a map",
        ),
        ("  ports: 15001", "f:5: spec.ports: write a map of fields here"),
        (
            "  interception: {outbound: {includeCIDRs: all}}",
            "f:5: spec.interception.outbound.includeCIDRs: write a list here",
        ),
        (
            "  interception: {outbound: {includePorts: [1, ~]}}",
            "f:5: spec.interception.outbound.includePorts[1]: is empty; write a value",
        ),
        ("  listeners:\n  - name: a", "f:6: spec.listeners[0].address: is required"),
        ("  timeouts:\n    idle: 1h\n    idle: 2h", "f:7: spec.timeouts.idle: is given twice; leave one out"),
        ("  timeouts: {idle: 1h", "f:5: not valid YAML: "),
        ("  timeouts: *none", "f:5: not valid YAML: "),
    ];
    for (spec, expected) in cases {
        let found = spec_errors(spec);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(expected), "{spec}\n{}\n{expected}", found[0]);
    }
    assert_eq!(errors("kind: Backend\nmetadata: {name: a}"), ["f:2: apiVersion: is required"]);
    assert_eq!(errors("apiVersion: v1\nkind: Service\nmetadata: {}"), ["f:3: metadata.name: is required"]);
    assert!(errors("hello")[0].starts_with("f:1: "));
}

#[test]
fn lines_are_those_of_the_file() {
    let text = format!(
        "# comment\n---\n\n{FULL}...\n%YAML 1.2\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: a}}\n--- # empty\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: b}}\n---\nbroken: [\n---\napiVersion: x\nkind: Backend\nmetadata: {{name: A}}\n"
    );
    let before = FULL.lines().count() as u64 + 3;
    let found: Vec<(u64, String)> = errors(&text)
        .iter()
        .filter_map(|line| {
            let mut parts = line.splitn(4, ':').map(str::trim);
            Some((parts.nth(1)?.parse().ok()?, parts.next()?.to_owned()))
        })
        .collect();
    let expected = [(10, "kind"), (13, "not valid YAML"), (15, "apiVersion"), (17, "metadata.name")];
    let expected: Vec<_> = expected.map(|(line, field)| (before + line, field.to_owned())).into();
    assert_eq!(found, expected);
    let crlf = errors(
        "apiVersion: v1\r\nkind: Service\r\nmetadata: {name: a}\r\n---\r\napiVersion: v1\r\nkind: Pod\r\nmetadata: {name: b}\r\n",
    );
    assert!(crlf[0].starts_with("f:6: kind: "), "{crlf:?}");
}

#[test]
fn lines_end_as_yaml_has_them() {
    let text = "\u{feff}# comment\rapiVersion: v1\rkind: Service\rmetadata: {name: a}\r---\rapiVersion: v1\nkind: \
                Pod\r\nmetadata: {name: b}\n---\r\n{\r\r";
    let found = errors(text);
    assert!(found[0].starts_with("f:7: kind: "), "{found:?}");
    assert!(found[1].starts_with("f:10: not valid YAML") || found[1].starts_with("f:11: "), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(errors("- a\n"), ["f:1: write a map of fields here"]);
}

#[test]
fn markers_within_text_are_not_documents() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\ndata: |\n  ---\n  ...\nmore: '--- no'\n";
    assert_eq!(parse(text).routes.services.len(), 1);
}

#[test]
fn what_is_not_acted_on_is_named() {
    let listener = parse(&format!("{HEAD}  listeners: [{{name: a, address: '127.0.0.1:80'}}]"));
    assert_eq!(listener.unused.len(), 1, "a listener that nothing names");
}

#[test]
fn unknown_kinds_and_versions_are_refused() {
    let found = errors("apiVersion: v1\nkind: Pod\nmetadata: {name: a}");
    assert!(found[0].starts_with(r#"f:2: kind: "Pod": is not known; the kinds are ProxyConfig, Backend, "#));
    let found = errors("apiVersion: sidecar.dev/v1\nkind: Backend\nmetadata: {name: a}");
    assert_eq!(found, [r#"f:1: apiVersion: "sidecar.dev/v1": has no Backend; write sidecar.dev/v1alpha1"#]);
}

#[test]
fn one_proxy_config_and_distinct_backends() {
    let found = errors(&format!("{HEAD}---\n{HEAD}"));
    assert_eq!(found, ["f:7: kind: there is a ProxyConfig already, at f:2; leave one out"]);
    let backend = backend("  endpoints: [{unix: /a}]\n");
    let found = errors(&format!("{backend}---\n{backend}"));
    let expected =
        r#"f:9: metadata.name: "app": there is a Backend of this name already, at f:3; rename one"#;
    assert_eq!(found, [expected]);
}

#[test]
fn listeners_are_distinct_and_forward_to_a_backend() {
    let found = spec_errors(
        "  ports: {health: 15021}
  listeners:
  - {name: a, address: '127.0.0.1:80', forward: app}
  - {name: a, address: '127.0.0.1:81'}
  - {name: b, address: '127.0.0.1:80'}
  - {name: c, address: '0.0.0.0:15021'}
",
    );
    let expected = [
        r#"f:7: spec.listeners[0].forward: "app": there is no Backend of this name; add one"#,
        r#"f:8: spec.listeners[1].name: "a": is the name of a listener above; rename one"#,
        r#"f:9: spec.listeners[2].address: "127.0.0.1:80": is the address of a listener above; write another"#,
        r#"f:10: spec.listeners[3].address: "0.0.0.0:15021": is a port of spec.ports; write another"#,
    ];
    assert_eq!(found, expected);
    // A backend that is wrong itself does exist.
    let listener = format!("{HEAD}  listeners: [{{name: a, address: '127.0.0.1:80', forward: app}}]\n");
    let found = errors(&format!("{listener}---\n{}", backend("  endpoint: []\n")));
    assert_eq!(found, ["f:11: spec.endpoint: unknown field; the fields here are protocol, tls, endpoints"]);
}

#[test]
fn listeners_are_bounded() {
    let listeners: Vec<String> =
        (0..257).map(|i| format!("{{name: l{i}, address: '127.0.0.1:{}'}}", i + 1)).collect();
    let parsed = parse(&format!("{HEAD}  listeners: [{}]\n", listeners[..256].join(", ")));
    assert_eq!(parsed.listeners.len(), 256);
    let found = spec_errors(&format!("  listeners: [{}]\n", listeners.join(", ")));
    assert_eq!(found, ["f:5: spec.listeners: 257 are more than 256; leave some out"]);
}

#[test]
fn an_endpoint_has_one_target() {
    let found = errors(&backend(
        "  protocol: http3
  endpoints:
  - {weight: 1}
  - {address: '10.0.0.1:80', unix: /a}
  - address: app:80
  - {unix: a.sock, weight: -1}
  - {dns: '10.0.0.1:80', zone: 'a b'}
",
    ));
    let starts = [
        r#"f:5: spec.protocol: "http3": write http1 or http2 or grpc or tcp or auto"#,
        "f:7: spec.endpoints[0]: write exactly one of address, dns and unix",
        "f:8: spec.endpoints[1]: write exactly one of address, dns and unix",
        r#"f:9: spec.endpoints[2].address: "app:80": "#,
        r#"f:10: spec.endpoints[3].weight: "-1": write a whole number from 0 to 1000000"#,
        r#"f:10: spec.endpoints[3].unix: "a.sock": "#,
        r#"f:11: spec.endpoints[4].zone: "a b": "#,
        r#"f:11: spec.endpoints[4].dns: "10.0.0.1:80": is an IP address; write it into address"#,
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
    assert!(errors(&backend("  endpoints: []\n"))[0].contains("is empty"));
    assert!(errors(&backend("  endpoints: [{unix: /a, weight: 0}]\n"))[0].contains("every weight is 0"));
}

#[test]
fn a_wrong_value_is_shown_on_one_line_and_cut() {
    let found = spec_errors(&format!("  accessLog: {{format: \"a\\n\\e{}\"}}\n", "x".repeat(1000)));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains(r#""a\n\u{1b}xx"#) && found[0].contains(r#"x"...: write json"#),
        "{}",
        found[0]
    );
    assert!(found[0].len() < 200);
}

#[test]
fn a_wrong_name_is_shown_on_one_line() {
    let found = spec_errors("  \"a\\n\\eb\": 1\n");
    assert!(found[0].starts_with(r"f:5: spec.a\n\u{1b}b: unknown field; "), "{found:?}");
}

#[test]
fn the_number_of_reported_errors_is_bounded() {
    let ports = vec!["0"; 250].join(", ");
    let found = spec_errors(&format!("  protocolDetection: {{opaquePorts: [{ports}]}}"));
    assert_eq!(found.len(), 101);
    assert!(found[99].starts_with("f:5: spec.protocolDetection.opaquePorts[99]: "), "{}", found[99]);
    assert_eq!(found[100], "150 more");
}

#[test]
fn documents_and_aliases_are_bounded() {
    let services = |count: usize| -> String {
        let one = |i| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\n");
        (0..count).map(one).collect::<Vec<_>>().concat()
    };
    assert_eq!(parse(&services(MAX_DOCUMENTS)).routes.services.len(), MAX_DOCUMENTS);
    let found = errors(&services(MAX_DOCUMENTS + 1));
    assert_eq!(found, ["f:4001: the configuration has more than 1000 documents; leave some out"]);

    let head = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x]\n";
    let line = |i: u32| format!("a{0}: &a{0} [{1}]\n", i + 1, vec![format!("*a{i}"); 8].join(", "));
    let bomb = head.to_owned() + &(0..9).map(line).collect::<String>();
    assert!(errors(&bomb)[0].contains("not valid YAML"), "{:?}", errors(&bomb));
}

#[test]
fn json_is_read() {
    let text = "{\n\t\"apiVersion\": \"sidecar.dev/v1alpha1\",\n\t\"kind\": \"ProxyConfig\",\n\t\"metadata\": {\"name\": \"a\"},\n\
                \t\"spec\": {\n\t\t\"ports\": {\"health\": 15021},\n\t\t\"limits\": {\"maxConnections\": 0}\n\t}\n}\n";
    let found = errors(text);
    assert_eq!(found, [r#"f:7: spec.limits.maxConnections: "0": write a whole number from 1 to 524288"#]);
}

#[test]
fn the_dump_is_camel_case() {
    let dump = serde_json::json!(parse(FULL));
    assert_eq!(dump["interception"]["onProxyDown"], "closed");
    assert_eq!(dump["interception"]["outbound"]["includeCIDRs"][0], "10.0.0.0/8");
    assert_eq!(dump["timeouts"]["idle"], "1h30m");
    assert_eq!(dump["limits"]["requestHeaderTimeout"], "500ms");
    assert_eq!(dump["tracing"]["sampling"], "0.5%");
    assert_eq!(dump["backends"]["app"]["endpoints"][1]["dns"], "app.example.com:9080");
    assert_eq!(dump["unused"][0]["name"], "spec.interception.bypass");
    assert_eq!(dump["unused"][0]["location"]["line"], 7);
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~\n]*|.*") {
        let _ = Config::parse(&text, "f");
    }

    #[test]
    fn a_damaged_file_gives_lines_within_it(at in 0..FULL.len(), with in "[ -~\n]{0,3}") {
        let text = format!("{}{with}{}", &FULL[..at], &FULL[at + 1..]);
        if let Err(errors) = Config::parse(&text, "f") {
            let lines = text.lines().count() as u64 + 1;
            prop_assert!(errors.iter().all(|error| error.line.is_some_and(|line| (1..=lines).contains(&line))));
            prop_assert!(errors.iter().all(|error| !error.to_string().contains('\n')));
        }
    }
}

#[test]
fn headers_are_what_they_may_be() {
    let said = spec_errors("  headers:\n    via: two words\n    forwarded: sanitize\n    captured: 1");
    let expected = [
        r#"f:6: spec.headers.via: "two words": write a name for the proxy, such as edge or edge.example.com:8080, or off"#,
        r#"f:7: spec.headers.forwarded: "sanitize": write append or replace or keep or remove"#,
        r#"f:8: spec.headers.captured: "1": write true or false"#,
    ];
    assert_eq!(said, expected);
    assert_eq!(Config::default().headers.forwarded, Forwarded::Append);
}

const PROBED: &str = "
apiVersion: sidecar.dev/v1alpha1
kind: ProxyConfig
metadata: {name: a}
spec:
  accessLog: {record: {requestHeaders: true, body: 4KiB, redact: [X-Api-Key, authorization]}}
  probes:
  - {name: own, url: 'http://127.0.0.1:8080', path: /hello, interval: 2s, logBody: 1KiB}
  - name: other
    backend: app
    method: HEAD
    headers: [{name: x-a, value: b}]
    timeout: 1s
    expectedStatuses: [204, 200]
---
apiVersion: sidecar.dev/v1alpha1
kind: Backend
metadata: {name: app}
spec: {endpoints: [{address: '127.0.0.1:8080'}]}
";

#[test]
fn probes_and_recording_are_read() {
    let config = Config::parse(PROBED, "a.yaml").unwrap();
    let record = config.access_log.record.unwrap();
    assert!(record.request_headers && !record.response_headers && record.body == 4096);
    assert_eq!(record.redact, ["authorization", "x-api-key"]);
    let [own, other] = &config.probes[..] else { panic!("{:?}", config.probes) };
    assert_eq!((own.path.as_str(), own.interval.as_secs(), own.log_body), ("/hello", 2, 1024));
    assert!(own.expected_statuses.contains(&302) && !own.expected_statuses.contains(&404));
    assert_eq!(other.target, ProbeTarget::Backend("app".to_owned()));
    assert_eq!(other.expected_statuses, [200, 204]);
}

#[test]
fn wrong_probes_and_recordings_are_told() {
    let cases = [
        ("name: own,", "name: Own,", "spec.probes[0].name"),
        ("name: other", "name: own", "spec.probes[1].name: \"own\": is the name of a probe before"),
        ("url: 'http://127.0.0.1:8080'", "url: 'http://127.0.0.1:8080/x'", "spec.probes[0].url"),
        ("url: 'http://127.0.0.1:8080',", "", "spec.probes[0]: write exactly one of backend and url"),
        ("backend: app", "backend: nobody", "there is no Backend of this name"),
        ("path: /hello", "path: hello", "spec.probes[0].path"),
        ("interval: 2s", "interval: 0s", "spec.probes[0].interval"),
        ("method: HEAD", "method: CONNECT", "spec.probes[1].method"),
        ("name: x-a", "name: Transfer-Encoding", "spec.probes[1].headers[0].name"),
        ("[204, 200]", "[]", "spec.probes[1].expectedStatuses"),
        ("logBody: 1KiB", "logBody: 1MiB", "spec.probes[0].logBody"),
        ("logBody: 1KiB", "logbody: 1KiB", "logbody"),
        ("body: 4KiB", "body: 1MiB", "spec.accessLog.record.body"),
        ("body: 4KiB", "bodies: 4KiB", "bodies"),
        ("X-Api-Key", "'x api'", "spec.accessLog.record.redact[0]"),
        ("{record:", "{format: text, record:", "spec.accessLog.format"),
    ];
    for (from, to, word) in cases {
        let text = PROBED.replacen(from, to, 1);
        let errors = Config::parse(&text, "a.yaml").unwrap_err().to_string();
        assert!(errors.contains(word), "{to}: {errors}");
    }
}
