//! A receiver of OTLP: one request a connection, answered as the test says.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A receiver; it goes on until the test ends.
pub(super) struct Receiver {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was taken.
    taken: Vec<Value>,
    /// The next answers; then all are 200.
    answers: VecDeque<&'static str>,
    asked: usize,
}

impl Receiver {
    pub(super) fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { answers: answers.iter().copied().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that was killed is not this receiver's fault.
                let _ = answer(&stream, &shared);
            }
        });
        Self { address, state }
    }

    pub(super) fn output(&self) -> String {
        format!("otlp=http://{}/v1/logs", self.address)
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// The requests that were taken.
    pub(super) fn taken(&self) -> Vec<Value> {
        self.state.lock().unwrap().taken.clone()
    }

    /// The lines that were.
    pub(super) fn records(&self) -> Vec<Value> {
        let records = |request: &Value| request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].clone();
        self.taken().iter().flat_map(|request| records(request).as_array().unwrap().clone()).collect()
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&lower);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    assert!(head.starts_with("post /v1/logs ") && head.contains("content-type: application/json"), "{head}");
    let mut state = state.lock().unwrap();
    state.asked += 1;
    let status = state.answers.pop_front().unwrap_or("200 OK");
    if status.starts_with("200") {
        state.taken.push(serde_json::from_slice(&body).unwrap());
    }
    drop(state);
    write!(&*stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}")
}
