//! A connection as users see it: the JSON contract, and what the access log and the tables are made of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::close_reason::CloseReason;
use crate::net::addrs::Direction;

/// A connection at one moment. "Sent" is what the program beside the proxy sent to its peer, in both directions:
/// inbound, what the program answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The cookie of a socket. Cookies count up from 1 (`__sock_gen_cookie`), so they stay exact where JSON numbers
    /// are doubles.
    pub id: u64,
    /// The name of the instance that serves it.
    pub instance: String,
    /// Seen from the program.
    #[serde(with = "DirectionName")]
    pub direction: Direction,
    /// The program's process id, in the initial pid namespace.
    pub pid: Option<u32>,
    /// The name of the program's thread.
    pub comm: Option<String>,
    /// The path of the program's cgroup.
    pub cgroup: Option<String>,
    /// Who opened it.
    pub source: SocketAddr,
    /// Where it was meant to go.
    pub original_destination: Option<SocketAddr>,
    /// Where the proxy connected to; null before.
    pub upstream: Option<SocketAddr>,
    /// What the bytes are.
    pub protocol: Protocol,
    /// Where in its life it is.
    pub state: State,
    /// Milliseconds since it was seen first.
    pub age_ms: u64,
    /// Payload from the program to its peer.
    pub bytes_sent: u64,
    /// Payload from the peer to the program.
    pub bytes_received: u64,
    /// The way that the bytes took.
    pub path: BytePath,
    /// The part of `bytes_sent` that went from socket to socket without the TCP stack.
    pub bypass_bytes_sent: u64,
    /// The part of `bytes_received` that did.
    pub bypass_bytes_received: u64,
    /// Messages that went so, either way.
    pub bypass_messages: u64,
    /// Messages of an observed hop that went by TCP, either way, by reason; reasons without any are left out.
    pub tcp_fallbacks: BTreeMap<Cow<'static, str>, u32>,
    /// Where the program's hop is on the ladder of the bypass.
    pub bypass: Standing,
    /// Why.
    pub bypass_reason: Option<String>,
    /// The hop to another proxy of this machine; null where none is looked for.
    #[serde(default)]
    pub same_node: Option<SameNode>,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// What decided where it goes; null before.
    pub policy: Option<String>,
    /// Why it ended; null while it has not.
    pub close_reason: Option<CloseReason>,
}

/// A hop to another proxy of the same machine. What went by TCP is the rest of the connection's bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SameNode {
    /// Where it is on the ladder.
    pub bypass: Standing,
    /// Why.
    pub bypass_reason: Option<String>,
    /// Sent to the other proxy without the TCP stack.
    pub bytes_sent: u64,
    /// Received so.
    pub bytes_received: u64,
    /// Messages that went so, either way.
    pub messages: u64,
    /// Messages that went by TCP since, either way, by reason.
    pub tcp_fallbacks: BTreeMap<Cow<'static, str>, u32>,
}

/// What the bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Opaque.
    Tcp,
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where in its life a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The proxy has it, and has not reached the upstream yet.
    Connecting,
    /// Bytes may flow.
    Open,
    /// One of the proxy's side and the program's socket is closed, the other not yet.
    Closing,
    /// Over.
    Closed,
}

/// The way that a connection's bytes take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BytePath {
    /// Through the TCP stack.
    Tcp,
    /// From socket to socket.
    Bypass,
    /// Some this way, some that.
    Mixed,
}

impl BytePath {
    /// Of what went, and what of it went from socket to socket.
    pub fn of(bytes: u64, bypassed: u64) -> Self {
        match bypassed {
            0 => Self::Tcp,
            _ if bypassed >= bytes => Self::Bypass,
            _ => Self::Mixed,
        }
    }
}

/// Where a hop is on the ladder of the bypass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It is not to be had, or not wanted.
    Off,
    /// The program has not shown enough yet.
    #[default]
    Observed,
    /// Both ends are enrolled.
    Earned,
    /// The program uses its socket in a way that does not go together with it.
    Lost,
    /// The other end is not an armed program of this machine.
    Remote,
}

/// The program whose connection it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Its process id, in the initial pid namespace.
    pub pid: u32,
    /// The name of its thread: up to 15 bytes of the program's own choice.
    pub comm: String,
    /// The path of its cgroup.
    pub cgroup: Option<String>,
}

/// A line of a stream of connections: a [`Snapshot`] with the key `event`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum ConnectionEvent {
    /// It was there when the stream began.
    Live(Snapshot),
    /// It began.
    Open(Snapshot),
    /// It ended.
    Close(Snapshot),
    /// The reader was too slow.
    Missed {
        /// How many events it did not get.
        missed: u64,
    },
}

/// How serde spells a [`Direction`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "camelCase")]
enum DirectionName {
    Inbound,
    Outbound,
}

/// Text for a terminal or a line of a log. Programs choose their names: control characters become `?`, so that none
/// can forge a line or move a cursor.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(id: u64) -> Snapshot {
        Snapshot {
            id,
            instance: "run-1".into(),
            direction: Direction::Outbound,
            pid: Some(42),
            comm: Some("curl".into()),
            cgroup: None,
            source: "10.0.0.1:40000".parse().unwrap(),
            original_destination: Some("[2001:db8::1]:80".parse().unwrap()),
            upstream: None,
            protocol: Protocol::Tcp,
            state: State::Connecting,
            age_ms: 1500,
            bytes_sent: 78,
            bytes_received: 2048,
            path: BytePath::Tcp,
            bypass_bytes_sent: 0,
            bypass_bytes_received: 0,
            bypass_messages: 0,
            tcp_fallbacks: BTreeMap::new(),
            bypass: Standing::Observed,
            bypass_reason: None,
            same_node: None,
            rtt_us: Some(85),
            retransmits: None,
            policy: Some("passthrough".into()),
            close_reason: None,
        }
    }

    #[test]
    fn json_is_the_contract() {
        let json = serde_json::json!({
            "id": 7, "instance": "run-1", "direction": "outbound", "pid": 42, "comm": "curl", "cgroup": null,
            "source": "10.0.0.1:40000", "originalDestination": "[2001:db8::1]:80", "upstream": null,
            "protocol": "tcp", "state": "connecting", "ageMs": 1500, "bytesSent": 78, "bytesReceived": 2048,
            "path": "tcp", "bypassBytesSent": 0, "bypassBytesReceived": 0,
            "bypassMessages": 0, "tcpFallbacks": {}, "bypass": "observed", "bypassReason": null, "sameNode": null,
            "rttUs": 85, "retransmits": null,
            "policy": "passthrough", "closeReason": null,
        });
        assert_eq!(serde_json::to_value(sample(7)).unwrap(), json);
        assert_eq!(serde_json::from_value::<Snapshot>(json).unwrap(), sample(7));
    }

    #[test]
    fn a_stream_line_is_the_object_with_one_more_key() {
        let line = serde_json::to_string(&ConnectionEvent::Open(sample(7))).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "open");
        assert_eq!(value["id"], 7);
        assert_eq!(value.as_object().unwrap().len(), 27);
        assert_eq!(serde_json::from_str::<ConnectionEvent>(&line).unwrap(), ConnectionEvent::Open(sample(7)));
        let missed = serde_json::to_string(&ConnectionEvent::Missed { missed: 3 }).unwrap();
        assert_eq!(missed, r#"{"event":"missed","missed":3}"#);
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(printable("curl"), "curl");
        assert_eq!(printable("a\x1b[2J\nb"), "a?[2J?b");
    }
}
