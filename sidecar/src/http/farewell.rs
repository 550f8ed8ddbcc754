//! The last of a client that is not to be heard any longer.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::framing::Refusal;

/// How long a client that was refused may take to hear of it, and how much of what it still sends is read meanwhile: a close
/// with unread bytes would be a reset, which takes the answer along.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_BYTES: usize = 256 * 1024;

/// Says why nothing more is read, if that is why, and lets the last answer be heard.
pub(super) async fn farewell(client: &TcpStream, refusal: Option<Refusal>) {
    // Who does not hear it in time is not waited for.
    let _ = timeout(FAREWELL, said(client, refusal)).await;
}

async fn said(client: &TcpStream, refusal: Option<Refusal>) {
    if let Some(refusal) = refusal
        && (client.writable().await.is_err() || client.try_write(refusal.answer().as_bytes()).is_err())
    {
        return;
    }
    let _ = SockRef::from(client).shutdown(Shutdown::Write);
    let mut left = FAREWELL_BYTES;
    let mut buffer = vec![0; 4096];
    while left > 0 && client.readable().await.is_ok() {
        let read = client.try_io(Interest::READABLE, || (&*SockRef::from(client)).read(&mut buffer));
        match read {
            Ok(0) => return,
            Ok(read) => left = left.saturating_sub(read),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
