use std::net::IpAddr;
use std::time::Duration;

use ::http::Method;

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
