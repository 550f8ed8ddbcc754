//! Which of a rule's backends gets a request.

use crate::config::route::BackendRef;

/// One of them, each with the share of its weight, if `random` is any number equally likely. `None`: nobody has a
/// weight, which is the status 500.
pub fn pick(backends: &[BackendRef], random: u32) -> Option<&BackendRef> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    // Scaled rather than the remainder: no backend is favoured by more than one of the 2^32 numbers.
    let mut left = (u64::from(random) * total) >> u32::BITS;
    backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::route::BackendTarget;

    fn backends(weights: &[u32]) -> Vec<BackendRef> {
        let target = |i: usize| BackendTarget::Backend(i.to_string());
        let one =
            |(i, weight): (usize, &u32)| BackendRef { target: target(i), weight: *weight, filters: vec![] };
        weights.iter().enumerate().map(one).collect()
    }

    /// How many of 1,000 evenly spread numbers each backend gets.
    fn shares(weights: &[u32]) -> Vec<usize> {
        let backends = backends(weights);
        let mut shares = vec![0; weights.len()];
        for i in 0..1_000 {
            let picked = pick(&backends, u32::MAX / 1_000 * i);
            for (share, backend) in shares.iter_mut().zip(&backends) {
                *share += usize::from(picked == Some(backend));
            }
        }
        shares
    }

    #[test]
    fn everyone_gets_the_share_of_its_weight() {
        let near = |weights: &[u32], expected: &[usize]| {
            let found = shares(weights);
            assert!(found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 2), "{weights:?}: {found:?}");
        };
        near(&[1], &[1000]);
        near(&[90, 10], &[900, 100]);
        near(&[1, 1, 2], &[250, 250, 500]);
        near(&[1_000_000; 16], &[62; 16]);
        assert_eq!(shares(&[0, 1, 0]), [0, 1000, 0]);
    }

    #[test]
    fn without_weight_nobody_gets_anything() {
        for random in [0, 1, u32::MAX] {
            assert_eq!(pick(&backends(&[0, 0]), random), None);
            assert_eq!(pick(&[], random), None);
        }
        assert!(pick(&backends(&[1, 1]), u32::MAX).is_some());
    }
}
