//! `rateLimit`

use crate::http::by_every_way;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, Finished, Mode, eventually, in_modes};

use super::super::Way;
use super::super::documents::{access, backend, route, to, traffic};
use super::super::scene::{BACKENDS, Scene, config, get};
use super::{ISSUER, Tokens, claims, started};

/// Three at once, and then one each hour.
fn three(key: Value) -> Value {
    json!({"rateLimit": {"requests": 1, "per": "1h", "burst": 3, "key": key}})
}

fn statuses(scene: &Scene, texts: &[String]) -> Vec<u64> {
    scene.all(texts).iter().map(super::super::scene::Reply::status).collect()
}

#[track_caller]
fn one_bucket(way: Way, mode: Mode) {
    let mut policy = three(Value::Null);
    policy["rateLimit"].as_object_mut().unwrap().remove("key");
    let scene = started(way, mode, [traffic("limit", way.target(), policy)]);
    assert_eq!(statuses(&scene, &vec![get("/", &[]); 3]), [200; 3]);
    let reply = scene.get("/too-much");
    reply.is_own(429, "rate-limited");
    let told = ["limit", "remaining"].map(|name| reply.field(&format!("x-ratelimit-{name}")));
    assert_eq!(told, [Some("3"), Some("0")], "{:#}", reply.0);
    let seconds = |name: &str| reply.field(name).unwrap().parse::<u32>().unwrap();
    assert!((3500..=3600).contains(&seconds("retry-after")), "{:#}", reply.0);
    assert!((10_700..=10_800).contains(&seconds("x-ratelimit-reset")), "{:#}", reply.0);
    assert_eq!(scene.logged("/too-much")["flags"], "RL");
    assert_eq!(scene.metric("sidecar_rate_limited_total"), 1);
    let flags = "method=\"GET\",code=\"429\",flags=\"RL\"";
    assert_eq!(scene.metric_sum("sidecar_requests_total", |labels| labels.contains(flags)), 1);
    assert_eq!(scene.seen(BACKENDS[0]).len(), 3);
}
by_every_way!(one_bucket: Ebpf, Iptables);

/// What is said of a place is one limit for all rules there, and a reload of something else does not fill it again.
#[track_caller]
fn all_rules_together(way: Way, mode: Mode) {
    let documents = |generation: u32| {
        let rule = |path: &str| {
            json!({
                "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                "filters": [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{"name": "x-generation", "value": generation.to_string()}],
                }}],
                "backendRefs": [to("app")],
            })
        };
        let rules = json!([rule("/one"), rule("/two")]);
        let mut policy = three(Value::Null);
        policy["rateLimit"].as_object_mut().unwrap().remove("key");
        [
            backend("app", &BACKENDS[..1]),
            route("HTTPRoute", "all", way.parent(), rules),
            traffic("limit", way.target(), policy),
        ]
    };
    let scene = Scene::start(way, mode, documents(0));
    let texts = ["/one", "/two", "/one", "/two", "/one"].map(|path| get(path, &[]));
    assert_eq!(statuses(&scene, &texts), [200, 200, 200, 429, 429]);
    let text = config(way, mode, &scene.logs, documents(1)).text();
    std::fs::write(scene.sidecar.config_file(), text).unwrap();
    scene.counted("sidecar_config_generation", 2);
    assert_eq!(statuses(&scene, &texts), [429; 5]);
}
by_every_way!(all_rules_together: Ebpf, Iptables);

fn comes_again(mode: Mode) {
    let way = Way::Outbound;
    let policy = json!({"rateLimit": {"requests": 1, "per": "1s", "burst": 1}});
    let scene = started(way, mode, [traffic("limit", way.target(), policy)]);
    // However slow this is, no more than one a second is let in.
    let began = std::time::Instant::now();
    let good = statuses(&scene, &vec![get("/", &[]); 20]).iter().filter(|status| **status == 200).count();
    assert!(good >= 1 && good as u64 <= began.elapsed().as_secs() + 1, "{good} in {:?}", began.elapsed());
    eventually(DEADLINE, "another one to be let in", || (scene.get("/").status() == 200).then_some(()));
}
in_modes!(comes_again: Ebpf);

fn by_header(mode: Mode) {
    let way = Way::Outbound;
    let scene = started(way, mode, [traffic("limit", way.target(), three(json!({"header": "x-user"})))]);
    for user in ["ann", "bob"] {
        assert_eq!(statuses(&scene, &vec![get("/", &[("x-user", user)]); 4]), [200, 200, 200, 429], "{user}");
    }
    // Who has none shares one bucket.
    assert_eq!(statuses(&scene, &vec![get("/", &[]); 4]), [200, 200, 200, 429]);
}
in_modes!(by_header: Ebpf);

fn by_source(mode: Mode) {
    let way = Way::Inbound;
    let scene = started(way, mode, [traffic("limit", way.target(), three(json!({"source": "address"})))]);
    scene.net.peer.ip(&["address", "add", "10.7.0.3/24", "dev", "eth0"]);
    for address in ["10.7.0.2", "10.7.0.3"] {
        let mut curl = scene.from().command("curl");
        let (host, port) = way.dialled();
        curl.args(["-sS", "--interface", address, "-o", "/dev/null", "-w", "%{http_code} "]);
        let said = Finished::of(curl.arg(format!("http://{host}:{port}/[1-4]"))).success();
        assert!(said.ends_with("200 200 200 429 "), "{address}: {said}");
    }
}
in_modes!(by_source: Ebpf);

fn by_claim(mode: Mode) {
    let way = Way::Outbound;
    let tokens = Tokens::new(
        json!({"ed": "EdDSA"}),
        json!({
            "ann": ["ed", claims(json!({}))],
            "ann's other": ["ed", claims(json!({"jti": "2"}))],
            "bob": ["ed", claims(json!({"sub": "bob"}))],
        }),
    );
    let who = json!({"jwt": [{"issuer": ISSUER, "jwks": {"inline": tokens.keys(&["ed"])}}]});
    let limit = three(json!({"claim": "sub"}));
    let scene = started(way, mode, [traffic("limit", way.target(), limit), access("who", way.target(), who)]);
    let of = |name: &str| get("/", &[("authorization", &tokens.bearer(name))]);
    let texts = [of("ann"), of("ann's other"), of("ann"), of("ann's other"), of("bob")];
    assert_eq!(statuses(&scene, &texts), [200, 200, 200, 429, 200]);
    // What is refused before takes nothing from anybody.
    assert_eq!(statuses(&scene, &[get("/", &[]), of("bob")]), [401, 200]);
}
in_modes!(by_claim: Ebpf);
