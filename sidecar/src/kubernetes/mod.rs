//! What the injector, the webhook and the agent know of Kubernetes alike; pure.

pub mod annotations;
pub mod channel;
