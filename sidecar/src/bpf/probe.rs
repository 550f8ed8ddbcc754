//! The self-test: whether this kernel, cgroup and set of capabilities can do it, proven by doing it.
//!
//! One process plays the program, its clients and the proxy: the proxy's sockets carry a mark, which is how this
//! kernel half tells them apart. The process moves to a cgroup made for the test, and one of its threads to a network
//! and a mount namespace made for it; both end with the test, and nothing outside of them is touched.

mod scratch;
mod traffic;

use std::fs::File;
use std::path::Path;
use std::{io, thread};

use nix::sys::signal::{SigSet, Signal};
use sidecar_common::settings::{Direction, NO_UID, Settings, flag};

use self::scratch::{Cgroup, Pins, Place};
use self::traffic::Stage;
use super::attach::{Attachments, ProgramName};
use super::bypass::proof;
use super::loader::{self, Room};
use super::maps::Selection;
use super::{BpfError, Kernel};
use crate::host::cgroup::CgroupError;
use crate::net::sys;

/// Enough for the test.
const ROOM: Room = Room { connections: 64, listeners: 1_024, ports: 64, events: true, same_node: false };
/// Sockets with this mark are the proxy's.
const PROXY_MARK: u32 = 0x5343;
/// The row that the trials of the bypass follow.
pub const BYPASS: &str = "bypass";
/// What most refusals mean.
const PRIVILEGE: &str =
    "run as root of the machine, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (and CAP_SYS_ADMIN to mount)";

/// How it stands with one thing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// There, or works.
    Ok,
    /// Interception works without, and lacks what `detail` says.
    Degraded,
    /// Interception does not work without.
    Missing,
}

/// One thing that was looked at or tried.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Always the same for the same thing.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found, or why it failed; one line.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Why something does not work, and what helps.
#[derive(Clone, Debug)]
struct Failure {
    detail: String,
    remedy: Option<&'static str>,
}

/// What was seen to work, in words, or why it does not.
type Outcome = Result<String, Failure>;

/// Signals that would end this process and leave its cgroup behind, held back until this is dropped.
struct HeldSignals(Option<SigSet>);

/// Tries everything; takes a fraction of a second. Always gives the same rows, whatever fails. This process must open
/// no sockets elsewhere meanwhile: they would be taken for the test's.
pub fn run() -> io::Result<Vec<Row>> {
    let _held = HeldSignals::hold();
    // The namespaces are those of a thread that nobody else uses, and end with it.
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("self-test".into()).spawn_scoped(scope, self_test);
        thread?.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

fn self_test() -> Vec<Row> {
    let place = Place::enter();
    let cgroup = Cgroup::enter(&place).map_err(|error| Failure::from(&error));
    let pins = Pins::make(&place);
    let kernel = load();
    let mut rows = vec![
        Row::about("cgroup v2", Status::Missing, &cgroup, Cgroup::shown),
        Row::about("bpffs", Status::Degraded, &pins, Pins::shown),
        programs(&kernel),
    ];
    let armed = match (&cgroup, kernel) {
        (Ok(cgroup), Ok(kernel)) => arm(&place, &cgroup.directory(), pins.as_ref().ok(), kernel),
        _ => Err(Failure::not_tried()),
    };
    rows.push(Row::about("attach", Status::Missing, &armed, |armed| armed.attached.clone()));
    if let Ok(mut armed) = armed {
        rows.extend(armed.stage.play(&mut armed.kernel));
        rows.extend(bypass(&mut armed.kernel));
    } else {
        rows.extend(traffic::ROWS.map(|name| Row::of(name, Status::Missing, Err(Failure::not_tried()))));
        rows.push(Row::of(BYPASS, Status::Degraded, Err(Failure::not_tried())));
    }
    rows
}

/// Why this kernel cannot be trusted with the bypass, by the same test; `None`: it can.
pub fn doubt_of_bypass() -> io::Result<Option<String>> {
    let rows = run()?;
    let of_bypass = rows.iter().skip_while(|row| row.name != BYPASS);
    let doubts: Vec<_> = of_bypass
        .filter(|row| row.status != Status::Ok)
        .map(|row| format!("{}: {}", row.name, row.detail))
        .collect();
    Ok((!doubts.is_empty()).then(|| doubts.join("; ")))
}

/// What programs may do with sockets that skip the TCP stack: all of it must work, or the bypass stays off.
fn bypass(kernel: &mut Kernel) -> Vec<Row> {
    let proven = sys::netns_cookie()
        .map_err(Failure::from)
        .and_then(|netns| Ok(proof::prove(kernel, netns, PROXY_MARK)?));
    let mut rows =
        vec![Row::about(BYPASS, Status::Degraded, &proven, |_| "the kernel accepts its programs".into())];
    if let Ok(proven) = proven {
        rows.extend(
            proven
                .trials
                .into_iter()
                .map(|trial| Row::of(trial.name, Status::Degraded, trial.outcome.map_err(Failure::from))),
        );
    }
    rows
}

/// The kernel half at work, and those who will try it.
struct Armed {
    stage: Stage,
    kernel: Kernel,
    attached: String,
    _attachments: Attachments,
}

fn load() -> Result<Kernel, Failure> {
    Ok(loader::load(sys::netns_cookie()?, ROOM)?)
}

fn programs(kernel: &Result<Kernel, Failure>) -> Row {
    let name = "programs";
    let missing = kernel.as_ref().map_or_else(|_| Vec::new(), |kernel| kernel.features.degradations());
    if missing.is_empty() {
        let all = ProgramName::ALL.len();
        Row::about(name, Status::Missing, kernel, |_| format!("the kernel accepts all {all}"))
    } else {
        Row::of(name, Status::Degraded, Err(missing.join("; ").into()))
    }
}

fn arm(place: &Place, cgroup: &Path, pins: Option<&Pins>, mut kernel: Kernel) -> Result<Armed, Failure> {
    place.usable()?;
    let stage = Stage::bind(place)?;
    // Clients of the program are in its own cgroup here; that they are not captured makes them strangers.
    let exclude_ports = &stage.service_ports()[..];
    let selection = Selection { exclude_ports, ..Selection::default() };
    kernel.select(Direction::Outbound, &selection)?;
    kernel.configure(Settings {
        flags: flag::CAPTURE_LOOPBACK | flag::FAIL_CLOSED,
        exempt_mark: PROXY_MARK,
        exempt_uid: NO_UID,
        ..Settings::default()
    })?;
    let mut attachments = Attachments::new(pins.map(|pins| pins.directory().to_owned()));
    attachments.cgroup(&mut kernel, ProgramName::OF_BOTH, cgroup)?;
    attachments.netns(&mut kernel, &File::open("/proc/thread-self/ns/net")?)?;
    let pinned = if pins.is_some() { "pinned" } else { "not pinned" };
    let attached = format!("to a cgroup of its own and to {}; {pinned}", place.network());
    Ok(Armed { stage, kernel, attached, _attachments: attachments })
}

// === impl ===

impl Row {
    /// Of what was made, in words; `otherwise` if it failed.
    fn about<T>(
        name: &'static str,
        otherwise: Status,
        result: &Result<T, Failure>,
        shown: impl FnOnce(&T) -> String,
    ) -> Self {
        Self::of(name, otherwise, result.as_ref().map(shown).map_err(Clone::clone))
    }

    /// Of what was tried; `otherwise` if it failed.
    fn of(name: &'static str, otherwise: Status, outcome: Outcome) -> Self {
        match outcome {
            Ok(detail) => Self { name, status: Status::Ok, detail, remedy: None },
            Err(Failure { detail, remedy }) => {
                Self { name, status: otherwise, detail, remedy: remedy.map(str::to_owned) }
            }
        }
    }
}

impl Failure {
    fn not_tried() -> Self {
        Self { detail: "not tried, for what is missing above".into(), remedy: None }
    }
}

impl From<String> for Failure {
    fn from(detail: String) -> Self {
        Self { detail, remedy: None }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { detail: error.to_string(), remedy: remedy(&error) }
    }
}

impl From<BpfError> for Failure {
    fn from(error: BpfError) -> Self {
        let (detail, remedy) = match &error {
            BpfError::NotPermitted { operation } => {
                (format!("{operation}: operation not permitted"), Some(PRIVILEGE))
            }
            BpfError::File { cause, .. } => (error.to_string(), remedy(cause)),
            _ => (error.to_string(), None),
        };
        Self { detail, remedy }
    }
}

impl From<&CgroupError> for Failure {
    fn from(error: &CgroupError) -> Self {
        match error {
            CgroupError::File { operation, path, cause } => Self {
                detail: format!("{operation} {}: {cause}", path.display()),
                remedy: not_permitted(cause).then_some("run as root, or have the cgroup delegated to you"),
            },
            CgroupError::Missing | CgroupError::NotAHierarchy { .. } | CgroupError::NotACgroup { .. } => {
                Self {
                    detail: "not mounted".into(),
                    remedy: Some(
                        "mount it (mount -t cgroup2 none /sys/fs/cgroup) or boot with systemd.unified_cgroup_hierarchy=1",
                    ),
                }
            }
        }
    }
}

fn not_permitted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
}

fn remedy(error: &io::Error) -> Option<&'static str> {
    not_permitted(error).then_some(PRIVILEGE)
}

impl HeldSignals {
    fn hold() -> Self {
        let endings = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let before = SigSet::thread_get_mask().ok();
        Self(before.filter(|_| endings.thread_block().is_ok()))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            // What came meanwhile ends this process now.
            let _ = before.thread_set_mask();
        }
    }
}
