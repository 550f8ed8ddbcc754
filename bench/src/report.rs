//! The results as Markdown.

use std::fmt::Write as _;

use crate::bars::{self, Bar, Bound};
use crate::case::Load;
use crate::metric::Metric;
use crate::mode::Mode;
use crate::results::{Measured, Results};
use crate::run::main_metric;
use crate::stats::{Spread, ratio};

/// Everything: the machine, the bars, a table for each case.
pub(crate) fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = String::from("# Benchmark\n\n");
    line(&mut text, format_args!("- {}, commit {}", machine.date, machine.commit));
    line(
        &mut text,
        format_args!(
            "- Linux {}, {} x {}, {}, load {} before the run",
            machine.kernel, machine.processors, machine.processor, machine.memory, machine.load
        ),
    );
    line(&mut text, format_args!("- congestion control: {}", machine.congestion_control));
    line(
        &mut text,
        format_args!(
            "- {} rounds; each measurement {} ms after a warm-up of at least {} ms",
            results.rounds, results.length_ms, results.warmup_ms
        ),
    );
    for remark in &results.remarks {
        line(&mut text, format_args!("- {remark}"));
    }
    text.push_str("\nCells are medians over the rounds, with the least and the greatest. Ratios are taken within each round.\n");
    let bars = bars(results);
    if !bars.is_empty() {
        text.push_str("\n## Bars\n\n");
        text.push_str(&bars);
    }
    text.push_str("\n## Cases\n");
    text + &tables(results)
}

/// What a reader wants first: the bars, or all of a suite that has none.
pub(crate) fn summary(results: &Results) -> String {
    let bars = bars(results);
    if bars.is_empty() { tables(results) } else { bars }
}

fn tables(results: &Results) -> String {
    results.cases.iter().map(|measured| table(measured, &results.modes)).collect()
}

/// The bars as a table; nothing where there are none.
fn bars(results: &Results) -> String {
    let bars = bars::bars(results);
    if bars.is_empty() {
        return String::new();
    }
    let mut text = String::from("| bar | wanted | seen | |\n|---|---|---|---|\n");
    let (seen, unseen): (Vec<Bar>, Vec<Bar>) = bars.into_iter().partition(|bar| bar.seen.is_some());
    for bar in seen {
        let wanted = match bar.bound {
            Bound::AtMost(limit) => format!("<= {limit}"),
            Bound::AtLeast(limit) => format!(">= {limit}"),
        };
        let seen = bar.seen.map_or_else(|| "-".to_owned(), spread_of_ratio);
        line(&mut text, format_args!("| {} | {wanted} | {seen} | {} |", bar.what, verdict(&bar)));
    }
    if !unseen.is_empty() {
        line(&mut text, format_args!("\n{} more bars were not measured.", unseen.len()));
    }
    text
}

fn verdict(bar: &Bar) -> &'static str {
    match bar.is_met() {
        Some(true) => "pass",
        Some(false) => "MISS",
        None => "not measured",
    }
}

/// What is shown of a case.
fn columns(load: Load) -> &'static [Metric] {
    use Metric::{
        BypassShare, Failures, KernelMaps, MachineCpuPerGigabyte, MachineCpuPerMillion, Offered, P50, P90,
        P99, P999, ProcessCpuPerGigabyte, ProcessCpuPerMillion, ProxyCpuPerMillion, Rate, Resident,
        ResidentIdle, ResidentPerConnection, SameNodeShare, Throughput,
    };
    match load {
        Load::Hold { .. } | Load::HoldHttp { .. } => {
            &[ResidentIdle, Resident, ResidentPerConnection, KernelMaps]
        }
        Load::PingPong { .. } | Load::Connect { .. } => &[
            P50,
            P90,
            P99,
            P999,
            Rate,
            MachineCpuPerMillion,
            ProcessCpuPerMillion,
            Failures,
            BypassShare,
            SameNodeShare,
        ],
        Load::Http1 { .. } | Load::Http2 { .. } | Load::Grpc { .. } | Load::Routes { .. } => &[
            P50,
            P90,
            P99,
            P999,
            Rate,
            MachineCpuPerMillion,
            ProcessCpuPerMillion,
            ProxyCpuPerMillion,
            Failures,
            BypassShare,
        ],
        Load::Paced { .. } => &[
            Offered,
            P50,
            P90,
            P99,
            P999,
            MachineCpuPerMillion,
            ProcessCpuPerMillion,
            ProxyCpuPerMillion,
            Failures,
            BypassShare,
        ],
        Load::Bulk { .. } => {
            &[Throughput, MachineCpuPerGigabyte, ProcessCpuPerGigabyte, BypassShare, SameNodeShare]
        }
    }
}

fn table(measured: &Measured, modes: &[Mode]) -> String {
    let metric = main_metric(measured.case.load);
    let columns: Vec<Metric> = columns(measured.case.load)
        .iter()
        .copied()
        .filter(|column| {
            !matches!(column, Metric::Failures | Metric::BypassShare | Metric::SameNodeShare)
                || occurs(measured, modes, *column)
        })
        .collect();
    let mut text = format!("\n### {}\n\n| |", measured.case);
    let heads: Vec<&str> = columns.iter().map(|column| column.title()).collect();
    // One that others are measured by.
    let base = match measured.case.load {
        Load::Routes { .. } => Mode::Route,
        _ if modes.contains(&Mode::Iptables) => Mode::Iptables,
        _ => Mode::EnvoyIptables,
    };
    let bases = [Mode::Direct, base];
    let ratios = bases.map(|base| format!("{}, to {base}", metric.title()));
    line(&mut text, format_args!(" {} | {} |", heads.join(" | "), ratios.join(" | ")));
    line(&mut text, format_args!("|---|{}", "---|".repeat(columns.len() + 2)));
    for &mode in modes.iter().filter(|mode| measured.case.compares(**mode)) {
        let cells = columns.iter().map(|&column| {
            measured.spread(mode, column).map_or_else(|| "-".to_owned(), |spread| cell(column, spread))
        });
        let ratios = bases.map(|base| {
            let ratios = ratio(&measured.series(mode, metric), &measured.series(base, metric));
            Spread::of(&ratios).map_or_else(|| "-".to_owned(), spread_of_ratio)
        });
        let cells: Vec<String> = cells.chain(ratios).collect();
        line(&mut text, format_args!("| {mode} | {} |", cells.join(" | ")));
    }
    text
}

fn occurs(measured: &Measured, modes: &[Mode], column: Metric) -> bool {
    modes.iter().any(|&mode| measured.series(mode, column).iter().flatten().any(|&value| value > 0.0))
}

fn cell(metric: Metric, Spread { median, min, max }: Spread) -> String {
    format!("{} ({} to {})", metric.shown(median), metric.shown(min), metric.shown(max))
}

fn spread_of_ratio(Spread { median, min, max }: Spread) -> String {
    format!("{median:.2} ({min:.2} to {max:.2})")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
