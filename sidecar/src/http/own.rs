//! A client's own connection to where it meant to go, so that the server there sees whom it serves.

use std::sync::{Arc, PoisonError};

use hyper::Request;
use tokio::task::JoinHandle;

use super::body::Flow;
use super::client::Client;
use super::record::Record;
use super::reply::Reply;
use super::upstream::{self, Lease, Sender, Sent, UpstreamSocket};
use crate::net::addrs::UpstreamAddr;
use crate::net::io::Io;
use crate::observe::close_reason::CloseReason;
use crate::opaque;

/// What a client has of it while no request uses it.
#[derive(Default)]
pub(super) enum Own {
    /// Nothing, or a request has it.
    #[default]
    Nothing,
    /// It is ready for a request, or for further ones.
    Ready(OwnConnection),
    /// Its socket, and nothing that speaks on it.
    Resting(Arc<UpstreamSocket>),
}

/// The connection.
pub(super) struct OwnConnection {
    sender: Sender,
    /// What can be put to rest: the socket, and the task that speaks on it. Not of HTTP/2, which has a state to keep.
    still: Option<(Arc<UpstreamSocket>, JoinHandle<()>)>,
}

impl OwnConnection {
    /// All of an answer came: it can serve the next request.
    pub(super) fn give_back(self, client: &Client) {
        if !self.sender.is_closed() {
            put(client, Own::Ready(self));
        }
    }
}

/// Sends a request to where its client meant to connect. One that a kept connection did not take before it closed is sent
/// once more, over a new one; also one that it took, if that is safe (RFC 9110 section 9.2.2).
pub(super) async fn send(
    client: &Arc<Client>,
    record: &mut Record,
    request: Request<Flow>,
) -> Result<Sent, Reply> {
    let target = opaque::target(&client.accepted).await.map_err(upstream::failed)?;
    let mut request = request;
    if let Some(mut own) = kept(client).await
        && own.sender.is_ready().await
    {
        record.attempt(|| target.0.to_string());
        let again = upstream::copy(&request);
        match own.sender.try_send(request).await {
            Ok(response) => return Ok(Sent { response, lease: lease(client, own) }),
            Err(mut error) => match error.take_message().or(again) {
                Some(unsent) => request = unsent,
                None => return Err(upstream::broken(error.error())),
            },
        }
    }
    let mut own = connect(client, target).await.map_err(upstream::failed)?;
    record.attempt(|| target.0.to_string());
    match own.sender.try_send(request).await {
        Ok(response) => Ok(Sent { response, lease: lease(client, own) }),
        Err(error) => Err(upstream::broken(error.error())),
    }
}

/// Puts a connection that no request uses to rest, and says which; `None`: there is none that can.
pub(super) async fn rest(client: &Client) -> Option<Arc<UpstreamSocket>> {
    let socket = match take(client) {
        Own::Ready(OwnConnection { sender: Sender::Http1(sender), still: Some((socket, driver)) })
            if sender.is_ready() && socket.is_flushed() =>
        {
            driver.abort();
            // Nothing speaks on it any more once this is over, however it ended.
            let _ = driver.await;
            socket
        }
        Own::Resting(socket) => socket,
        Own::Ready(own) if own.sender.is_closed() => return None,
        other => {
            put(client, other);
            return None;
        }
    };
    put(client, Own::Resting(Arc::clone(&socket)));
    Some(socket)
}

/// Closes a connection that rests.
pub(super) fn forget(client: &Client) {
    drop(take(client));
}

/// The connection that the last request left, or that all share.
async fn kept(client: &Client) -> Option<OwnConnection> {
    match lent(client) {
        Own::Nothing => None,
        Own::Ready(own) => Some(own),
        Own::Resting(socket) => speak(client, socket).await.ok(),
    }
}

fn lent(client: &Client) -> Own {
    let mut own = client.own.lock().unwrap_or_else(PoisonError::into_inner);
    match &*own {
        Own::Ready(OwnConnection { sender: Sender::Http2(sender), .. }) => {
            Own::Ready(OwnConnection { sender: Sender::Http2(sender.clone()), still: None })
        }
        _ => std::mem::take(&mut *own),
    }
}

fn take(client: &Client) -> Own {
    std::mem::take(&mut *client.own.lock().unwrap_or_else(PoisonError::into_inner))
}

fn put(client: &Client, own: Own) {
    *client.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
}

fn lease(client: &Arc<Client>, own: OwnConnection) -> Option<Lease> {
    match own.sender {
        Sender::Http1(_) => Some(Lease::Own(own, Arc::clone(client))),
        Sender::Http2(_) => None,
    }
}

/// A new connection, in the protocol that the client speaks.
async fn connect(client: &Arc<Client>, target: UpstreamAddr) -> Result<OwnConnection, CloseReason> {
    let sockets = &client.accepted.sockets;
    let socket = if let Some(first) = sockets.take_first() {
        UpstreamSocket::first(sockets, first)
    } else {
        let stream = opaque::dial(&client.accepted, target).await?;
        UpstreamSocket::later(stream, client.accepted.shared.later_hop())
    };
    let own = speak(client, Arc::new(socket)).await?;
    if let Sender::Http2(sender) = &own.sender {
        put(client, Own::Ready(OwnConnection { sender: Sender::Http2(sender.clone()), still: None }));
    }
    Ok(own)
}

async fn speak(client: &Client, socket: Arc<UpstreamSocket>) -> Result<OwnConnection, CloseReason> {
    let (sender, driver) = upstream::handshake(Io(Arc::clone(&socket)), client.version, None).await?;
    Ok(OwnConnection { sender, still: Some((socket, driver)) })
}
