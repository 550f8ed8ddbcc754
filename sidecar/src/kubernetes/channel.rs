//! What the agent of a node and the proxy of a Pod tell each other, over an abstract Unix socket of the Pod's network
//! namespace (unix(7)): a JSON line each. The proxy listens and says who it is; the agent may give one order, which the
//! proxy says is done. Fields that either does not know are ignored, since they may be of different versions.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::Interception;
use crate::net::sys;
use crate::servers::PortsInUse;

/// The socket's name: a zero byte says that it is in no directory.
pub const NAME: &str = "\0sidecar.dev/agent";
/// The longest line: all ports and networks of a list fit.
pub const LONGEST: usize = 1 << 20;
/// How long the proxy has to say who it is, which it does unasked: Pods that keep silent may not keep the agent from others.
pub const PATIENCE_FOR_HELLO: Duration = Duration::from_secs(1);
/// How long the proxy has for each of its other lines.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the agent has to give an order: it arms the Pod before.
pub const PATIENCE_WITH_AGENT: Duration = Duration::from_secs(60);

/// The proxy's first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Its version.
    pub version: String,
    /// What its configuration wants to be intercepted.
    pub interception: Interception,
    /// The bound of its connections.
    pub max_connections: usize,
    /// Its configuration gives that.
    #[serde(default)]
    pub max_connections_given: bool,
    /// Where it listens.
    pub ports: PortsInUse,
    /// The arming that it was told of last.
    #[serde(default)]
    pub generation: Option<u32>,
    /// Connections that it serves now.
    #[serde(default)]
    pub open: u64,
}

/// What the agent wants of the proxy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// The Pod is armed: announce the listeners. The program of the bypass comes along, if there is one.
    Armed {
        /// A number that no other arming of the Pod has.
        generation: u32,
        /// Why there is no bypass.
        no_bypass: Option<String>,
    },
    /// The Pod is not armed, and is not to be: nothing is sent to the proxy any more.
    Disarmed {
        /// Why.
        reason: String,
    },
}

/// The proxy has done as it was told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Or has not, for this reason.
    pub error: Option<String>,
}

/// Why the agent and a proxy cannot talk.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket.
    #[error("talk to the proxy: {0}")]
    Io(#[from] io::Error),
    /// Somebody else has the name.
    #[error("user {0} listens in the proxy's place: only the proxy may run in the Pod that listens there")]
    NotTheProxy(u32),
    /// No line, or none that is understood.
    #[error("the proxy says what is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// It could not do as it was told.
    #[error("the proxy: {0}")]
    Refused(String),
}

/// The agent's end. It blocks, on the thread that is in the Pod's network namespace.
pub struct Talk {
    stream: UnixStream,
    deadline: Instant,
}

impl Talk {
    /// Connects to the proxy in this thread's network namespace, which runs as `user`. `None`: nobody listens, or answers in time.
    pub fn begin(user: u32) -> Result<Option<(Self, Hello)>, ChannelError> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Where the queue is full, connect() would wait.
        socket.set_nonblocking(true)?;
        match socket.connect(&SockAddr::unix(NAME)?) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock) =>
            {
                return Ok(None);
            }
            other => other?,
        }
        socket.set_nonblocking(false)?;
        let theirs = getsockopt(&socket, PeerCredentials).map_err(io::Error::from)?.uid();
        if theirs != user {
            return Err(ChannelError::NotTheProxy(theirs));
        }
        let mut talk = Self { stream: socket.into(), deadline: Instant::now() + PATIENCE_FOR_HELLO };
        match talk.line() {
            // It may have much to do just now.
            Err(ChannelError::Io(error)) if is_timeout(&error) => Ok(None),
            hello => Ok(Some((talk, hello?))),
        }
    }

    /// Gives an order, and waits until it is done.
    pub fn order(mut self, order: &Order, fd: Option<BorrowedFd<'_>>) -> Result<(), ChannelError> {
        self.deadline = Instant::now() + PATIENCE;
        let line = line_of(order)?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        let mut sent = sys::send_with(&self.stream, &line, fd)?;
        while sent < line.len() {
            sent += sys::send_with(&self.stream, &line[sent..], None)?;
        }
        match self.line::<Done>()?.error {
            None => Ok(()),
            Some(error) => Err(ChannelError::Refused(error)),
        }
    }

    /// The next line. Nothing comes after it before it is answered.
    fn line<T: DeserializeOwned>(&mut self) -> Result<T, ChannelError> {
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let read = self.stream.read(&mut buffer)?;
            line.extend_from_slice(&buffer[..read]);
            if read == 0 || line.ends_with(b"\n") || line.len() > LONGEST {
                return Ok(serde_json::from_slice(&line)?);
            }
        }
    }
}

/// A message as a line.
pub fn line_of(message: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_and_what_is_new_is_ignored() {
        let hello = Hello {
            version: "1".into(),
            interception: Interception::default(),
            max_connections: 7,
            max_connections_given: true,
            ports: PortsInUse { outbound: 15001, ..PortsInUse::default() },
            generation: Some(3),
            open: 0,
        };
        let line = line_of(&hello).unwrap();
        assert_eq!(serde_json::from_slice::<Hello>(&line).unwrap(), hello);
        let older = r#"{"version":"2","interception":{"later":1},"maxConnections":1,"ports":{"outbound":1,
            "inbound":2,"admin":3,"metrics":4,"health":5},"unknown":[]}"#;
        let older: Hello = serde_json::from_str(older).unwrap();
        assert_eq!((older.interception, older.generation), (Interception::default(), None));
        for order in [
            Order::Armed { generation: 1, no_bypass: Some("by configuration".into()) },
            Order::Disarmed { reason: "not enrolled".into() },
        ] {
            let line = line_of(&order).unwrap();
            assert_eq!(serde_json::from_slice::<Order>(&line).unwrap(), order);
        }
    }
}
