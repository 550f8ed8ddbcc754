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
use crate::suite::Suite;
use crate::token::Token;
use crate::{charts, report};

/// What to run.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What proxies do with what is captured.
    #[arg(value_enum, default_value_t)]
    suite: Suite,
    /// Three short rounds of what the bars are about, in four minutes.
    #[arg(long)]
    quick: bool,
    /// Also Envoy.
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
    let mut plan = args.suite.plan(args.quick);
    if !args.only.is_empty() {
        plan.only(&args.only);
        ensure!(!plan.cases.is_empty(), "no case is called so; {}", names(&args.suite.plan(args.quick)));
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
    let mut modes = args.suite.modes(args.peers);
    modes.retain(|mode| plan.cases.iter().any(|case| case.compares(*mode)));
    let token = Token::new()?;
    let machine = Machine::new(processors.len())?;
    let mut instances = Vec::new();
    let this = std::process::id();
    affinity::allow(this, args.suite.start_on(&processors))?;
    for &mode in &modes {
        println!("starting {mode}");
        instances.push(Instance::start(mode, args.suite, &token).with_context(|| mode.to_string())?);
    }
    affinity::allow(this, &processors)?;
    let bench = Bench {
        program: std::env::current_exe()?,
        processors,
        warmup: plan.warmup,
        length: plan.length,
        token: token.text,
        rate: None,
    };
    let comparisons = plan.cases.iter().flat_map(|case| modes.iter().filter(|mode| case.compares(**mode)));
    let total = comparisons.count() * plan.rounds;
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
        suite: args.suite,
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
    let file = results.suite.file();
    fs::write(directory.join(format!("{file}.json")), serde_json::to_string_pretty(results)?)?;
    fs::write(directory.join(format!("{file}.md")), report::markdown(results))?;
    charts::draw(results, directory)?;
    println!("\n{}", report::summary(results));
    results.remarks.iter().for_each(|remark| println!("- {remark}"));
    println!("results are in {}", directory.display());
    ensure!(results.remarks.iter().all(|remark| !remark.starts_with("failed")), "some measurements failed");
    Ok(())
}

fn names(plan: &Plan) -> String {
    format!("there are {}", plan.cases.iter().map(Case::id).collect::<Vec<_>>().join(", "))
}

/// The quantity by which a case is first judged.
pub(crate) fn main_metric(load: Load) -> Metric {
    match load {
        Load::Hold { .. } | Load::HoldHttp { .. } => Metric::Resident,
        Load::PingPong { connections: 1, .. } | Load::Paced { .. } => Metric::P50,
        Load::PingPong { .. }
        | Load::Connect { .. }
        | Load::Http1 { .. }
        | Load::Http2 { .. }
        | Load::Grpc { .. }
        | Load::Routes { .. } => Metric::Rate,
        Load::Bulk { .. } => Metric::Throughput,
    }
}

// === impl Run ===

impl Run {
    fn case(&mut self, case: Case) -> Result<Measured> {
        let compared: Vec<usize> =
            (0..self.instances.len()).filter(|&index| case.compares(self.instances[index].mode)).collect();
        let mut rounds = Vec::new();
        for round in 0..self.rounds {
            let mut samples = BTreeMap::new();
            // Nobody is always first, nor always after the same neighbour's heat.
            let count = compared.len();
            for index in (0..count).map(|turn| compared[(turn + round) % count]) {
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
        let measured = Measured { id: case.id(), case, rounds };
        if matches!(case.load, Load::Http1 { .. }) {
            self.bench.rate = pace(&measured);
        }
        Ok(measured)
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

/// Half of what Envoy made of the case; without it, half of what the slowest proxy made.
fn pace(measured: &Measured) -> Option<f64> {
    let rate = |mode| measured.spread(mode, Metric::Rate).map(|rate| rate.median);
    let slowest = || [Mode::Ebpf, Mode::EbpfFull].into_iter().filter_map(rate).reduce(f64::min);
    rate(Mode::EnvoyIptables).or_else(slowest).map(|rate| (rate / 2.0).round())
}

fn shown(case: Case, sample: &Sample) -> String {
    let metric = main_metric(case.load);
    let value = sample.get(&metric).map(|&value| format!("{} {}", metric.shown(value), metric.title()));
    let failures = sample.get(&Metric::Failures).filter(|&&count| count > 0.0);
    let failures = failures.map(|count| format!(", {count} failures"));
    value.unwrap_or_else(|| "nothing to measure".to_owned()) + &failures.unwrap_or_default()
}
