//! A connection between requests: of all that serving takes, nothing is kept but the sockets.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::sleep;

use super::client::Client;
use super::{Common, own};
use crate::net::io::Socket;
use crate::net::sys;
use crate::observe::close_reason::CloseReason;

/// So many connections must have gone to rest before their memory is worth giving back.
const ENOUGH: u32 = 64;
/// How often is looked; after so many looks memory is given back though connections still go to rest.
const LOOK_EACH: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 10;

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

/// Gives memory back to the system once connections have gone to rest, which the allocator would keep for others.
pub(super) async fn tidy(common: &Common) {
    let (mut given, mut before, mut looks) = (0, 0, 0);
    loop {
        sleep(LOOK_EACH).await;
        let rested = common.rested.load(Ordering::Relaxed);
        let settled = rested == before;
        before = rested;
        if rested.wrapping_sub(given) < ENOUGH {
            continue;
        }
        looks += 1;
        if settled || looks == PATIENCE {
            (given, looks) = (rested, 0);
            // It takes milliseconds. If the process ends meanwhile, nothing is lost.
            let _ = tokio::task::spawn_blocking(sys::trim_heap).await;
        }
    }
}
