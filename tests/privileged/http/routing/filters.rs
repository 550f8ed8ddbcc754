//! What filters change, and what they answer.

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Mode, eventually, in_modes};

use super::super::Way;
use super::super::documents::{backend, direct_response, route, to};
use super::super::scene::{BACKENDS, Scene, get, request};

/// A rule for all paths that begin so, with these filters.
fn rule(prefix: &str, filters: Value) -> Value {
    let matches = json!([{"path": {"type": "PathPrefix", "value": prefix}}]);
    let mut rule = json!({"matches": matches, "filters": filters});
    let answers = ["requestRedirect", "extensionRef"].iter().any(|name| !rule["filters"][0][name].is_null());
    if !answers {
        rule["backendRefs"] = json!([to("app")]);
    }
    rule
}

fn edits(kind: &str, field: &str) -> Value {
    json!({"type": kind, field: {
        "set": [{"name": "x-set", "value": "new"}],
        "add": [{"name": "x-add", "value": "more"}],
        "remove": ["x-remove", "content-type"],
    }})
}

fn rewrite(to: Value) -> Value {
    json!([{"type": "URLRewrite", "urlRewrite": to}])
}

fn redirect(to: Value) -> Value {
    json!([{"type": "RequestRedirect", "requestRedirect": to}])
}

fn started(way: Way, mode: Mode, rules: Value) -> Scene {
    let [first, second, _] = BACKENDS;
    let hello = json!({"status": 203, "headers": {"content-type": "text/html", "x-fixed": "1"}, "body": "<h1>hello</h1>"});
    let documents = [
        backend("app", &[first]),
        backend("copy", &[second]),
        direct_response("hello", hello),
        route("HTTPRoute", "all", way.parent(), rules),
    ];
    Scene::start(way, mode, documents)
}

#[track_caller]
fn changes(way: Way, mode: Mode) {
    let full = json!({"path": {"type": "ReplaceFullPath", "replaceFullPath": "/whole"}});
    let prefix = json!({"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"}, "hostname": "other.example.com"});
    let mut of_backend = rule("/of-backend", json!([]));
    of_backend["backendRefs"][0]["filters"] =
        json!([edits("RequestHeaderModifier", "requestHeaderModifier")]);
    let scene = started(
        way,
        mode,
        json!([
            rule("/request", json!([edits("RequestHeaderModifier", "requestHeaderModifier")])),
            rule("/response", json!([edits("ResponseHeaderModifier", "responseHeaderModifier")])),
            rule("/full", rewrite(full)),
            rule("/prefix", rewrite(prefix)),
            of_backend,
        ]),
    );
    let fields = [("x-set", "old"), ("x-add", "one"), ("x-remove", "1"), ("x-keep", "1")];
    for path in ["/request", "/of-backend"] {
        let headers = scene.get_with(path, &fields).asked()["headers"].take();
        assert_eq!((&headers["x-set"], &headers["x-keep"]), (&"new".into(), &"1".into()), "{headers:#}");
        assert_eq!(
            (&headers["x-add"], &headers["x-remove"]),
            (&"one, more".into(), &Value::Null),
            "{headers:#}"
        );
    }
    let reply = scene.get_with("/response", &fields);
    assert_eq!((reply.field("x-set"), reply.field("x-add")), (Some("new"), Some("more")), "{:#}", reply.0);
    assert_eq!(reply.field("content-type"), None, "{:#}", reply.0);
    assert_eq!(reply.asked()["headers"]["x-set"], "old");

    for (asked, came) in [
        ("/full/path?query=1", "/whole?query=1"),
        ("/prefix/path?query=1", "/new/path?query=1"),
        ("/prefix", "/new"),
        ("/prefix/", "/new/"),
    ] {
        assert_eq!(scene.get(asked).asked()["target"], came, "{asked}");
        // The log has what the client asked for.
        assert_eq!(scene.logged(asked)["status"], 200);
    }
    let headers = scene.get("/prefix").asked()["headers"].take();
    assert_eq!(headers["host"], "other.example.com", "{headers:#}");
}
by_every_way!(changes: Ebpf, Iptables);

#[track_caller]
fn answers(way: Way, mode: Mode) {
    let prefix = json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"});
    let full = json!({"type": "ReplaceFullPath", "replaceFullPath": "/whole"});
    let fixed = json!([{
        "type": "ExtensionRef",
        "extensionRef": {"group": "sidecar.dev", "kind": "DirectResponse", "name": "hello"},
    }]);
    let cors = json!([{"type": "CORS", "cors": {
        "allowOrigins": ["https://app.example.com", "https://*.example.org"],
        "allowMethods": ["GET", "PUT"],
        "allowHeaders": ["x-one"],
        "exposeHeaders": ["x-port"],
        "allowCredentials": true,
        "maxAge": 60,
    }}]);
    let scene = started(
        way,
        mode,
        json!([
            rule("/hello", fixed),
            rule("/old", redirect(json!({"path": prefix, "statusCode": 301}))),
            rule(
                "/away",
                redirect(json!({"scheme": "https", "hostname": "example.com", "port": 8443, "path": full}))
            ),
            rule("/https", redirect(json!({"scheme": "https"}))),
            rule("/cors", cors),
        ]),
    );
    let hello = scene.get("/hello");
    assert_eq!((hello.status(), hello.body()), (203, "<h1>hello</h1>"), "{:#}", hello.0);
    assert_eq!((hello.field("content-type"), hello.field("x-fixed")), (Some("text/html"), Some("1")));
    hello.is_own(203, "direct-response");
    assert_eq!(scene.logged("/hello")["responseBytes"], 14);
    let head = scene.one(&request("HEAD", "/hello?head", &[]));
    assert_eq!(scene.logged("/hello?head")["responseBytes"], 0);
    assert_eq!(
        (head.status(), head.field("content-length"), head.body()),
        (203, Some("14"), ""),
        "{:#}",
        head.0
    );

    let port = way.dialled().1;
    let authority = if port == 80 { "web".to_owned() } else { format!("web:{port}") };
    for (path, status, location) in [
        ("/old/path?query=1", 301, format!("http://{authority}/new/path?query=1")),
        ("/away/path", 302, "https://example.com:8443/whole".to_owned()),
        ("/https/path", 302, "https://web/https/path".to_owned()),
    ] {
        let reply = scene.get(path);
        reply.is_own(status, "redirect");
        assert_eq!(reply.field("location"), Some(&*location));
    }

    let preflight = |origin: &str| {
        let fields = [("Origin", origin), ("Access-Control-Request-Method", "PUT")];
        let reply = scene.one(&request("OPTIONS", "/cors", &fields));
        reply.is_own(204, "cors-preflight");
        let field = |name: &str| reply.field(&format!("access-control-{name}")).map(str::to_owned);
        ["allow-origin", "allow-methods", "allow-headers", "allow-credentials", "max-age"].map(field)
    };
    let some = |words: [&str; 5]| words.map(|word| Some(word.to_owned()));
    for origin in ["https://app.example.com", "https://any.example.org"] {
        assert_eq!(preflight(origin), some([origin, "GET, PUT", "x-one", "true", "60"]));
    }
    assert_eq!(preflight("https://evil.example.net"), [(); 5].map(|()| None));
    let reply = scene.get_with("/cors", &[("Origin", "https://app.example.com")]);
    reply.is_of(BACKENDS[0], 200);
    assert_eq!(reply.field("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(reply.field("access-control-expose-headers"), Some("x-port"));
    let reply = scene.get_with("/cors", &[("Origin", "https://evil.example.net")]);
    assert_eq!((reply.status(), reply.field("access-control-allow-origin")), (200, None));
}
by_every_way!(answers: Ebpf, Iptables);

/// A copy goes to another backend, and its answer to nobody.
fn mirror(mode: Mode) {
    let [first, second, _] = BACKENDS;
    let copies = |percent: u32| json!([{"type": "RequestMirror", "requestMirror": {"backendRef": to("copy"), "percent": percent}}]);
    let scene = started(Way::Outbound, mode, json!([rule("/all", copies(100)), rule("/none", copies(0))]));
    scene.tell(second, "status=500");
    let texts: Vec<String> = (0..20).map(|number| get(&format!("/all/{number}"), &[("x-id", "7")])).collect();
    scene.all(&texts).iter().for_each(|reply| reply.is_of(first, 200));
    scene.get("/none").is_of(first, 200);
    let mirrored = eventually(DEADLINE, "all copies", || {
        let seen = scene.seen(second);
        (seen.len() >= texts.len()).then_some(seen)
    });
    let mut targets: Vec<&str> = mirrored.iter().map(|request| request["target"].as_str().unwrap()).collect();
    targets.sort_unstable();
    let mut wanted: Vec<String> = (0..20).map(|number| format!("/all/{number}")).collect();
    wanted.sort_unstable();
    assert_eq!(targets, wanted);
    assert!(mirrored.iter().all(|request| request["headers"]["x-id"] == "7"), "{mirrored:#?}");
}
in_modes!(mirror: Ebpf);
