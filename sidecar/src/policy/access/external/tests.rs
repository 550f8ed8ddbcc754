use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const UNREACHABLE: &str = "http://127.0.0.1:9/check";

fn external(url: &str, fail_open: bool) -> External {
    External::new(HttpAuthorization {
        trust: None,
        url: url.parse().unwrap(),
        headers: vec![AUTHORIZATION, HeaderName::from_static("x-forwarded-for")],
        allowed_upstream_headers: vec![HeaderName::from_static("x-user"), AUTHORIZATION],
        timeout: Duration::from_millis(500),
        fail_open,
    })
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.iter().map(pair).collect()
}

fn question(headers: &HeaderMap) -> Question<'_> {
    let (method, source) = (&Method::POST, IpAddr::from([10, 0, 0, 1]));
    Question { method, path_and_query: "/a?b=c", host: Some("app:80"), scheme: "http", source, headers }
}

/// Asks a service that gives this answer, and returns what it was asked with.
async fn ask(answer: &'static str, fail_open: bool) -> (Answer, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/check?x=y", listener.local_addr().unwrap());
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        (String::from_utf8_lossy(&request[..length]).into_owned(), stream)
    };
    let headers =
        headers(&[("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("cookie", "secret")]);
    let external = external(&url, fail_open);
    let question = question(&headers);
    let (answer, (request, _stream)) = tokio::join!(external.ask(&question), served);
    (answer, request)
}

#[test]
fn the_request_is_described_in_headers() {
    let headers =
        headers(&[("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("cookie", "secret")]);
    let request = external(UNREACHABLE, false).request(&question(&headers)).unwrap();
    assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/check"));
    let mut found: Vec<_> =
        request.headers().iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
    found.sort_unstable();
    let expected = [
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "app:80"),
        ("x-forwarded-method", "POST"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/a?b=c"),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn success_allows_with_the_headers_that_may_pass() {
    let (answer, request) =
        ask("HTTP/1.1 204 No Content\r\nx-user: alice\r\nx-other: 1\r\n\r\n", false).await;
    let Answer::Allow { remove_headers, set_headers } = answer else { panic!("{answer:?}") };
    assert_eq!(remove_headers, ["x-user"], "also the client's; its authorization stays");
    assert_eq!(set_headers, [(HeaderName::from_static("x-user"), HeaderValue::from_static("alice"))]);
    assert!(request.starts_with("GET /check?x=y HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn refusals_are_relayed() {
    let answers = [
        (
            "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 2\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\ngo",
            302,
        ),
        (
            "HTTP/1.1 401 No\r\nlocation: /login\r\ntransfer-encoding: chunked\r\n\r\n2\r\ngo\r\n0\r\n\r\n",
            401,
        ),
        ("HTTP/1.1 403 No\r\nlocation: /login\r\ncontent-length: 2\r\nkeep-alive: x\r\n\r\ngo", 403),
    ];
    for (text, status) in answers {
        let (answer, _) = ask(text, true).await;
        let Answer::Refuse(response) = answer else { panic!("{status}: {answer:?}") };
        assert_eq!((response.status().as_u16(), &**response.body()), (status, &b"go"[..]));
        assert_eq!(response.headers(), &headers(&[("location", "/login")]), "{status}");
    }
}

#[tokio::test]
async fn errors_are_refusals_unless_it_fails_open() {
    for text in ["HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "junk\r\n\r\n", ""] {
        let (answer, _) = ask(text, false).await;
        let Answer::Refuse(response) = answer else { panic!("{text}: {answer:?}") };
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{text}");
        let (answer, _) = ask(text, true).await;
        let Answer::Allow { remove_headers, set_headers } = answer else { panic!("{text}: {answer:?}") };
        assert_eq!((remove_headers.len(), set_headers.len()), (1, 0), "{text}");
    }
    let answer = external(UNREACHABLE, false).ask(&question(&HeaderMap::new())).await;
    assert!(matches!(answer, Answer::Refuse(_)));
}
