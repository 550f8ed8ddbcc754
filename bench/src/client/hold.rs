//! Connections that are open and idle.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::case::SMALL;
use crate::http1;

/// Opens them, exchanges a message or request on each, says `ready`, and keeps them until standard input ends. Requests must
/// be answered then too: a connection that was closed meanwhile costs nothing.
pub(super) fn run(target: SocketAddr, connections: usize, http: bool) -> Result<()> {
    let request = http1::request(target.port(), None);
    let mut held = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut stream = TcpStream::connect(target).with_context(|| format!("connection {number}"))?;
        if http {
            ask(&mut stream, &request).with_context(|| format!("connection {number}"))?;
        } else {
            stream.write_all(&[b'x'; SMALL])?;
            stream.read_exact(&mut [0; SMALL])?;
        }
        held.push(stream);
    }
    println!("ready");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    for (number, stream) in held.iter_mut().enumerate().filter(|_| http) {
        ask(stream, &request).with_context(|| format!("connection {number}, which was idle"))?;
    }
    Ok(())
}

fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    while http1::length(&answer)?.is_none_or(|length| answer.len() < length) {
        let length = stream.read(&mut chunk)?;
        ensure!(length > 0, "closed without an answer");
        answer.extend_from_slice(&chunk[..length]);
    }
    Ok(())
}
