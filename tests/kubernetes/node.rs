//! What is to be seen of Pods on their node.

use std::time::Duration;

use sidecar_tests::binary;

use crate::cluster::{Namespace, Pod, on_node, try_on_node};

/// Where the node has version 2 of cgroups: it is hybrid.
const CGROUPS: &str = "/sys/fs/cgroup/unified/kubepods";

/// The process of a Pod's proxy, as the node numbers it; `None`: there is none now.
pub(crate) fn proxy_of(pod: &Pod) -> Option<String> {
    let uid = pod.uid();
    let script = format!(
        "for pid in $(cat {CGROUPS}/pod{uid}/*/cgroup.procs {CGROUPS}/*/pod{uid}/*/cgroup.procs 2>/dev/null); do \
         if [ \"$(cat /proc/$pid/comm)\" = sidecar ]; then echo $pid; fi; done"
    );
    let pids = on_node(&["bash", "-c", &script], "");
    pids.lines().next().map(str::to_owned)
}

/// Ends all processes of Pods, and what a boot of the node would not find again.
#[track_caller]
pub(crate) fn power_off(pods: &[Pod]) {
    for pod in pods {
        let uid = pod.uid();
        let script = format!(
            "rm -rf /run/sidecar/pod-{uid} /sys/fs/bpf/sidecar/pod-{uid}; \
             kill -KILL $(cat {CGROUPS}/pod{uid}/*/cgroup.procs {CGROUPS}/*/pod{uid}/*/cgroup.procs 2>/dev/null)"
        );
        on_node(&["bash", "-c", &script], "");
    }
}

/// Kills a Pod's proxy until the kubelet waits some seconds before it starts it again.
#[track_caller]
fn hold_down_proxy(namespace: &Namespace, app: &str) {
    for restarts in 0.. {
        let pid = namespace.eventually("the proxy's process", |namespace| proxy_of(&namespace.pods(app)[0]));
        on_node(&["kill", "-KILL", &pid], "");
        let waits = namespace.eventually("the kubelet's view of it", |namespace| {
            let pod = namespace.pods(app).remove(0);
            let states = pod.0["status"]["containerStatuses"].as_array()?.clone();
            let proxy = states.iter().find(|state| state["name"] == "sidecar-proxy")?;
            if proxy["state"]["waiting"]["reason"] == "CrashLoopBackOff" {
                return Some(true);
            }
            (proxy["restartCount"].as_u64()? > restarts && !proxy["state"]["running"].is_null())
                .then_some(false)
        });
        if waits {
            return;
        }
    }
}

/// What comes of something while a Pod has no proxy. The kubelet may start that again meanwhile: then once more, and each time
/// it waits twice as long.
#[track_caller]
pub(crate) fn without_proxy<T>(namespace: &Namespace, app: &str, what: impl Fn() -> T) -> T {
    for _ in 0..5 {
        hold_down_proxy(namespace, app);
        let came = what();
        if proxy_of(&namespace.pods(app)[0]).is_none() {
            return came;
        }
    }
    panic!("the proxy of {app} was there again each time");
}

/// Nothing of ours is on the node of Pods that are gone: no pin, no directory, no process. What Pods that armed themselves
/// have pinned, `collect` takes, as the next Pod's init container does. (Their cgroups are the kubelet's; on a hybrid host
/// it leaves those of version 2, empty, of every Pod.)
#[track_caller]
pub(crate) fn is_clean_of(namespace: &Namespace, uids: &[String], collect: impl Fn()) {
    for uid in uids {
        let found = format!(
            "ls -d /sys/fs/bpf/sidecar/pod-{uid} /run/sidecar/pod-{uid}; \
             cat {CGROUPS}/pod{uid}/*/cgroup.procs {CGROUPS}/*/pod{uid}/*/cgroup.procs"
        );
        namespace.eventually(&format!("the end of all that was of Pod {uid}"), |_| {
            collect();
            let left = on_node(&["bash", "-c", &format!("({found}) 2>/dev/null || true")], "");
            left.trim().is_empty().then_some(())
        });
    }
}

/// The agent's memory, and the share of a processor that it takes over a time in which nothing happens.
pub(crate) fn footprint_of_agent(quiet: Duration) -> String {
    let script = format!(
        "pid=$(pgrep -o -f '/usr/local/bin/sidecar agent'); ticks() {{ set -- $(cut -d')' -f2 /proc/$pid/stat); echo $((${{12}}+${{13}})); }}; \
         before=$(ticks); sleep {seconds}; after=$(ticks); \
         grep -E 'VmRSS|RssAnon' /proc/$pid/status | tr -s '\\t\\n ' ' '; \
         echo \"$(((after-before)*10)) ms of CPU in {seconds} s\"; \
         for group in $(grep -E ':memory:|0::' /proc/$pid/cgroup | cut -d: -f3); do \
         cat /sys/fs/cgroup/memory$group/memory.usage_in_bytes /sys/fs/cgroup$group/memory.current 2>/dev/null; done | \
         sed 's/$/ bytes charged to its container, with all maps/'",
        seconds = quiet.as_secs()
    );
    on_node(&["bash", "-c", &script], "").lines().collect::<Vec<_>>().join("; ")
}

/// Collects what Pods that are gone have pinned.
pub(crate) fn detach_gone() {
    let sidecar = binary();
    if let Err(error) = try_on_node(&[sidecar.to_str().unwrap(), "detach", "--gone"], "") {
        panic!("{error}");
    }
}
