//! The demo: a web server and curl, each in a network namespace of its own and each under its own sidecar, with what
//! the sidecars see.

use crate::util::{output, run as run_command, say};
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The addresses on the link between the two namespaces, which nobody else sees.
const SERVER: &str = "10.77.0.1";
const CLIENT: &str = "10.77.0.2";
const PORT: &str = "8080";

/// What curl fetches, and how fast, so that a connection is there long enough to be looked at.
const FILE_SIZE: usize = 256 * 1024;
const RATE: &str = "64k";

/// How long a program may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the demo until Ctrl-C, or for so many seconds.
pub(crate) fn run(binary: &Path, seconds: Option<u64>) -> Result<()> {
    if !geteuid().is_root() {
        bail!("the demo makes network namespaces: run `cargo xtask run` as root");
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let id = process::id();
    let files = Files::new(id)?;
    let link = Link::new(id)?;
    let url = format!("http://{SERVER}:{PORT}/file");

    say(format_args!("starting `python3 -m http.server` at {SERVER}:{PORT}, under a sidecar"));
    let serve = ["python3", "-u", "-m", "http.server", PORT, "--bind", SERVER, "--directory"];
    let serve = serve.into_iter().map(str::to_owned).chain([files.0.display().to_string()]);
    let mut server =
        Instance::new(binary, &link.server, &format!("demo-{id}-server"), serve, files.log("server")?)?;
    wait_for_server(&mut server, &link, &url, &files, &stop)?;

    say(format_args!("starting curl at {CLIENT}, again and again, under another sidecar; Ctrl-C ends it"));
    let report = "%{http_code} %{size_download} %{remote_ip}:%{remote_port}\\n";
    let fetch = format!("while :; do curl -sS --limit-rate {RATE} -o /dev/null -w '{report}' {url}; done");
    let fetch = ["sh".to_owned(), "-c".to_owned(), fetch];
    let mut client =
        Instance::new(binary, &link.client, &format!("demo-{id}-client"), fetch, files.log("client")?)?;

    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seen = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        for (instance, log) in [(&mut server, "server"), (&mut client, "client")] {
            instance.check(&files, log)?;
        }
        show(binary, &mut seen)?;
        pause(Duration::from_secs(1), &stop);
    }
    drop((client, server));
    explain(&files, &seen, &url)
}

/// Waits until the server answers, or says why it does not.
fn wait_for_server(
    server: &mut Instance,
    link: &Link,
    url: &str,
    files: &Files,
    stop: &AtomicBool,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut curl = Command::new("ip");
    curl.args(["netns", "exec", &link.client, "curl", "-sSf", "--max-time", "2", "--head", url]);
    while !stop.load(Ordering::Relaxed) {
        server.check(files, "server")?;
        let Err(error) = output(&mut curl) else { break };
        if Instant::now() > deadline {
            return Err(error.context(format!("the web server does not answer:\n{}", files.tail("server"))));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Prints the live table and remembers the demo's connections by their ids.
fn show(binary: &Path, seen: &mut BTreeMap<String, Value>) -> Result<()> {
    print!("\n{}", output(Command::new(binary).arg("connections"))?);
    let list = output(Command::new(binary).args(["connections", "-o", "json"]))?;
    let list: Vec<Value> = serde_json::from_str(&list).context("`sidecar connections -o json` is no list")?;
    let to = Value::from(format!("{SERVER}:{PORT}"));
    for connection in list.into_iter().filter(|connection| connection["originalDestination"] == to) {
        seen.insert(format!("{}{}", connection["direction"], connection["id"]), connection);
    }
    Ok(())
}

/// Says what happened, from what was seen.
fn explain(files: &Files, seen: &BTreeMap<String, Value>, url: &str) -> Result<()> {
    let answers = fs::read_to_string(files.path("client.log"))?;
    let good = format!("200 {FILE_SIZE} {SERVER}:{PORT}");
    let fetched = answers.lines().filter(|line| *line == good).count();
    let requests = fs::read_to_string(files.path("server.log"))?;
    let from_client = format!("{CLIENT} - - ");
    let logged =
        requests.lines().filter(|line| line.starts_with(&from_client) && line.contains("GET")).count();

    println!("\nWhat happened:");
    println!(
        "- curl fetched {url} {fetched} times, {FILE_SIZE} bytes each, and saw {SERVER}:{PORT} as its peer."
    );
    println!("- The web server logged {logged} requests from {CLIENT}, its real client.");
    for (direction, meaning) in [
        ("outbound", "The sidecar beside curl took curl's connections and knew where they were to go"),
        ("inbound", "The sidecar beside the server took them before the server did"),
    ] {
        let mut all = seen.values().rev().filter(|connection| connection["direction"] == direction);
        let Some(last) = all.next() else {
            bail!(
                "no {direction} connection was seen; the client's log ends with:\n{}",
                files.tail("client")
            );
        };
        println!("- {meaning}: {} seen, among them", all.count() + 1);
        let text = |field: &str| last[field].as_str().map_or_else(|| last[field].to_string(), str::to_owned);
        println!(
            "  {} (pid {}), {} -> {}, {} bytes sent and {} received when last seen, round trip {} us.",
            text("comm"),
            text("pid"),
            text("source"),
            text("originalDestination"),
            text("bytesSent"),
            text("bytesReceived"),
            text("rttUs"),
        );
    }
    println!("Neither program was told about a proxy.");
    Ok(())
}

/// Waits, but not on when it is time to stop.
fn pause(time: Duration, stop: &AtomicBool) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
}

/// A directory with the file that is served and with what the programs print; removed at the end.
struct Files(PathBuf);

/// Two network namespaces with a link between them; removed at the end.
struct Link {
    server: String,
    client: String,
}

/// A `sidecar run -- COMMAND`; ended at the end.
struct Instance {
    child: Child,
    name: String,
}

// === impl ===

impl Files {
    fn new(id: u32) -> Result<Self> {
        let files = Self(env::temp_dir().join(format!("sidecar-demo-{id}")));
        fs::create_dir(&files.0).with_context(|| format!("cannot make {}", files.0.display()))?;
        fs::write(files.path("file"), vec![b'.'; FILE_SIZE])?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn log(&self, name: &str) -> Result<File> {
        Ok(File::create_new(self.path(&format!("{name}.log")))?)
    }

    /// The last lines of a log.
    fn tail(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            say(format_args!("cannot remove {}: {error}", self.0.display()));
        }
    }
}

impl Link {
    fn new(id: u32) -> Result<Self> {
        let link = Self { server: format!("sidecar-demo-{id}-s"), client: format!("sidecar-demo-{id}-c") };
        // An interface's name has at most 15 bytes.
        let (at_server, at_client) = (format!("sd{id}s"), format!("sd{id}c"));
        for namespace in [&link.server, &link.client] {
            run_command(Command::new("ip").args(["netns", "add", namespace]))?;
        }
        let ip = |arguments: &[&str]| run_command(Command::new("ip").args(arguments));
        let pair = ["type", "veth", "peer", "name", &at_client, "netns", &link.client];
        ip(&[&["-n", &link.server, "link", "add", &at_server], &pair[..]].concat())?;
        for (namespace, interface, address) in
            [(&link.server, &at_server, SERVER), (&link.client, &at_client, CLIENT)]
        {
            ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", interface])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(link)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            // One that was never made is none to remove.
            let _ = output(Command::new("ip").args(["netns", "delete", namespace]));
        }
    }
}

impl Instance {
    /// Starts a command under a sidecar in a namespace. It has a process group of its own: Ctrl-C is for us, and we
    /// end it in order.
    fn new(
        binary: &Path,
        namespace: &str,
        name: &str,
        command: impl IntoIterator<Item = String>,
        log: File,
    ) -> Result<Self> {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(binary)
            .args(["run", "--name", name, "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Fails when it ended.
    fn check(&mut self, files: &Files, log: &str) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}; its log ends with:\n{}", self.name, files.tail(log)),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // `ip netns exec` has become the sidecar: the same process.
        if let Ok(pid) = i32::try_from(self.child.id())
            && !matches!(self.child.try_wait(), Ok(Some(_)))
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                say(format_args!(
                    "{} does not end; killed: `sidecar detach` removes what it armed",
                    self.name
                ));
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
