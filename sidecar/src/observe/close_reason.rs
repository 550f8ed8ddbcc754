//! Why a connection ended.

use serde::{Deserialize, Serialize};

/// Why a connection ended; the first cause that the proxy saw. A label of metrics, so the set is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CloseReason {
    /// Both sides said that they were done.
    Finished,
    /// The side that opened the connection reset it.
    ClientReset,
    /// The side that was connected to reset it.
    UpstreamReset,
    /// ECONNREFUSED.
    ConnectRefused,
    /// The upstream did not answer within `timeouts.connect`.
    ConnectTimeout,
    /// EHOSTUNREACH, ENETUNREACH.
    Unreachable,
    /// `connect()` failed in another way.
    ConnectFailed,
    /// No byte went either way for `timeouts.idle`.
    IdleTimeout,
    /// Still open when `timeouts.drain` was over.
    Drained,
    /// `limits.maxConnections` or another bound was reached.
    LimitReached,
    /// The kernel does not know where the connection was meant to go.
    NoOriginalDestination,
    /// The destination is the proxy itself.
    Loop,
    /// Its requests would have to show who asks, and it carries none.
    AccessDenied,
    /// The task that served it went away without saying why.
    Aborted,
    /// The program's socket closed, and the proxy never had the connection.
    NotProxied,
}

impl CloseReason {
    /// All of them, in the order of their numbers (`reason as usize`).
    pub const ALL: [Self; 15] = [
        Self::Finished,
        Self::ClientReset,
        Self::UpstreamReset,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::Unreachable,
        Self::ConnectFailed,
        Self::IdleTimeout,
        Self::Drained,
        Self::LimitReached,
        Self::NoOriginalDestination,
        Self::Loop,
        Self::AccessDenied,
        Self::Aborted,
        Self::NotProxied,
    ];

    /// As JSON and labels spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientReset => "clientReset",
            Self::UpstreamReset => "upstreamReset",
            Self::ConnectRefused => "connectRefused",
            Self::ConnectTimeout => "connectTimeout",
            Self::Unreachable => "unreachable",
            Self::ConnectFailed => "connectFailed",
            Self::IdleTimeout => "idleTimeout",
            Self::Drained => "drained",
            Self::LimitReached => "limitReached",
            Self::NoOriginalDestination => "noOriginalDestination",
            Self::Loop => "loop",
            Self::AccessDenied => "accessDenied",
            Self::Aborted => "aborted",
            Self::NotProxied => "notProxied",
        }
    }

    /// Envoy's response flag, where one means the same (Envoy documentation, "Access logging", `%RESPONSE_FLAGS%`).
    pub fn as_flags(self) -> Option<&'static str> {
        match self {
            Self::ClientReset => Some("DC"),
            Self::UpstreamReset => Some("UC"),
            Self::ConnectRefused | Self::ConnectTimeout | Self::Unreachable | Self::ConnectFailed => {
                Some("UF")
            }
            Self::IdleTimeout => Some("SI"),
            Self::LimitReached => Some("UO"),
            Self::NoOriginalDestination | Self::Loop => Some("NR"),
            Self::AccessDenied => Some("UAEX"),
            Self::Aborted => Some("LR"),
            Self::Finished | Self::Drained | Self::NotProxied => None,
        }
    }

    /// True where the upstream was never reached.
    pub fn is_connect_failure(self) -> bool {
        self.as_flags() == Some("UF")
    }
}

#[cfg(test)]
mod tests {
    use super::CloseReason;

    #[test]
    fn numbers_index_all_and_json_agrees_with_labels() {
        for (number, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
