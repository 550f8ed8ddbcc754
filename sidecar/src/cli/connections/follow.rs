//! Follows all instances at once, also those that appear later.

use std::collections::HashSet;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::client;
use super::human::Table;
use super::{Args, Output, Streams, instances, note};
use crate::observe::connection::ConnectionEvent;

/// How often new instances are looked for.
const RESCAN: Duration = Duration::from_secs(1);
/// How many events may wait to be printed; beyond it the instances wait, and tell what was missed.
const BACKLOG: usize = 256;

/// Prints what happens until `until` completes.
pub(super) async fn follow(
    args: &Args,
    run_dir: &Path,
    streams: &mut Streams<'_>,
    until: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut until = pin!(until);
    let table = (args.output != Output::Json).then(|| Table::new(args.output == Output::Wide));
    if let Some(table) = &table {
        streams.out.write_all(table.stream_head().as_bytes())?;
    }
    let (sender, mut events) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    let mut followed = HashSet::new();
    let mut silent = HashSet::new();
    let mut rescan = tokio::time::interval(RESCAN);
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut until => return Ok(()),
            _ = rescan.tick() => {
                let found = instances(args, run_dir)?;
                silent.retain(|name| found.iter().any(|instance| instance.name == *name));
                for instance in found {
                    if followed.insert(instance.name.clone()) {
                        let sender = sender.clone();
                        tasks.spawn(async move {
                            let ended = client::watch(&instance, sender).await;
                            (instance, ended)
                        });
                    }
                }
            }
            Some(event) = events.recv() => print(&event, table.as_ref(), streams)?,
            Some(ended) = tasks.join_next() => {
                let (instance, ended) = ended.context("a task that followed an instance broke")?;
                followed.remove(&instance.name);
                // It is asked again at each rescan, and said once.
                let is_news = silent.insert(instance.name.clone());
                match ended {
                    Ok(()) => writeln!(streams.notes, "instance {}: ended", instance.name)?,
                    Err(error) if is_news => note(streams, &instance, &error)?,
                    Err(_) => {}
                }
            }
        }
    }
}

fn print(event: &ConnectionEvent, table: Option<&Table>, streams: &mut Streams<'_>) -> anyhow::Result<()> {
    let line = match (table, event) {
        (None, event) => serde_json::to_string(event)? + "\n",
        (Some(table), ConnectionEvent::Live(connection)) => table.stream_row("live", connection),
        (Some(table), ConnectionEvent::Open(connection)) => table.stream_row("open", connection),
        (Some(table), ConnectionEvent::Close(connection)) => table.stream_row("close", connection),
        (Some(_), ConnectionEvent::Missed { missed }) => {
            writeln!(streams.notes, "{missed} events were missed: this reader is too slow")?;
            return Ok(());
        }
    };
    streams.out.write_all(line.as_bytes())?;
    streams.out.flush()?;
    Ok(())
}
