//! One case in one mode, once.

use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sidecar_tests::Program;

use crate::affinity;
use crate::case::{Case, Direction, Load, SMALL};
use crate::instance::Instance;
use crate::memory;
use crate::metric::{Metric, Sample};
use crate::routes;
use crate::served::Served;

/// What stays the same through a run.
pub(crate) struct Bench {
    /// This program, which is client and server too.
    pub(crate) program: PathBuf,
    /// The processors of this process.
    pub(crate) processors: Vec<usize>,
    pub(crate) warmup: Duration,
    pub(crate) length: Duration,
    /// What clients of [`Load::Routes`] show.
    pub(crate) token: String,
    /// Requests a second of [`Load::Paced`], once they are known.
    pub(crate) rate: Option<f64>,
}

impl Bench {
    /// Measures. An error that is an [`Untouched`] ends the run: all that this mode yields would be another's.
    pub(crate) fn measure(&self, case: Case, instance: &mut Instance) -> Result<Sample> {
        let places = affinity::places(case.pinning, &self.processors);
        let [client_cpu, server_cpu, proxy_cpu] = places.context("this machine has too few processors")?;
        for pid in instance.pids() {
            match proxy_cpu {
                Some(cpu) => affinity::allow(pid, &[cpu])?,
                None => affinity::allow(pid, &self.processors)?,
            }
        }
        let before = instance.served()?;
        let mut server = self.serve(case, instance, server_cpu);
        let port: u16 = server.wait_for_output("\n").trim().parse().context("the server's port")?;
        let mut args = vec!["client".to_owned(), format!("--server={}:{port}", instance.address())];
        args.extend(client_cpu.map(|cpu| format!("--cpu={cpu}")));
        let proxies = instance.pids();
        args.extend(proxies.iter().copied().chain([server.pid().as_raw().unsigned_abs()]).map(watch));
        args.extend(proxies.first().map(|pid| format!("--proxy={pid}")));
        args.extend(self.lengths());
        args.extend(self.load_arguments(case.load)?);
        let mut sample = match case.load {
            Load::Hold { connections } | Load::HoldHttp { connections } => {
                self.hold(instance, &args, connections)?
            }
            _ => self.load(instance, &args)?,
        };
        let by_each = instance.served()?.into_iter().zip(before).map(|(after, before)| after.since(before));
        if let Some(served) = by_each.reduce(Served::and_by) {
            check(case, &sample, served, self.length)?;
            if served.bytes > 0.0 {
                sample.insert(Metric::BypassShare, served.bypassed / served.bytes);
                sample.insert(Metric::SameNodeShare, served.to_proxies / served.bytes);
            }
        }
        Ok(sample)
    }

    fn serve(&self, case: Case, instance: &Instance, cpu: Option<usize>) -> Program {
        let mut command = instance.server().command(&self.program);
        command.arg("server").args(cpu.map(|cpu| format!("--cpu={cpu}")));
        let address = match case.load {
            Load::Routes { .. } => routes::SERVER.to_owned(),
            _ => format!("{}:0", instance.address()),
        };
        command.arg(format!("--address={address}"));
        match case.load {
            Load::PingPong { size, .. } => command.args(["echo", &format!("--size={size}")]),
            Load::Connect { .. } | Load::Hold { .. } => command.args(["echo", &format!("--size={SMALL}")]),
            Load::Bulk { direction: Direction::Up } => command.arg("sink").args(self.lengths()),
            Load::Bulk { direction: Direction::Down } => command.arg("source"),
            Load::HoldHttp { .. }
            | Load::Http1 { .. }
            | Load::Paced { .. }
            | Load::Http2 { .. }
            | Load::Routes { .. } => command.arg("http"),
            Load::Grpc { .. } => command.arg("grpc"),
        };
        Program::start(&mut command)
    }

    /// Runs a client that ends by itself. This process sleeps meanwhile.
    fn load(&self, instance: &Instance, args: &[String]) -> Result<Sample> {
        let mut command = instance.client().command(&self.program);
        let output = command.args(args).stdin(Stdio::null()).output().context("start the client")?;
        if !output.status.success() {
            bail!("the client failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("what the client printed")
    }

    /// Looks at the proxy while a client holds its connections, which have been idle for [`memory::IDLE`].
    fn hold(&self, instance: &mut Instance, args: &[String], connections: usize) -> Result<Sample> {
        let mut client = Program::start(instance.client().command(&self.program).args(args));
        client.wait_for_output("ready\n");
        if instance.pids().is_empty() {
            return Ok(Sample::new());
        }
        #[allow(clippy::disallowed_methods, reason = "there is nothing to wait for but the time")]
        thread::sleep(memory::IDLE);
        let (idle, now) = (instance.idle, instance.memory()?);
        client.close_stdin();
        let ended = client.wait();
        ensure!(ended.status.success(), "the client failed: {}", ended.stderr.trim());
        #[allow(clippy::cast_precision_loss, reason = "thousands of connections")]
        let each = (now.anonymous - idle.anonymous) / connections as f64;
        let mut sample = Sample::from([
            (Metric::ResidentIdle, idle.resident),
            (Metric::Resident, now.resident),
            (Metric::ResidentPerConnection, each),
        ]);
        sample.extend(now.maps.map(|bytes| (Metric::KernelMaps, bytes)));
        Ok(sample)
    }

    /// The client's last arguments.
    fn load_arguments(&self, load: Load) -> Result<Vec<String>> {
        let connections = |connections: usize| format!("--connections={connections}");
        Ok(match load {
            Load::Hold { connections: count } => vec!["hold".into(), connections(count)],
            Load::HoldHttp { connections: count } => vec!["hold".into(), connections(count), "--http".into()],
            Load::PingPong { size, connections: count } => {
                vec!["ping".into(), format!("--size={size}"), connections(count)]
            }
            Load::Connect { workers } => vec!["connect".into(), format!("--workers={workers}")],
            Load::Bulk { direction: Direction::Up } => vec!["up".into()],
            Load::Bulk { direction: Direction::Down } => vec!["down".into()],
            Load::Http1 { connections: count } => vec!["http1".into(), connections(count)],
            Load::Paced { connections: count } => {
                let rate = self.rate.context("no proxy's rate is known that this could be half of")?;
                vec!["http1".into(), connections(count), format!("--rate={rate}")]
            }
            Load::Http2 { streams } => vec!["http2".into(), format!("--streams={streams}")],
            Load::Grpc { streams } => vec!["http2".into(), format!("--streams={streams}"), "--grpc".into()],
            Load::Routes { connections: count } => {
                vec!["http1".into(), connections(count), format!("--token={}", self.token)]
            }
        })
    }

    fn lengths(&self) -> [String; 2] {
        [
            format!("--warmup-ms={}", self.warmup.as_millis()),
            format!("--length-ms={}", self.length.as_millis()),
        ]
    }
}

/// A mode's proxy did not see the connections of a case.
#[derive(Debug)]
pub(crate) struct Untouched(String);

impl std::fmt::Display for Untouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untouched {}

/// The proxy must have had every connection of the case, and every request.
fn check(case: Case, sample: &Sample, served: Served, length: Duration) -> Result<()> {
    let failures = sample.get(&Metric::Failures).copied().unwrap_or_default();
    let messages = sample.get(&Metric::Rate).copied().unwrap_or(1.0) * length.as_secs_f64() - failures;
    #[allow(clippy::cast_precision_loss, reason = "thousands of connections")]
    let (connections, requests) = match case.load {
        Load::Hold { connections } | Load::PingPong { connections, .. } => (connections as f64, 0.0),
        Load::Connect { .. } => (messages, 0.0),
        Load::Bulk { .. } => (1.0, 0.0),
        // Before and after the time in which they are idle.
        Load::HoldHttp { connections } => (connections as f64, 2.0 * connections as f64),
        Load::Http1 { connections } | Load::Paced { connections } | Load::Routes { connections } => {
            (connections as f64, messages)
        }
        Load::Http2 { .. } | Load::Grpc { .. } => (1.0, messages),
    };
    for (what, expected, seen) in
        [("connections", connections, served.connections), ("requests", requests, served.requests)]
    {
        ensure!(
            seen >= expected.floor(),
            Untouched(format!("the proxy had {seen} {what} of {expected:.0}: traffic is not intercepted"))
        );
    }
    Ok(())
}

fn watch(pid: u32) -> String {
    format!("--watch={pid}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Pinning;

    #[test]
    fn a_proxy_that_saw_too_little_ends_the_run() {
        let case = Case::ping_pong(SMALL, 16, Pinning::Free);
        let served = |connections| Served { connections, ..Served::default() };
        let check = |seen| check(case, &Sample::new(), served(seen), Duration::from_secs(1));
        assert!(check(16.0).is_ok());
        assert!(check(15.0).unwrap_err().is::<Untouched>());
    }

    #[test]
    fn a_proxy_that_saw_only_bytes_ends_the_run() {
        let sample = Sample::from([(Metric::Rate, 500.0)]);
        let served = |requests| Served { connections: 1.0, requests, ..Served::default() };
        let second = Duration::from_secs(1);
        let check = |requests| check(Case::http2(), &sample, served(requests), second);
        assert!(check(500.0).is_ok());
        assert!(check(0.0).unwrap_err().to_string().contains("0 requests of 500"));
    }
}
