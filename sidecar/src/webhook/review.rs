//! Answers an `AdmissionReview`; pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::inject::{Outcome, Settings, inject};

/// Why a request is no review that can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoReview {
    #[error("the body is not JSON")]
    NotJson,
    #[error(
        "only AdmissionReview of admission.k8s.io/v1 is answered here; set admissionReviewVersions: [v1]"
    )]
    Version,
    #[error("request.uid is missing")]
    Uid,
}

const VERSION: &str = "admission.k8s.io/v1";

/// The answer to the review in `body`.
pub(super) fn answer(body: &[u8], settings: &Settings) -> Result<Value, NoReview> {
    let review: Value = serde_json::from_slice(body).map_err(|_| NoReview::NotJson)?;
    if review["apiVersion"] != VERSION || review["kind"] != "AdmissionReview" {
        return Err(NoReview::Version);
    }
    let request = &review["request"];
    let uid = request["uid"].as_str().filter(|uid| !uid.is_empty()).ok_or(NoReview::Uid)?;
    let mut response = about(request, settings);
    response["uid"] = json!(uid);
    Ok(json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response}))
}

fn about(request: &Value, settings: &Settings) -> Value {
    // A configuration may send more than it should; what is not a new Pod is nobody's business here.
    let is_new_pod = request["operation"] == "CREATE"
        && request["kind"]["kind"] == "Pod"
        && request["kind"]["group"].as_str().unwrap_or_default().is_empty()
        && request["subResource"].as_str().unwrap_or_default().is_empty();
    if !is_new_pod {
        return json!({"allowed": true});
    }
    let pod = &request["object"];
    let namespace = request["namespace"].as_str().unwrap_or_default();
    let name = ["name", "generateName"].map(|field| pod["metadata"][field].as_str());
    let name = name.into_iter().flatten().next().unwrap_or_default();
    match inject(pod, settings) {
        Ok(Outcome::Injected(injected, warnings)) => {
            tracing::info!(namespace, name, "injected");
            let patch = json_patch::diff(pod, &injected);
            let mut response = json!({"allowed": true});
            if !patch.is_empty() {
                let patch = serde_json::to_vec(&patch).unwrap_or_default();
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(patch));
            }
            warn(&mut response, &warnings);
            response
        }
        Ok(Outcome::OptedOut) => json!({"allowed": true}),
        Ok(Outcome::Left(reason)) => {
            tracing::info!(namespace, name, reason, "left as it is");
            let mut response = json!({"allowed": true});
            warn(&mut response, &[format!("sidecar: the Pod gets no sidecar: {reason}")]);
            response
        }
        Err(refusal) => {
            tracing::warn!(namespace, name, %refusal, "refused");
            let (code, reason) = if refusal.is_mistake() { (400, "BadRequest") } else { (403, "Forbidden") };
            let message = format!("sidecar: {refusal}");
            json!({"allowed": false, "status": {"code": code, "reason": reason, "message": message}})
        }
    }
}

fn warn(response: &mut Value, warnings: &[String]) {
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inject::Again;
    use crate::inject::tests::{anything, settings as by_hand};

    fn settings() -> Settings {
        Settings { again: Again::Keep, ..by_hand() }
    }

    fn review(pod: &Value) -> Value {
        let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
        let request =
            json!({"uid": "u1", "kind": kind, "operation": "CREATE", "namespace": "shop", "object": pod});
        json!({"apiVersion": VERSION, "kind": "AdmissionReview", "request": request})
    }

    fn answered(review: &Value) -> Value {
        let answer = answer(review.to_string().as_bytes(), &settings()).unwrap();
        assert_eq!((&answer["apiVersion"], &answer["response"]["uid"]), (&json!(VERSION), &json!("u1")));
        answer["response"].clone()
    }

    fn patched(pod: &Value, response: &Value) -> Value {
        assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    fn pod() -> Value {
        json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app"}]}})
    }

    #[test]
    fn the_patch_leads_to_what_inject_says() {
        let patched = patched(&pod(), &answered(&review(&pod())));
        assert_eq!(inject(&pod(), &settings()), Ok(Outcome::Injected(patched.clone(), Vec::new())));
        // Asked again, there is nothing to add.
        assert_eq!(answered(&review(&patched)), json!({"uid": "u1", "allowed": true}));
    }

    #[test]
    fn asked_again_after_others_it_keeps_what_they_added() {
        let mut pod = patched(&pod(), &answered(&review(&pod())));
        pod["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "a/b~c"}));
        pod["spec"]["initContainers"].as_array_mut().unwrap().push(json!({"name": "late"}));
        let again = patched(&pod, &answered(&review(&pod)));
        assert_eq!(again["metadata"], pod["metadata"]);
        let names = |list: &str| {
            let items = again["spec"][list].as_array().unwrap().iter();
            items.map(|item| item["name"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(names("containers"), ["app", "sidecar-proxy", "a/b~c"]);
        assert_eq!(names("initContainers"), ["late", "sidecar-init"]);
    }

    /// Somebody chose another version or mode by hand.
    #[test]
    fn what_was_injected_by_hand_stays() {
        let other = Settings {
            image: "sidecar:other".to_owned(),
            mode: crate::kubernetes::annotations::PodMode::Agent,
            ..by_hand()
        };
        let Ok(Outcome::Injected(mut injected, _)) = inject(&pod(), &other) else { panic!() };
        assert_eq!(answered(&review(&injected)), json!({"uid": "u1", "allowed": true}));
        // Unless it is not all there.
        injected["spec"]["containers"].as_array_mut().unwrap().pop();
        let whole = patched(&injected, &answered(&review(&injected)));
        assert_eq!(whole["spec"]["containers"][1]["image"], "sidecar:test");
        // The rule about the proxy's user holds for it as well.
        injected["spec"]["securityContext"] = json!({"runAsUser": 1337});
        assert_eq!(answered(&review(&injected))["allowed"], false);
    }

    #[test]
    fn refusals_say_why() {
        let mut exempt = pod();
        exempt["spec"]["securityContext"] = json!({"runAsUser": 1337});
        let response = answered(&review(&exempt));
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("sidecar: the Pod runs as user 1337"), "{message}");
        let mut mistaken = pod();
        mistaken["metadata"]["annotations"] = json!({"sidecar.dev/bypass": "warp"});
        let response = answered(&review(&mistaken));
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(400)));
    }

    #[test]
    fn what_gets_none_is_let_through() {
        let mut host = pod();
        host["spec"]["hostNetwork"] = json!(true);
        let response = answered(&review(&host));
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains("hostNetwork"));
        assert_eq!(response.get("patch"), None);
        for change in ["/request/operation", "/request/kind/kind", "/request/kind/group"] {
            let mut other = review(&pod());
            *other.pointer_mut(change).unwrap() = json!("Other");
            assert_eq!(answered(&other), json!({"uid": "u1", "allowed": true}));
        }
    }

    #[test]
    fn what_is_no_review_is_told_apart() {
        assert_eq!(answer(b"{", &settings()), Err(NoReview::NotJson));
        assert_eq!(answer(b"[]", &settings()), Err(NoReview::Version));
        let mut old = review(&pod());
        old["apiVersion"] = json!("admission.k8s.io/v1beta1");
        assert_eq!(answer(old.to_string().as_bytes(), &settings()), Err(NoReview::Version));
        let mut nobodys = review(&pod());
        nobodys["request"]["uid"] = json!(7);
        assert_eq!(answer(nobodys.to_string().as_bytes(), &settings()), Err(NoReview::Uid));
    }

    proptest! {
        #[test]
        fn no_review_panics(metadata in anything(), spec in anything(), whole in anything(), body: Vec<u8>) {
            let _ = answer(&body, &settings());
            for pod in [json!({"metadata": metadata, "spec": spec}), whole] {
                let response = answered(&review(&pod));
                if response.get("patch").is_some() {
                    let injected = patched(&pod, &response);
                    prop_assert!(answered(&review(&injected)).get("patch").is_none());
                }
            }
        }
    }
}
