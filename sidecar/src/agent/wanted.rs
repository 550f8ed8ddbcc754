//! What is to be done about a Pod: pure, from what the API says and what is armed.

use super::facts::{Facts, Running};

/// How it stands with a Pod on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// Nothing of it is armed by the agent.
    #[default]
    Bare,
    /// All is attached.
    Armed {
        /// A number that no other arming has.
        generation: u32,
    },
    /// Nothing is steered any more; what is under way ends.
    Leaving,
}

/// What is to be done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// All is as it should be.
    Nothing,
    /// There is no such Pod, and nothing is left of it.
    Forget,
    /// To be armed, when its proxy listens, or before.
    Arm,
    /// Its annotations cannot be understood: nothing changes.
    Complain,
    /// Its proxy has to be told how it stands.
    Tell,
    /// Nothing more is to be steered.
    Disarm,
    /// What is left of an arming goes, once nothing is under way.
    Finish,
    /// It goes at once, since the Pod is enrolled again.
    Restart,
    /// What is left goes once no process of the Pod is there, or its network namespace or cgroup is gone.
    Collect,
}

/// `namespace`: the Pod's namespace enrols its Pods. `told`: the run of the proxy that knows how it stands.
pub fn decide(pod: Option<&Facts>, namespace: bool, standing: Standing, told: Option<Running>) -> Action {
    let Some(pod) = pod.filter(|pod| !pod.over) else {
        return match standing {
            Standing::Bare if pod.is_none() => Action::Forget,
            Standing::Bare => Action::Nothing,
            _ => Action::Collect,
        };
    };
    if pod.ours && pod.asks.is_err() {
        return Action::Complain;
    }
    let ignorant = pod.ours && !pod.ending && pod.proxy.is_some() && pod.proxy != told;
    match (pod.is_enrolled(namespace), standing) {
        // It takes its connections along; arming it now would help nobody.
        (true, Standing::Bare) if pod.ending => Action::Nothing,
        (true, Standing::Bare) if pod.overrides.is_err() => Action::Complain,
        (true, Standing::Bare) => Action::Arm,
        (true, Standing::Leaving) => Action::Restart,
        (false, Standing::Armed { .. }) => Action::Disarm,
        (false, Standing::Leaving) => Action::Finish,
        (_, Standing::Armed { .. } | Standing::Bare) if ignorant => Action::Tell,
        (_, Standing::Armed { .. } | Standing::Bare) => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::facts::tests::pod;
    use super::*;

    const ARMED: Standing = Standing::Armed { generation: 1 };

    fn about(more: &Value, namespace: bool, standing: Standing) -> Action {
        let pod = pod(more);
        let told = pod.proxy;
        decide(Some(&pod), namespace, standing, told)
    }

    fn annotated(name: &str, value: &str) -> Value {
        json!({"metadata": {"annotations": {name: value}}})
    }

    #[test]
    fn enrolling_arms_and_unenrolling_disarms() {
        let plain = json!({});
        assert_eq!(about(&plain, true, Standing::Bare), Action::Arm);
        assert_eq!(about(&plain, true, ARMED), Action::Nothing);
        assert_eq!(about(&plain, false, ARMED), Action::Disarm);
        assert_eq!(about(&plain, false, Standing::Leaving), Action::Finish);
        assert_eq!(about(&plain, true, Standing::Leaving), Action::Restart);
        assert_eq!(about(&plain, false, Standing::Bare), Action::Nothing);
    }

    #[test]
    fn a_pod_that_is_gone_or_over_is_collected() {
        assert_eq!(decide(None, true, Standing::Bare, None), Action::Forget);
        assert_eq!(decide(None, true, ARMED, None), Action::Collect);
        let over = json!({"status": {"phase": "Succeeded"}});
        assert_eq!(about(&over, true, Standing::Leaving), Action::Collect);
        assert_eq!(about(&over, true, Standing::Bare), Action::Nothing);
    }

    #[test]
    fn a_pod_that_ends_keeps_what_it_has() {
        let ending = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(about(&ending, true, Standing::Bare), Action::Nothing);
        assert_eq!(about(&ending, true, ARMED), Action::Nothing);
    }

    #[test]
    fn a_proxy_that_does_not_know_is_told() {
        let pod = pod(&json!({}));
        assert_eq!(decide(Some(&pod), true, ARMED, None), Action::Tell);
        assert_eq!(decide(Some(&pod), false, Standing::Bare, None), Action::Tell);
        let waiting = super::super::facts::tests::pod(&json!({"status": {"containerStatuses": []}}));
        assert_eq!(decide(Some(&waiting), true, ARMED, None), Action::Nothing);
    }

    #[test]
    fn what_cannot_be_understood_changes_nothing() {
        let asks = annotated("sidecar.dev/inject", "perhaps");
        assert_eq!(about(&asks, true, ARMED), Action::Complain);
        let overrides = annotated("sidecar.dev/exclude-outbound-ports", "http");
        assert_eq!(about(&overrides, true, Standing::Bare), Action::Complain);
        assert_eq!(about(&overrides, true, ARMED), Action::Nothing);
        assert_eq!(about(&overrides, false, ARMED), Action::Disarm);
    }

    #[test]
    fn others_pods_are_left_alone() {
        let init = json!({"spec": {"initContainers": [{"name": "sidecar-init"}]}});
        let pod = pod(&init);
        assert_eq!(decide(Some(&pod), true, Standing::Bare, None), Action::Nothing);
    }
}
