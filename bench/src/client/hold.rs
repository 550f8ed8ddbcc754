//! Connections that are open and idle.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::case::SMALL;

/// Opens them, exchanges a message on each, says `ready`, and keeps them until standard input ends.
pub(super) fn run(target: SocketAddr, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut stream = TcpStream::connect(target).with_context(|| format!("connection {number}"))?;
        stream.write_all(&[b'x'; SMALL])?;
        stream.read_exact(&mut [0; SMALL])?;
        held.push(stream);
    }
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
