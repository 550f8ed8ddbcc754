//! When a proxy beside an application in a Pod may leave: after the application, which relies on it.
//!
//! Kubernetes before native sidecars (KEP-753) ends all containers of a Pod at once, and waits for all of a Job's.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::host::company;

/// How often containers are looked for until the application has started. One that ends sooner is known by its connections; one that
/// has none either would be missed.
const UNTIL_STARTED: Duration = Duration::from_millis(10);
/// How often containers are looked for afterwards.
const WHILE_RUNNING: Duration = Duration::from_secs(1);
/// How long the proxy must be alone: between the end of one container and the start of another.
const ALONE: u32 = 5;
/// How often sockets are looked for once the Pod is ending.
const WHILE_ENDING: Duration = Duration::from_millis(200);

/// Resolves when containers of the application were seen, or what they `dialled`, and all have been gone for some seconds.
/// Needs the Pod's `shareProcessNamespace`. Cancel safe.
pub async fn alone(dialled: impl Fn() -> bool) {
    until(UNTIL_STARTED, 1, || company::has_containers() || dialled()).await;
    until(WHILE_RUNNING, ALONE, || !company::has_containers()).await;
}

/// Resolves when no other user's program holds a TCP socket of the network namespace any more: whatever the application
/// does in its `preStop`, it can do through the proxy. Kubernetes bounds this by the Pod's grace period. Cancel safe.
pub async fn application_gone() {
    until(WHILE_ENDING, 1, || !company::has_sockets()).await;
}

/// Resolves when a condition held `times` in a row.
async fn until(period: Duration, times: u32, holds: impl Fn() -> bool) {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    while seen < times {
        tick.tick().await;
        seen = if holds() { seen + 1 } else { 0 };
    }
}
