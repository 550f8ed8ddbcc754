use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::config::Config;
use crate::config::route::{BackendTarget, Hostname};

/// A request line, such as `POST http://host/path?query`, with header fields.
struct Request {
    method: Method,
    host: Option<&'static str>,
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
}

fn request(line: &'static str, fields: &[(&'static str, &'static str)]) -> Request {
    let (method, rest) = line.split_once(' ').unwrap();
    let (host, target) = match rest.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap()),
        None => ("", rest),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    let host = (!host.is_empty()).then_some(host);
    Request { method: method.parse().unwrap(), host, path, query, headers }
}

fn find<'a>(set: &'a RouteSet, request: &Request) -> Option<&'a str> {
    let Request { method, host, path, query, headers } = request;
    let parts = RequestParts { method, host: *host, path, query: *query, headers };
    set.find(&parts).map(|found| &**found.route)
}

fn config(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"))
}

fn table(text: &str) -> RouteTable {
    RouteTable::new(&config(text))
}

/// A route at the inbound port 80 with these further lines of its specification.
fn route(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{group: sidecar.dev, kind: Inbound, port: 80}}]\n{spec}\n"
    )
}

/// The labels of routes that requests get at the inbound port 80.
fn check(text: &str, cases: &[(Request, Option<&str>)]) {
    let table = table(text);
    let set = table.of_inbound(80).unwrap();
    for (request, expected) in cases {
        let Request { method, host, path, query, headers } = request;
        let what = format!("{method} {host:?} {path} {query:?} {headers:?}");
        assert_eq!(find(set, request), *expected, "{what}");
    }
}

#[test]
fn paths_match_by_their_sort() {
    let text = route(
        "HTTPRoute",
        "r",
        "  rules:
  - {name: exact, matches: [{path: {type: Exact, value: /one}}]}
  - {name: prefix, matches: [{path: {type: PathPrefix, value: /two/}}]}
  - {name: regex, matches: [{path: {type: RegularExpression, value: '/v[0-9]+/.*'}}]}",
    );
    check(
        &text,
        &[
            (request("GET /one", &[]), Some("default/r/exact")),
            (request("GET /one?a=b", &[]), Some("default/r/exact")),
            (request("GET /one/", &[]), None),
            (request("GET /One", &[]), None),
            (request("GET /two", &[]), Some("default/r/prefix")),
            (request("GET /two/", &[]), Some("default/r/prefix")),
            (request("GET /two/three", &[]), Some("default/r/prefix")),
            (request("GET /twothree", &[]), None),
            (request("GET /v12/a", &[]), Some("default/r/regex")),
            (request("GET /a/v12/a", &[]), None),
            (request("GET /", &[]), None),
        ],
    );
}

/// The conformance tests HTTPRouteMatching, HTTPRouteHeaderMatching, HTTPRouteMethodMatching and
/// HTTPRouteQueryParamMatching, in short.
#[test]
fn all_of_a_match_must_fit_and_any_of_a_rule() {
    let text = route(
        "HTTPRoute",
        "r",
        "  rules:
  - {name: v1, matches: [{path: {value: /}}, {headers: [{name: Version, value: one}]}]}
  - {name: v2, matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]}
  - {name: both, matches: [{headers: [{name: version, value: two}, {name: color, value: orange}]}]}
  - {name: color, matches: [{headers: [{name: color, type: RegularExpression, value: 'blue|green'}]}]}
  - {name: post, matches: [{path: {value: /m}, method: POST}]}
  - {name: query, matches: [{path: {value: /q}, queryParams: [{name: animal, value: 'a whale'}]}]}",
    );
    check(
        &text,
        &[
            (request("GET /", &[]), Some("default/r/v1")),
            (request("GET /example", &[]), Some("default/r/v1")),
            (request("GET /", &[("version", "one")]), Some("default/r/v1")),
            (request("GET /v2", &[]), Some("default/r/v2")),
            (request("GET /v2example", &[]), Some("default/r/v1")),
            (request("GET /foo/v2/example", &[]), Some("default/r/v1")),
            (request("GET /", &[("version", "two")]), Some("default/r/v2")),
            (request("GET /", &[("version", "two"), ("color", "orange")]), Some("default/r/both")),
            (request("GET /", &[("color", "green")]), Some("default/r/color")),
            (request("GET /", &[("color", "greenish")]), Some("default/r/v1")),
            (request("GET /", &[("color", "blue"), ("color", "green")]), Some("default/r/v1")),
            (request("POST /m", &[]), Some("default/r/post")),
            (request("GET /m", &[]), Some("default/r/v1")),
            (request("GET /q?a=1&animal=a%20whale", &[]), Some("default/r/query")),
            (request("GET /q?animal=a+whale&animal=dog", &[]), Some("default/r/query")),
            (request("GET /q?animal=dog&animal=a+whale", &[]), Some("default/r/v1")),
            (request("GET /q?Animal=a+whale", &[]), Some("default/r/v1")),
        ],
    );
}

#[test]
fn several_fields_of_a_name_are_one_list() {
    let rule = "  rules: [{name: both, matches: [{headers: [{name: x-a, value: '1, 2'}]}]}]";
    let text = route("HTTPRoute", "r", rule);
    check(
        &text,
        &[
            (request("GET /", &[("x-a", "1"), ("x-a", "2")]), Some("default/r/both")),
            (request("GET /", &[("x-a", "1, 2")]), Some("default/r/both")),
            (request("GET /", &[("x-a", "1")]), None),
        ],
    );
}

/// The conformance test HTTPRoutePathMatchOrder, and what comes after the path.
#[test]
fn the_most_specific_match_goes_first() {
    let text = route(
        "HTTPRoute",
        "r",
        "  rules:
  - {name: regex, matches: [{path: {type: RegularExpression, value: '/match/.*'}}]}
  - {name: long-regex, matches: [{path: {type: RegularExpression, value: '/match/.*/x'}}]}
  - {name: prefix, matches: [{path: {value: /match/prefix}}]}
  - {name: long-prefix, matches: [{path: {value: /match/prefix/one}}]}
  - {name: exact, matches: [{path: {type: Exact, value: /match/prefix/one/any}}]}
  - {name: query, matches: [{path: {value: /a}, queryParams: [{name: a, value: '1'}, {name: b, value: '1'}]}]}
  - {name: header, matches: [{path: {value: /a}, headers: [{name: a, value: '1'}]}]}
  - {name: headers, matches: [{path: {value: /a}, headers: [{name: a, value: '1'}, {name: b, value: '1'}]}]}
  - {name: method, matches: [{path: {value: /a}, method: GET}]}
  - {name: first, matches: [{path: {value: /b}}]}
  - {name: second, matches: [{path: {value: /b/}}]}",
    );
    let (a, b) = (("a", "1"), ("b", "1"));
    check(
        &text,
        &[
            (request("GET /match/prefix/one/any", &[]), Some("default/r/exact")),
            (request("GET /match/prefix/one/x", &[]), Some("default/r/long-prefix")),
            (request("GET /match/prefix/x", &[]), Some("default/r/prefix")),
            (request("GET /match/y/x", &[]), Some("default/r/long-regex")),
            (request("GET /match/y", &[]), Some("default/r/regex")),
            (request("GET /a?a=1&b=1", &[a, b]), Some("default/r/method")),
            (request("PUT /a?a=1&b=1", &[a, b]), Some("default/r/headers")),
            (request("PUT /a?a=1&b=1", &[a]), Some("default/r/header")),
            (request("PUT /a?a=1&b=1", &[]), Some("default/r/query")),
            (request("PUT /a", &[]), None),
            (request("GET /b", &[]), Some("default/r/first")),
        ],
    );
}

#[test]
fn host_names_go_before_paths_and_names_break_ties() {
    let text = route(
        "HTTPRoute",
        "c",
        "  hostnames: [a.example.com]\n  rules: [{matches: [{path: {value: /x}}]}]",
    ) + &route(
        "HTTPRoute",
        "b",
        "  hostnames: ['*.example.com']\n  rules: [{matches: [{path: {type: Exact, value: /x/y}}, {path: {value: /z}}]}]",
    ) + &route("HTTPRoute", "a", "  hostnames: ['*.com']")
        + &route("HTTPRoute", "z", "  rules: [{matches: [{path: {type: Exact, value: /x/y}}]}]")
        + &route("HTTPRoute", "y", "  rules: [{matches: [{path: {type: Exact, value: /x/y}}]}]");
    check(
        &text,
        &[
            (request("GET http://a.example.com/x/y", &[]), Some("default/c/0")),
            (request("GET http://A.Example.com:8080/x/y", &[]), Some("default/c/0")),
            (request("GET http://b.example.com/x/y", &[]), Some("default/b/0")),
            (request("GET http://a.b.example.com/x/y", &[]), Some("default/b/0")),
            (request("GET http://a.example.com/z", &[]), Some("default/b/0")),
            (request("GET http://example.com/x/y", &[]), Some("default/a/0")),
            (request("GET http://example.org/x/y", &[]), Some("default/y/0")),
            (request("GET /x/y", &[]), Some("default/y/0")),
            (request("GET http://example.org/", &[]), None),
        ],
    );
}

#[test]
fn calls_match_by_service_and_method() {
    let text = route(
        "GRPCRoute",
        "r",
        "  rules:
  - {name: all, matches: [{headers: [{name: x-a, value: '1'}]}]}
  - {name: method, matches: [{method: {method: Say.Hi}}]}
  - {name: regex, matches: [{method: {type: RegularExpression, service: 'b\\..*', method: 'Get.*|List'}}]}
  - {name: service, matches: [{method: {service: a.Greeter}}]}
  - {name: both, matches: [{method: {service: a.Greeter, method: Hello}}]}",
    );
    check(
        &text,
        &[
            (request("POST /a.Greeter/Hello", &[]), Some("default/r/both")),
            (request("POST /a.Greeter/Other", &[]), Some("default/r/service")),
            (request("POST /a.Greeters/Other", &[]), None),
            (request("POST /c.D/Say.Hi", &[]), Some("default/r/method")),
            (request("POST /c.D/SayxHi", &[]), None),
            (request("POST /b.C/GetAll", &[]), Some("default/r/regex")),
            (request("POST /b.C/List", &[]), Some("default/r/regex")),
            (request("POST /b.C/Lists", &[]), None),
            (request("GET /a.Greeter/Hello", &[]), None),
            (request("POST /x.Y/Z", &[("x-a", "1")]), Some("default/r/all")),
        ],
    );
}

const MESH: &str = "apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, 'fd00::10'], ports: [{name: http, port: 80}, {name: alt, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80, targetPort: web}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 80}]
  hostnames: [ignored.example.com]
  rules: [{matches: [{path: {value: /v2}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: external}
spec: {parentRefs: [{group: '', kind: Service, name: elsewhere, namespace: shop}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: bytes}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 81}]
  rules: [{backendRefs: [{name: plain, namespace: shop, port: 80, weight: 3}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: secure}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  hostnames: ['*.example.com', a.example.com]
  rules: [{backendRefs: [{name: nowhere, port: 80}]}]
";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn outbound_routes_are_found_by_host_or_cluster_ip() {
    let table = table(MESH);
    let label = |host: Option<&str>, destination, line| {
        Some(find(table.of_outbound(host, at(destination))?, &request(line, &[])).unwrap_or("404").to_owned())
    };
    let canary = Some("default/canary/0".to_owned());
    for host in [
        "reviews",
        "reviews.default",
        "Reviews.default.svc",
        "reviews.default.svc.cluster.local",
        "reviews.default.svc.cluster.local.:80",
    ] {
        assert_eq!(label(Some(host), "192.0.2.1:80", "GET /v2"), canary, "{host}");
    }
    assert_eq!(label(None, "10.96.0.10:80", "GET /v2"), canary);
    assert_eq!(label(Some("other.example.com"), "10.96.0.10:80", "GET /v2"), canary);
    assert_eq!(label(None, "[fd00::10]:80", "GET /v2"), canary);
    assert_eq!(label(None, "[::ffff:10.96.0.10]:80", "GET /v2"), canary);
    // A Service with a route has no other way; another port of it has a route of connections alone.
    assert_eq!(label(Some("reviews"), "192.0.2.1:80", "GET /v1"), Some("404".into()));
    assert_eq!(label(Some("reviews"), "192.0.2.1:81", "GET /v1"), Some("default/bytes/0".into()));
    assert_eq!(label(Some("reviews"), "192.0.2.1:82", "GET /v1"), None);
    assert_eq!(label(None, "10.96.0.10:82", "GET /v1"), None);
    // Short names of another namespace are known as long as they are the only ones.
    assert_eq!(label(Some("plain"), "192.0.2.1:80", "GET /"), Some("shop/plain/0".into()));
    // A Service that no document is about.
    assert_eq!(label(Some("elsewhere.shop"), "192.0.2.1:1234", "GET /"), Some("default/external/0".into()));
    let long = "a".repeat(300);
    for host in ["reviews.shop", "example.com", "", ":80", "[::1]:80", &long] {
        assert_eq!(label(Some(host), "192.0.2.1:80", "GET /"), None, "{host}");
    }
}

#[test]
fn a_service_without_a_route_gets_its_requests() {
    let table = table(MESH);
    let set = table.of_outbound(None, at("10.96.0.11:80")).unwrap();
    let headers = HeaderMap::new();
    let parts = RequestParts { method: &Method::GET, host: None, path: "/x", query: None, headers: &headers };
    let found = set.find(&parts).unwrap();
    let [backend] = found.rule.backends.as_slice() else { panic!("{:?}", found.rule) };
    let BackendTarget::Service { name, port } = &backend.target else { panic!("{backend:?}") };
    assert_eq!((name.to_string().as_str(), *port), ("shop/plain", 80));
}

#[test]
fn connections_are_routed_by_address_and_server_name() {
    let table = table(MESH);
    let tcp = |address| table.of_outbound_tcp(at(address));
    let routed = tcp("10.96.0.10:81").unwrap();
    assert_eq!((&*routed.route, routed.backends[0].weight), ("default/bytes", 3));
    assert_eq!(tcp("10.96.0.11:80").map(|rules| &*rules.route), Some("shop/plain"));
    assert_eq!(tcp("192.0.2.1:80"), None);
    let tls = table.of_outbound_tls(None, at("10.96.0.10:443")).unwrap();
    for (name, found) in [("a.example.com", true), ("b.example.com", true), ("example.com", false)] {
        assert_eq!(tls.find(Some(name)).is_some(), found, "{name}");
    }
    assert!(tls.find(None).is_none());
    let target = &tls.find(Some("a.example.com")).unwrap().backends[0].target;
    assert!(matches!(target, BackendTarget::Invalid(why) if why.contains("no Service default/nowhere")));
    assert!(table.of_outbound_tls(Some("reviews.default"), at("192.0.2.1:443")).is_some());
    assert!(table.of_outbound_tls(Some("example.com"), at("192.0.2.1:443")).is_none());
}

#[test]
fn places_without_routes_have_none() {
    let table = table(MESH);
    assert!(table.of_inbound(80).is_none() && table.of_inbound_tcp(80).is_none());
    assert!(table.of_listener("a").is_none() && table.of_listener_tls("a").is_none());
    assert!(RouteTable::default().of_outbound(Some("reviews"), at("10.96.0.10:80")).is_none());
}

#[test]
fn an_exact_name_is_more_than_any_wildcard() {
    let exact = Hostname::Exact("a.b".into());
    let wildcard = Hostname::Wildcard(".example.com".into());
    assert!(exact.specificity() > wildcard.specificity());
    assert_eq!(without_port("[::1]:80"), "[::1]");
    assert_eq!(without_port("a:b"), "a:b");
}
