//! All that was measured.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::case::{Case, Load};
use crate::machine::Machine;
use crate::metric::{Metric, Sample};
use crate::mode::Mode;
use crate::stats::{Series, Spread};
use crate::suite::Suite;

/// The processors that other work may take before it is remarked.
const QUIET: f64 = 0.2;

/// A run: what `results.json` has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Results {
    pub(crate) suite: Suite,
    pub(crate) machine: Machine,
    pub(crate) modes: Vec<Mode>,
    pub(crate) rounds: usize,
    pub(crate) warmup_ms: u128,
    pub(crate) length_ms: u128,
    pub(crate) cases: Vec<Measured>,
    /// What was left out, or failed, and why.
    pub(crate) remarks: Vec<String>,
}

/// A case, with a map of samples for each round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) id: String,
    pub(crate) case: Case,
    pub(crate) rounds: Vec<BTreeMap<Mode, Sample>>,
}

impl Measured {
    /// A quantity's values in one mode, a round each.
    pub(crate) fn series(&self, mode: Mode, metric: Metric) -> Series {
        self.rounds.iter().map(|round| round.get(&mode)?.get(&metric).copied()).collect()
    }

    pub(crate) fn spread(&self, mode: Mode, metric: Metric) -> Option<Spread> {
        Spread::of(&self.series(mode, metric))
    }
}

impl Results {
    /// A remark for each mode with a bypass that carried nothing where it could: its figures are those without.
    pub(crate) fn without_bypass(&self) -> Vec<String> {
        let could = |load| match load {
            Load::PingPong { .. }
            | Load::Http1 { .. }
            | Load::Paced { .. }
            | Load::Http2 { .. }
            | Load::Grpc { .. }
            | Load::Routes { .. } => true,
            Load::Hold { .. } | Load::HoldHttp { .. } | Load::Connect { .. } | Load::Bulk { .. } => false,
        };
        let cases = |mode| {
            let compares = move |measured: &&Measured| measured.case.compares(mode);
            self.cases.iter().filter(move |measured| could(measured.case.load)).filter(compares)
        };
        let carried = |measured: &&Measured, mode| {
            let shares: &[Metric] = match mode {
                Mode::EbpfSameNode => &[Metric::BypassShare, Metric::SameNodeShare],
                _ => &[Metric::BypassShare],
            };
            let some = |share| measured.series(mode, share).iter().flatten().any(|&share| share > 0.0);
            shares.iter().all(|&share| some(share))
        };
        let idle = |mode| cases(mode).filter(|measured| !carried(measured, mode)).count();
        let modes = self.modes.iter().filter(|mode| mode.bypass() != "off" && idle(**mode) > 0);
        modes
            .map(|&mode| {
                format!(
                    "{mode}: the bypass carried nothing in {} of {} cases of messages",
                    idle(mode),
                    cases(mode).count()
                )
            })
            .collect()
    }

    /// A remark when the machine had much else to do.
    pub(crate) fn disturbance(&self) -> Option<String> {
        let rounds = self.cases.iter().flat_map(|measured| &measured.rounds).flat_map(BTreeMap::values);
        let others: Series = rounds.map(|sample| sample.get(&Metric::Others).copied()).collect();
        let Spread { median, max, .. } = Spread::of(&others).filter(|others| others.median > QUIET)?;
        Some(format!(
            "other work kept {median:.2} processors busy (median; up to {max:.2}): figures are disturbed"
        ))
    }

    /// One round of one case.
    #[cfg(test)]
    pub(crate) fn of_round(suite: Suite, modes: &[Mode], case: Case, round: BTreeMap<Mode, Sample>) -> Self {
        Self {
            suite,
            machine: Machine::new(2).unwrap(),
            modes: modes.to_vec(),
            rounds: 1,
            warmup_ms: 0,
            length_ms: 0,
            cases: vec![Measured { id: case.id(), case, rounds: vec![round] }],
            remarks: vec![],
        }
    }

    pub(crate) fn of(&self, case: Case) -> Option<&Measured> {
        self.cases.iter().find(|measured| measured.case == case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Pinning, SMALL};

    fn results(samples: BTreeMap<Mode, Sample>) -> Results {
        let case = Case::ping_pong(SMALL, 1, Pinning::One);
        Results::of_round(Suite::Tcp, &[Mode::Ebpf, Mode::EbpfToProxy, Mode::EbpfFull], case, samples)
    }

    #[test]
    fn an_idle_bypass_is_told() {
        let sample = |share| Sample::from([(Metric::BypassShare, share)]);
        let results = results([(Mode::EbpfFull, sample(0.9)), (Mode::EbpfToProxy, sample(0.0))].into());
        assert_eq!(
            results.without_bypass(),
            ["eBPF to-proxy: the bypass carried nothing in 1 of 1 cases of messages"]
        );
    }

    #[test]
    fn a_bypass_to_programs_alone_is_told() {
        let sample = |[bypass, node]: [f64; 2]| {
            Sample::from([(Metric::BypassShare, bypass), (Metric::SameNodeShare, node)])
        };
        let remarks = |shares| {
            let round = [(Mode::EbpfFull, sample([0.9, 0.0])), (Mode::EbpfSameNode, sample(shares))];
            let case = Case::ping_pong(SMALL, 1, Pinning::One);
            Results::of_round(Suite::Pods, &Mode::PODS, case, round.into()).without_bypass().len()
        };
        assert_eq!([[0.9, 0.0], [0.0, 0.9], [0.9, 0.9]].map(remarks), [1, 1, 0]);
    }

    #[test]
    fn a_bypass_that_is_not_compared_is_not_idle() {
        let remarks =
            |case| Results::of_round(Suite::Http, &Mode::REQUESTS, case, [].into()).without_bypass().len();
        assert_eq!([Case::routes(), Case::grpc()].map(remarks), [0, 1]);
    }

    #[test]
    fn a_busy_machine_is_told() {
        let with =
            |others| results([(Mode::Ebpf, Sample::from([(Metric::Others, others)]))].into()).disturbance();
        assert_eq!(with(0.1), None);
        assert!(with(0.5).unwrap().contains("0.50 processors"));
    }
}
