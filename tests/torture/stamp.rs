//! Bytes that say where they belong: every 8 bytes are a word that holds connection, direction and offset, mixed, so
//! that a wrong byte is found at once and the place that it came from can be told.

use std::fmt;

/// Length of a word.
const WORD: usize = 8;

/// How many bytes after a wrong one tell for certain where they belong: two whole words at any alignment.
pub(crate) const ENOUGH: usize = 3 * WORD - 1;

/// One direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stream {
    /// The run's seed, so that the bytes of an earlier run are wrong as well.
    pub seed: u64,
    /// The connection's number in the run.
    pub connection: u32,
    pub direction: Direction,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From client to server.
    Up,
    /// From server to client.
    Down,
}

/// A place in a run: the one that received bytes belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub connection: u32,
    pub direction: Direction,
    /// In bytes from the stream's start; negative when the bytes begin within a word that was cut.
    pub offset: i64,
}

impl Stream {
    /// Writes the bytes at `offset` and after it.
    pub(crate) fn fill(self, offset: u64, bytes: &mut [u8]) {
        let (mut index, skip) = (offset / WORD as u64, within_word(offset));
        let first = bytes.len().min((WORD - skip) % WORD);
        let (head, body) = bytes.split_at_mut(first);
        if !head.is_empty() {
            head.copy_from_slice(&self.word(index)[skip..skip + head.len()]);
            index += 1;
        }
        for chunk in body.chunks_mut(WORD) {
            chunk.copy_from_slice(&self.word(index)[..chunk.len()]);
            index += 1;
        }
    }

    /// The index of the first of these bytes that does not belong at `offset`.
    pub(crate) fn first_wrong(self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let mut expected = [0; 4096];
        for (number, chunk) in bytes.chunks(expected.len()).enumerate() {
            let start = number * expected.len();
            let expected = &mut expected[..chunk.len()];
            self.fill(offset + start as u64, expected);
            if expected != chunk {
                return expected.iter().zip(chunk).position(|(a, b)| a != b).map(|at| start + at);
            }
        }
        None
    }

    /// Where in the run these bytes belong: [`ENOUGH`] of them are needed.
    pub(crate) fn locate(self, bytes: &[u8]) -> Option<Place> {
        (0u8..8).find_map(|shift| {
            let mut words = bytes.get(usize::from(shift)..)?.chunks_exact(WORD);
            let (first, second) = (self.unmixed(words.next()?), self.unmixed(words.next()?));
            (second == first.wrapping_add(1)).then(|| Place {
                connection: u32::try_from(first >> 33).unwrap_or(u32::MAX),
                direction: if first >> 32 & 1 == 0 { Direction::Up } else { Direction::Down },
                offset: i64::from(u32::try_from(first & 0xffff_ffff).unwrap_or(u32::MAX)) * 8
                    - i64::from(shift),
            })
        })
    }

    fn word(self, index: u64) -> [u8; WORD] {
        let direction = u64::from(self.direction == Direction::Down);
        (mix(u64::from(self.connection) << 33 | direction << 32 | index) ^ self.seed).to_le_bytes()
    }

    fn unmixed(self, word: &[u8]) -> u64 {
        unmix(word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)) ^ self.seed)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} {:?} offset {}", self.connection, self.direction, self.offset)
    }
}

/// How far into its word a byte is.
pub(crate) fn within_word(offset: u64) -> usize {
    usize::try_from(offset % WORD as u64).unwrap_or(0)
}

const FACTORS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// The finalizer of SplitMix64: a bijection without visible pattern.
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 30).wrapping_mul(FACTORS[0]);
    value = (value ^ value >> 27).wrapping_mul(FACTORS[1]);
    value ^ value >> 31
}

fn unmix(mut value: u64) -> u64 {
    value = (value ^ value >> 31 ^ value >> 62).wrapping_mul(inverse(FACTORS[1]));
    value = (value ^ value >> 27 ^ value >> 54).wrapping_mul(inverse(FACTORS[0]));
    value ^ value >> 30 ^ value >> 60
}

/// The multiplicative inverse of an odd number, by Newton's iteration: each step doubles the right bits, from three.
fn inverse(odd: u64) -> u64 {
    (0..5).fold(odd, |guess, _| guess.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(guess))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Stream = Stream { seed: 7, connection: 1234, direction: Direction::Down };

    fn bytes(offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        STREAM.fill(offset, &mut bytes);
        bytes
    }

    #[test]
    fn mixing_is_undone() {
        for value in [0, 1, 0xdead_beef, u64::MAX, 1234 << 33 | 1 << 32 | 0x63] {
            assert_eq!(unmix(mix(value)), value);
        }
    }

    #[test]
    fn any_part_is_a_part_of_the_whole() {
        let whole = bytes(0, 100);
        for (from, to) in [(0, 100), (1, 2), (3, 8), (5, 50), (8, 16), (15, 17), (99, 100)] {
            assert_eq!(bytes(from as u64, to - from), whole[from..to]);
            assert_eq!(STREAM.first_wrong(from as u64, &whole[from..to]), None);
        }
    }

    #[test]
    fn one_flipped_bit_is_found() {
        let mut wrong = bytes(3, 10_000);
        wrong[7777] ^= 1;
        assert_eq!(STREAM.first_wrong(3, &wrong), Some(7777));
    }

    /// Lost, repeated and moved bytes, and those of another direction, tell where they belong.
    #[test]
    fn bytes_tell_where_they_belong() {
        for offset in [5000, 5001, 5007, 4990] {
            let place = STREAM.locate(&bytes(offset, ENOUGH)).unwrap();
            assert_eq!((place.connection, place.direction), (1234, Direction::Down));
            assert_eq!(place.offset, i64::try_from(offset).unwrap());
        }
        assert_eq!(STREAM.locate(&[0; 40]), None);
    }
}
