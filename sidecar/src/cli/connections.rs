//! `sidecar connections`: the live connections of all instances on this machine.

pub(super) mod client;
mod follow;
mod human;

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use clap::ValueEnum;
use tokio::task::JoinSet;

use self::client::{ClientError, Instance};
use self::human::Table;
use crate::observe::connection::Snapshot;

/// Shows every live connection and the path of its bytes
#[derive(clap::Args, Clone, Default, Debug)]
pub struct Args {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
    /// Go on: print opens and closes until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Only this instance
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
}

/// How to print connections.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Output {
    /// A line each
    #[default]
    Table,
    /// The same with cgroup, policy and id
    Wide,
    /// An array; with --watch an object a line
    Json,
}

/// Where results and remarks go: stdout and stderr, but in tests.
struct Streams<'a> {
    out: &'a mut (dyn Write + Send),
    notes: &'a mut (dyn Write + Send),
}

// === impl ===

/// Asks the instances that have a directory in `run_dir`. A reader of stdout that left is no failure.
pub async fn run(args: Args, run_dir: &Path) -> anyhow::Result<()> {
    let mut streams = Streams { out: &mut io::stdout(), notes: &mut io::stderr() };
    let done = if args.watch {
        let interrupted = async {
            // Without the handler the signal ends this process as well.
            let _ = tokio::signal::ctrl_c().await;
        };
        follow::follow(&args, run_dir, &mut streams, interrupted).await
    } else {
        list(&args, run_dir, &mut streams).await
    };
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

async fn list(args: &Args, run_dir: &Path, streams: &mut Streams<'_>) -> anyhow::Result<()> {
    let instances = instances(args, run_dir)?;
    if instances.is_empty() {
        match &args.instance {
            Some(name) => {
                bail!("no proxy of instance {name:?} has a control socket under {}", run_dir.display())
            }
            None => writeln!(streams.notes, "no instance has a control socket under {}", run_dir.display())?,
        }
    }
    let asked = instances.len();
    let mut answers = JoinSet::new();
    for instance in instances {
        answers.spawn(async move {
            let answer = client::list(&instance).await;
            (instance, answer)
        });
    }
    let mut connections: Vec<Snapshot> = Vec::new();
    let mut failed = 0;
    while let Some(answer) = answers.join_next().await {
        let (instance, answer) = answer.context("a task that asked an instance broke")?;
        match answer {
            Ok(found) => connections.extend(found),
            Err(error) => {
                note(streams, &instance, &error)?;
                failed += usize::from(args.instance.is_some() || !matches!(error, ClientError::Gone));
            }
        }
    }
    connections.sort_by(|a, b| (&a.instance, a.direction, a.id).cmp(&(&b.instance, b.direction, b.id)));
    let text = match args.output {
        Output::Json => serde_json::to_string(&connections)? + "\n",
        Output::Table | Output::Wide => Table::new(args.output == Output::Wide).render(&connections),
    };
    streams.out.write_all(text.as_bytes())?;
    streams.out.flush()?;
    if failed > 0 {
        bail!("{failed} of {asked} instances did not answer");
    }
    Ok(())
}

fn instances(args: &Args, run_dir: &Path) -> anyhow::Result<Vec<Instance>> {
    client::instances(run_dir, args.instance.as_deref())
        .with_context(|| format!("cannot read {}", run_dir.display()))
}

fn note(streams: &mut Streams<'_>, instance: &Instance, error: &ClientError) -> io::Result<()> {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    writeln!(streams.notes, "instance {}: {error}{cause}", instance.name)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
