use std::net::IpAddr;
use std::time::Duration;

use ::http::Method;
use proptest::prelude::*;

use super::*;
use crate::config::{Config, ObjectName};

/// The contract by example.
const EXAMPLE: &str = include_str!("example.yaml");
const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: sidecar.dev, kind: Inbound, port: 80}]
";

fn parse(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<String> {
    match Config::parse(text, "f") {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The only rule of a route with this rule.
fn rule(yaml: &str) -> HttpRule {
    let config = parse(&format!("{ROUTE}  rules:\n  - {yaml}\n"));
    config.routes.http[0].rules[0].clone()
}

/// The errors of a rule, which stands on line 7.
fn rule_errors(yaml: &str) -> Vec<String> {
    errors(&format!("{ROUTE}  rules:\n  - {yaml}\n"))
}

/// A GRPCRoute or the like.
fn other(kind: &str, version: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n  \
         parentRefs: [{{group: sidecar.dev, kind: Inbound, port: 80}}]\n{spec}\n"
    )
}

fn name(name: &str) -> ObjectName {
    ObjectName { namespace: "default".into(), name: name.into() }
}

#[test]
fn the_example_is_valid() {
    let config = parse(EXAMPLE);
    let unused: Vec<&str> = config.unused.iter().map(|unused| unused.kind.as_str()).collect();
    assert!(!unused.iter().any(|kind| kind.contains("Route") || *kind == "Listener"), "{unused:?}");
    let [reviews, own, front] = config.routes.http.as_slice() else { panic!("{:?}", config.routes.http) };

    assert_eq!(reviews.parents, [ParentRef::Service { name: name("reviews"), port: Some(80) }]);
    let rule = &reviews.rules[0];
    let shares: Vec<_> = rule.backends.iter().map(|backend| (&backend.target, backend.weight)).collect();
    let [v1, v2] = ["reviews-v1", "reviews-v2"].map(|name| BackendTarget::Backend(name.to_owned()));
    assert_eq!(shares, [(&v1, 90), (&v2, 10)]);
    let timeouts = RuleTimeouts {
        request: Some(Duration::from_secs(2)),
        backend_request: Some(Duration::from_millis(800)),
    };
    assert_eq!(rule.timeouts, timeouts);
    let retry = Retry { attempts: 2, codes: vec![502, 503, 504], backoff: Some(Duration::from_millis(25)) };
    assert_eq!(rule.retry, Some(retry));

    assert_eq!(own.parents, [ParentRef::Inbound { port: 8080 }]);
    let hello = &own.rules[0].matches[0];
    assert_eq!((&hello.path, &hello.method), (&PathMatch::Exact("/hello".into()), &Some(Method::GET)));
    assert_eq!(own.rules[0].filters, [Filter::Respond("hello".into())]);

    assert_eq!(front.parents, [ParentRef::Listener { name: "front".into() }]);
    assert_eq!(front.hostnames, [Hostname::Wildcard(".example.com".into())]);
    assert_eq!(front.rules[0].matches[0].path, PathMatch::Prefix("/".into()));

    let service = &config.routes.services[&name("reviews")];
    assert_eq!(service.cluster_ips, [IpAddr::from([10, 96, 0, 10])]);
    assert_eq!(service.ports[0].target, TargetPort::Number(9080));
    let hello = &config.routes.responses["hello"];
    assert_eq!((hello.status, hello.body.as_str()), (200, "<h1>Say hello</h1>"));
    assert_eq!(hello.headers[0].0, "content-type");
    let dump = serde_json::json!(config.routes);
    assert_eq!(dump["http"][0]["rules"][0]["timeouts"]["request"], "2s");
    assert_eq!(dump["services"]["default/reviews"]["clusterIps"][0], "10.96.0.10");
}

#[test]
fn a_rule_is_read() {
    let rule = rule(
        "name: main
    matches:
    - path: {type: PathPrefix, value: /a/}
      headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}, {type: RegularExpression, name: x-b, value: '.*'}]
      queryParams: [{name: Q, value: a b}]
      method: DELETE
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: A, value: b}], add: [{name: c, value: d}], remove: [E, e]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [server]}
    - {type: URLRewrite, urlRewrite: {hostname: b.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, percent: 5}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    - {type: CORS, cors: {allowOrigins: ['https://*.Example.com', 'http://a:81', 'http://*'], allowCredentials: true, maxAge: 60}}
    backendRefs:
    - {name: s, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x]}}]}
    timeouts: {request: 0s, backendRequest: 1s}
    retry: {codes: [503, 500, 503]}",
    );
    assert_eq!(rule.name.as_deref(), Some("main"));
    let [matched] = rule.matches.as_slice() else { panic!("{:?}", rule.matches) };
    assert_eq!((&matched.path, &matched.method), (&PathMatch::Prefix("/a".into()), &Some(Method::DELETE)));
    let field = |name: &str, value| FieldMatch { name: name.into(), value };
    let any = TextMatch::Regex(Pattern::parse(".*").unwrap());
    assert_eq!(matched.headers, [field("x-a", TextMatch::Exact("1".into())), field("x-b", any)]);
    assert_eq!(matched.query, [field("Q", TextMatch::Exact("a b".into()))]);

    let [request, response, rewrite, percent, fraction, cors] = rule.filters.as_slice() else {
        panic!("{:?}", rule.filters)
    };
    let Filter::RequestHeaders(edits) = request else { panic!("{request:?}") };
    assert_eq!((edits.set[0].0.as_str(), edits.add[0].0.as_str()), ("a", "c"));
    assert_eq!(edits.remove, ["e"]);
    assert!(matches!(response, Filter::ResponseHeaders(edits) if edits.remove == ["server"]));
    let expected =
        Rewrite { hostname: Some("b.example".into()), path: Some(PathEdit::Prefix(String::new())) };
    assert_eq!(*rewrite, Filter::Rewrite(expected));
    for (filter, numerator, denominator) in [(percent, 5, 100), (fraction, 1, 3)] {
        let Filter::Mirror(mirror) = filter else { panic!("{filter:?}") };
        assert_eq!(mirror.fraction, Fraction { numerator, denominator });
        assert!(matches!(&mirror.backend, BackendTarget::Invalid(why) if why.contains("default/s")));
    }
    let Filter::Cors(cors) = cors else { panic!("{cors:?}") };
    let suffix = |scheme: &str, suffix: &str, port| OriginMatch::Suffix {
        scheme: scheme.into(),
        suffix: suffix.into(),
        port,
    };
    let exact = OriginMatch::Exact { scheme: "http".into(), host: "a".into(), port: 81 };
    let expected = [suffix("https", ".example.com", 443), exact, suffix("http", "", 80)];
    assert_eq!(cors.allow_origins, expected);
    assert_eq!((cors.allow_credentials, cors.max_age), (true, Duration::from_secs(60)));

    assert_eq!(rule.backends[0].weight, 1);
    assert_eq!(rule.backends[0].filters.len(), 1);
    let timeouts = RuleTimeouts { request: None, backend_request: Some(Duration::from_secs(1)) };
    assert_eq!(rule.timeouts, timeouts);
    assert_eq!(rule.retry, Some(Retry { attempts: 1, codes: vec![500, 503], backoff: None }));
}

#[test]
fn a_redirect_is_read() {
    let read = rule(
        "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: a.b, port: 8443, statusCode: 308,
      path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
    );
    let expected = Redirect {
        scheme: Some("https".into()),
        hostname: Some("a.b".into()),
        path: Some(PathEdit::Full("/x".into())),
        port: Some(8443),
        status: 308,
    };
    assert_eq!(read.filters, [Filter::Redirect(expected)]);
    let read = rule("filters: [{type: RequestRedirect, requestRedirect: {}}]");
    assert!(matches!(&read.filters[..], [Filter::Redirect(Redirect { status: 302, path: None, .. })]));
}

/// Each wrong rule with the beginning of its only error after `f:LINE: spec.rules[0]`.
#[test]
fn a_wrong_rule_names_field_and_remedy() {
    let cases = [
        ("matches: [{path: {value: a}}]", r#".matches[0].path.value: "a": write a path that begins with /"#),
        ("matches: [{path: {value: //}}]", r#".matches[0].path.value: "//": write a path without //"#),
        (
            "matches: [{path: {type: Prefix}}]",
            r#".matches[0].path.type: "Prefix": write Exact or PathPrefix or R"#,
        ),
        (
            "matches: [{path: {type: RegularExpression, value: '('}}]",
            r#".matches[0].path.value: "(": write a reg"#,
        ),
        ("matches: [{path: {value: [1]}}]", ".matches[0].path.value: write a single value here"),
        ("matches: [{headers: [{name: a}]}]", ".matches[0].headers[0].value: is required"),
        (
            "matches: [{headers: [{name: ':path', value: a}]}]",
            r#".matches[0].headers[0].name: ":path": write a name"#,
        ),
        ("matches: [{method: get}]", r#".matches[0].method: "get": write GET or HEAD"#),
        ("match: []", ".match: unknown field; the fields here are name, matches, filters"),
        ("filters: [{type: URLRewrite}]", ".filters[0].urlRewrite: is required"),
        (
            "filters: [{type: ExternalAuth, externalAuth: {}}]",
            r#".filters[0].type: "ExternalAuth": write Req"#,
        ),
        (
            "filters: [{type: CORS, cors: {}, urlRewrite: {}}]",
            ".filters[0].urlRewrite: does not belong to a filter of type CORS; leave it out",
        ),
        (
            "filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]",
            r#".filters[1].type: "CORS": is given twice; leave one out"#,
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]",
            r#".filters[1].type: "RequestRedirect": a URLRewrite is given too; leave one out"#,
        ),
        (
            "filters: [{type: CORS, cors: {allowOrigins: [a.b]}}]",
            r#".filters[0].cors.allowOrigins[0]: "a.b": write *"#,
        ),
        (
            "filters: [{type: CORS, cors: {allowMethods: [GET, '*']}}]",
            r#".filters[0].cors.allowMethods: "*": stands"#,
        ),
        (
            "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [content-length]}}]",
            r#".filters[0].requestHeaderModifier.remove[0]: "content-length": is the proxy's own business"#,
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]",
            r#".filters[0].requestRedirect.statusCode: "200": write 301 or 302 or 303 or 307 or 308"#,
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: s, port: 80}]}",
            ".backendRefs: a RequestRedirect forwards nothing; leave out one of both",
        ),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: \
             ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            ".filters: ReplacePrefixMatch needs a rule with one match alone, of type PathPrefix",
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /b}}}]",
            ".filters[0].urlRewrite.path: write replaceFullPath, and no other, for this type",
        ),
        (
            "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 80}, percent: 101}}]",
            r#".filters[0].requestMirror.percent: "101": write a whole number from 0 to 100"#,
        ),
        (
            "filters: [{type: ExtensionRef, extensionRef: {group: sidecar.dev, kind: DirectResponse, name: x}}]",
            r#".filters[0].extensionRef.name: "x": there is no DirectResponse of this name; add one"#,
        ),
        ("backendRefs: [{name: s}]", ".backendRefs[0].port: is required for a Service"),
        (
            "backendRefs: [{name: s, port: 80, weight: 1000001}]",
            r#".backendRefs[0].weight: "1000001": write a whole number from 0 to 1000000"#,
        ),
        (
            "backendRefs: [{name: s, port: 80, filters: [{type: CORS, cors: {}}]}]",
            r#".backendRefs[0].filters[0].type: "CORS": write RequestHeaderModifier or "#,
        ),
        (
            "timeouts: {request: 1s, backendRequest: 2s}",
            r#".timeouts.backendRequest: "2s": is longer than request; write at most that"#,
        ),
        ("retry: {codes: [200]}", r#".retry.codes[0]: "200": write a whole number from 400 to 599"#),
    ];
    for (yaml, expected) in cases {
        let found = rule_errors(yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(&format!("f:7: spec.rules[0]{expected}")), "{yaml}\n{}", found[0]);
    }
    let seventeen = vec!["{type: RequestMirror}"; 17].join(", ");
    let found = rule_errors(&format!("filters: [{seventeen}]"));
    assert_eq!(found, ["f:7: spec.rules[0].filters: 17 are more than 16; leave some out"]);
    let many = vec![format!("  - matches: [{}]\n", vec!["{}"; 64].join(", ")); 3].concat();
    let found = errors(&format!("{ROUTE}  rules:\n{many}"));
    assert_eq!(found, ["f:3: spec.rules: 192 matches in all are more than 128; split the route"]);
}

#[test]
fn backends_that_do_not_exist_are_no_errors() {
    let text = format!(
        "{ROUTE}  rules:
  - backendRefs:
    - {{name: there, port: 80}}
    - {{name: there, port: 81}}
    - {{name: there, namespace: other, port: 80}}
    - {{group: sidecar.dev, kind: Backend, name: gone}}
    - {{group: example.com, kind: Bucket, name: b}}
---
apiVersion: v1
kind: Service
metadata: {{name: there}}
spec: {{ports: [{{port: 80}}, {{port: 81, protocol: UDP}}]}}
"
    );
    let rule = &parse(&text).routes.http[0].rules[0];
    assert_eq!(rule.backends[0].target, BackendTarget::Service { name: name("there"), port: 80 });
    let reasons: Vec<&str> = rule.backends[1..]
        .iter()
        .map(|backend| match &backend.target {
            BackendTarget::Invalid(why) => why.as_str(),
            target => panic!("{target:?}"),
        })
        .collect();
    assert!(reasons[0].contains("has no TCP port 81"), "{}", reasons[0]);
    assert_eq!(reasons[1], "there is no Service other/there; add one");
    assert_eq!(reasons[2], r#"there is no Backend "gone"; add one"#);
    assert!(reasons[3].starts_with(r#""Bucket" of group "example.com" is no backend here"#));
}

#[test]
fn parents_must_be_known() {
    let parents = |parents: &str| {
        let head = ROUTE.replace("[{group: sidecar.dev, kind: Inbound, port: 80}]", parents);
        errors(&head)
    };
    let cases = [
        ("[]", "f:3: spec.parentRefs: is empty; "),
        (
            "[{name: gateway}]",
            r#"f:5: spec.parentRefs[0].kind: "Gateway" of group "gateway.networking.k8s.io" is no"#,
        ),
        ("[{group: sidecar.dev, kind: Inbound}]", "f:5: spec.parentRefs[0].port: is required"),
        ("[{group: '', kind: Service}]", "f:5: spec.parentRefs[0].name: is required"),
        (
            "[{group: '', kind: Service, name: a, sectionName: http}]",
            r#"f:5: spec.parentRefs[0].sectionName: "http": is not supported; write port instead"#,
        ),
        (
            "[{group: sidecar.dev, kind: Listener, name: front}]",
            r#"f:5: spec.parentRefs[0].name: "front": there is no listener of this name; add one"#,
        ),
    ];
    for (yaml, expected) in cases {
        let found = parents(yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(expected), "{yaml}\n{}", found[0]);
    }
}

#[test]
fn a_listener_that_a_route_names_is_used() {
    let proxy = "apiVersion: sidecar.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: default}\nspec:\n  \
                 listeners: [{name: front, address: '127.0.0.1:80'}, {name: back, address: '127.0.0.1:81'}]\n---\n";
    let route = ROUTE.replace("kind: Inbound, port: 80", "kind: Listener, name: front");
    for text in [format!("{proxy}{route}"), format!("{route}---\n{proxy}")] {
        let unused = parse(&text).unused;
        assert_eq!(unused.iter().map(|unused| unused.name.as_str()).collect::<Vec<_>>(), ["back"]);
    }
}

#[test]
fn calls_become_requests() {
    let paths = |matches: &str| -> Vec<PathMatch> {
        let config = parse(&other("GRPCRoute", "v1", &format!("  rules: [{{matches: [{matches}]}}]")));
        let route = &config.routes.http[0];
        assert!(route.grpc);
        let matches = &route.rules[0].matches;
        assert!(matches.iter().all(|matched| matched.method == Some(Method::POST)));
        matches.iter().map(|matched| matched.path.clone()).collect()
    };
    let regex = |text: &str| PathMatch::Regex(Pattern::parse(text).unwrap());
    assert_eq!(paths("{method: {service: a.B, method: C}}"), [PathMatch::Exact("/a.B/C".into())]);
    assert_eq!(paths("{method: {service: a.B}}"), [PathMatch::Prefix("/a.B".into())]);
    assert_eq!(paths("{method: {method: C}}"), [regex("/[^/]+/C")]);
    assert_eq!(paths("{method: {type: RegularExpression, service: 'a|b'}}"), [regex("/(?:a|b)/[^/]+")]);
    assert_eq!(paths("{headers: [{name: a, value: b}]}"), [PathMatch::Prefix("/".into())]);
    assert_eq!(paths(""), [PathMatch::Prefix("/".into())]);

    let wrong = |matches: &str| errors(&other("GRPCRoute", "v1", &format!("  rules: [{{{matches}}}]")));
    assert_eq!(
        wrong("matches: [{method: {}}]"),
        ["f:6: spec.rules[0].matches[0].method: write service or method or both"]
    );
    assert!(wrong("matches: [{method: {service: a/b}}]")[0].contains("write a name of letters"));
    assert!(wrong("filters: [{type: URLRewrite, urlRewrite: {}}]")[0].contains(r#""URLRewrite": write Req"#));
}

#[test]
fn connections_have_one_rule() {
    let rule = "  rules: [{name: a, backendRefs: [{name: s, port: 80, weight: 2}]}]";
    let config = parse(&other("TCPRoute", "v1alpha2", rule));
    assert_eq!(config.routes.tcp[0].backends[0].weight, 2);
    let hostnames = format!("  hostnames: ['*.a.b']\n{rule}");
    let config = parse(&other("TLSRoute", "v1", &hostnames));
    assert_eq!(config.routes.tls[0].hostnames, [Hostname::Wildcard(".a.b".into())]);
    let wrong = |spec: &str| errors(&other("TCPRoute", "v1", spec));
    assert_eq!(wrong(""), ["f:3: spec.rules: is empty; write one rule with backendRefs"]);
    assert_eq!(
        wrong("  rules: [{}]"),
        ["f:6: spec.rules[0].backendRefs: is empty; write at least one backend"]
    );
    let two = "  rules: [{backendRefs: [{name: s, port: 80}]}, {backendRefs: [{name: s, port: 80}]}]";
    assert_eq!(wrong(two), ["f:6: spec.rules: 2 are more than 1; leave some out"]);
    let filter = "  rules: [{backendRefs: [{name: s, port: 80, filters: [{type: CORS, cors: {}}]}]}]";
    assert!(wrong(filter)[0].contains("connections have no filters"));
}

#[test]
fn what_kubernetes_writes_is_read() {
    let text = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: s-abc12
  namespace: shop
  creationTimestamp: null
  labels: {kubernetes.io/service-name: s, other: x}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true, serving: true}, nodeName: n, zone: a}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3]}
ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 53, protocol: UDP}, {name: any}]
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop, uid: x, resourceVersion: '1', managedFields: [{manager: m}]}
spec:
  type: NodePort
  clusterIP: None
  clusterIPs: [None]
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}
  ports: [{name: http, port: 80, targetPort: web, nodePort: 30000, appProtocol: kubernetes.io/h2c}, {name: dns, port: 53, protocol: UDP}]
status: {loadBalancer: {}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stray}
addressType: IPv4
endpoints: null
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop, generation: 1, uid: x, creationTimestamp: '2026-01-01T00:00:00Z', ownerReferences: [{}], finalizers: [a]}
spec: {parentRefs: [{group: '', kind: Service, name: s}], useDefaultGateways: All, rules: [{sessionPersistence: {type: Cookie}}]}
status: {parents: []}
";
    let config = parse(text);
    let service = config.routes.services.values().next().unwrap();
    assert_eq!(service.name.to_string(), "shop/s");
    assert_eq!(service.cluster_ips, [] as [IpAddr; 0]);
    let [http] = service.ports.as_slice() else { panic!("{:?}", service.ports) };
    assert_eq!(http.target, TargetPort::Name("web".into()));
    assert_eq!(http.app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    let endpoints: Vec<_> = service
        .endpoints_of(http)
        .map(|e| (e.address.to_string(), e.port, e.ready, e.zone.as_deref()))
        .collect();
    let expected = [("10.0.0.1", true, Some("a")), ("10.0.0.2", false, None), ("10.0.0.3", true, None)]
        .map(|(address, ready, zone)| (address.to_owned(), 8080, ready, zone));
    assert_eq!(endpoints, expected);
    let unused: Vec<&str> = config.unused.iter().map(|unused| unused.name.as_str()).collect();
    assert_eq!(unused, ["stray", "spec.useDefaultGateways", "spec.rules[0].sessionPersistence"]);
    let name = ObjectName { namespace: "shop".into(), name: "s".into() };
    assert_eq!(config.routes.http[0].parents, [ParentRef::Service { name, port: None }]);
}

#[test]
fn answers_are_checked() {
    let wrong = |spec: &str| {
        errors(&format!(
            "apiVersion: sidecar.dev/v1alpha1\nkind: DirectResponse\nmetadata: {{name: a}}\nspec: {spec}\n"
        ))
    };
    assert_eq!(wrong("{body: a}"), ["f:3: spec.status: is required"]);
    assert_eq!(wrong("{status: 101}"), [r#"f:4: spec.status: "101": write a whole number from 200 to 599"#]);
    assert_eq!(
        wrong("{status: 204, body: a}"),
        [r#"f:4: spec.body: "a": a response 204 has no body; leave it out"#]
    );
    assert!(
        wrong("{status: 200, headers: {'a b': c}}")[0].starts_with("f:4: spec.headers.a b: write the name")
    );
    assert!(wrong("{status: 200, headers: {A: b, a: c}}")[0].contains("is given twice"));
}

#[test]
fn names_are_taken_once_for_each_kind() {
    let grpc = other("GRPCRoute", "v1", "");
    assert_eq!(parse(&format!("{ROUTE}---\n{grpc}")).routes.http.len(), 2);
    let elsewhere = ROUTE.replace("{name: r}", "{name: r, namespace: b}");
    assert_eq!(parse(&format!("{ROUTE}---\n{elsewhere}")).routes.http.len(), 2);
    let found = errors(&format!("{ROUTE}---\n{ROUTE}"));
    let expected =
        r#"f:9: metadata.name: "r": there is a HTTPRoute of this name already, at f:3; rename one"#;
    assert_eq!(found, [expected]);
}

#[test]
fn the_endpoints_of_a_service_are_bounded() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    let slice = |i: usize, endpoints: usize| {
        let endpoints = vec!["{addresses: [10.0.0.1]}"; endpoints].join(", ");
        let ports =
            (1..=10).map(|port| format!("{{name: p{port}, port: {port}}}")).collect::<Vec<_>>().join(", ");
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{i}, labels: \
             {{kubernetes.io/service-name: s}}}}\nendpoints: [{endpoints}]\nports: [{ports}]\n"
        )
    };
    let most = format!("{service}{}", slice(1, 1_000));
    assert_eq!(parse(&most).routes.services[&name("s")].endpoints.len(), 10_000);
    let found = errors(&format!("{most}{}", slice(2, 1)));
    assert_eq!(
        found,
        ["f:13: endpoints: the Service default/s has more than 10000 endpoints; leave some out"]
    );
    let found = errors(&format!("{service}{}", slice(1, 1_001)));
    assert_eq!(found, ["f:8: endpoints: 1001 are more than 1000; leave some out"]);
}

proptest! {
    #[test]
    fn a_damaged_file_gives_lines_within_it(at in 0..EXAMPLE.len(), with in "[ -~\n]{0,3}") {
        let text = format!("{}{with}{}", &EXAMPLE[..at], &EXAMPLE[at + 1..]);
        match Config::parse(&text, "f") {
            Ok(config) => drop(crate::route::RouteTable::new(&config)),
            Err(errors) => {
                let lines = text.lines().count() as u64 + 1;
                prop_assert!(errors.iter().all(|error| error.line.is_some_and(|line| (1..=lines).contains(&line))));
                prop_assert!(errors.iter().all(|error| !error.to_string().contains('\n')));
            }
        }
    }
}
