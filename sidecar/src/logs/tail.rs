//! One file, read from where it was left, whatever it is called by now.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::{Whence, lseek};

use super::checkpoint::Entry;
use super::counts::{Counts, add};
use super::identity::{Fingerprint, HEAD, Identity, head};
use super::line::{Line, Lines};
use super::record::{Batch, Record, nanos};
use super::siblings::{Copied, copied};

/// How much is read at once, beside what the longest line takes.
const CHUNK: usize = 64 * 1024;
/// How long a file that has no name here any more is still read: its writer may not have noticed.
const GRACE: Duration = Duration::from_secs(5);

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    pub identity: Identity,
    /// By which name it was found.
    name: Arc<str>,
    stream: Arc<str>,
    /// Its first bytes, as far as they were there.
    head: Vec<u8>,
    /// What is before it was read.
    at: u64,
    /// What is before it was written.
    committed: u64,
    /// The checkpoint knows of it.
    pub known: bool,
    /// Nothing of it is written: its bytes are another file's.
    pub copy: bool,
    /// It was looked at and had nothing: what it has next may not be the first that it had since.
    was_empty: bool,
    /// Whether more is expected of it.
    pub phase: Phase,
    quiet_since: Instant,
}

/// Whether more is expected of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// A name leads to it.
    Named,
    /// None does any more.
    Gone,
    /// All of it was read, and nobody writes to it: to be forgotten once that is written.
    Done,
}

/// How a look at a file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Looked {
    /// Its end was reached.
    End,
    /// There may be more.
    More,
    /// It was empty at the last look, and is not any more. To be read now.
    Begun,
    /// It was cut, and may have been written anew.
    Cut,
}

// === impl ===

impl Tail {
    /// From its beginning.
    pub(super) fn new(file: File, identity: Identity, path: &Path) -> Self {
        Self {
            file,
            identity,
            name: path.to_string_lossy().into(),
            stream: fresh(identity),
            head: Vec::new(),
            at: 0,
            committed: 0,
            known: false,
            copy: false,
            was_empty: false,
            phase: Phase::Named,
            quiet_since: Instant::now(),
        }
    }

    /// From where it was left. `Ok(None)`: it was cut since, or is another file.
    pub(super) fn resume(file: File, identity: Identity, entry: &Entry) -> io::Result<Option<Self>> {
        if file.metadata()?.len() < entry.offset || !entry.fingerprint.is_of(&file)? {
            return Ok(None);
        }
        Ok(Some(Self {
            stream: entry.stream.as_str().into(),
            head: head(&file, HEAD)?,
            at: entry.offset,
            committed: entry.offset,
            known: true,
            copy: entry.copy,
            ..Self::new(file, identity, &entry.path)
        }))
    }

    /// How far it was written, for the checkpoint.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            path: (*self.name).into(),
            identity: self.identity,
            fingerprint: Fingerprint::of(&self.head),
            offset: self.committed,
            stream: self.stream.to_string(),
            copy: self.copy,
        }
    }

    /// Likewise, if so much was read: its copy goes on from there.
    pub(super) fn entry_as_read(&self) -> Entry {
        Entry { offset: self.at, ..self.entry() }
    }

    /// What was read is written.
    pub(super) fn commit(&mut self) {
        self.committed = self.at;
    }

    /// Whether a file is a copy of this one: of what was read of it, or of what it has now.
    pub(super) fn has_copy(&self, file: &File) -> Copied {
        let now = head(&self.file, HEAD).unwrap_or_default();
        copied(file, &self.head).max(copied(file, &now))
    }

    /// Whether this is a copy of a followed one.
    pub(super) fn is_copy_of(&self, other: &Self) -> Copied {
        other.has_copy(&self.file)
    }

    /// After it was cut: from its beginning, as another stream.
    pub(super) fn restart(&mut self) {
        // A writer that goes on at its old place leaves a hole before it.
        let begin = lseek(&self.file, 0, Whence::SeekData).ok();
        let begin = begin.and_then(|begin| u64::try_from(begin).ok()).unwrap_or(0);
        (self.at, self.committed) = (begin, begin);
        self.head = Vec::new();
        (self.stream, self.known) = (fresh(self.identity), false);
        self.quiet_since = Instant::now();
    }

    /// True when nobody wrote to it for a while.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet_since.elapsed() >= GRACE
    }

    /// Reads lines of up to `most` bytes until its end, or the batch is full.
    pub(super) fn read(&mut self, most: usize, batch: &mut Batch, counts: &Counts) -> io::Result<Looked> {
        if self.copy {
            return Ok(Looked::End);
        }
        let mut buffer = vec![0; most.max(CHUNK) + 2];
        while !batch.is_full() {
            let size = self.file.metadata()?.len();
            if size < self.at {
                return Ok(Looked::Cut);
            }
            if std::mem::replace(&mut self.was_empty, size == 0) && size > 0 {
                return Ok(Looked::Begun);
            }
            let length = match self.file.read_at(&mut buffer, self.at) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // After reading: what was cut before shows now.
            if !self.is_as_it_was()? {
                return Ok(Looked::Cut);
            }
            let mut lines = Lines::new(&buffer[..length], most);
            for line in lines.by_ref() {
                add(&counts.split, usize::from(line.partial));
                self.push(&line, batch, counts);
                if batch.is_full() {
                    break;
                }
            }
            let taken = lines.taken();
            self.at += taken as u64;
            if taken > 0 {
                self.quiet_since = Instant::now();
            } else if length < buffer.len() {
                return Ok(Looked::End);
            }
        }
        Ok(Looked::More)
    }

    /// Takes a line whose end did not come, of which no more is expected.
    pub(super) fn take_rest(&mut self, most: usize, batch: &mut Batch, counts: &Counts) -> io::Result<()> {
        if self.copy {
            return Ok(());
        }
        let mut rest = vec![0; most + 1];
        let length = self.file.read_at(&mut rest, self.at)?;
        if length > 0 {
            self.push(&Line { start: 0, text: &rest[..length], partial: true }, batch, counts);
            self.at += length as u64;
        }
        Ok(())
    }

    fn push(&self, line: &Line<'_>, batch: &mut Batch, counts: &Counts) {
        let record = Record::new(&self.name, &self.stream, self.at, line);
        add(&counts.invalid, usize::from(record.invalid));
        batch.push(record);
    }

    /// It still begins as it did. Remembers what more there is of its beginning.
    fn is_as_it_was(&mut self) -> io::Result<bool> {
        let now = head(&self.file, HEAD)?;
        let same = now.starts_with(&self.head);
        if same {
            self.head = now;
        }
        Ok(same)
    }
}

/// A name for the contents of a file that no other gets.
fn fresh(identity: Identity) -> Arc<str> {
    format!("{:x}-{:x}", identity.inode, nanos(SystemTime::now())).into()
}
