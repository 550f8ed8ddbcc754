use super::hash::hash;
use super::*;
use crate::config::traffic::HashKey;

/// Endpoints whose loads a test sets.
struct Endpoints {
    credits: Vec<AtomicI64>,
    /// Without their credits, which are lent to each pick.
    template: Vec<Candidate<'static>>,
}

static UNUSED: AtomicI64 = AtomicI64::new(0);

impl Endpoints {
    fn new(weights: &[u32]) -> Self {
        let one = |weight: &u32| Candidate {
            weight: *weight,
            active: 0,
            ewma: Duration::from_millis(10),
            healthy: true,
            zone_local: false,
            age: Duration::MAX,
            credit: &UNUSED,
        };
        Self {
            credits: weights.iter().map(|_| AtomicI64::new(0)).collect(),
            template: weights.iter().map(one).collect(),
        }
    }

    fn candidates(&self) -> Vec<Candidate<'_>> {
        let with = |(candidate, credit)| Candidate { credit, ..candidate };
        self.template.iter().copied().zip(&self.credits).map(with).collect()
    }

    /// How many of many picks each gets, in percent.
    fn shares(&self, balancer: &Balancer) -> Vec<u32> {
        const PICKS: u32 = 20_000;
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0; self.template.len()];
        for key in 0..PICKS {
            let key = hash(&key.to_le_bytes());
            if let Some(i) = balancer.pick(&self.candidates(), Some(key), &mut rng) {
                counts[i] += 1;
            }
        }
        counts.iter().map(|count| (count * 100 + PICKS / 2) / PICKS).collect()
    }
}

fn balancer(algorithm: Algorithm, endpoints: &[(&str, u32)]) -> Balancer {
    Balancer::new(&LoadBalancer { algorithm, ..LoadBalancer::default() }, endpoints)
}

const ABC: [(&str, u32); 3] = [("a", 1), ("b", 1), ("c", 1)];

fn all() -> [Balancer; 5] {
    let ways = [
        Algorithm::RoundRobin,
        Algorithm::LeastRequest,
        Algorithm::PeakEwma,
        Algorithm::Random,
        Algorithm::ConsistentHash(HashKey::Source),
    ];
    ways.map(|algorithm| balancer(algorithm, &ABC))
}

/// True where each share is within this many percent of the whole.
fn near(found: &[u32], expected: &[u32], within: u32) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= within)
}

#[test]
fn shares_follow_the_weights_while_none_is_busy() {
    let endpoints = Endpoints::new(&[5, 3, 2, 0]);
    for way in [Algorithm::RoundRobin, Algorithm::LeastRequest, Algorithm::PeakEwma, Algorithm::Random] {
        let found = endpoints.shares(&balancer(way.clone(), &[]));
        assert!(near(&found, &[50, 30, 20, 0], 1), "{way:?}: {found:?}");
    }
}

#[test]
fn turns_are_smooth() {
    let endpoints = Endpoints::new(&[5, 1, 1]);
    let (balancer, mut rng) = (balancer(Algorithm::RoundRobin, &[]), Rng::with_seed(1));
    let turns: Vec<usize> =
        (0..14).filter_map(|_| balancer.pick(&endpoints.candidates(), None, &mut rng)).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0], "as nginx has it");
}

#[test]
fn the_busy_get_less() {
    let mut endpoints = Endpoints::new(&[1, 1, 1]);
    endpoints.template[0].active = 10;
    for way in [Algorithm::LeastRequest, Algorithm::PeakEwma] {
        let found = endpoints.shares(&balancer(way.clone(), &[]));
        // It is never the better of two that differ.
        assert!(near(&found, &[0, 50, 50], 1), "{way:?}: {found:?}");
    }
    // Twice the weight carries twice the requests.
    let mut endpoints = Endpoints::new(&[2, 1]);
    (endpoints.template[0].active, endpoints.template[1].active) = (10, 5);
    let found = endpoints.shares(&balancer(Algorithm::LeastRequest, &[]));
    assert!(near(&found, &[67, 33], 1), "{found:?}");
    endpoints.template[0].active = 11;
    assert_eq!(endpoints.shares(&balancer(Algorithm::LeastRequest, &[])), [0, 100]);
}

#[test]
fn the_slow_get_less() {
    let mut endpoints = Endpoints::new(&[1, 1]);
    endpoints.template[0].ewma = Duration::from_millis(50);
    let ewma = balancer(Algorithm::PeakEwma, &[]);
    assert_eq!(endpoints.shares(&ewma), [0, 100]);
    endpoints.template[1].active = 5;
    assert_eq!(endpoints.shares(&ewma), [100, 0], "60 ms are longer than 50");
}

#[test]
fn the_unhealthy_are_left_out_unless_they_are_most() {
    for balancer in all() {
        let mut endpoints = Endpoints::new(&[1, 1, 1]);
        endpoints.template[1].healthy = false;
        let found = endpoints.shares(&balancer);
        assert!(found[1] == 0 && found[0] > 20 && found[2] > 20, "{balancer:?}: {found:?}");
        endpoints.template[0].healthy = false;
        let found = endpoints.shares(&balancer);
        assert!(found.iter().all(|share| *share > 20), "a third is fewer than half: {balancer:?}: {found:?}");
    }
    // Half is not fewer than half, and what has no weight does not count.
    let mut endpoints = Endpoints::new(&[1, 1, 0]);
    endpoints.template[1].healthy = false;
    assert_eq!(endpoints.shares(&balancer(Algorithm::Random, &[])), [100, 0, 0]);
}

#[test]
fn the_zone_is_preferred_while_it_has_healthy_endpoints() {
    let mut endpoints = Endpoints::new(&[1, 1, 2]);
    endpoints.template[0].zone_local = true;
    let balancer = balancer(Algorithm::LeastRequest, &[]);
    assert_eq!(endpoints.shares(&balancer), [100, 0, 0]);
    endpoints.template[0].healthy = false;
    let found = endpoints.shares(&balancer);
    assert!(near(&found, &[0, 33, 67], 1), "{found:?}");
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let window = Duration::from_secs(60);
    let config = LoadBalancer {
        algorithm: Algorithm::RoundRobin,
        slow_start: Some(window),
        ..LoadBalancer::default()
    };
    let balancer = Balancer::new(&config, &[]);
    for (age, expected) in [(0, [91, 9]), (6, [91, 9]), (30, [67, 33]), (60, [50, 50])] {
        let mut endpoints = Endpoints::new(&[1, 1]);
        endpoints.template[1].age = Duration::from_secs(age);
        let found = endpoints.shares(&balancer);
        assert!(near(&found, &expected, 1), "{age}: {found:?}");
    }
}

#[test]
fn a_key_stays_and_moves_only_when_its_endpoint_is_out() {
    let mut endpoints = Endpoints::new(&[1, 1, 1]);
    let balancer = balancer(Algorithm::ConsistentHash(HashKey::Source), &ABC);
    let mut rng = Rng::with_seed(1);
    let mut owners = |endpoints: &Endpoints| -> Vec<Option<usize>> {
        let pick =
            |key: u32| balancer.pick(&endpoints.candidates(), Some(hash(&key.to_le_bytes())), &mut rng);
        (0..1_000).map(pick).collect()
    };
    let before = owners(&endpoints);
    endpoints.template[0].zone_local = true;
    assert_eq!(owners(&endpoints), before, "whatever the zone");
    endpoints.template[1].healthy = false;
    let after = owners(&endpoints);
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(*after, Some(1));
        assert!(before == after || *before == Some(1));
    }
    let mut rng = Rng::with_seed(3);
    let found: Vec<_> = (0..50).map(|_| balancer.pick(&endpoints.candidates(), None, &mut rng)).collect();
    assert!(found.contains(&Some(0)) && found.contains(&Some(2)), "without a key, any");
}

#[test]
fn none_or_one() {
    let mut rng = Rng::with_seed(1);
    for balancer in all() {
        assert_eq!(balancer.pick(&[], Some(1), &mut rng), None);
        assert_eq!(balancer.pick(&Endpoints::new(&[0, 0, 0]).candidates(), Some(1), &mut rng), None);
        let mut one = Endpoints::new(&[0, 1, 0]);
        assert_eq!(balancer.pick(&one.candidates(), Some(1), &mut rng), Some(1));
        one.template[1].healthy = false;
        assert_eq!(balancer.pick(&one.candidates(), Some(1), &mut rng), Some(1), "the last one, in panic");
    }
}
