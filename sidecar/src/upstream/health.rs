//! Whether an endpoint is healthy, from the answers to its health checks. Who asks is elsewhere.

use crate::config::traffic::HealthCheck;

/// What is known of one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    unhealthy_threshold: u32,
    healthy_threshold: u32,
    /// `None`: not asked yet.
    healthy: Option<bool>,
    /// Answers in a row that speak against it.
    against: u32,
}

/// What an answer changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// The endpoint is healthy now.
    Healthy,
    /// It is not any more.
    Unhealthy,
}

impl Health {
    /// An endpoint that was not asked yet. It counts as healthy: a new configuration stops no traffic.
    pub fn new(check: &HealthCheck) -> Self {
        Self {
            unhealthy_threshold: check.unhealthy_threshold,
            healthy_threshold: check.healthy_threshold,
            healthy: None,
            against: 0,
        }
    }

    /// True unless it is known to be unhealthy.
    pub fn is_healthy(&self) -> bool {
        self.healthy != Some(false)
    }

    /// Takes in an answer; no answer in time is a bad one. The first one counts at once (Envoy): there is nothing that
    /// it would have to outweigh.
    pub fn observe(&mut self, ok: bool) -> Option<Transition> {
        let needed = match self.healthy {
            Some(healthy) if healthy == ok => {
                self.against = 0;
                return None;
            }
            Some(true) => self.unhealthy_threshold,
            Some(false) => self.healthy_threshold,
            None => 1,
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        (self.healthy, self.against) = (Some(ok), 0);
        Some(if ok { Transition::Healthy } else { Transition::Unhealthy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::traffic::Probe;

    /// The transitions after each answer: `+` healthy, `-` unhealthy, `.` none.
    fn run(answers: &str) -> String {
        let check =
            HealthCheck { unhealthy_threshold: 3, healthy_threshold: 2, ..HealthCheck::new(Probe::Tcp) };
        let mut health = Health::new(&check);
        let shown = |answer: char| match health.observe(answer == '1') {
            Some(Transition::Healthy) => '+',
            Some(Transition::Unhealthy) => '-',
            None => '.',
        };
        answers.chars().map(shown).collect()
    }

    #[test]
    fn it_takes_several_answers_in_a_row_but_for_the_first() {
        let cases = [
            ("1", "+"),
            ("0", "-"),
            ("1000", "+..-"),
            ("100100", "+....."),
            ("011", "-.+"),
            ("01011", "-...+"),
            ("1111000011", "+.....-..+"),
        ];
        for (answers, expected) in cases {
            assert_eq!(run(answers), expected, "{answers}");
        }
    }

    #[test]
    fn what_was_not_asked_counts_as_healthy() {
        let mut health = Health::new(&HealthCheck::new(Probe::Tcp));
        assert!(health.is_healthy());
        health.observe(false);
        assert!(!health.is_healthy());
    }
}
