use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { header_bytes: 1000, fields: 10, connect: false };

/// Takes it in pieces of this size; what was passed on.
fn fed(text: &[u8], piece: usize) -> Result<usize, Refusal> {
    let mut framing = Framing::new(BOUNDS);
    let mut passed = 0;
    for piece in text.chunks(piece) {
        let taken = framing.take(piece).map_err(|bad| bad.refusal)?;
        passed += taken;
        if taken < piece.len() {
            break;
        }
    }
    Ok(passed)
}

fn reason(text: &str) -> &'static str {
    let whole = fed(text.as_bytes(), usize::MAX).map_err(|refusal| (refusal.status, refusal.reason));
    let bytes = fed(text.as_bytes(), 1).map_err(|refusal| (refusal.status, refusal.reason));
    assert_eq!(whole.err(), bytes.err(), "{text:?}");
    whole.err().map_or("", |(_, reason)| reason)
}

#[test]
fn what_is_clear_passes() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /%20?q=1 HTTP/1.1\r\nhost:a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nx-sum: 1\r\n\r\nGET / \
         HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: \u{e9}\t1\r\n\r\n",
    ] {
        assert_eq!(fed(text.as_bytes(), usize::MAX), Ok(text.len()), "{text:?}");
        assert_eq!(reason(text), "");
    }
}

#[test]
fn what_is_ambiguous_is_refused() {
    let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let chunked =
        |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    for (text, wanted) in [
        (with("Content-Length: 1\r\nTransfer-Encoding: chunked"), "content-length-with-transfer-encoding"),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 1"), "content-length-with-transfer-encoding"),
        (with("Content-Length: 1\r\nContent-Length: 1"), "content-length-repeated"),
        (with("Content-Length: 1, 1"), "content-length"),
        (with("Content-Length: +1"), "content-length"),
        (with("Content-Length: 0x1"), "content-length"),
        (with("Content-Length:"), "content-length"),
        (with("Content-Length: 99999999999999999999"), "content-length"),
        (with("Transfer-Encoding: chunked, identity"), "transfer-encoding"),
        (with("Transfer-Encoding: gzip, chunked"), "transfer-encoding"),
        (with("Transfer-Encoding: xchunked"), "transfer-encoding"),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "transfer-encoding-repeated"),
        (with("Transfer-Encoding : chunked"), "header-name"),
        (with("X: a\r\n folded"), "folded-header"),
        (with(" X: a"), "folded-header"),
        (with("X"), "header-without-colon"),
        (with(": a"), "header-name"),
        (with("X: a\rb"), "header-value"),
        (with("X: a\0b"), "header-value"),
        (with("Host: b"), "host"),
        (with("Upgrade: a\r\nConnection: upgrade\r\nContent-Length: 1"), "upgrade-with-body"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "host"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), "line-without-cr"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), "line-without-cr"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "request-line"),
        ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "request-target"),
        ("GET /\r\nHost: a\r\n\r\n".to_owned(), "request-line"),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "method"),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), "http-version"),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), "transfer-encoding-in-http-1.0"),
        (chunked("x\r\n"), "chunk-size"),
        (chunked("\r\n"), "chunk-size"),
        (chunked("-1\r\n"), "chunk-size"),
        (chunked("0x1\r\n"), "chunk-extension"),
        (chunked("1 \r\n"), "chunk-extension"),
        (chunked("1;\0\r\n"), "chunk-extension"),
        (chunked("1;a\rb\r\n"), "chunk-extension"),
        (chunked("1\na\r\n"), "line-without-cr"),
        (chunked("1\r\nab\r\n"), "chunk-end"),
        (chunked("0\r\nContent-Length: 1\r\n\r\n"), "trailer-name"),
        (chunked("ffffffffffffffff\r\n"), "chunk-size"),
        ("\r\n\r\n\r\n\r\n\r\n".to_owned(), "empty-lines"),
    ] {
        assert_eq!(reason(&text), wanted, "{text:?}");
    }
}

#[test]
fn bounds_have_statuses() {
    let long = "a".repeat(1000);
    let many = "a: b\r\n".repeat(11);
    for (text, status) in [
        (format!("GET /{long} HTTP/1.1\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nX: {long}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nX: {}\r\nY: {}\r\n", &long[..600], &long[..600]), 431),
        (format!("GET / HTTP/1.1\r\n{many}"), 431),
    ] {
        assert_eq!(fed(text.as_bytes(), 7).map_err(|refusal| refusal.status), Err(status));
    }
}

#[test]
fn whole_requests_before_a_bad_one_pass() {
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let text = format!("{good}{good}GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n");
    let bad = Framing::new(BOUNDS).take(text.as_bytes()).unwrap_err();
    assert_eq!((bad.before, bad.refusal.reason), (2 * good.len(), "folded-header"));
    let mut framing = Framing::new(BOUNDS);
    let (first, rest) = text.split_at(good.len() - 1);
    assert_eq!(framing.take(first.as_bytes()), Ok(first.len()));
    assert_eq!(framing.take(rest.as_bytes()).unwrap_err().before, good.len() + 1);
}

#[test]
fn what_follows_an_upgrade_waits_for_the_answer() {
    let head =
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let text = format!("{head}\u{81}\0rest");
    let mut framing = Framing::new(BOUNDS);
    assert_eq!(framing.take(text.as_bytes()), Ok(head.len()));
    assert!(framing.is_undecided());
    assert_eq!(framing.take(b"x"), Ok(0));
    framing.decide(true);
    assert_eq!(framing.take(b"\x81\x00\n\r\n"), Ok(5));

    let mut framing = Framing::new(BOUNDS);
    assert_eq!(framing.take(head.as_bytes()), Ok(head.len()));
    framing.decide(false);
    assert!(framing.take(b"\x81\x00\n").is_err(), "smuggled behind a refused upgrade");
}

proptest! {
    /// How bytes are cut makes no difference, and nothing makes it panic.
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("POST / HTTP/1.1\r\n"), Just("Host: a\r\n"), Just("Content-Length: 5\r\n"), Just("\r\n"),
                Just("Transfer-Encoding: chunked\r\n"), Just("5\r\nabcde\r\n"), Just("0\r\n\r\n"), Just("abcde"),
                Just("\n"), Just("\0"), Just(" "), Just("Upgrade: x\r\nConnection: upgrade\r\n"),
            ],
            0..12,
        ),
        piece in 1_usize..20,
    ) {
        let text = parts.concat();
        let (whole, cut) = (fed(text.as_bytes(), usize::MAX), fed(text.as_bytes(), piece));
        prop_assert_eq!(whole, cut);
    }
}
