//! What a client speaks, and whom it asks for, told from its first bytes.

use crate::detect::{LOOK_AT, MAX_RECORD, Spoken, told_by};
use crate::sni::{Hello, hello};

/// What is told of the first bytes stays so when more come, is what they are, and is told at the latest when no more are looked
/// at.
pub fn detection(bytes: &[u8]) {
    spoken(&bytes[..bytes.len().min(LOOK_AT)]);
    server_name(&bytes[..bytes.len().min(MAX_RECORD)]);
}

fn spoken(bytes: &[u8]) {
    let told = told_by(bytes);
    for length in 0..bytes.len() {
        if let Some(early) = told_by(&bytes[..length]) {
            assert_eq!(told, Some(early), "{length} bytes tell otherwise");
        }
    }
    match told {
        Some(Spoken::Tls) => assert_eq!(bytes[..2], [22, 3]),
        Some(Spoken::Http2) => assert_eq!(bytes[..24], *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Some(Spoken::Http1) => {
            let line: Vec<u8> =
                bytes.iter().copied().skip_while(|byte| matches!(byte, b'\r' | b'\n')).collect();
            let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            assert!(
                (3..=9).contains(&method.len()) && method.iter().all(u8::is_ascii_uppercase),
                "{method:?}"
            );
        }
        Some(Spoken::Bytes) => {}
        None => assert!(bytes.len() < LOOK_AT, "a full buffer tells nothing"),
    }
}

fn server_name(bytes: &[u8]) {
    let whole = hello(bytes);
    // A name is found in the whole record alone: the shortest that is one tells, and what comes behind it changes nothing.
    let needed = (0..=bytes.len())
        .rev()
        .find(|length| hello(&bytes[..*length]) != whole)
        .map_or(0, |length| length + 1);
    for length in 0..needed {
        assert_eq!(hello(&bytes[..length]), Hello::Partial, "{length} of {needed} bytes");
    }
    match whole {
        Hello::Partial => assert!(bytes.len() < MAX_RECORD, "a full buffer tells nothing"),
        Hello::Whole(None) => {}
        Hello::Whole(Some(name)) => {
            assert!(bytes[..3] == [22, 3, bytes[2]] && bytes[5] == 1, "no hello of a TLS client");
            assert!(!name.is_empty() && name.len() <= 255, "no name of a host: {name:?}");
            let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
            assert!(name.bytes().all(plain), "no name of a host: {name:?}");
            let there = |window: &[u8]| window.eq_ignore_ascii_case(name.as_bytes());
            assert!(bytes.windows(name.len()).any(there), "{name:?} is not in it");
        }
    }
}
