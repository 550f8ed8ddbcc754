//! The guard against a reader that is strict and simple (see `crate::fuzzing`).

use super::{Bad, Bounds, Framing, MAX_EMPTY_LINES, Refusal, State, chunk};
use crate::fuzzing;

const BOUNDS: Bounds = Bounds { header_bytes: 1024, fields: 12, connect: false };

/// What became of some bytes.
struct Passed {
    /// So many were passed on.
    bytes: usize,
    /// Where requests ended. Known where each piece is a byte.
    ends: Vec<usize>,
    refusal: Option<Refusal>,
}

/// What passes, when it comes in pieces, is what passes when it comes whole; and what passes has one meaning.
///
/// The first byte says what servers answer to requests for another protocol, the second how long pieces are.
pub(crate) fn framing(bytes: &[u8]) {
    let [first, second, bytes @ ..] = bytes else { return };
    let switched = first & 1 == 1;
    let whole = pass(bytes, |_| usize::MAX, switched);
    let single = pass(bytes, |_| 1, switched);
    let pieces =
        pass(bytes, |at| 1 + (at * 31 + usize::from(*second)) % (1 + usize::from(*second)), switched);
    for cut in [&single, &pieces] {
        assert_eq!(cut.refusal, whole.refusal, "pieces are refused otherwise");
        // What is refused at its end may have been passed in part before that came.
        assert!(cut.bytes >= whole.bytes && (whole.refusal.is_some() || cut.bytes == whole.bytes));
    }
    if whole.refusal.is_none() {
        assert_eq!(whole.bytes, bytes.len(), "something is held for ever");
    }
    let ends = fuzzing::ends(&bytes[..single.bytes], switched);
    assert_eq!(ends.as_ref(), Ok(&single.ends), "the guard and the reader disagree on requests' ends");
    if whole.refusal.is_some() {
        let last = single.ends.last().copied().unwrap_or_default();
        let empty = bytes.get(last..whole.bytes).is_some_and(|rest| {
            rest.len() <= 2 * MAX_EMPTY_LINES as usize && rest.chunks(2).all(|line| line == b"\r\n")
        });
        assert!(empty, "{} bytes are passed before a refusal, and requests end at {last}", whole.bytes);
    }
}

/// Passes bytes through the guard as its socket does, in pieces whose lengths depend on where they begin.
fn pass(bytes: &[u8], length: impl Fn(usize) -> usize, switched: bool) -> Passed {
    let mut framing = Framing::new(BOUNDS);
    let mut passed = Passed { bytes: 0, ends: Vec::new(), refusal: None };
    while passed.bytes < bytes.len() {
        let rest = &bytes[passed.bytes..];
        let piece = &rest[..rest.len().min(length(passed.bytes))];
        let in_request = !matches!(framing.state, State::Between(_) | State::Tunnel);
        match framing.take(piece) {
            Ok(taken) => {
                assert!(taken == piece.len() || framing.is_undecided(), "a piece is taken in part");
                passed.bytes += taken;
            }
            Err(Bad { refusal, before }) => {
                assert!(before <= piece.len());
                assert!(refusal.answer().starts_with("HTTP/1.1 4") || refusal.status > 500);
                passed.bytes += before;
                passed.refusal = Some(refusal);
                return passed;
            }
        }
        if in_request && matches!(framing.state, State::Between(_) | State::Undecided) {
            passed.ends.push(passed.bytes);
        }
        framing.decide(switched);
        assert!(framing.line.len() <= BOUNDS.header_bytes.max(chunk::MAX_LINE), "a line without bound");
    }
    passed
}
