//! The rate limits of a plan. What is said of a target is one limit, however many rules its requests may get.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::traffic::{RateLimit, RateLimitKey};
use crate::config::{Config, TargetRef};
use crate::policy::rate_limit::RateLimiter;

/// A limit, and what its requests are told apart by.
pub(super) type Limit = (Arc<RateLimiter>, Option<RateLimitKey>);

/// The limits that are in use, by what they are said of.
#[derive(Default)]
pub(super) struct Limiters {
    before: HashMap<TargetRef, (RateLimit, Arc<RateLimiter>)>,
    now: HashMap<TargetRef, (RateLimit, Arc<RateLimiter>)>,
}

impl Limiters {
    /// Those of a plan that takes the place of one with these: where the same is said, the buckets are as full as they were.
    pub(super) fn after(before: Option<&Self>) -> Self {
        Self { before: before.map(|before| before.now.clone()).unwrap_or_default(), now: HashMap::new() }
    }

    /// All limits are known: those of before are forgotten.
    pub(super) fn settle(&mut self) {
        self.before = HashMap::new();
    }

    /// The limit that is said of the first of these targets of which one is.
    pub(super) fn of(&mut self, config: &Config, targets: &[TargetRef]) -> Option<Limit> {
        let (target, said) = targets
            .iter()
            .find_map(|target| Some((target, config.traffic_of(std::slice::from_ref(target)).rate_limit?)))?;
        let key = said.key.clone();
        let (_, limiter) = self.now.entry(target.clone()).or_insert_with(|| {
            let old = self.before.remove(target).filter(|(old, _)| *old == said);
            old.unwrap_or_else(|| {
                let limiter = Arc::new(RateLimiter::new(&said));
                (said, limiter)
            })
        });
        Some((Arc::clone(limiter), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Files;

    fn config(requests: u32) -> Config {
        let text = format!(
            "apiVersion: sidecar.dev/v1alpha1
kind: ProxyConfig
metadata: {{name: x}}
spec: {{listeners: [{{name: front, address: '127.0.0.1:1', forward: app}}]}}
---
apiVersion: sidecar.dev/v1alpha1
kind: Backend
metadata: {{name: app}}
spec: {{endpoints: [{{address: '127.0.0.1:2'}}]}}
---
apiVersion: sidecar.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: x}}
spec:
  targetRefs: [{{group: sidecar.dev, kind: Listener, name: front}}]
  rateLimit: {{requests: {requests}}}
"
        );
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        Files::read(&file).config().unwrap()
    }

    #[test]
    fn what_is_said_of_a_target_is_one_limit() {
        let front = TargetRef::Listener("front".to_owned());
        let route = TargetRef::Backend("app".to_owned());
        let (config, other) = (config(5), config(6));
        let mut first = Limiters::after(None);
        let limit = |limiters: &mut Limiters, config: &Config, targets: &[TargetRef]| {
            limiters.of(config, targets).map(|(limiter, _)| limiter)
        };
        let plain = limit(&mut first, &config, std::slice::from_ref(&front)).unwrap();
        let by_route = limit(&mut first, &config, &[route.clone(), front.clone()]).unwrap();
        assert!(Arc::ptr_eq(&plain, &by_route));
        assert!(limit(&mut first, &config, &[route]).is_none());
        first.settle();

        let mut second = Limiters::after(Some(&first));
        let kept = limit(&mut second, &config, std::slice::from_ref(&front)).unwrap();
        assert!(Arc::ptr_eq(&plain, &kept));
        let mut third = Limiters::after(Some(&second));
        assert!(!Arc::ptr_eq(&kept, &limit(&mut third, &other, &[front]).unwrap()));
    }
}
