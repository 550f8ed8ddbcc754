use std::time::Duration;

use super::super::Percent;
use super::*;

const HEAD: &str = "apiVersion: sidecar.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\nspec:\n  targetRefs: \
                    [{group: sidecar.dev, kind: Inbound, port: 8080}]\n";

/// The contract's, and the fields that it leaves out.
const FULL: &str = r#"  loadBalancer: {type: ConsistentHash, cookie: Session}
  connectionPool:
    {maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 0, idleTimeout: 5s, connectTimeout: 1s,
     maxRequestsPerConnection: 100}
  timeouts: {request: 2s, backendRequest: 800ms, idle: 0s}
  retry:
    attempts: 3
    codes: [503, 429, 503]
    on: [unavailable, 5xx, retriable-4xx, reset-before-request]
    perTryTimeout: 300ms
    backoff: {baseInterval: 10ms}
    bodyBytes: 1MiB
    hedgeOnPerTryTimeout: true
  retryBudget: {percent: 20, minRetriesPerSecond: 10}
  outlierDetection:
    {consecutive5xxErrors: 5, consecutiveGatewayErrors: 3, interval: 10s, baseEjectionTime: 10m,
     maxEjectionPercent: 50, minHealthPercent: 12.5, successRateStdevFactor: 1900}
  healthCheck:
    {http: {path: /healthz, host: app.local, expectedStatuses: [204, 200]}, interval: 5s, timeout: 1s,
     unhealthyThreshold: 3, healthyThreshold: 2}
  rateLimit: {requests: 100, per: 1s, burst: 50, key: {header: X-User}}
  fault:
    delay: {fixedDelay: 5s, percent: 0.1}
    abort: {grpcStatus: UNAVAILABLE, percent: 1, headers: [{name: x-chaos, value: "1"}, {name: x-any}]}
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, "f").unwrap_or_else(|errors| panic!("{errors}"))
}

fn spec(text: &str) -> TrafficSpec {
    parse(&format!("{HEAD}{text}")).traffic.remove(0).spec
}

/// The errors of a spec that begins on line 6, one a line.
fn errors(text: &str) -> Vec<String> {
    match Config::parse(&format!("{HEAD}{text}"), "f") {
        Ok(config) => panic!("accepted: {:?}", config.traffic),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

fn header(name: &str, value: Option<&str>) -> HeaderMatch {
    let name = name.parse().unwrap();
    HeaderMatch { name, value: value.map(|value| value.parse().unwrap()) }
}

#[test]
fn every_field_is_read() {
    let secs = Duration::from_secs;
    let spec = spec(FULL);
    let key = HashKey::Cookie("Session".to_owned());
    let balancer = LoadBalancer { algorithm: Algorithm::ConsistentHash(key), ..LoadBalancer::default() };
    assert_eq!(spec.load_balancer, Some(balancer));
    let pool = ConnectionPool {
        max_connections: 1,
        max_pending_requests: 2,
        max_requests: 3,
        max_retries: 0,
        idle_timeout: secs(5),
        connect_timeout: Some(secs(1)),
        max_requests_per_connection: Some(100),
    };
    assert_eq!(spec.connection_pool, Some(pool));
    let timeouts = Timeouts {
        request: Some(secs(2)),
        backend_request: Some(Duration::from_millis(800)),
        idle: Some(Duration::ZERO),
    };
    assert_eq!(spec.timeouts, Some(timeouts));
    let retry = Retry {
        attempts: 3,
        codes: vec![429, 503],
        on: vec![
            RetryOn::ResetBeforeRequest,
            RetryOn::ServerError,
            RetryOn::Retriable4xx,
            RetryOn::Unavailable,
        ],
        per_try_timeout: Some(Duration::from_millis(300)),
        base_interval: Duration::from_millis(10),
        max_interval: Duration::from_millis(100),
        body_bytes: 1 << 20,
        hedge_on_per_try_timeout: true,
    };
    assert_eq!(spec.retry, Some(retry));
    assert_eq!(spec.retry_budget, Some(RetryBudget::default()));
    let outlier = OutlierDetection {
        consecutive_gateway_errors: 3,
        base_ejection_time: secs(600),
        max_ejection_time: secs(600),
        max_ejection_percent: Percent::whole(50),
        min_health_percent: "12.5%".parse().unwrap(),
        success_rate: Some(SuccessRate::default()),
        ..OutlierDetection::default()
    };
    assert_eq!(spec.outlier_detection, Some(outlier));
    let probe = Probe::Http {
        path: "/healthz".parse().unwrap(),
        host: "app.local".parse().ok(),
        expected_statuses: vec![200, 204],
    };
    let check = HealthCheck { interval: secs(5), healthy_threshold: 2, ..HealthCheck::new(probe) };
    assert_eq!(spec.health_check, Some(check));
    let key = Some(RateLimitKey::Header("x-user".parse().unwrap()));
    assert_eq!(spec.rate_limit, Some(RateLimit { requests: 100, per: secs(1), burst: 50, key }));
    let fault = Fault {
        delay: Some(Delay { fixed_delay: secs(5), percent: "0.1%".parse().unwrap(), headers: Vec::new() }),
        abort: Some(Abort {
            status: AbortStatus::GrpcStatus(14),
            percent: Percent::ONE,
            headers: vec![header("x-chaos", Some("1")), header("x-any", None)],
        }),
    };
    assert_eq!(spec.fault, Some(fault));
}

#[test]
fn what_is_left_out_is_as_envoy_has_it() {
    let spec = spec(
        "  loadBalancer: {}\n  connectionPool: {}\n  timeouts: {}\n  retry: {}\n  retryBudget: {}\n  outlierDetection: {}\n  \
         healthCheck: {tcp: {}}\n  rateLimit: {requests: 7}\n  fault: {abort: {httpStatus: 503}}\n",
    );
    let expected = TrafficSpec {
        load_balancer: Some(LoadBalancer {
            algorithm: Algorithm::LeastRequest,
            slow_start: None,
            zone: None,
        }),
        connection_pool: Some(ConnectionPool::default()),
        timeouts: Some(Timeouts::default()),
        retry: Some(Retry::default()),
        retry_budget: Some(RetryBudget::default()),
        outlier_detection: Some(OutlierDetection::default()),
        health_check: Some(HealthCheck::new(Probe::Tcp)),
        rate_limit: Some(RateLimit { requests: 7, per: Duration::from_secs(1), burst: 7, key: None }),
        fault: Some(Fault {
            delay: None,
            abort: Some(Abort {
                status: AbortStatus::HttpStatus(503),
                percent: Percent::whole(100),
                headers: Vec::new(),
            }),
        }),
    };
    assert_eq!(spec, expected);
    let pool = ConnectionPool::default();
    let limits = (pool.max_connections, pool.max_pending_requests, pool.max_requests, pool.max_retries);
    assert_eq!((limits, pool.idle_timeout), ((1024, 1024, 1024, 3), Duration::from_secs(4)));
}

#[test]
fn every_load_balancer_is_read() {
    let read = |text: &str| spec(&format!("  loadBalancer: {{{text}}}\n")).load_balancer.unwrap();
    let hash = |key| Algorithm::ConsistentHash(key);
    let cases = [
        ("type: RoundRobin", Algorithm::RoundRobin),
        ("type: LeastRequest", Algorithm::LeastRequest),
        ("type: PeakEwma", Algorithm::PeakEwma),
        ("type: Random", Algorithm::Random),
        ("type: ConsistentHash, header: X-User", hash(HashKey::Header("x-user".parse().unwrap()))),
        ("type: ConsistentHash, source: address", hash(HashKey::Source)),
    ];
    for (text, algorithm) in cases {
        assert_eq!(read(text).algorithm, algorithm, "{text}");
    }
    let zoned = read("slowStart: 30s, zoneAware: true, zone: eu-1a");
    assert_eq!((zoned.slow_start, zoned.zone.as_deref()), (Some(Duration::from_secs(30)), Some("eu-1a")));
    assert_eq!(read("zone: a").zone.as_deref(), Some("a"));
    assert_eq!(read("zoneAware: false, zone: a").zone, None);
}

#[test]
fn each_error_names_the_field_and_the_remedy() {
    let cases = [
        ("loadBalancer: {type: Best}", "loadBalancer.type: \"Best\": write RoundRobin or LeastRequest or "),
        ("loadBalancer: {type: ConsistentHash}", "loadBalancer: type ConsistentHash hashes by one thing"),
        ("loadBalancer: {header: a}", "loadBalancer.header: \"a\": has no effect without type Cons"),
        (
            "loadBalancer: {type: ConsistentHash, source: address, slowStart: 1s}",
            "loadBalancer.slowStart: \"1s\": has no effect with type ConsistentHash; leave it out",
        ),
        ("loadBalancer: {zoneAware: true}", "loadBalancer.zoneAware: \"true\": needs the proxy's own zone"),
        ("connectionPool: {maxRetries: -1}", "connectionPool.maxRetries: \"-1\": write a whole number"),
        ("connectionPool: {idleTimeout: 0s}", "connectionPool.idleTimeout: \"0s\": must be longer than 0s"),
        (
            "timeouts: {request: 1s, backendRequest: 2s}",
            "timeouts.backendRequest: \"2s\": is longer than spec.timeouts.request",
        ),
        ("retry: {codes: [200]}", "retry.codes[0]: \"200\": write a whole number from 400 to 599"),
        ("retry: {on: [never]}", "retry.on[0]: \"never\": write connect-failure or refused-stream or "),
        ("retry: {hedgeOnPerTryTimeout: true}", "retry.hedgeOnPerTryTimeout: \"true\": needs a time-out"),
        (
            "retry: {backoff: {baseInterval: 1s, maxInterval: 1ms}}",
            "retry.backoff.maxInterval: \"1ms\": is shorter than baseInterval; write more",
        ),
        ("retryBudget: {percent: 101}", "retryBudget.percent: \"101\": write a share from 0 to 100"),
        (
            "outlierDetection: {maxEjectionTime: 1s}",
            "outlierDetection.maxEjectionTime: \"1s\": is shorter than baseEjectionTime",
        ),
        (
            "outlierDetection: {successRateMinimumHosts: 3}",
            "outlierDetection.successRateMinimumHosts: \"3\": has no effect without successRateStdevFactor",
        ),
        ("healthCheck: {}", "healthCheck: write exactly one of http, tcp and grpc"),
        ("healthCheck: {http: {path: x}}", "healthCheck.http.path: \"x\": write a path with a leading"),
        (
            "healthCheck: {http: {path: /, expectedStatuses: []}}",
            "healthCheck.http.expectedStatuses: is empty; write at least one",
        ),
        ("rateLimit: {requests: 0}", "rateLimit.requests: \"0\": write a whole number from 1 to"),
        ("rateLimit: {requests: 1, key: {}}", "rateLimit.key: write exactly one of header, source and"),
        ("rateLimit: {requests: 1, per: 25h}", "rateLimit.per: \"25h\": is longer than 24h; write less"),
        ("rateLimit: {per: 1s}", "rateLimit.requests: is required"),
        ("fault: {abort: {}}", "fault.abort: write exactly one of httpStatus and grpcStatus"),
        ("fault: {abort: {grpcStatus: 17}}", "fault.abort.grpcStatus: \"17\": write a gRPC status"),
        ("fault: {delay: {fixedDelay: 1s, percent: x}}", "fault.delay.percent: \"x\": write a share"),
        (
            "fault: {delay: {fixedDelay: 1s, headers: [{name: a b}]}}",
            "fault.delay.headers[0].name: \"a b\": write a header's name",
        ),
    ];
    for (text, expected) in cases {
        let found = errors(&format!("  {text}\n"));
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        let expected = format!("f:6: spec.{expected}");
        assert!(found[0].starts_with(&expected), "{}\n{expected}", found[0]);
    }
}

#[test]
fn a_section_is_said_once_of_a_target() {
    let policy = |name: &str, target: &str, section: &str| {
        format!(
            "---\napiVersion: sidecar.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\nspec:\n  targetRefs:\n  \
             - {{group: '', kind: Service, name: {target}}}\n  {section}\n"
        )
    };
    let (limit, retry) = ("rateLimit: {requests: 1}", "retry: {}");
    let apart = policy("a", "x", limit) + &policy("b", "x", retry) + &policy("c", "y", limit);
    let config = parse(&apart);
    let service = |name: &str| {
        TargetRef::Service(ObjectName { namespace: "default".to_owned(), name: name.to_owned() })
    };
    let both = config.traffic_of(&[service("x")]);
    assert!(both.rate_limit.is_some() && both.retry.is_some() && both.fault.is_none());
    assert_eq!(config.traffic_of(&[service("z"), service("y")]).retry, None);
    assert_eq!(config.traffic_of(&[service("y"), service("x")]).retry, Some(Retry::default()));

    let twice = policy("a", "x", limit) + &policy("b", "x", limit);
    let found = Config::parse(&twice, "f").unwrap_err().to_string();
    let why = "TrafficPolicy default/a says this of Service default/x already, at f:8; leave one out";
    assert_eq!(found, format!("f:16: spec.rateLimit: {why}"));

    let same = policy("a", "x", limit) + &policy("a", "y", limit);
    let found = Config::parse(&same, "f").unwrap_err().to_string();
    assert!(
        found.starts_with("f:12: metadata.name: \"a\": there is a TrafficPolicy of this name"),
        "{found}"
    );
}

#[test]
fn a_target_may_be_named_twice_by_one_policy() {
    let text = HEAD.replace("}]\n", "}, {group: sidecar.dev, kind: Inbound, port: 8080}]\n  retry: {}\n");
    assert_eq!(parse(&text).traffic.len(), 1);
}

#[test]
fn a_backend_that_is_named_exists() {
    let target = "targetRefs: [{group: sidecar.dev, kind: Backend, name: app}]\n";
    let head = HEAD.split("targetRefs").next().unwrap();
    let policy = format!("{head}{target}  retry: {{}}\n");
    let found = Config::parse(&policy, "f").unwrap_err().to_string();
    let why = r#"f:5: spec.targetRefs[0].name: "app": there is no Backend of this name; add one"#;
    assert_eq!(found, why);
    let backend = "---\napiVersion: sidecar.dev/v1alpha1\nkind: Backend\nmetadata: {name: app}\nspec: {endpoints: [{unix: /a}]}\n";
    assert_eq!(parse(&(policy.clone() + backend)).traffic.len(), 1);
    let proxy = "---\napiVersion: sidecar.dev/v1alpha1\nkind: ProxyConfig\nmetadata: {name: a}\n";
    let found = Config::parse(&(policy + proxy), "f").unwrap_err().to_string();
    assert_eq!(found, why, "whatever follows");
}

#[test]
fn the_dump_is_camel_case() {
    let dump = serde_json::json!(parse(&format!("{HEAD}{FULL}")));
    let policy = &dump["traffic"][0];
    assert_eq!(policy["name"]["namespace"], "default");
    assert_eq!(policy["retry"]["on"][1], "5xx");
    assert_eq!(policy["outlierDetection"]["consecutive5xxErrors"], 5);
    assert_eq!(policy["rateLimit"]["key"]["header"], "x-user");
    assert_eq!(policy["fault"]["delay"]["percent"], "0.1%");
    assert_eq!(policy["fault"]["abort"]["grpcStatus"], 14);
    assert_eq!(policy["healthCheck"]["probe"]["http"]["expectedStatuses"][0], 200);
    assert_eq!(policy["connectionPool"]["connectTimeout"], "1s");
}
