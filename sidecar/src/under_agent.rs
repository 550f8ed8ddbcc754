//! The proxy's end of the channel to the agent of its node: says what it wants to be intercepted, and hears when its Pod
//! is armed or disarmed, which may be long after it has begun to serve.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::admin::readiness::{Condition, Readiness};
use crate::bpf::bypass::Bypass;
use crate::bypass::{Current, Ladder};
use crate::config::{Interception, Limits};
use crate::kubernetes::channel::{
    ChannelError, Done, Hello, LONGEST, NAME, Order, PATIENCE, PATIENCE_WITH_AGENT, line_of,
};
use crate::net::addrs::Direction;
use crate::net::sys;
use crate::observe::table::ConnectionTable;
use crate::proxy::Steering;
use crate::servers::PortsInUse;

/// There is one agent on a node.
const BACKLOG: i32 = 8;

/// Bound, so that the agent finds it.
pub struct Channel(UnixListener);

/// What the agent is told, and acts on.
pub struct UnderAgent {
    /// What is to be intercepted.
    pub interception: Interception,
    /// How many connections it serves.
    pub limits: Limits,
    /// Where this proxy listens.
    pub ports: PortsInUse,
    /// What is open.
    pub table: ConnectionTable,
    /// Gets the bypass.
    pub ladder: Current,
    /// Of an armed Pod.
    pub readiness: Readiness,
    /// Tells the listeners.
    pub steer: mpsc::Sender<Steering>,
}

impl Channel {
    /// Takes the name in this network namespace. EADDRINUSE: another proxy of the Pod has it.
    pub fn bind() -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(NAME)?)?;
        socket.listen(BACKLOG)?;
        Ok(Self(UnixListener::from_std(StdListener::from(socket))?))
    }
}

impl UnderAgent {
    /// Listens to the agent, until this is dropped. One at a time: a further one waits.
    pub async fn serve(self, channel: Channel) {
        let mut generation = None;
        loop {
            let agent = match channel.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the agent cannot be heard");
                    tokio::time::sleep(PATIENCE).await;
                    continue;
                }
            };
            match timeout(PATIENCE_WITH_AGENT, self.talk(agent, &mut generation)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the agent was not understood"),
                Err(_) => tracing::warn!("the agent says nothing"),
            }
        }
    }

    async fn talk(&self, mut agent: UnixStream, generation: &mut Option<u32>) -> Result<(), ChannelError> {
        // Whoever else is in the Pod shares the network namespace.
        let user = agent.peer_cred()?.uid();
        if user != 0 {
            return Err(ChannelError::NotTheProxy(user));
        }
        let open = [Direction::Inbound, Direction::Outbound].map(|way| self.table.totals().of(way).open());
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interception: self.interception.clone(),
            max_connections: self.limits.connections(),
            max_connections_given: self.limits.max_connections.is_some(),
            ports: self.ports,
            generation: *generation,
            open: open.into_iter().sum(),
        };
        agent.write_all(&line_of(&hello)?).await?;
        let Some((order, program)) = order(&agent).await? else { return Ok(()) };
        let error = match order {
            Order::Armed { generation: told, .. } if *generation == Some(told) => None,
            Order::Armed { generation: told, no_bypass } => {
                self.climb(no_bypass, program);
                let begun = self.begin().await;
                if begun.is_ok() {
                    tracing::info!("the agent has armed this Pod");
                    *generation = Some(told);
                    self.readiness.met(Condition::Armed);
                }
                begun.err()
            }
            Order::Disarmed { reason } => {
                tracing::info!(reason, "the agent does not arm this Pod");
                *generation = None;
                self.ladder.set(Err(reason));
                // The listeners end with the proxy itself, whose end is near.
                let _ = self.steer.send(Steering::Ends).await;
                // Traffic comes by itself.
                self.readiness.met(Condition::Armed);
                None
            }
        };
        agent.write_all(&line_of(&Done { error })?).await?;
        Ok(())
    }

    /// Announces the listeners.
    async fn begin(&self) -> Result<(), String> {
        let (answer, heard) = oneshot::channel();
        let sent = self.steer.send(Steering::Begins(answer)).await.is_ok();
        match heard.await {
            Ok(true) if sent => Ok(()),
            Ok(_) => Err("the kernel half does not know this process: has it the proxy's user?".to_owned()),
            Err(_) => Err("about to end".to_owned()),
        }
    }

    fn climb(&self, no_bypass: Option<String>, program: Option<OwnedFd>) {
        let handed = match (no_bypass, program) {
            _ if !self.interception.wants_bypass() => Err("by configuration".to_owned()),
            (Some(reason), _) => Err(reason),
            (None, None) => Err("the agent handed none over".to_owned()),
            (None, Some(program)) => sys::netns_cookie()
                .and_then(|netns| Bypass::handed(program, netns))
                .map_err(|error| format!("what the agent handed over cannot be used: {error}")),
        };
        let ladder = handed.map(|bypass| Ladder::new(bypass, &self.interception));
        if let Err(reason) = &ladder {
            tracing::info!("the bypass is off: {reason}");
        }
        self.ladder.set(ladder);
    }
}

/// The agent's order; `None`: it only wanted to know.
async fn order(agent: &UnixStream) -> Result<Option<(Order, Option<OwnedFd>)>, ChannelError> {
    let (mut line, mut program) = (Vec::new(), None);
    let mut buffer = [0; 4096];
    loop {
        agent.readable().await?;
        let received = agent.try_io(Interest::READABLE, || sys::receive_with(agent, &mut buffer));
        let read = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
            Ok((read, fd)) => {
                program = program.or(fd);
                read
            }
        };
        line.extend_from_slice(&buffer[..read]);
        if read == 0 && line.is_empty() {
            return Ok(None);
        }
        if read == 0 || line.ends_with(b"\n") || line.len() > LONGEST {
            return Ok(Some((serde_json::from_slice(&line)?, program)));
        }
    }
}
