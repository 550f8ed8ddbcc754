//! Cuts bytes into lines, and what is too long into pieces.

/// A line, or a piece of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line<'a> {
    /// Where it begins.
    pub start: usize,
    /// Without its end.
    pub text: &'a [u8],
    /// More of the same line follows.
    pub partial: bool,
}

/// The lines of these bytes that are whole, and the pieces of longer ones.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    /// How long a line may be.
    most: usize,
}

// === impl ===

impl<'a> Lines<'a> {
    /// `most`: not 0.
    pub(super) fn new(bytes: &'a [u8], most: usize) -> Self {
        Self { bytes, at: 0, most }
    }

    /// How many bytes the lines so far took.
    pub(super) fn taken(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let start = self.at;
        let rest = self.bytes.get(start..)?;
        // A CR before the end does not count.
        let near = rest.get(..self.most + 2).unwrap_or(rest);
        let end = near.iter().position(|byte| *byte == b'\n');
        if let Some(end) = end {
            let text = &rest[..end];
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.len() <= self.most {
                self.at += end + 1;
                return Some(Line { start, text, partial: false });
            }
        } else if rest.len() < self.most + 2 {
            // It may end there, once that is written.
            return None;
        }
        let length = whole_characters(&rest[..self.most]);
        self.at += length;
        Some(Line { start, text: &rest[..length], partial: true })
    }
}

/// The length up to which no character of UTF-8 is cut, where that can be had.
fn whole_characters(bytes: &[u8]) -> usize {
    let is_first = |byte: u8| byte & 0b1100_0000 != 0b1000_0000;
    let Some(back) = bytes.iter().rev().take(4).position(|byte| is_first(*byte)) else { return bytes.len() };
    let first = bytes.len() - 1 - back;
    let length = match bytes[first].leading_ones() {
        ones @ 2..=4 => ones as usize,
        _ => 1,
    };
    if first + length > bytes.len() && first > 0 { first } else { bytes.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str, most: usize) -> (Vec<(String, bool)>, usize) {
        let mut lines = Lines::new(text.as_bytes(), most);
        let cut = lines
            .by_ref()
            .map(|line| (String::from_utf8_lossy(line.text).into_owned(), line.partial))
            .collect();
        (cut, lines.taken())
    }

    fn whole(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    fn piece(text: &str) -> (String, bool) {
        (text.to_owned(), true)
    }

    #[test]
    fn an_unfinished_line_waits() {
        assert_eq!(cut("a\n\nb\r\nc", 10), (vec![whole("a"), whole(""), whole("b")], 6));
        assert_eq!(cut("", 10), (vec![], 0));
        assert_eq!(cut("0123456789\r", 10), (vec![], 0));
    }

    #[test]
    fn what_is_too_long_comes_in_pieces() {
        let expected = vec![piece("01234"), piece("56789"), whole("abc")];
        assert_eq!(cut("0123456789abc\n", 5), (expected, 14));
        assert_eq!(cut("01234\r\n", 5), (vec![whole("01234")], 7));
        assert_eq!(cut("0123456", 5), (vec![piece("01234")], 5));
        // "é" takes two bytes.
        assert_eq!(cut("abcdéfgh", 5), (vec![piece("abcd")], 4));
    }

    proptest! {
        #[test]
        fn every_byte_comes_once(bytes: Vec<u8>, most in 1_usize..20) {
            let mut lines = Lines::new(&bytes, most);
            let mut joined = Vec::new();
            for line in lines.by_ref() {
                prop_assert!(line.text.len() <= most);
                prop_assert_eq!(&bytes[line.start..line.start + line.text.len()], line.text);
                joined.extend_from_slice(line.text);
                if !line.partial {
                    joined.push(b'\n');
                }
            }
            let taken = lines.taken();
            let expected: Vec<u8> = String::from_utf8_lossy(&bytes[..taken]).replace("\r\n", "\n").into();
            if std::str::from_utf8(&bytes[..taken]).is_ok() {
                prop_assert_eq!(joined, expected);
            }
            prop_assert!(bytes.len() - taken < most + 2);
        }
    }
}
