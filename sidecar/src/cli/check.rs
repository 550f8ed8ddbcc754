//! `sidecar check`: can this kernel, cgroup and capability set do it?

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

use super::connections::client;
use crate::bpf::loader;
use crate::bpf::probe::{self, Row, Status};
use crate::bypass::ProgramStanding;
use crate::host::capabilities::{Capabilities, Capability};
use crate::instance::RUN_DIRECTORY;
use crate::iptables::{self, Available, IptablesError};
use crate::observe::connection::printable;

/// Fewer open files than Linux gives by default (`INR_OPEN_MAX`, include/uapi/linux/fs.h).
const FEW_FILES: u64 = 4096;

/// The verifier lets the programs' pointer arithmetic pass with `CAP_PERFMON` only (`allow_ptr_leaks`).
const NEEDED: [Capability; 3] = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];

/// Tells whether this kernel, cgroup and capability set can do it; exit status 0: `interception: ebpf` works
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

/// How to print the report.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Output {
    /// A line for each thing
    #[default]
    Table,
    /// An object
    Json,
}

/// Whether a mode of interception works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Full,
    /// Without what some rows say.
    Degraded,
    Unavailable,
}

/// What `-o json` prints.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The release, as uname(1) says it.
    kernel: String,
    ebpf: Verdict,
    iptables: Verdict,
    /// `full` only if all trials succeed.
    bypass: Verdict,
    rows: Vec<Row>,
    /// Of the instances that run.
    programs: Vec<Standing>,
}

/// A program of a running instance, and whether it has earned the bypass.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    instance: String,
    #[serde(flatten)]
    program: ProgramStanding,
}

/// Looks, tries, prints and returns the exit status.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let report = Report::gather()?;
    let text = match args.output {
        Output::Table => report.table(),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("write the report")?,
    }
    Ok(if report.ebpf == Verdict::Unavailable { super::FAILED } else { super::DONE })
}

// === impl Report ===

impl Report {
    fn gather() -> anyhow::Result<Self> {
        let mut rows = vec![btf(), capabilities(Capabilities::effective()), open_files(), loopback(), ipv6()];
        rows.extend(probe::run().context("start the self-test")?);
        let bypass = rows.iter().position(|row| row.name == probe::BYPASS).unwrap_or(rows.len());
        let ebpf = Verdict::of(&rows[..bypass]);
        // None of it can be done without.
        let bypass = match Verdict::of(&rows[bypass..]) {
            Verdict::Full if bypass < rows.len() => Verdict::Full,
            _ => Verdict::Unavailable,
        };
        let iptables = iptables(iptables::available());
        let verdict = Verdict::of(std::slice::from_ref(&iptables));
        rows.push(iptables);
        let kernel = uname().context("uname")?.release().to_string_lossy().into_owned();
        Ok(Self { kernel, ebpf, iptables: verdict, bypass, rows, programs: standings() })
    }

    /// The verdicts, then a line for each row: what it is, how it stands, why, and what to do about it.
    fn table(&self) -> String {
        let mut text = format!(
            "Linux {}\ninterception: ebpf      {}\ninterception: iptables  {}\nbypass                  {}\n\n",
            self.kernel,
            self.ebpf.words(),
            self.iptables.words(),
            self.bypass.words()
        );
        for Row { name, status, detail, remedy } in &self.rows {
            let remedy = remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
            let line = format!("{:<8}  {name:<20}  {detail}{remedy}", status_word(*status));
            text.push_str(&printable(&line));
            text.push('\n');
        }
        if !self.programs.is_empty() {
            text.push_str("\nprograms, and whether they have earned the bypass\n");
        }
        for Standing { instance, program } in &self.programs {
            let ProgramStanding { comm, direction, port, enrolled, standing, reason, .. } = program;
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let name = if comm.is_empty() { "-" } else { comm };
            let standing = format!("{standing:?}").to_lowercase();
            let line = format!(
                "{standing:<8}  {name:<15}  {direction} {port} of {instance}, {enrolled} enrolled{reason}"
            );
            text.push_str(&printable(&line));
            text.push('\n');
        }
        text
    }
}

/// Instances that do not answer have nothing to show.
fn standings() -> Vec<Standing> {
    let asked = super::block_on(async {
        let mut standings = Vec::new();
        for instance in client::instances(Path::new(RUN_DIRECTORY), None)? {
            if let Ok(report) = client::bypass(&instance).await {
                let name = &instance.name;
                let of = |program| Standing { instance: name.clone(), program };
                standings.extend(report.programs.into_iter().map(of));
            }
        }
        Ok(standings)
    });
    asked.unwrap_or_default()
}

impl Verdict {
    /// As good as the worst of what it depends on.
    fn of(rows: &[Row]) -> Self {
        match rows.iter().map(|row| row.status).max() {
            None | Some(Status::Ok) => Self::Full,
            Some(Status::Degraded) => Self::Degraded,
            Some(Status::Missing) => Self::Unavailable,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Full => "works",
            Self::Degraded => "works, degraded",
            Self::Unavailable => "does not work",
        }
    }
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Degraded => "degraded",
        Status::Missing => "missing",
    }
}

// === the rows that look and do not try ===

fn row(name: &'static str, status: Status, detail: impl Into<String>, remedy: Option<&str>) -> Row {
    Row { name, status, detail: detail.into(), remedy: remedy.map(str::to_owned) }
}

fn btf() -> Row {
    if loader::has_btf() {
        row("btf", Status::Ok, "the kernel describes its types", None)
    } else {
        row(
            "btf",
            Status::Degraded,
            "no /sys/kernel/btf/vmlinux",
            Some("use a kernel with CONFIG_DEBUG_INFO_BTF=y"),
        )
    }
}

fn capabilities(set: Capabilities) -> Row {
    let (held, lacking): (Vec<_>, Vec<_>) = Capability::ALL.into_iter().partition(|one| set.allow(*one));
    let list = |of: &[Capability]| of.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let detail = match (held.as_slice(), lacking.as_slice()) {
        (held, []) => list(held),
        ([], lacking) => format!("none of {}", list(lacking)),
        (held, lacking) => format!("{}, but not {}", list(held), list(lacking)),
    };
    if NEEDED.iter().any(|needed| lacking.contains(needed)) {
        row(
            "capabilities",
            Status::Missing,
            detail,
            Some("run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"),
        )
    } else if lacking.contains(&Capability::SysAdmin) {
        let remedy =
            "CAP_SYS_ADMIN is needed to mount what is not mounted, and to undo what a killed instance left";
        row("capabilities", Status::Degraded, detail, Some(remedy))
    } else {
        row("capabilities", Status::Ok, detail, None)
    }
}

/// A connection takes two: the client's and the upstream's. Instances raise the soft limit by themselves.
fn open_files() -> Row {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) => {
            let few = hard < FEW_FILES;
            let status = if few { Status::Degraded } else { Status::Ok };
            let remedy = few.then_some("raise RLIMIT_NOFILE (ulimit -Hn, LimitNOFILE=)");
            row("open files", status, format!("at most {hard}, two for each connection"), remedy)
        }
        Err(errno) => row("open files", Status::Degraded, errno.desc(), None),
    }
}

fn loopback() -> Row {
    match route_to(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into()) {
        Ok(()) => row("loopback", Status::Ok, "lo is up", None),
        Err(error) => row(
            "loopback",
            Status::Missing,
            format!("127.0.0.1, to which connections are redirected: {error}"),
            Some("ip link set lo up"),
        ),
    }
}

fn ipv6() -> Row {
    match route_to(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()) {
        Ok(()) => row("ipv6", Status::Ok, "::1 is there", None),
        Err(error) => {
            let remedy = "only IPv4 is intercepted; if IPv6 is used, sysctl net.ipv6.conf.lo.disable_ipv6=0";
            row("ipv6", Status::Degraded, format!("::1: {error}"), Some(remedy))
        }
    }
}

/// Sends nothing: connect() of UDP only looks for a route.
fn route_to(destination: IpAddr, any: IpAddr) -> io::Result<()> {
    UdpSocket::bind((any, 0))?.connect((destination, 9))
}

fn iptables(available: Result<Available, IptablesError>) -> Row {
    let name = "iptables";
    match available {
        Ok(Available { version, ipv6_skipped: None, cgroup_match: true }) => {
            row(name, Status::Ok, version, None)
        }
        Ok(Available { version, ipv6_skipped: Some(why), .. }) => {
            row(name, Status::Degraded, format!("{version}: IPv6 is left alone: {why}"), None)
        }
        Ok(Available { version, .. }) => {
            let remedy = "use a kernel with CONFIG_NETFILTER_XT_MATCH_CGROUP, or `sidecar init` in a Pod";
            row(name, Status::Degraded, format!("{version}: rules cannot tell cgroups apart"), Some(remedy))
        }
        Err(IptablesError::Missing { program }) => {
            row(name, Status::Missing, format!("{program}: not found"), Some("install the iptables package"))
        }
        Err(error) => {
            let detail = format!("{:#}", anyhow::Error::new(error));
            let remedy =
                "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN; the kernel needs its nat table";
            row(name, Status::Missing, detail, Some(remedy))
        }
    }
}

#[cfg(test)]
mod tests;
