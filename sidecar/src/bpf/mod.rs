//! The kernel half, from userspace: loading, settings, attaching, events. The only room that knows aya.
//!
//! [`loader::load`] gives a [`Kernel`]: programs and maps, attached to nothing. [`attach::Attachments`] arms it; what
//! it attaches is pinned where it can be, so that `onProxyDown` holds when this process is killed, and taken off
//! when the guard is dropped.

pub mod attach;
mod btf;
pub mod bypass;
pub mod events;
pub mod link;
pub mod loader;
pub mod maps;
mod node;
pub mod pins;
pub mod probe;
mod tracepoint;

use std::io;
use std::path::PathBuf;

pub use loader::Kernel;

/// What can go wrong with the kernel half.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The kernel refused for lack of privilege.
    #[error(
        "{operation}: operation not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (and \
         CAP_SYS_ADMIN to mount; before Linux 5.11 also CAP_SYS_RESOURCE, to lock memory)"
    )]
    NotPermitted {
        /// What was tried.
        operation: String,
    },
    /// The object was not accepted.
    #[error("load the kernel half: {reason}")]
    Load {
        /// The kernel's or aya's word, on one line.
        reason: String,
    },
    /// A program could not be attached.
    #[error("attach {program} to {target}: {reason}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The cgroup or network namespace.
        target: String,
        /// The kernel's word.
        reason: String,
    },
    /// A map could not be read or written.
    #[error("map {map}: {reason}")]
    Map {
        /// The map.
        map: &'static str,
        /// The kernel's word.
        reason: String,
    },
    /// The bypass is not to be had.
    #[error("bypass: {reason}")]
    Bypass {
        /// What this kernel lacks.
        reason: String,
    },
    /// A file or directory, on bpffs or for it.
    #[error("{operation} {}: {cause}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The object.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

impl BpfError {
    /// Of a failed bpf(2) call, with the whole chain of reasons on one line.
    fn load(operation: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut not_permitted = false;
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                not_permitted |= error.raw_os_error() == Some(libc::EPERM);
            }
            next = error.source();
        }
        if not_permitted {
            Self::NotPermitted { operation: operation.to_owned() }
        } else {
            Self::Load { reason: format!("{operation}: {}", first_lines(&reason)) }
        }
    }
}

/// The last lines of a verifier's log tell why; a log in full is thousands of lines.
fn first_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.len().saturating_sub(9).max(1);
    let mut shown = lines.first().map_or(String::new(), |line| (*line).to_owned());
    for line in lines.iter().skip(tail) {
        shown.push_str(" | ");
        shown.push_str(line);
    }
    shown
}
