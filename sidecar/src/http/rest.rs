//! A connection between requests: of all that serving takes, nothing is kept but the sockets.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::sleep;

use super::client::Client;
use super::own;
use crate::net::io::Socket;
use crate::observe::close_reason::CloseReason;

/// Rests until the client says something (`None`: it is to be heard), or the connection is over.
pub(super) async fn rest(client: &Arc<Client>) -> Option<CloseReason> {
    if let Some(guard) = &client.guard {
        guard.rest();
    }
    let upstream = own::rest(client).await;
    client.common().rested.fetch_add(1, Ordering::Relaxed);
    let accepted = &client.accepted;
    let idle = accepted.settings.timeouts.idle.saturating_sub(client.quiet());
    // An upstream that closes meanwhile, or says what nobody asked, is not kept.
    let gone = async {
        let Some(upstream) = upstream else { return std::future::pending().await };
        // Whatever makes it readable; what it is makes no difference.
        let _ = upstream.stream().ready(Interest::READABLE).await;
        own::forget(client);
        // Its descriptor may stay until the client's connection ends.
        let _ = SockRef::from(upstream.stream()).shutdown(Shutdown::Both);
        drop(upstream);
        std::future::pending().await
    };
    tokio::select! {
        _ = accepted.sockets.client.ready(Interest::READABLE) => None,
        // hyper would end a connection without requests at once.
        () = accepted.shared.drain.started() => Some(CloseReason::Finished),
        () = sleep(idle) => Some(CloseReason::Finished),
        never = gone => never,
    }
}
