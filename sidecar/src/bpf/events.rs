//! The ring buffer: opens, closes and, with the debug switch, decisions.

use std::io;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use sidecar_common::connection::Event;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::{BpfError, Kernel};

/// How often the buffer is emptied: the kernel half does not wake us for each event.
pub const PERIOD: Duration = Duration::from_millis(50);

/// Reads events. There is one reader at a time: a ring buffer has one consumer position.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Kernel {
    /// Takes the ring buffer. Can be done once, within a tokio runtime.
    pub fn events(&mut self) -> Result<Events, BpfError> {
        let failed = |reason: String| BpfError::Map { map: "EVENTS", reason };
        let map = self.ebpf.take_map("EVENTS").ok_or_else(|| failed("not in the object".to_owned()))?;
        let ring = RingBuf::try_from(map).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the ring buffer owns its file descriptor and keeps it open until it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| failed(io::Error::from(error).to_string()))?;
        Ok(Events { ring })
    }
}

impl Events {
    /// Waits a while, or until the buffer is filling up, and hands each event to `take`. Cancel safe: an event is either
    /// handed over or still in the buffer.
    pub async fn next(&mut self, mut take: impl FnMut(&Event)) -> io::Result<()> {
        if let Ok(filling) = timeout(PERIOD, self.ring.readable_mut()).await {
            filling?.clear_ready();
        }
        let ring = self.ring.get_mut();
        while let Some(item) = ring.next() {
            if let Some(event) = read(&item) {
                take(&event);
            }
        }
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: the buffer holds that many bytes, written by the kernel half as this type, any bit pattern of which
    // is valid; the read allows for any alignment.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}
