//! The name of the server that a TLS client asks for, read from the first record that it sends (RFC 8446 sections 4.1.2 and
//! 5.1, RFC 6066 section 3).

/// The types of a record and of its message, and the version that every TLS has.
const HANDSHAKE: u8 = 22;
const MAJOR_VERSION: usize = 3;
const CLIENT_HELLO: u8 = 1;
/// The extension, and the kind of name in it.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// The longest record, without its header, and the longest name.
const MAX_RECORD: usize = 1 << 14;
const MAX_NAME: usize = 255;

/// What a record tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hello {
    /// More must come.
    Partial,
    /// All of it is there; the name in lower case, where there is one.
    Whole(Option<String>),
}

/// What is left to be read of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes, the highest first.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What a length of so many bytes goes before.
    fn vector(&mut self, bytes: usize) -> Option<Self> {
        let length = self.number(bytes)?;
        self.take(length).map(Reader)
    }
}

/// Reads the beginning of a TLS connection. What is not understood has no name.
pub(crate) fn hello(bytes: &[u8]) -> Hello {
    let mut record = Reader(bytes);
    let header = (record.number(1), record.number(1), record.number(1), record.number(2));
    let (Some(kind), Some(major), Some(_), Some(length)) = header else { return Hello::Partial };
    // A longer record is none of TLS, and nobody would wait for all of it.
    if kind != usize::from(HANDSHAKE) || major != MAJOR_VERSION || length > MAX_RECORD {
        return Hello::Whole(None);
    }
    match record.take(length) {
        Some(message) => Hello::Whole(name(message)),
        None => Hello::Partial,
    }
}

/// A hello that is spread over several records has its name in the first, or has none for us.
fn name(message: &[u8]) -> Option<String> {
    let mut message = Reader(message);
    if message.number(1)? != usize::from(CLIENT_HELLO) {
        return None;
    }
    let length = message.number(3)?;
    let mut hello = Reader(message.0.get(..length).unwrap_or(message.0));
    // The version and the random bytes; the session, the cipher suites, the compressions.
    hello.take(2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    let mut extensions = hello.vector(2)?;
    loop {
        let kind = extensions.number(2)?;
        let mut body = extensions.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = body.vector(2)?;
            let is_host = names.number(1)? == usize::from(HOST_NAME);
            let text = std::str::from_utf8(names.vector(2)?.0).ok()?;
            return (is_host && could_be_a_host(text)).then(|| text.to_ascii_lowercase());
        }
    }
}

/// Names of hosts are ASCII (RFC 6066 section 3). Routes compare this text and logs show it.
fn could_be_a_host(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(bytes: usize, body: &[u8]) -> Vec<u8> {
        let length = body.len().to_be_bytes();
        [&length[length.len() - bytes..], body].concat()
    }

    fn client(extensions: &[u8]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &vector(1, &[]), &vector(2, &[19, 1]), &vector(1, &[0])].concat();
        let body = [body, vector(2, extensions)].concat();
        let message = [&[CLIENT_HELLO][..], &vector(3, &body)].concat();
        [&[HANDSHAKE, 3, 1][..], &vector(2, &message)].concat()
    }

    fn named(name: &str) -> Vec<u8> {
        let names = vector(2, &[&[HOST_NAME][..], &vector(2, name.as_bytes())].concat());
        let other = [&[0, 43][..], &vector(2, &[2, 3, 4])].concat();
        client(&[other, [&[0, 0][..], &vector(2, &names)].concat()].concat())
    }

    #[test]
    fn the_name_is_read_when_all_is_there() {
        let hello_bytes = named("WWW.example.com");
        for length in 0..hello_bytes.len() {
            assert_eq!(hello(&hello_bytes[..length]), Hello::Partial, "{length}");
        }
        assert_eq!(hello(&hello_bytes), Hello::Whole(Some("www.example.com".to_owned())));
    }

    #[test]
    fn a_name_is_one_of_a_host() {
        for odd in ["", "a\0b", "a\nb", "a b", "caf\u{e9}.example", &"a".repeat(256)] {
            assert_eq!(hello(&named(odd)), Hello::Whole(None), "{odd:?}");
        }
        assert_eq!(hello(&named("_a-1.b")), Hello::Whole(Some("_a-1.b".to_owned())));
    }

    #[test]
    fn a_record_is_no_longer_than_tls_has_them() {
        assert_eq!(hello(&[HANDSHAKE, 3, 1, 0x40, 0]), Hello::Partial);
        assert_eq!(hello(&[HANDSHAKE, 3, 1, 0x40, 1]), Hello::Whole(None));
        assert_eq!(hello(&[HANDSHAKE, 2, 1, 0, 1]), Hello::Whole(None));
    }

    #[test]
    fn what_has_no_name_or_makes_no_sense_has_none() {
        assert_eq!(hello(&client(&[])), Hello::Whole(None));
        for cut in 0..named("a").len() {
            let mut bytes = named("a");
            bytes[cut] ^= 0xff;
            // Whatever it is, it is told without a panic.
            let _ = hello(&bytes);
        }
        assert_eq!(hello(b"GET / HTTP/1.1\r\n"), Hello::Whole(None));
    }
}
