//! Attempts beside each other: one that is late goes on while the next is made (Envoy's `hedge_on_per_try_timeout`). The
//! first good answer counts, and the others are given up.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::attempts::{Attempts, Next, Paid, Try, late};
use super::policies::Stop;
use super::pool;
use super::record::Record;
use super::upstream::{Sent, Unsent};
use crate::upstream::cluster::Chosen;

/// An attempt that is under way.
struct Running {
    chosen: Arc<Chosen>,
    until: Option<Instant>,
    sending: Pin<Box<dyn Future<Output = Result<Sent, Unsent>> + Send>>,
    _paid: Option<Paid>,
}

/// Sends a request, once more each time that an attempt has no answer after so long.
pub(super) async fn send(
    attempts: &mut Attempts<'_>,
    record: &mut Record,
    late_after: Duration,
) -> Result<Sent, Stop> {
    // No more than the retries that are configured, and one.
    let mut running: Vec<Running> = Vec::new();
    loop {
        match begin(attempts, record) {
            Ok(one) => running.push(one),
            // Those before it may yet be answered.
            Err(stop) if running.is_empty() => return Err(stop),
            Err(_) => {}
        }
        let mut due = Some(Instant::now() + late_after);
        let wait = loop {
            let Some((ended, sent)) = first(&mut running, due).await else {
                due = None;
                match running.last().map(|last| Arc::clone(&last.chosen)) {
                    Some(last) if attempts.may_hedge() => {
                        attempts.again(&last);
                        break None;
                    }
                    _ => continue,
                }
            };
            let next = if running.is_empty() {
                attempts.next(record, &ended.chosen, &sent)
            } else if attempts.is_good(&ended.chosen, &sent) {
                Next::End(false)
            } else {
                // Another one is made already.
                continue;
            };
            match next {
                Next::Again(wait) => {
                    attempts.again(&ended.chosen);
                    break Some(wait);
                }
                Next::End(enough) => {
                    record.answered_by(|| ended.chosen.endpoint.name.clone());
                    return attempts.end(record, sent, ended.until, enough);
                }
            }
        };
        if let Some(wait) = wait {
            sleep(wait).await;
        }
    }
}

fn begin(attempts: &mut Attempts<'_>, record: &mut Record) -> Result<Running, Stop> {
    let Try { chosen, request, until, paid } = attempts.begin(record)?;
    let chosen = Arc::new(chosen);
    let (client, cluster) = (Arc::clone(attempts.client), Arc::clone(attempts.cluster));
    let (version, at) = (attempts.version, Arc::clone(&chosen));
    let sending = Box::pin(async move {
        let by = (&*client.accepted.shared, &*client.accepted.settings);
        let sending = pool::send(by, &cluster, &at, version, request);
        match until {
            Some(until) => timeout_at(until, sending).await.unwrap_or_else(|_| Err(late())),
            None => sending.await,
        }
    });
    Ok(Running { chosen, until, sending, _paid: paid })
}

/// The first that ends. `None`: none did until then.
async fn first(running: &mut Vec<Running>, due: Option<Instant>) -> Option<(Running, Result<Sent, Unsent>)> {
    let ended = poll_fn(|cx| {
        let mut polled = running.iter_mut().map(|one| one.sending.as_mut().poll(cx)).enumerate();
        polled
            .find_map(|(place, sent)| match sent {
                Poll::Ready(sent) => Some(Poll::Ready((place, sent))),
                Poll::Pending => None,
            })
            .unwrap_or(Poll::Pending)
    });
    let (place, sent) = match due {
        Some(due) => timeout_at(due, ended).await.ok()?,
        None => ended.await,
    };
    Some((running.remove(place), sent))
}
