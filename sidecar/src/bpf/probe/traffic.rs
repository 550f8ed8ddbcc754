//! Connections through the attached kernel half: a program's own, a stranger's to the program, and the proxy's.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sidecar_common::connection::{EventKind, Record};
use sidecar_common::flow::Role;
use socket2::{Domain, SockAddr, Socket, Type};

use super::scratch::Place;
use super::{Failure, Outcome, PROXY_MARK, Row, Status};
use crate::bpf::Kernel;
use crate::net::addrs::{ClientAddr, ConnectionId, canonical};
use crate::net::sys;

/// The rows that [`Stage::play`] gives.
pub(super) const ROWS: [&str; 8] = [
    "refusal",
    "outbound ipv4",
    "outbound ipv6",
    "outbound ipv4-mapped",
    "inbound ipv4",
    "inbound ipv6",
    "records",
    "events",
];

/// Loopback takes microseconds: what takes this long does not come.
const DEADLINE: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 8;

/// The program's sockets, bound before anything is attached, since their ports are in the settings.
pub(super) struct Stage {
    v4: Family,
    v6: Option<Family>,
}

struct Family {
    /// On loopback; what the program dials.
    server: Server,
    /// What strangers dial; `None`: there are only loopback addresses here.
    service: Option<Server>,
}

struct Server {
    socket: Socket,
    address: SocketAddr,
}

/// A connection of the program that the proxy accepted.
struct Captured {
    client: Socket,
    accepted: Socket,
    dialled: SocketAddr,
}

// === impl Stage ===

impl Stage {
    /// Binds. Where there is no IPv6, goes on without.
    pub(super) fn bind(place: &Place) -> Result<Self, Failure> {
        let family = |loopback: IpAddr, any: IpAddr| -> Result<Family, Failure> {
            let service = place.address(any).map(Server::bind).transpose()?;
            Ok(Family { server: Server::bind(loopback)?, service })
        };
        let v4 = family(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into())?;
        Ok(Self { v4, v6: family(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()).ok() })
    }

    /// The ports that strangers dial.
    pub(super) fn service_ports(&self) -> Vec<u16> {
        let families = [Some(&self.v4), self.v6.as_ref()].into_iter().flatten();
        families.filter_map(|family| Some(family.service.as_ref()?.address.port())).collect()
    }

    /// Tries everything, in the order of [`ROWS`].
    pub(super) fn play(&self, kernel: &mut Kernel) -> Vec<Row> {
        let refusal = self.v4.server.refusal();
        let v4 = capture(self.v4.server.address, Ipv4Addr::LOCALHOST.into());
        let records = v4.as_ref().map_or_else(|_| Err(Failure::not_tried()), Captured::record);
        let events = v4.as_ref().map_or_else(|_| Err(Failure::not_tried()), |one| event(kernel, one));
        let v6 = self.of_v6(|v6| capture(v6.server.address, Ipv6Addr::LOCALHOST.into())?.shown());
        let mapped = self.of_v6(|_| {
            let SocketAddr::V4(dialled) = self.v4.server.address else { return Err(Failure::not_tried()) };
            let dialled = (dialled.ip().to_ipv6_mapped(), dialled.port()).into();
            capture(dialled, Ipv4Addr::LOCALHOST.into())?.shown()
        });
        let outcomes = [
            (Status::Degraded, refusal),
            (Status::Missing, v4.and_then(|one| one.shown())),
            v6,
            mapped,
            self.v4.inbound(),
            self.v6.as_ref().map_or_else(no_v6, Family::inbound),
            (Status::Degraded, records),
            (Status::Degraded, events),
        ];
        let rows = ROWS.into_iter().zip(outcomes);
        rows.map(|(name, (otherwise, outcome))| Row::of(name, otherwise, outcome)).collect()
    }

    fn of_v6(&self, test: impl FnOnce(&Family) -> Outcome) -> (Status, Outcome) {
        self.v6.as_ref().map_or_else(no_v6, |v6| (Status::Missing, test(v6)))
    }
}

fn no_v6() -> (Status, Outcome) {
    (Status::Degraded, Err("not tried: there is no IPv6 here".to_owned().into()))
}

impl Family {
    /// A stranger's connection comes to the proxy, which passes it on.
    fn inbound(&self) -> (Status, Outcome) {
        if let Some(service) = &self.service {
            return (Status::Missing, service.steered(self.server.address.ip()));
        }
        let failure = Failure {
            detail: "not tried: this network namespace has only loopback addresses".into(),
            remedy: Some("run with CAP_SYS_ADMIN, to try it in a network namespace of its own"),
        };
        (Status::Degraded, Err(failure))
    }
}

impl Server {
    fn bind(ip: IpAddr) -> Result<Self, Failure> {
        let address = SocketAddr::new(ip, 0);
        let bind = || {
            let socket = stream(address)?;
            socket.bind(&address.into())?;
            Ok(Self { address: known(&socket.local_addr()?)?, socket })
        };
        bind().map_err(|error| during("bind", address, &error))
    }

    fn listen(&self) -> Result<(), Failure> {
        self.socket.listen(BACKLOG).map_err(|error| during("listen on", self.address, &error))
    }

    /// Without a proxy, and with `onProxyDown: closed`, a server that is there cannot be reached.
    fn refusal(&self) -> Outcome {
        self.listen()?;
        match dial(&stream(self.address)?, self.address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Ok("onProxyDown: closed refuses connections without a proxy".into())
            }
            Err(error) => Err(during("connect, which should be refused, to", self.address, &error)),
            Ok(()) => Err(format!("{} was reached, though there is no proxy", self.address).into()),
        }
    }

    fn steered(&self, loopback: IpAddr) -> Outcome {
        let proxy = proxy_listener(loopback, Role::Inbound)?;
        self.listen()?;
        let client = stream(self.address)?;
        dial(&client, self.address).map_err(|error| during("connect to", self.address, &error))?;
        let client = known(&client.local_addr()?)?;
        let (accepted, peer) = accept(&proxy, "the proxy")?;
        expect("the proxy's accept()", peer, client)?;
        expect("the proxy's getsockname()", known(&accepted.local_addr()?)?, self.address)?;

        let upstream = stream(self.address)?;
        upstream.set_mark(PROXY_MARK)?;
        sys::forward(&upstream, ConnectionId(accepted.cookie()?), ClientAddr(client))
            .map_err(|error| during("tell the client of a connection to", self.address, &error))?;
        dial(&upstream, self.address)
            .map_err(|error| during("connect the proxy to", self.address, &error))?;
        let (_, peer) = accept(&self.socket, "the server")?;
        expect("the server's accept()", peer, client)?;
        Ok(format!("connections to {} are steered; accept() shows the client", self.address))
    }
}

impl Captured {
    /// Who looks sees what they should see.
    fn shown(&self) -> Outcome {
        let v4 = self.accepted.local_addr()?.is_ipv4();
        let told = if v4 { self.accepted.original_dst_v4() } else { self.accepted.original_dst_v6() };
        let told = known(&told.map_err(|error| during("SO_ORIGINAL_DST of", self.dialled, &error))?)?;
        expect("SO_ORIGINAL_DST", told, canonical(self.dialled))?;
        expect("getpeername()", known(&self.client.peer_addr()?)?, self.dialled)?;
        Ok(format!("redirected; SO_ORIGINAL_DST and getpeername() tell {}", self.dialled))
    }

    fn record(&self) -> Outcome {
        let Some(record) = sys::record(&self.accepted) else {
            return Err("the proxy finds none for a connection that it accepted".to_owned().into());
        };
        expect("the record", record.original_destination.into(), self.dialled)?;
        Ok(format!("the proxy reads who dialled: {}", comm(&record)))
    }
}

/// Lets the program dial. Whoever listened as the proxy before is replaced.
fn capture(dialled: SocketAddr, loopback: IpAddr) -> Result<Captured, Failure> {
    let proxy = proxy_listener(loopback, Role::Outbound)?;
    let client = stream(dialled)?;
    dial(&client, dialled).map_err(|error| during("connect to", dialled, &error))?;
    let (accepted, _) = accept(&proxy, "the proxy")?;
    Ok(Captured { client, accepted, dialled })
}

/// The ring buffer tells of the connection, by the way that an instance reads it.
fn event(kernel: &mut Kernel, captured: &Captured) -> Outcome {
    let id = captured.client.cookie()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let open = runtime.block_on(async {
        let mut events = kernel.events()?;
        let mut open = false;
        let search = async {
            while !open {
                events
                    .next(|event| open |= event.kind == EventKind::Open as u32 && event.record.id == id)
                    .await?;
            }
            Ok::<(), io::Error>(())
        };
        // Late is never.
        let _ = tokio::time::timeout(DEADLINE, search).await;
        Ok::<bool, Failure>(open)
    })?;
    if open { Ok("opens and closes are told".into()) } else { Err("an open was not told".to_owned().into()) }
}

/// A listener that says what it is for, as the proxy's do.
fn proxy_listener(ip: IpAddr, role: Role) -> Result<Socket, Failure> {
    let address = SocketAddr::new(ip, 0);
    let socket = stream(address)?;
    socket.set_mark(PROXY_MARK).map_err(|error| during("mark a listener of", address, &error))?;
    sys::announce(&socket, role).map_err(|error| during("announce a listener of", address, &error))?;
    socket.bind(&address.into()).map_err(|error| during("bind", address, &error))?;
    socket.listen(BACKLOG).map_err(|error| during("listen on", address, &error))?;
    Ok(socket)
}

fn stream(like: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(like), Type::STREAM, None)
}

fn dial(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.connect_timeout(&address.into(), DEADLINE)
}

fn accept(listener: &Socket, whose: &str) -> Result<(Socket, SocketAddr), Failure> {
    listener.set_read_timeout(Some(DEADLINE))?;
    match listener.accept() {
        Ok((socket, peer)) => Ok((socket, known(&peer)?)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(format!("a connection did not come to {whose}").into())
        }
        Err(error) => Err(error.into()),
    }
}

fn known(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::other("not an IP address"))
}

fn expect(what: &str, told: SocketAddr, wanted: SocketAddr) -> Result<(), Failure> {
    if told == wanted { Ok(()) } else { Err(format!("{what} tells {told} instead of {wanted}").into()) }
}

fn comm(record: &Record) -> String {
    let bytes = record.program.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    format!("{} (pid {})", String::from_utf8_lossy(bytes), record.program.pid)
}

fn during(operation: &str, address: SocketAddr, error: &io::Error) -> Failure {
    Failure { detail: format!("{operation} {address}: {error}"), remedy: super::remedy(error) }
}
