//! Consistent hashing: a ring of points, as ketama has it.

/// The points of all endpoints in order. A key belongs to the next point.
#[derive(Debug)]
pub struct Ring {
    /// Where each point is, and whose.
    points: Vec<(u64, u32)>,
}

/// Points of an endpoint of mean weight. Shares are exact to about one in the square root of this.
const POINTS: u64 = 160;
/// Points of all together (16 bytes each). With more endpoints each has fewer, down to one.
const MAX_POINTS: u64 = 65_536;
/// 2^64 over the golden ratio: the step of the SplitMix64 generator.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash that is the same on every machine and in every version: proxies agree where a key belongs.
pub fn hash(bytes: &[u8]) -> u64 {
    // FNV-1a, whose low bits are good, and then all of them.
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The finalizer of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Ring {
    /// The ring of endpoints with these names and weights. One more endpoint takes over its share of the keys and moves
    /// no others: an endpoint's points depend on its name, and only their number on the others' weights.
    pub fn new(endpoints: &[(&str, u32)]) -> Self {
        let weighted = || endpoints.iter().filter(|(_, weight)| *weight > 0);
        let count = weighted().count() as u64;
        let total: u64 = weighted().map(|(_, weight)| u64::from(*weight)).sum();
        let each = POINTS.min(MAX_POINTS / count.max(1)).max(1);
        let mut points = Vec::new();
        for (i, (name, weight)) in (0_u32..).zip(endpoints) {
            if *weight == 0 {
                continue;
            }
            // Fits: an endpoint has at most all points, `each * count`.
            let share = u128::from(each * count) * u128::from(*weight) / u128::from(total);
            let share = u64::try_from(share).unwrap_or(MAX_POINTS).max(1);
            let seed = hash(name.as_bytes());
            points.extend((1..=share).map(|n| (mix(seed.wrapping_add(STEP.wrapping_mul(n))), i)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The endpoints in the order in which a key prefers them, by their places, each as often as it has points.
    pub fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let next = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(next);
        after.iter().chain(before).map(|(_, i)| *i as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEYS: u32 = 20_000;

    /// Whose each key is, by name.
    fn owners(endpoints: &[(&str, u32)]) -> Vec<String> {
        let ring = Ring::new(endpoints);
        let owner = |key: u32| ring.walk(hash(&key.to_le_bytes())).next().unwrap();
        (0..KEYS).map(|key| endpoints[owner(key)].0.to_owned()).collect()
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("10.0.0.{i}:80")).collect()
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash(b"a"), 0x02c0_bdbf_4814_20f8);
    }

    #[test]
    fn shares_follow_the_weights() {
        let names = names(4);
        let weights = [1, 2, 4, 0];
        let endpoints: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(weights).collect();
        let mut counts = BTreeMap::new();
        for owner in owners(&endpoints) {
            *counts.entry(owner).or_insert(0.0) += 1.0;
        }
        assert_eq!(counts.len(), 3);
        for (name, weight) in &endpoints[..3] {
            let expected = f64::from(KEYS) * f64::from(*weight) / 7.0;
            assert!((counts[*name] / expected - 1.0).abs() < 0.25, "{name}: {} of {expected}", counts[*name]);
        }
    }

    #[test]
    fn one_more_endpoint_moves_its_own_keys_alone() {
        for count in [1, 2, 10, 50] {
            let names = names(count + 1);
            let endpoints: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
            let (before, after) = (owners(&endpoints[..count]), owners(&endpoints));
            let moved = || before.iter().zip(&after).filter(|(before, after)| before != after);
            assert!(moved().all(|(_, to)| *to == names[count]), "{count}");
            // In hundredths of its share.
            let share = moved().count() * (count + 1) * 100 / owners(&endpoints).len();
            assert!((70..130).contains(&share), "{count}: {share}");
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter() {
        let names = names(5);
        let mut endpoints: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let before = owners(&endpoints);
        endpoints.reverse();
        assert_eq!(owners(&endpoints), before);
    }

    #[test]
    fn points_are_bounded() {
        let names = names(5_000);
        let endpoints: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 7)).collect();
        let ring = Ring::new(&endpoints);
        assert!(ring.points.len() as u64 <= MAX_POINTS && ring.points.len() >= 5_000);
        assert_eq!(Ring::new(&[]).walk(1).next(), None);
        assert_eq!(Ring::new(&[("a", 0)]).walk(1).next(), None);
        assert_eq!(Ring::new(&[("a", u32::MAX), ("b", 1)]).points.len(), 320);
    }
}
