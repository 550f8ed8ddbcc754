//! A strict reader of HTTP/1.1 requests (RFC 9112), to compare the framing guard with. It has all bytes at once, keeps no state,
//! and shares no code with the guard.

/// One request's header.
struct Head<'a> {
    is_1_1: bool,
    fields: Vec<(String, &'a [u8])>,
    /// Its bytes, with the empty line.
    length: usize,
}

/// Where each whole request ends, empty lines before it included. What comes after a request that asks for another protocol is no
/// request's if the server `switched`. `Err`: something of it has more than one meaning.
pub(crate) fn ends(bytes: &[u8], switched: bool) -> Result<Vec<usize>, String> {
    let (mut ends, mut at) = (Vec::new(), 0);
    loop {
        while bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        let Some(head) = head(&bytes[at..])? else { return Ok(ends) };
        at += head.length;
        let upgrades = head.is_1_1
            && !head.all("upgrade").is_empty()
            && head.all("connection").iter().any(|value| words(value).any(|word| word == "upgrade"));
        let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
        let hosts = head.all("host").len();
        if hosts > 1 || (head.is_1_1 && hosts == 0) {
            return Err(format!("{hosts} hosts"));
        }
        let body = match (&lengths[..], &codings[..]) {
            ([], []) => Some(0),
            _ if upgrades => return Err("a body before another protocol".to_owned()),
            ([length], []) => sized(&bytes[at..], length)?,
            ([], [coding]) if head.is_1_1 && coding.eq_ignore_ascii_case(b"chunked") => {
                chunked(&bytes[at..])?
            }
            _ => return Err("more than one framing".to_owned()),
        };
        let Some(body) = body else { return Ok(ends) };
        at += body;
        ends.push(at);
        if upgrades && switched {
            return Ok(ends);
        }
    }
}

/// The header that these bytes begin with, if all of it is there.
fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut lines = lines(&bytes[..end])?.into_iter();
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let [method, target, version] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("no request line: {first:?}"));
    };
    if !is_token(method.as_bytes()) || target.is_empty() || !["HTTP/1.0", "HTTP/1.1"].contains(&version) {
        return Err(format!("no request line: {first:?}"));
    }
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Head { is_1_1: version == "HTTP/1.1", fields, length: end + 4 }))
}

/// A field's name, in lower case, and its value without white space around it.
fn field(line: &[u8]) -> Result<(String, &[u8]), String> {
    let shown = || format!("no field: {:?}", String::from_utf8_lossy(line));
    let colon = find(line, b":").ok_or_else(shown)?;
    if !is_token(&line[..colon]) {
        return Err(shown());
    }
    Ok((String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase(), line[colon + 1..].trim_ascii()))
}

fn sized(bytes: &[u8], length: &[u8]) -> Result<Option<usize>, String> {
    let text = String::from_utf8_lossy(length);
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse::<u64>().ok().filter(|_| digits).ok_or(format!("a length of {text:?}"))?;
    Ok(usize::try_from(length).ok().filter(|length| *length <= bytes.len()))
}

fn chunked(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = lines(&bytes[at..at + end])?.concat();
        let number = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let text = String::from_utf8_lossy(number);
        let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size =
            usize::from_str_radix(&text, 16).ok().filter(|_| hex).ok_or(format!("a size of {text:?}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(rest) = bytes.get(at..).and_then(|rest| rest.get(size..)) else { return Ok(None) };
        match find(rest, b"\r\n") {
            Some(0) => at += size + 2,
            Some(_) => return Err("a chunk that does not end where it says".to_owned()),
            None => return Ok(None),
        }
    }
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
        let (name, _) = field(lines(line)?.first().copied().unwrap_or_default())?;
        if ["content-length", "transfer-encoding", "host", "connection", "upgrade"].contains(&name.as_str()) {
            return Err(format!("{name} in a trailer"));
        }
    }
}

/// The lines between CRLFs, none of which has a control character but for the tab: no CR, LF or NUL by itself.
fn lines(mut bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        lines.push(&bytes[..end]);
        bytes = &bytes[end + 2..];
    }
    lines.push(bytes);
    let odd = |line: &&&[u8]| line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
    match lines.iter().find(odd) {
        Some(line) => Err(format!("a control character: {:?}", String::from_utf8_lossy(line))),
        None => Ok(lines),
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte))
}

fn words(list: &[u8]) -> impl Iterator<Item = String> {
    let words = list.split(|byte| *byte == b',');
    words.map(|word| String::from_utf8_lossy(word.trim_ascii()).to_ascii_lowercase())
}

// === impl Head ===

impl<'a> Head<'a> {
    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    }
}
