//! Connections for people: a table with human units.

use std::fmt::Write;

use crate::observe::connection::{Snapshot, State, printable};

/// The columns of a table.
pub(super) struct Table(Vec<Column>);

struct Column {
    head: &'static str,
    /// For streams, where later lines are not known yet.
    width: usize,
    cell: fn(&Snapshot) -> String,
}

const COLUMNS: [Column; 14] = [
    Column { head: "INSTANCE", width: 12, cell: |c| c.instance.clone() },
    Column { head: "DIR", width: 8, cell: |c| c.direction.to_string() },
    Column { head: "PID", width: 7, cell: |c| or_dash(c.pid) },
    Column { head: "COMM", width: 15, cell: |c| or_dash(c.comm.as_deref()) },
    Column { head: "SOURCE", width: 21, cell: |c| c.source.to_string() },
    Column { head: "ORIGINAL-DST", width: 21, cell: |c| or_dash(c.original_destination) },
    Column { head: "UPSTREAM", width: 21, cell: |c| or_dash(c.upstream) },
    Column { head: "STATE", width: 10, cell: state },
    Column { head: "AGE", width: 6, cell: |c| age(c.age_ms) },
    Column { head: "SENT", width: 8, cell: |c| bytes(c.bytes_sent) },
    Column { head: "RECEIVED", width: 8, cell: |c| bytes(c.bytes_received) },
    Column { head: "PATH", width: 6, cell: |c| word(c.path) },
    Column { head: "RTT", width: 7, cell: |c| or_dash(c.rtt_us.map(rtt)) },
    Column { head: "RETR", width: 4, cell: |c| or_dash(c.retransmits) },
];

const WIDE_COLUMNS: [Column; 6] = [
    Column { head: "BYPASS", width: 8, cell: |c| word(c.bypass) },
    Column { head: "WHY", width: 20, cell: |c| or_dash(c.bypass_reason.as_deref()) },
    Column {
        head: "SAME-NODE",
        width: 9,
        cell: |c| or_dash(c.same_node.as_ref().map(|hop| word(hop.bypass))),
    },
    Column { head: "CGROUP", width: 30, cell: |c| or_dash(c.cgroup.as_deref()) },
    Column { head: "POLICY", width: 12, cell: |c| or_dash(c.policy.as_deref()) },
    Column { head: "ID", width: 8, cell: |c| c.id.to_string() },
];

// === impl ===

impl Table {
    pub(super) fn new(wide: bool) -> Self {
        Self(COLUMNS.into_iter().chain(WIDE_COLUMNS.into_iter().filter(|_| wide)).collect())
    }

    /// A head and a line for each connection, aligned.
    pub(super) fn render(&self, connections: &[Snapshot]) -> String {
        let heads = self.0.iter().map(|column| column.head.to_owned()).collect();
        let rows: Vec<Vec<String>> =
            std::iter::once(heads).chain(connections.iter().map(|one| self.cells(one))).collect();
        let widths =
            (0..self.0.len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
        let widths: Vec<usize> = widths.collect();
        rows.iter().map(|row| line(row.iter().zip(&widths))).collect()
    }

    /// The head of a stream.
    pub(super) fn stream_head(&self) -> String {
        let heads: Vec<String> = self.0.iter().map(|column| column.head.to_owned()).collect();
        self.stream_line("EVENT", &heads)
    }

    /// A line of a stream.
    pub(super) fn stream_row(&self, event: &str, connection: &Snapshot) -> String {
        self.stream_line(event, &self.cells(connection))
    }

    fn stream_line(&self, event: &str, cells: &[String]) -> String {
        let widths = self.0.iter().map(|column| &column.width);
        format!("{event:<5}  {}", line(cells.iter().zip(widths)))
    }

    fn cells(&self, connection: &Snapshot) -> Vec<String> {
        self.0.iter().map(|column| printable(&(column.cell)(connection)).into_owned()).collect()
    }
}

fn line<'a>(cells: impl Iterator<Item = (&'a String, &'a usize)>) -> String {
    let mut line = String::new();
    for (cell, width) in cells {
        // Writing to a String cannot fail.
        let _ = write!(line, "{cell:<width$}  ");
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn state(connection: &Snapshot) -> String {
    match (connection.state, connection.close_reason) {
        (State::Closed, Some(reason)) => format!("closed:{}", reason.as_str()),
        (state, _) => word(state),
    }
}

/// A value as JSON spells it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Up to 4 digits and a binary unit: `999B`, `1.5KiB`, `1023GiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    // In tenths, rounded down: no number is shown larger than it is.
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths < 100 {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{}{}", tenths / 10, UNITS[unit])
    }
}

/// The two largest units: `850ms`, `59s`, `1m5s`, `3h10m`, `2d4h`.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

fn rtt(us: u32) -> String {
    match us {
        0..1000 => format!("{us}us"),
        1000..1_000_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::close_reason::CloseReason;
    use crate::observe::connection::tests::sample;

    #[test]
    fn units_are_human() {
        let shown = [0, 1023, 1024, 1536, 10 * 1024, 1024 * 1024 - 1, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(shown, ["0B", "1023B", "1.0KiB", "1.5KiB", "10KiB", "1023KiB", "1.0GiB", "16383PiB"]);
        let shown = [0, 999, 59_999, 65_000, 11_400_000, 187_200_000].map(age);
        assert_eq!(shown, ["0ms", "999ms", "59s", "1m5s", "3h10m", "2d4h"]);
        assert_eq!([85, 1_250, 2_500_000].map(rtt), ["85us", "1.2ms", "2.5s"]);
    }

    #[test]
    fn columns_are_aligned_and_end_without_spaces() {
        let other = Snapshot { instance: "a-longer-name".into(), ..sample(9) };
        let text = Table::new(false).render(&[sample(1), other]);
        let lines: Vec<_> = text.lines().collect();
        let column = lines[0].find("DIR").unwrap();
        assert!(lines[1..].iter().all(|line| line[column..].starts_with("outbound  42 ")), "{text}");
        assert!(lines.iter().all(|line| line.trim_end() == *line));
        assert!(lines[1].contains(" connecting  1s   78B   2.0KiB    tcp   85us  -"), "{text}");
        assert!(!lines[0].contains("CGROUP"));
        assert!(
            Table::new(true).render(&[]).trim_end().ends_with("BYPASS  WHY  SAME-NODE  CGROUP  POLICY  ID")
        );
    }

    #[test]
    fn a_stream_says_why_a_connection_closed() {
        let closed =
            Snapshot { state: State::Closed, close_reason: Some(CloseReason::ConnectRefused), ..sample(1) };
        let table = Table::new(false);
        let row = table.stream_row("close", &closed);
        assert!(row.starts_with("close  run-1 ") && row.contains(" closed:connectRefused "), "{row}");
        assert_eq!(table.stream_head().find("PID"), row.find("42"));
    }

    #[test]
    fn no_cell_moves_the_cursor() {
        let forged = Snapshot { comm: Some("\x1b[2J".into()), ..sample(1) };
        assert!(!Table::new(true).render(&[forged]).contains('\x1b'));
    }
}
