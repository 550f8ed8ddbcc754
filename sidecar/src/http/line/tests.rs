use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::config::traffic::ConnectionPool;
use crate::http::upstream::handshake;

const HERE: Wants = Wants { endpoint: 1, version: Version::Http1 };
const THERE: Wants = Wants { endpoint: 2, version: Version::Http1 };
const HERE2: Wants = Wants { endpoint: 1, version: Version::Http2 };

fn circuit(max_connections: u32, max_pending_requests: u32) -> Circuit {
    Circuit::new(&ConnectionPool { max_connections, max_pending_requests, ..ConnectionPool::default() })
}

/// A connection, and the other end of it.
async fn connection(wants: Wants, left: Option<u32>, place: Option<Place>) -> (Pooled, DuplexStream) {
    let (ours, theirs) = duplex(1024);
    let (sender, _) = handshake(ours, wants.version, place.map(Arc::new)).await.unwrap();
    (Pooled::of(sender, wants, left), theirs)
}

async fn joins(line: &Arc<Line>, circuit: &Circuit, wants: Wants) -> Option<Turn> {
    line.turn(circuit, wants, || {}).await
}

fn place(turn: Option<Turn>) -> Place {
    match turn {
        Some(Turn::Place(place)) => place,
        _ => panic!("no place"),
    }
}

fn is_connection(turn: &Poll<Option<Turn>>) -> bool {
    matches!(turn, Poll::Ready(Some(Turn::Connection(_))))
}

macro_rules! poll {
    ($future:expr) => {
        std::future::poll_fn(|cx| Poll::Ready($future.as_mut().poll(cx))).await
    };
}

#[tokio::test]
async fn places_go_round_in_the_order_of_coming() {
    let (line, circuit) = (Arc::new(Line::default()), circuit(1, 2));
    let first = place(joins(&line, &circuit, HERE).await);
    let mut second = pin!(joins(&line, &circuit, THERE));
    let mut third = pin!(joins(&line, &circuit, HERE));
    assert!(poll!(second).is_pending() && poll!(third).is_pending());
    assert!(joins(&line, &circuit, HERE).await.is_none(), "two may wait");
    assert_eq!((line.waiting(), circuit.pending.refused()), (2, 1));
    drop(first);
    assert!(poll!(third).is_pending());
    let second = place(second.await);
    assert_eq!(circuit.connections.used(), 1);
    drop(second);
    drop(place(third.await));
    assert_eq!((line.waiting(), circuit.connections.used(), circuit.pending.used()), (0, 0, 0));
}

#[tokio::test]
async fn who_leaves_the_line_takes_nothing_along() {
    let (line, circuit) = (Arc::new(Line::default()), circuit(1, 8));
    let first = place(joins(&line, &circuit, HERE).await);
    let mut third = pin!(joins(&line, &circuit, HERE));
    {
        let mut second = pin!(joins(&line, &circuit, HERE));
        assert!(poll!(second).is_pending() && poll!(third).is_pending());
        // Its turn comes as it leaves.
        drop(first);
    }
    drop(place(timeout(Duration::from_secs(1), third).await.unwrap()));
    for _ in 0..100 {
        let held = place(joins(&line, &circuit, HERE).await);
        let mut gone = Box::pin(joins(&line, &circuit, HERE));
        assert!(poll!(gone).is_pending());
        drop((gone, held));
    }
    assert_eq!((line.waiting(), circuit.connections.used()), (0, 0));
}

#[tokio::test]
async fn a_connection_goes_to_who_is_first_if_it_is_of_use() {
    let (line, circuit) = (Arc::new(Line::default()), circuit(1, 8));
    let held = place(joins(&line, &circuit, HERE).await);
    let (free, _end) = connection(HERE, Some(1), Some(held)).await;
    let free = line.offer(free).expect("nobody waits");
    let (mut first, mut second) = (pin!(joins(&line, &circuit, HERE)), pin!(joins(&line, &circuit, THERE)));
    assert!(poll!(first).is_pending() && poll!(second).is_pending());
    assert!(line.offer(free).is_none());
    let Some(Turn::Connection(free)) = first.await else { panic!("no connection") };
    assert!(!free.begin(), "it had one request left");
    // The next one is of no use to who is first now: it closes, and its place is.
    assert!(line.offer(free).is_none());
    drop(place(second.await));
    assert_eq!(circuit.connections.used(), 0);
}

#[tokio::test]
async fn one_of_http2_is_shared_by_all_that_can_use_it() {
    let (line, circuit) = (Arc::new(Line::default()), circuit(1, 8));
    let held = place(joins(&line, &circuit, HERE2).await);
    let mut other = pin!(joins(&line, &circuit, THERE));
    let (mut first, mut second) = (pin!(joins(&line, &circuit, HERE2)), pin!(joins(&line, &circuit, HERE2)));
    let mut third = pin!(joins(&line, &circuit, HERE2));
    assert!(poll!(other).is_pending() && poll!(first).is_pending());
    assert!(poll!(second).is_pending() && poll!(third).is_pending());
    let (shared, _end) = connection(HERE2, Some(2), Some(held)).await;
    assert!(!line.share(&shared), "others wait");
    assert!(is_connection(&poll!(first)) && is_connection(&poll!(second)));
    assert!(poll!(third).is_pending(), "it takes two requests");
    assert_eq!(line.waiting(), 2);
}
