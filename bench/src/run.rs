//! The run: every case, every round, every mode, in turn.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::affinity;
use crate::case::{Case, Load, Plan};
use crate::instance::Instance;
use crate::machine::Machine;
use crate::measure::{Bench, Untouched};
use crate::metric::{Metric, Sample};
use crate::mode::Mode;
use crate::results::{Measured, Results};
use crate::{charts, report};

/// What to run.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Fewer cases, three short rounds: what the bars are about, in two minutes.
    #[arg(long)]
    quick: bool,
    /// Also Envoy, behind nat rules and behind the kernel half.
    #[arg(long)]
    peers: bool,
    /// How often each case is measured in each mode.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Only cases whose identifier contains one of these, as `ping-64x1-one`.
    #[arg(long, value_name = "CASE", num_args = 1..)]
    only: Vec<String>,
    /// Where the results go.
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench", overrides_with = "out")]
    out: PathBuf,
}

/// The run's state.
struct Run {
    bench: Bench,
    instances: Vec<Instance>,
    rounds: usize,
    remarks: Vec<String>,
    interrupted: Arc<AtomicBool>,
    begun: Instant,
    done: usize,
    total: usize,
}

/// Runs, and writes the results.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(geteuid().is_root(), "the benchmark makes network namespaces: run it as root");
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut plan = if args.quick { Plan::quick() } else { Plan::full() };
    if !args.only.is_empty() {
        plan.only(&args.only);
        ensure!(!plan.cases.is_empty(), "no case is called so; {}", names(args.quick));
    }
    plan.rounds = args.rounds.map_or(plan.rounds, usize::from);
    let processors = affinity::available()?;
    let mut remarks = Vec::new();
    plan.cases.retain(|case| {
        let fits = affinity::places(case.pinning, &processors).is_some();
        if !fits {
            remarks.push(format!("left out, since this machine has one processor: {case}"));
            println!("{}", remarks[remarks.len() - 1]);
        }
        fits
    });
    let mut modes = Mode::OWN.to_vec();
    if args.peers {
        modes.extend(Mode::PEERS);
    }
    let machine = Machine::new(processors.len())?;
    let mut instances = Vec::new();
    for &mode in &modes {
        println!("starting {mode}");
        instances.push(Instance::start(mode).with_context(|| mode.to_string())?);
    }
    let bench =
        Bench { program: std::env::current_exe()?, processors, warmup: plan.warmup, length: plan.length };
    let total = plan.cases.len() * plan.rounds * modes.len();
    let mut run = Run {
        bench,
        instances,
        rounds: plan.rounds,
        remarks,
        interrupted,
        begun: Instant::now(),
        done: 0,
        total,
    };
    let cases = plan.cases.iter().map(|&case| run.case(case)).collect::<Result<_>>()?;
    let mut results = Results {
        machine,
        modes,
        rounds: plan.rounds,
        warmup_ms: plan.warmup.as_millis(),
        length_ms: plan.length.as_millis(),
        cases,
        remarks: run.remarks,
    };
    let found: Vec<String> = results.disturbance().into_iter().chain(results.without_bypass()).collect();
    results.remarks.extend(found);
    write(&results, &args.out)
}

fn write(results: &Results, directory: &PathBuf) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.json"), serde_json::to_string_pretty(results)?)?;
    fs::write(directory.join("results.md"), report::markdown(results))?;
    charts::draw(results, directory)?;
    println!("\n{}", report::bars(results));
    results.remarks.iter().for_each(|remark| println!("- {remark}"));
    println!("results are in {}", directory.display());
    ensure!(results.remarks.iter().all(|remark| !remark.starts_with("failed")), "some measurements failed");
    Ok(())
}

fn names(quick: bool) -> String {
    let plan = if quick { Plan::quick() } else { Plan::full() };
    format!("there are {}", plan.cases.iter().map(Case::id).collect::<Vec<_>>().join(", "))
}

/// The quantity by which a case is first judged.
pub(crate) fn main_metric(load: Load) -> Metric {
    match load {
        Load::Hold { .. } => Metric::Resident,
        Load::PingPong { connections: 1, .. } => Metric::P50,
        Load::PingPong { .. } | Load::Connect { .. } => Metric::Rate,
        Load::Bulk { .. } => Metric::Throughput,
    }
}

// === impl Run ===

impl Run {
    fn case(&mut self, case: Case) -> Result<Measured> {
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let mut samples = BTreeMap::new();
            // Nobody is always first, nor always after the same neighbour's heat.
            let count = self.instances.len();
            for index in (0..count).map(|index| (index + round) % count) {
                if self.interrupted.load(Ordering::Relaxed) {
                    bail!("interrupted");
                }
                let mode = self.instances[index].mode;
                let measured = self.bench.measure(case, &mut self.instances[index]);
                self.done += 1;
                match measured {
                    Ok(sample) => {
                        self.tell(case, round, mode, &shown(case, &sample));
                        samples.insert(mode, sample);
                    }
                    Err(error) if error.is::<Untouched>() => {
                        return Err(error.context(format!("{mode}: {case}")));
                    }
                    Err(error) => {
                        let remark = format!("failed: {mode}: {case}, round {}: {error:#}", round + 1);
                        self.tell(case, round, mode, &remark);
                        self.remarks.push(remark);
                    }
                }
            }
            rounds.push(samples);
        }
        Ok(Measured { id: case.id(), case, rounds })
    }

    fn tell(&self, case: Case, round: usize, mode: Mode, what: &str) {
        let left = self.begun.elapsed().as_secs() * (self.total - self.done) as u64 / self.done.max(1) as u64;
        let (done, total, rounds) = (self.done, self.total, self.rounds);
        println!(
            "[{done}/{total}, {}:{:02} left] {case}, round {}/{rounds}: {mode}: {what}",
            left / 60,
            left % 60,
            round + 1
        );
    }
}

fn shown(case: Case, sample: &Sample) -> String {
    let metric = main_metric(case.load);
    let value = sample.get(&metric).map(|&value| format!("{} {}", metric.shown(value), metric.title()));
    let failures = sample.get(&Metric::Failures).filter(|&&count| count > 0.0);
    let failures = failures.map(|count| format!(", {count} failures"));
    value.unwrap_or_else(|| "nothing to measure".to_owned()) + &failures.unwrap_or_default()
}
