use proptest::prelude::*;

use super::super::manifest::inject as inject_text;
use super::*;

fn done(text: &str) -> (String, Vec<String>) {
    let injected = inject_text(text, "app.yaml", &settings()).unwrap_or_else(|errors| panic!("{errors}"));
    (injected.text, injected.notes)
}

fn values(text: &str) -> Vec<Value> {
    let pieces = crate::config::document::pieces(text);
    let nodes = pieces.filter_map(|(_, piece)| yaml::Node::read(piece).unwrap());
    nodes.map(|node| node.value().unwrap()).collect()
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: app\n    image: app\n";

/// Where each kind has its Pods.
const KINDS: [(&str, &str, &str); 9] = [
    ("v1", "Pod", ""),
    ("v1", "ReplicationController", "/spec/template"),
    ("apps/v1", "Deployment", "/spec/template"),
    ("apps/v1", "StatefulSet", "/spec/template"),
    ("apps/v1", "DaemonSet", "/spec/template"),
    ("apps/v1", "ReplicaSet", "/spec/template"),
    ("batch/v1", "Job", "/spec/template"),
    ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch/v1beta1", "CronJob", "/spec/jobTemplate/spec/template"),
];

fn object(version: &str, kind: &str, path: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app"}]}});
    let steps = path.split('/').filter(|step| !step.is_empty()).rev();
    let mut object = steps.fold(template, |inner, step| json!({step: inner}));
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!("web");
    object
}

#[test]
fn every_kind_with_pods_is_injected() {
    for (version, kind, path) in KINDS {
        let (text, notes) = done(&object(version, kind, path).to_string());
        let value: Value = serde_json::from_str(&text).unwrap();
        let pod = value.pointer(path).unwrap();
        assert_eq!(names(pod, "containers"), ["app", PROXY], "{kind}");
        assert!(pod["metadata"]["annotations"].get("sidecar.dev/status").is_some());
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(done(&text).0, text, "{kind} again");
    }
}

#[test]
fn lists_are_injected_item_by_item() {
    let items: Vec<Value> = KINDS.iter().map(|(version, kind, path)| object(version, kind, path)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let (text, _) = done(&yaml::emit(&list, None));
    let value = &values(&text)[0];
    for (item, (_, kind, path)) in value["items"].as_array().unwrap().iter().zip(KINDS) {
        assert_eq!(names(item.pointer(path).unwrap(), "containers"), ["app", PROXY], "{kind}");
    }
    let untold = json!({"apiVersion": "v1", "kind": "PodList", "items": [{"spec": {"containers": [{"name": "app"}]}}]});
    let (text, _) = done(&untold.to_string());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(names(&value["items"][0], "containers"), ["app", PROXY]);
    assert_eq!(value["items"][0].get("kind"), None);
}

/// Comments, odd values, anchors, even what Kubernetes would not read.
#[test]
fn what_has_no_pods_stays_byte_for_byte() {
    for text in [
        "",
        "\n",
        "# only a comment\n",
        "---\n---\n...\n---\n",
        "kind: ConfigMap\napiVersion: v1\ndata: # why\n  a:   yes\n  b: |\n    ---\n    x\n  c: 0755\n",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
        "apiVersion: example.com/v1\nkind: Deployment\nspec: {template: {spec: {containers: [{name: a}]}}}\n",
        "a: !mine x\nkind: [1]\n",
        "just text\r\n",
        "[1, 2]",
        "{\"kind\": \"Service\",\n\t\"apiVersion\": \"v1\"}\n{\"kind\": \"Service\"}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {sidecar.dev/inject: 'false'}} # so\nspec: {containers: [{name: a}]}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a} # so\nspec: {hostNetwork: yes, containers: [{name: a}]}\n",
    ] {
        assert_eq!(done(text).0, text);
        let (before, after) = (format!("---\n{text}"), format!("\n---\n{POD}"));
        let (text, _) = done(&format!("{before}{after}"));
        assert!(text.starts_with(&before), "{text}");
        assert!(text.contains("sidecar-proxy"), "{text}");
    }
}

#[test]
fn a_byte_order_mark_stays() {
    assert_eq!(done("\u{feff}kind: Service\n").0, "\u{feff}kind: Service\n");
    assert!(done(&format!("\u{feff}{POD}")).0.starts_with("\u{feff}apiVersion: v1\n"));
}

#[test]
fn a_changed_document_keeps_its_head_and_order() {
    let text = format!(
        "# Source: web.yaml\n%YAML 1.1\n--- # first\n# about the Pod\n{POD}...\n# the next\n---\nkind: Service # x\n"
    );
    let (injected, _) = done(&text);
    assert!(injected.starts_with("# Source: web.yaml\n%YAML 1.1\n--- # first\n# about the Pod\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n"), "{injected}");
    assert!(injected.ends_with("\n...\n# the next\n---\nkind: Service # x\n"), "{injected}");
    assert_eq!(done(&injected).0, injected);
    let (inline, _) = done(&format!(
        "--- {{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{APP}}}}}\n---\nx: 1\n"
    ));
    assert!(inline.starts_with("---\napiVersion: v1\n") && inline.ends_with("---\nx: 1\n"), "{inline}");
}

#[test]
fn traps_of_yaml_survive() {
    let spec = "  volumes:\n  - name: v\n    configMap: {name: c, defaultMode: 0755}\n  containers:\n  - name: app\n    image: app\n    tty: yes\n    \
                env: &env\n    - {name: A, value: \"yes\"}\n    - {name: B, value: '0755'}\n    - {name: C, value: \"1_000\"}\n    - {name: D, value: \
                \"1e3\"}\n    - {name: E, value: 'off'}\n    command: [sh, -c, \"a\\tb\"]\n    args:\n    - |\n      ---\n      # not a comment\n      on\n  \
                - {name: second, image: b, env: *env}\n";
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}");
    for text in [text.clone(), text.replace('\n', "\r\n")] {
        let (injected, _) = done(&text);
        let (before, after) = (values(&text).remove(0), values(&injected).remove(0));
        assert_eq!(after["spec"]["containers"][0], before["spec"]["containers"][0]);
        assert_eq!(after["spec"]["containers"][1], before["spec"]["containers"][1]);
        assert_eq!(after["spec"]["volumes"][0], before["spec"]["volumes"][0]);
        for kept in ["defaultMode: 0755", "tty: yes", "value: \"yes\"", "value: \"0755\"", "value: \"off\""] {
            assert!(injected.contains(kept), "{kept}: {injected}");
        }
        assert_eq!(
            injected.matches('\n').count(),
            if text.contains('\r') {
                injected.matches("\r\n").count()
            } else {
                injected.matches('\n').count()
            }
        );
        assert_eq!(done(&injected).0, injected);
    }
}

#[test]
fn errors_name_the_document_and_the_object() {
    let bad = POD.replace("  containers", "  securityContext: {runAsUser: 1337}\n  containers");
    let text = format!("{POD}---\n{bad}---\nkind: Pod\napiVersion: v1\nspec:\n  a: 1\n  a: 2\n---\n{POD}");
    let errors = inject_text(&text, "app.yaml", &settings()).unwrap_err();
    assert!(errors.is_mistake());
    let text = errors.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("app.yaml:10: document 2, Pod web: the Pod runs as user 1337"), "{text}");
    assert!(
        lines[1].starts_with("app.yaml:24: document 3: is not valid YAML: \"a\" is given twice"),
        "{text}"
    );
    let refused = inject_text(&bad, "x", &settings()).unwrap_err();
    assert!(!refused.is_mistake());
    let missing =
        inject_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", "x", &settings())
            .unwrap_err();
    assert_eq!(missing.to_string(), "x:1: document 1, Deployment d: spec.template must be there");
}

#[test]
fn what_is_left_is_said() {
    let text = POD.replace("spec:", "spec:\n  hostNetwork: true");
    let (same, notes) = done(&text);
    assert_eq!(same, text);
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("app.yaml:1: document 1, Pod web: is left as it is: with hostNetwork"),
        "{notes:?}"
    );
}

fn piece() -> impl Strategy<Value = String> {
    let lines = "---|\\.\\.\\.|# x|%YAML 1\\.1|kind: Pod|apiVersion: v1|spec: \\{containers: \\[\\{name: a\\}\\]\\}|spec:|  containers:|  - name: a|\
                 \\{\"kind\": \"Pod\", \"apiVersion\": \"v1\", \"spec\": \\{\"containers\": \\[\\]\\}\\}|x: \\||    ---|'|\"|\t|a: &a [b]|";
    (lines, "\n|\r\n|\r|").prop_map(|(line, end)| line + &end)
}

proptest! {
    #[test]
    fn no_stream_panics(pieces in proptest::collection::vec(piece(), 0..12)) {
        if let Ok(once) = inject_text(&pieces.concat(), "x", &settings()) {
            let twice = inject_text(&once.text, "x", &settings()).unwrap();
            prop_assert_eq!(twice.text, once.text);
        }
    }
}
