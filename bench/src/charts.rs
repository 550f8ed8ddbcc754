//! The results as drawings.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::case::{Case, Load};
use crate::metric::Metric;
use crate::mode::Mode;
use crate::results::{Measured, Results};

/// One drawing, whose name is one in a suite: a group of columns for each case, a column for each mode.
struct Chart<'a> {
    file: &'a str,
    title: &'a str,
    metric: Metric,
    shows: fn(&Case) -> bool,
}

const CHARTS: [Chart<'_>; 7] = [
    Chart {
        file: "latency.svg",
        title: "Ping-pong on one connection: p50 in µs, less is better",
        metric: Metric::P50,
        shows: |case| matches!(case.load, Load::PingPong { connections: 1, .. }),
    },
    Chart {
        file: "rate.svg",
        title: "Ping-pong on 16 connections: messages per second",
        metric: Metric::Rate,
        shows: |case| matches!(case.load, Load::PingPong { connections: 16, .. }),
    },
    Chart {
        file: "bulk.svg",
        title: "One connection, as much as it takes: GB/s",
        metric: Metric::Throughput,
        shows: |case| matches!(case.load, Load::Bulk { .. }),
    },
    Chart {
        file: "connect.svg",
        title: "New connections with one exchange each: per second",
        metric: Metric::Rate,
        shows: |case| matches!(case.load, Load::Connect { .. }),
    },
    Chart {
        file: "rate.svg",
        title: "Small requests, the proxy on one core: per second",
        metric: Metric::Rate,
        shows: |case| matches!(case.load, Load::Http1 { .. } | Load::Http2 { .. } | Load::Grpc { .. }),
    },
    Chart {
        file: "policies.svg",
        title: "Small requests by a route without and with policies, the proxy on one core: per second",
        metric: Metric::Rate,
        shows: |case| matches!(case.load, Load::Routes { .. }),
    },
    Chart {
        file: "latency.svg",
        title: "Small requests at a fixed rate, the proxy on one core: p99 in µs, less is better",
        metric: Metric::P99,
        shows: |case| matches!(case.load, Load::Paced { .. }),
    },
];

const SIZE: (u32, u32) = (1100, 460);

/// The axis goes so far beyond the highest column: the legend is there. A whisker may be cut.
const HEADROOM: f64 = 1.45;

/// The part of a group's width that its columns take.
const FILLED: f64 = 0.84;

/// Draws what was measured into `directory`.
pub(crate) fn draw(results: &Results, directory: &Path) -> Result<()> {
    for chart in &CHARTS {
        let groups: Vec<&Measured> =
            results.cases.iter().filter(|measured| (chart.shows)(&measured.case)).collect();
        if !groups.is_empty() {
            let path = directory.join(format!("{}{}", results.suite.prefix(), chart.file));
            let has = |mode: &Mode| groups.iter().any(|measured| measured.case.compares(*mode));
            let modes: Vec<Mode> = results.modes.iter().copied().filter(has).collect();
            chart.draw(&groups, &modes, &path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

// === impl Chart ===

impl Chart<'_> {
    #[allow(clippy::cast_precision_loss, reason = "a few columns")]
    fn draw(
        &self,
        groups: &[&Measured],
        modes: &[Mode],
        path: &Path,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let unit = |value| self.metric.in_unit(value);
        let spread = |group: usize, mode| groups[group].spread(mode, self.metric);
        let highest = (0..groups.len())
            .flat_map(|group| modes.iter().filter_map(move |&mode| spread(group, mode)))
            .map(|spread| unit(spread.median))
            .fold(0.0, f64::max);
        let top = highest * HEADROOM;
        let mut context = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(-0.5..groups.len() as f64 - 0.5, 0.0..top)?;
        // Axes have labels at fractions as well; groups are at the integers.
        let label = |x: &f64| {
            let group = (0..groups.len()).find(|&group| (x - group as f64).abs() < 0.01);
            group.map_or_else(String::new, |group| groups[group].id.clone())
        };
        context
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .x_labels(2 * groups.len() + 1)
            .x_label_formatter(&label)
            .label_style(("sans-serif", 12))
            .draw()?;
        let width = FILLED / modes.len() as f64;
        for (position, &mode) in modes.iter().enumerate() {
            let color = color(mode);
            let left = |group: usize| group as f64 - FILLED / 2.0 + position as f64 * width;
            let spreads = || (0..groups.len()).filter_map(|group| Some((left(group), spread(group, mode)?)));
            let columns = spreads().map(|(left, spread)| {
                Rectangle::new([(left, 0.0), (left + width * 0.9, unit(spread.median))], color.filled())
            });
            context
                .draw_series(columns)?
                .label(mode.to_string())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
            context.draw_series(spreads().map(|(left, spread)| {
                let middle = left + width * 0.45;
                PathElement::new(vec![(middle, unit(spread.min)), (middle, unit(spread.max).min(top))], BLACK)
            }))?;
        }
        context
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 12))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

fn color(mode: Mode) -> RGBColor {
    match mode {
        Mode::Direct => RGBColor(120, 120, 120),
        Mode::Iptables => RGBColor(213, 94, 0),
        Mode::Ebpf => RGBColor(86, 180, 233),
        Mode::EbpfToProxy => RGBColor(0, 114, 178),
        Mode::EbpfFull => RGBColor(0, 158, 115),
        Mode::EbpfSameNode => RGBColor(240, 228, 66),
        Mode::Route => RGBColor(230, 159, 0),
        Mode::Policies => RGBColor(170, 110, 0),
        Mode::EnvoyIptables => RGBColor(204, 121, 167),
        Mode::EnvoyEbpf => RGBColor(150, 80, 120),
    }
}
