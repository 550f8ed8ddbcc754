//! Streams that are wrong on purpose, to see that it is found.

use clap::ValueEnum;

use crate::stamp::Stream;

/// How many bytes a fault concerns.
pub(crate) const LENGTH: u64 = 100;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    Flip,
    Drop,
    Repeat,
    Reorder,
    /// Nothing more is sent, and nothing is said of it.
    Stall,
}

/// What is wrong from an offset on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub kind: Kind,
    pub at: u64,
}

impl Fault {
    /// Like [`Stream::fill`], with the fault in it.
    pub(crate) fn fill(self, stream: Stream, offset: u64, bytes: &mut [u8]) {
        for (offset, byte) in (offset..).zip(bytes.iter_mut()) {
            stream.fill(self.source(offset), std::slice::from_mut(byte));
            *byte ^= u8::from(self.kind == Kind::Flip && offset == self.at);
        }
    }

    /// The offset whose byte is sent at `offset`.
    fn source(self, offset: u64) -> u64 {
        match self.kind {
            Kind::Drop if offset >= self.at => offset + LENGTH,
            Kind::Repeat if offset >= self.at => offset - LENGTH.min(self.at),
            Kind::Reorder if (self.at..self.at + LENGTH).contains(&offset) => offset + LENGTH,
            Kind::Reorder if (self.at + LENGTH..self.at + 2 * LENGTH).contains(&offset) => offset - LENGTH,
            _ => offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::diagnose;
    use crate::stamp::Direction;

    /// What a receiver says of a stream with this fault.
    fn seen(kind: Kind) -> String {
        let stream = Stream { seed: 7, connection: 3, direction: Direction::Up };
        let mut bytes = vec![0; 4000];
        Fault { kind, at: 2002 }.fill(stream, 500, &mut bytes);
        let wrong = stream.first_wrong(500, &bytes).unwrap();
        diagnose(stream, 500 + wrong as u64, &bytes[wrong..])
    }

    #[test]
    fn every_fault_is_located() {
        for (kind, meaning) in [
            (Kind::Flip, "a byte was changed"),
            (Kind::Drop, "offset 2102 came: 100 bytes are lost, or come later"),
            (Kind::Repeat, "offset 1902 came: 100 bytes are repeated, or come late"),
            (Kind::Reorder, "offset 2102 came: 100 bytes are lost, or come later"),
        ] {
            let said = seen(kind);
            assert!(said.contains("at Up offset 2002: ") && said.ends_with(meaning), "{kind:?}: {said}");
        }
    }
}
