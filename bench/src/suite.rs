//! Which questions a run asks.

use serde::Serialize;

use crate::affinity;
use crate::case::Plan;
use crate::mode::Mode;

/// What proxies do with what is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Suite {
    /// They forward bytes.
    #[default]
    Tcp,
    /// They forward requests.
    Http,
    /// They forward bytes, one in the client's Pod to one in the server's.
    Pods,
}

impl Suite {
    /// Its cases.
    pub(crate) fn plan(self, quick: bool) -> Plan {
        match (self, quick) {
            (Self::Tcp, false) => Plan::full(),
            (Self::Tcp, true) => Plan::quick(),
            (Self::Http, quick) => Plan::http(quick),
            (Self::Pods, quick) => Plan::pods(quick),
        }
    }

    /// What it compares.
    pub(crate) fn modes(self, peers: bool) -> Vec<Mode> {
        let (own, others): (&[Mode], &[Mode]) = match self {
            Self::Tcp => (&Mode::OWN, &Mode::PEERS),
            Self::Http => (&Mode::REQUESTS, &[Mode::EnvoyIptables]),
            Self::Pods => (&Mode::PODS, &[Mode::EnvoyIptables]),
        };
        own.iter().chain(others.iter().filter(|_| peers)).copied().collect()
    }

    /// Its results' name.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Tcp => "results",
            Self::Http => "http",
            Self::Pods => "pods",
        }
    }

    /// How the names of its drawings begin.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Http => "http-",
            Self::Pods => "pods-",
        }
    }

    /// Envoy's configuration in it.
    pub(crate) fn envoy(self) -> &'static str {
        match self {
            Self::Tcp | Self::Pods => "programs/envoy.yaml",
            Self::Http => "programs/envoy-http.yaml",
        }
    }

    /// Envoy's threads: as many as Istio gives it, or one for the one processor that the proxies get.
    pub(crate) fn envoy_threads(self) -> &'static str {
        match self {
            Self::Tcp | Self::Pods => "2",
            Self::Http => "1",
        }
    }

    /// The processors on which proxies are started: they count them for their threads.
    pub(crate) fn start_on(self, processors: &[usize]) -> &[usize] {
        match self {
            Self::Tcp | Self::Pods => processors,
            Self::Http => &processors[..processors.len().min(affinity::PROXIES)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_is_compared_with_if_asked_for() {
        for suite in [Suite::Tcp, Suite::Http, Suite::Pods] {
            let has = |peers| suite.modes(peers).contains(&Mode::EnvoyIptables);
            assert_eq!((has(false), has(true)), (false, true));
        }
    }
}
