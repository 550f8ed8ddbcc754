use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(limits: Limits, handler: impl Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, limits, handler));
        Self { address, _task: task }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and returns the whole answer.
    pub(crate) async fn ask(&self, method: &str, target: &str, headers: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }
}

/// All that comes until the end.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end").unwrap();
    String::from_utf8(answer).unwrap()
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Hello;

impl Handler for Hello {
    async fn handle(&self, _: &Request<Incoming>) -> Reply {
        text(StatusCode::OK, "hello")
    }
}

#[tokio::test]
async fn a_slow_header_ends_the_connection() {
    let limits = Limits { header_read: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits, Hello).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(!answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_become_free() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }, Hello).await;
    let mut first = server.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    first.write_all(request).await.unwrap();
    let mut answer = [0; 15];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");

    let mut second = server.connect().await;
    let mut rest = Vec::new();
    // The end comes as FIN, or as RST where bytes of the request were not read.
    let _ = timeout(DEADLINE, second.read_to_end(&mut rest)).await.expect("closed at once");
    assert!(rest.is_empty());

    drop(first);
    timeout(DEADLINE, async {
        loop {
            let mut third = server.connect().await;
            // Either fails while the place is still taken.
            if third.write_all(request).await.is_ok() && third.read_exact(&mut answer).await.is_ok() {
                break;
            }
        }
    })
    .await
    .expect("a place becomes free");
}

#[tokio::test]
async fn a_dead_processs_socket_is_replaced_and_a_living_ones_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _listener = bind_unix(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}
