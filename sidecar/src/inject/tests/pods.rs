use proptest::prelude::*;

use super::*;

fn refusal(annotations: &str, spec: &str) -> String {
    inject(&pod(annotations, spec), &settings()).unwrap_err().to_string()
}

#[test]
fn init_mode_arms_by_the_last_init_container() {
    let spec =
        format!("{APP}, initContainers: [{{name: migrate}}], volumes: [{{name: data, emptyDir: {{}}}}]");
    let pod = injected(&pod("", &spec), &settings());
    assert_eq!(names(&pod, "containers"), ["app", PROXY]);
    assert_eq!(names(&pod, "initContainers"), ["migrate", INIT]);
    assert_eq!(names(&pod, "volumes"), ["data", "sidecar-run", "sidecar-cgroup", "sidecar-bpf"]);
    let proxy = container(&pod, PROXY);
    assert_eq!(proxy["args"], json!(["proxy"]));
    assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
    assert_eq!(proxy["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(proxy["readinessProbe"]["httpGet"], json!({"path": "/healthz/ready", "port": 15021}));
    assert_eq!(proxy.get("imagePullPolicy"), None);
    assert_eq!(container(&pod, INIT)["securityContext"]["privileged"], true);
    assert_eq!(pod["spec"].get("shareProcessNamespace"), None);
    let status: Value =
        serde_json::from_str(pod["metadata"]["annotations"]["sidecar.dev/status"].as_str().unwrap()).unwrap();
    assert_eq!(status["mode"], "init");
    assert_eq!(status["containers"], json!([PROXY]));
    assert_eq!(status["initContainers"], json!([INIT]));
}

/// What the "restricted" level of Pod Security forbids is not there.
#[test]
fn agent_mode_adds_one_container_without_privilege() {
    let pod = injected(&pod("sidecar.dev/mode: agent", APP), &settings());
    assert_eq!(pod["spec"].get("initContainers"), None);
    assert_eq!(names(&pod, "volumes"), ["sidecar-run"]);
    assert!(!pod.to_string().contains("hostPath") && !pod.to_string().contains("\"privileged\":true"));
    let context = &container(&pod, PROXY)["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
}

#[test]
fn native_sidecars_come_first() {
    let native = Settings { native: true, ..settings() };
    let spec = format!("{APP}, initContainers: [{{name: migrate}}], restartPolicy: Never");
    let pod = injected(&pod("", &spec), &native);
    assert_eq!(names(&pod, "initContainers"), [INIT, PROXY, "migrate"]);
    assert_eq!(names(&pod, "containers"), ["app"]);
    assert_eq!(container(&pod, PROXY)["restartPolicy"], "Always");
    assert_eq!(container(&pod, PROXY)["args"], json!(["proxy"]));
    assert_eq!(pod["spec"].get("shareProcessNamespace"), None);
}

#[test]
fn a_job_is_to_end() {
    for policy in ["Never", "OnFailure"] {
        let pod = injected(&pod("", &format!("{APP}, restartPolicy: {policy}")), &settings());
        assert_eq!(pod["spec"]["shareProcessNamespace"], true);
        assert_eq!(container(&pod, PROXY)["args"], json!(["proxy", "--until-alone"]));
        assert_eq!(container(&pod, INIT)["args"], json!(["init"]));
    }
    let why = refusal("", &format!("{APP}, restartPolicy: Never, hostPID: true"));
    assert!(why.contains("never complete"), "{why}");
    assert!(
        refusal("", &format!("{APP}, restartPolicy: Never, shareProcessNamespace: false"))
            .contains("leave that out")
    );
}

#[test]
fn annotations_reach_both_containers() {
    let pod = injected(
        &pod(
            "sidecar.dev/config: app-config, sidecar.dev/log-level: info, sidecar.dev/bypass: full, sidecar.dev/exclude-inbound-ports: '9090,22', \
             sidecar.dev/cpu: 50m, sidecar.dev/memory-limit: 1Gi, sidecar.dev/cpu-limit: '2'",
            APP,
        ),
        &settings(),
    );
    for (name, command) in [(PROXY, "proxy"), (INIT, "init")] {
        let one = container(&pod, name);
        let of_pod = ["--log=info", "--bypass=full", "--exclude-inbound-ports=22,9090"];
        assert_eq!(one["args"], json!([&[command, "--config", "/etc/sidecar"], &of_pod[..]].concat()));
        let mounts = one["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/sidecar" && mount["readOnly"] == true));
    }
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.contains(&json!({"name": "sidecar-config", "configMap": {"name": "app-config"}})));
    let resources = &container(&pod, PROXY)["resources"];
    assert_eq!(
        *resources,
        json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
    );
}

#[test]
fn who_opts_out_is_left_alone() {
    assert_eq!(inject(&pod("sidecar.dev/inject: 'false'", APP), &settings()), Ok(Outcome::OptedOut));
    let mut labelled = pod("", APP);
    labelled["metadata"]["labels"] = json!({"sidecar.dev/inject": "false"});
    assert_eq!(inject(&labelled, &settings()), Ok(Outcome::OptedOut));
    // Also with the proxy's user: nothing is asked of it.
    let exempt = pod("sidecar.dev/inject: 'false'", &format!("{APP}, securityContext: {{runAsUser: 1337}}"));
    assert_eq!(inject(&exempt, &settings()), Ok(Outcome::OptedOut));
}

#[test]
fn what_cannot_have_a_sidecar_is_left_with_a_reason() {
    let left = |annotations: &str, spec: &str| match inject(&pod(annotations, spec), &settings()) {
        Ok(Outcome::Left(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(left("", &format!("{APP}, hostNetwork: true")).contains("hostNetwork"));
    assert!(left("kubernetes.io/config.mirror: x", APP).contains("static Pod"));
    assert!(left("", &format!("{APP}, os: {{name: windows}}")).contains("Windows"));
    assert!(left("", &format!("{APP}, nodeSelector: {{kubernetes.io/os: windows}}")).contains("Windows"));
    assert!(left("", "containers: [{name: app}, {name: sidecar-proxy}]").contains("of its own"));
}

#[test]
fn nobody_else_runs_as_the_proxys_user() {
    for (spec, who) in [
        (format!("{APP}, securityContext: {{runAsUser: 1337}}"), "the Pod"),
        ("containers: [{name: app, securityContext: {runAsUser: 1337}}]".to_owned(), "container app"),
        (
            format!("{APP}, initContainers: [{{name: first, securityContext: {{runAsUser: 1337}}}}]"),
            "container first",
        ),
        (
            format!("{APP}, initContainers: [{{name: first, securityContext: {{runAsUser: 1337.0}}}}]"),
            "container first",
        ),
    ] {
        let why = refusal("", &spec);
        assert!(
            why.starts_with(&format!("{who} runs as user 1337")) && why.contains("give it another"),
            "{why}"
        );
        assert_eq!(why.lines().count(), 1);
    }
    injected(&pod("", &format!("{APP}, securityContext: {{runAsUser: 1338}}")), &settings());
    // One that was injected before is not taken for an intruder's, another beside it is.
    let mut twice = injected(&pod("", APP), &settings());
    twice["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1337});
    assert!(inject(&twice, &settings()).is_err());
}

#[test]
fn names_that_are_taken_are_refused() {
    assert!(refusal("", &format!("{APP}, volumes: [{{name: sidecar-bpf}}]")).contains("volume sidecar-bpf"));
    assert!(
        refusal("", &format!("{APP}, initContainers: [{{name: sidecar-init}}]"))
            .contains("container sidecar-init")
    );
    let fine = pod("sidecar.dev/mode: agent", &format!("{APP}, volumes: [{{name: sidecar-bpf}}]"));
    injected(&fine, &settings());
    assert!(refusal("", &format!("{APP}, hostUsers: false")).contains("sidecar.dev/mode: agent"));
}

#[test]
fn mistakes_are_named() {
    let mistake = |annotations: &str, spec: &str| {
        let refusal = inject(&pod(annotations, spec), &settings()).unwrap_err();
        assert!(refusal.is_mistake(), "{refusal}");
        refusal.to_string()
    };
    assert!(mistake("sidecar.dev/bypass: on", APP).contains("must be a text; put it in quotes"));
    assert!(
        mistake("sidecar.dev/bypass: fast", APP).starts_with("sidecar.dev/bypass: \"fast\": write off or")
    );
    assert!(mistake("sidecar.dev/memory: lots", APP).contains("32Mi"));
    assert!(mistake("sidecar.dev/inject: maybe", APP).contains("write true or false"));
    assert!(mistake("sidecar.dev/status: '{'", APP).contains("remove this annotation"));
    assert_eq!(mistake("", "containers: app"), "containers must be a list");
    assert_eq!(mistake("", "containers: [{image: x}]"), "each container must be a map with a name");
}

#[test]
fn a_declared_port_of_the_proxy_is_warned_of() {
    let pod = pod("", "containers: [{name: app, ports: [{containerPort: 8080}, {containerPort: 15020}]}]");
    let Ok(Outcome::Injected(_, warnings)) = inject(&pod, &settings()) else { panic!() };
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("container app: port 15020 "), "{warnings:?}");
}

/// Whatever it was injected with before.
#[test]
fn injecting_again_replaces_what_was_injected() {
    let spec = format!("{APP}, initContainers: [{{name: migrate}}], restartPolicy: Never");
    let plain = pod("", &spec);
    let native = Settings { native: true, ..settings() };
    let agent = Settings { mode: PodMode::Agent, image: "sidecar:next".to_owned(), ..settings() };
    let all = [settings(), native, agent];
    for first in &all {
        for second in &all {
            let once = injected(&plain, first);
            assert_eq!(injected(&once, second), injected(&plain, second));
        }
    }
}

/// Another webhook was called after ours, and ours again.
#[test]
fn what_others_add_stays() {
    let mut pod = injected(&pod("", APP), &settings());
    let token =
        json!({"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let variable = json!({"name": "HTTP_PROXY", "value": "x"});
    let proxy = &mut pod["spec"]["containers"][1];
    proxy["volumeMounts"].as_array_mut().unwrap().push(token.clone());
    proxy["env"].as_array_mut().unwrap().push(variable.clone());
    pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "theirs"}));
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let again = injected(&pod, &settings());
    assert_eq!(names(&again, "containers"), ["app", "theirs", PROXY]);
    assert_eq!(names(&again, "initContainers"), ["late", INIT]);
    assert!(container(&again, PROXY)["volumeMounts"].as_array().unwrap().contains(&token));
    assert!(container(&again, PROXY)["env"].as_array().unwrap().contains(&variable));
    assert_eq!(injected(&again, &settings()), again);
}

pub(crate) fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "app|sidecar-proxy|sidecar-init|Never|true|false|\\{\\}|sidecar-run".prop_map(Value::from),
    ];
    let name = "metadata|spec|annotations|labels|containers|initContainers|volumes|name|env|volumeMounts|securityContext|\
                runAsUser|restartPolicy|hostNetwork|sidecar\\.dev/(inject|status|config|bypass)|ports|containerPort";
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_pod_panics(metadata in anything(), spec in anything(), whole in anything()) {
        for pod in [json!({"metadata": metadata, "spec": spec}), whole] {
            if let Ok(Outcome::Injected(once, _)) = inject(&pod, &settings()) {
                prop_assert_eq!(inject(&once, &settings()), Ok(Outcome::Injected(once.clone(), Vec::new())));
            }
        }
    }
}
