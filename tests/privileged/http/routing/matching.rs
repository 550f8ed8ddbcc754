//! Which rule a request gets.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{Mode, in_modes};

use super::super::Way;
use super::super::documents::{backend, route, route_for, to};
use super::super::scene::{BACKENDS, Scene, request};

/// Method, path, fields of the header, and the rule for it.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>);

/// A rule whose answers say its name.
fn named(name: &str, matches: Value) -> Value {
    let set = json!({"set": [{"name": "x-rule", "value": name}]});
    let filter = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": set});
    json!({"name": name, "matches": matches, "filters": [filter], "backendRefs": [to("app")]})
}

fn rules() -> Value {
    let field = |name: &str, value: &str| json!({"name": name, "value": value});
    let path = |kind: &str, value: &str| json!([{"path": {"type": kind, "value": value}}]);
    // From the least to the most specific: their order in the file is the last that counts.
    json!([
        named("query", json!([{"queryParams": [field("q", "1")]}])),
        named("header", json!([{"headers": [field("x-a", "1")]}])),
        named("same", json!([{"headers": [field("x-a", "1")]}])),
        named("headers", json!([{"headers": [field("x-a", "1"), field("x-b", "2")]}])),
        named(
            "pattern",
            json!([{"headers": [{"type": "RegularExpression", "name": "x-v", "value": "v[0-9]"}]}])
        ),
        named("method", json!([{"method": "POST"}])),
        named("regex", path("RegularExpression", "/item/[0-9]+")),
        named("prefix", path("PathPrefix", "/prefix")),
        named("long", path("PathPrefix", "/prefix/long")),
        named("exact", path("Exact", "/prefix/long/exact")),
    ])
}

#[track_caller]
fn precedence(way: Way, mode: Mode) {
    let scene = Scene::start(
        way,
        mode,
        [backend("app", &BACKENDS), route("HTTPRoute", "all", way.parent(), rules())],
    );
    let (a, b) = (("x-a", "1"), ("x-b", "2"));
    let cases: [Case<'_>; 21] = [
        ("GET", "/", &[], None),
        ("GET", "/other", &[("x-a", "2")], None),
        ("GET", "/other?q=1", &[], Some("query")),
        ("GET", "/other?p=0&q=1", &[], Some("query")),
        ("GET", "/other?q=2", &[], None),
        ("GET", "/other", &[a], Some("header")),
        ("GET", "/other?q=1", &[a], Some("header")),
        ("GET", "/other", &[b], None),
        ("GET", "/other", &[a, b], Some("headers")),
        ("GET", "/other", &[("x-v", "v3")], Some("pattern")),
        ("GET", "/other", &[("x-v", "v34")], None),
        ("POST", "/other", &[a, b], Some("method")),
        ("GET", "/item/17", &[], Some("regex")),
        ("GET", "/item/17a", &[], None),
        ("GET", "/prefix", &[], Some("prefix")),
        ("GET", "/prefix/", &[a, b], Some("prefix")),
        ("POST", "/prefix/other", &[], Some("prefix")),
        ("GET", "/prefixed", &[], None),
        ("GET", "/prefix/long", &[], Some("long")),
        ("GET", "/prefix/long/exact", &[], Some("exact")),
        ("GET", "/prefix/long/exact/", &[], Some("long")),
    ];
    let texts: Vec<String> =
        cases.iter().map(|(method, path, fields, _)| request(method, path, fields)).collect();
    for ((method, path, fields, rule), reply) in cases.iter().zip(scene.all(&texts)) {
        match rule {
            Some(_) => assert_eq!(reply.field("x-rule"), *rule, "{method} {path} {fields:?}: {:#}", reply.0),
            None => reply.is_own(404, "no-route"),
        }
    }
    let line = scene.logged("/prefix/long/exact");
    assert_eq!((&line["route"], &line["backend"]), (&"default/all/exact".into(), &"app".into()), "{line}");
    let line = scene.logged("/prefixed");
    assert_eq!((&line["flags"], &line["reason"]), (&"NR".into(), &"no-route".into()), "{line}");
    let (direction, _) = way.labels();
    let labels = |route: &str, backend: &str, code: u16, flags: &str| {
        format!(
            "sidecar_requests_total{{direction=\"{direction}\",route=\"{route}\",backend=\"{backend}\",\
             method=\"GET\",code=\"{code}\",flags=\"{flags}\"}}"
        )
    };
    scene.counted(&labels("default/all/exact", "app", 200, ""), 1);
    scene.counted(&labels("none", "none", 404, "NR"), 7);
}
by_every_way!(precedence: Ebpf, Iptables);

/// A host name decides before the path does.
fn hostnames(way: Way, mode: Mode) {
    let all = |name: &str, path: &str| {
        route(
            "HTTPRoute",
            name,
            way.parent(),
            json!([named(name, json!([{"path": {"type": "PathPrefix", "value": path}}]))]),
        )
    };
    let documents = [
        backend("app", &BACKENDS),
        all("any", "/long/path"),
        route_for(&["*.example.com"], all("wild", "/long")),
        route_for(&["a.example.com", "c.example.org"], all("a", "/")),
    ];
    let scene = Scene::start(way, mode, documents);
    let cases = [
        ("a.example.com", "/long/path", Some("a")),
        ("A.Example.Com:8080", "/long/path", Some("a")),
        ("b.example.com", "/long/path", Some("wild")),
        ("x.b.example.com", "/long/path", Some("wild")),
        ("example.com", "/long/path", Some("any")),
        ("c.example.org", "/", Some("a")),
        ("b.example.com", "/", None),
        ("other", "/long", None),
    ];
    let text = |(host, path, _): &(&str, &str, Option<&str>)| request("GET", path, &[("Host", host)]);
    let texts: Vec<String> = cases.iter().map(text).collect();
    for ((host, path, route), reply) in cases.iter().zip(scene.all(&texts)) {
        match route {
            Some(_) => assert_eq!(reply.field("x-rule"), *route, "{host} {path}: {:#}", reply.0),
            None => reply.is_own(404, "no-route"),
        }
    }
}

fn hostnames_inbound(mode: Mode) {
    hostnames(Way::Inbound, mode);
}
in_modes!(hostnames_inbound: Ebpf);

fn hostnames_listener(mode: Mode) {
    hostnames(Way::Listener, mode);
}
in_modes!(hostnames_listener: Ebpf);
