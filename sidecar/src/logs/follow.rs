//! All files that are followed, each with those that were rotated away from its name and are not read to their ends yet.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::{Entry, MAX_ENTRIES, Saved};
use super::counts::{Counts, add};
use super::glob::{Found, Glob};
use super::identity::Identity;
use super::record::Batch;
use super::siblings::{self, Copied, Sibling};
use super::tail::{Looked, Phase, Tail};

/// What bounds the following.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    /// Files that are open at a time.
    pub files: usize,
    /// The bytes of a line.
    pub line: usize,
}

/// The files that are followed.
#[derive(Debug)]
pub(super) struct Follower {
    globs: Vec<Glob>,
    bounds: Bounds,
    counts: Counts,
    groups: BTreeMap<PathBuf, Group>,
    /// What was remembered of files that are not there yet.
    saved: BTreeMap<PathBuf, Vec<Entry>>,
    /// When it was last looked which files there are.
    looked: SystemTime,
    /// And the time before that.
    looked_before: SystemTime,
    /// Where further files would appear.
    pub directories: Vec<PathBuf>,
    /// Whose turn is next.
    turn: usize,
}

/// Files that had one name, one after the other.
#[derive(Default, Debug)]
struct Group {
    tails: VecDeque<Tail>,
    /// Which of them the name last led to.
    last: Option<Identity>,
    /// When they were last read.
    read_at: Option<SystemTime>,
}

/// What is known of the files beside one.
struct Beside<'a> {
    path: &'a Path,
    followed: &'a HashSet<Identity>,
    /// When it was last looked.
    since: SystemTime,
    globs: &'a [Glob],
}

// === impl Follower ===

impl Follower {
    pub(super) fn new(globs: Vec<Glob>, bounds: Bounds, counts: Counts, saved: Option<Saved>) -> Self {
        let looked = saved.as_ref().map_or_else(SystemTime::now, Saved::saved_at);
        let mut remembered = BTreeMap::<PathBuf, Vec<Entry>>::new();
        for entry in saved.into_iter().flat_map(|saved| saved.files) {
            remembered.entry(entry.path.clone()).or_default().push(entry);
        }
        let mut follower = Self {
            globs,
            bounds,
            counts,
            groups: BTreeMap::new(),
            saved: remembered,
            looked,
            looked_before: looked,
            directories: Vec::new(),
            turn: 0,
        };
        // First of all: what is known may have another name by now, under which it is not to be begun again.
        for path in follower.saved.keys().cloned().collect::<Vec<_>>() {
            follower.restore(&path);
        }
        follower
    }

    /// Looks which files there are.
    pub(super) fn look(&mut self) {
        let now = SystemTime::now();
        let mut found = Found::default();
        self.globs.iter().for_each(|glob| glob.expand(&mut found));
        let mut present = HashSet::new();
        for path in &found.paths {
            let Ok(metadata) = fs::metadata(path) else { continue };
            if metadata.is_file() {
                let identity = Identity::from(&metadata);
                present.insert(identity);
                self.meet(path, identity);
            }
        }
        let mut files = 0;
        for group in self.groups.values_mut() {
            for tail in &mut group.tails {
                tail.phase = if present.contains(&tail.identity) { Phase::Named } else { Phase::Gone };
                files += 1;
            }
        }
        let paths: HashSet<&PathBuf> = found.paths.iter().collect();
        let crowded = self.groups.len() > self.bounds.files;
        self.groups.retain(|path, group| !group.tails.is_empty() || paths.contains(path) || !crowded);
        self.counts.files.store(files, std::sync::atomic::Ordering::Relaxed);
        self.directories = found.directories;
        self.looked_before = std::mem::replace(&mut self.looked, now);
    }

    /// Reads what is new, until the batch is full. True: all that is there was read.
    pub(super) fn read(&mut self, batch: &mut Batch) -> bool {
        let order: Vec<PathBuf> = self.groups.keys().cloned().collect();
        let (followed, now) = (self.identities(), SystemTime::now());
        let first = self.turn % order.len().max(1);
        for (index, path) in order.iter().enumerate().cycle().skip(first).take(order.len()) {
            let Some(group) = self.groups.get_mut(path) else { continue };
            let since = group.read_at.replace(now).unwrap_or(self.looked_before);
            let beside = Beside { path, followed: &followed, since, globs: &self.globs };
            if !group.read(&beside, self.bounds.line, batch, &self.counts) {
                // The next batch begins with the next file: one that never ends keeps none waiting.
                self.turn = index + 1;
                return false;
            }
        }
        true
    }

    /// Takes what was not ended by a newline, since there is no later.
    pub(super) fn read_rest(&mut self, batch: &mut Batch) {
        for tail in self.groups.values_mut().flat_map(|group| &mut group.tails) {
            if tail.take_rest(self.bounds.line, batch, &self.counts).is_err() {
                add(&self.counts.unreadable, 1);
            }
        }
    }

    /// All that was read is written.
    pub(super) fn commit(&mut self) {
        for group in self.groups.values_mut() {
            group.tails.iter_mut().for_each(Tail::commit);
            group.tails.retain(|tail| tail.phase != Phase::Done);
        }
    }

    /// A file is followed that the checkpoint does not know, so that a line of it would get another id after a kill.
    pub(super) fn has_news(&self) -> bool {
        self.groups.values().flat_map(|group| &group.tails).any(|tail| !tail.known)
    }

    /// The checkpoint knows all files.
    pub(super) fn told(&mut self) {
        self.groups.values_mut().flat_map(|group| &mut group.tails).for_each(|tail| tail.known = true);
    }

    /// What to remember.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let live = self.groups.values().flat_map(|group| group.tails.iter().map(Tail::entry));
        live.chain(self.saved.values().flatten().cloned()).take(MAX_ENTRIES).collect()
    }

    /// This path leads to this file.
    fn meet(&mut self, path: &Path, identity: Identity) {
        if let Some(group) = self.groups.get_mut(path)
            && group.last == Some(identity)
            && group.tails.iter().any(|tail| tail.identity == identity)
        {
            return;
        }
        if self.is_followed(identity) {
            // It was renamed, or has two names.
            return;
        }
        let Ok((file, metadata)) = siblings::open(path) else {
            add(&self.counts.unreadable, 1);
            return;
        };
        // It may be another by now.
        let identity = Identity::from(&metadata);
        if self.is_followed(identity) {
            return;
        }
        if self.saved.contains_key(path) {
            self.restore(path);
            if self.is_followed(identity) {
                return;
            }
        }
        let mut tail = Tail::new(file, identity, path);
        match self.is_copy(path, &tail) {
            // It is looked at again.
            Copied::Unclear => return,
            copied => tail.copy = copied == Copied::Yes,
        }
        let was_here = self.groups.get(path).is_some_and(|group| group.last.is_some());
        if was_here {
            add(&self.counts.rotated, 1);
            self.between(path, &tail);
        }
        if self.has_room() {
            let group = self.groups.entry(path.to_owned()).or_default();
            group.last = Some(identity);
            group.tails.push_back(tail);
        }
    }

    /// Takes up what was remembered of this path.
    fn restore(&mut self, path: &Path) {
        let entries = self.saved.remove(path).unwrap_or_default();
        let current = siblings::open(path).ok();
        let mut found = Vec::new();
        let mut missing = Vec::new();
        let others = siblings::of(path);
        for entry in entries {
            let own = current.as_ref().filter(|(_, now)| Identity::from(now) == entry.identity);
            let own = own.and_then(|(file, _)| file.try_clone().ok());
            let same = |other: &&Sibling| other.identity == entry.identity;
            let file = own.or_else(|| others.iter().find(same)?.file.try_clone().ok());
            let was_there = file.is_some();
            match file.and_then(|file| Tail::resume(file, entry.identity, &entry).ok().flatten()) {
                Some(tail) => found.push(tail),
                None if was_there => {
                    // It was cut meanwhile: its copy has what was not read.
                    add(&self.counts.truncated, 1);
                    found.extend(rest_of(&entry, &others));
                }
                None => missing.push(entry),
            }
        }
        if found.is_empty() && current.is_none() {
            // Its volume may not be there yet.
            if !missing.is_empty() {
                self.saved.insert(path.to_owned(), missing);
            }
            return;
        }
        let last = found.last().map(|tail| tail.identity);
        for tail in found {
            if !self.is_followed(tail.identity) && self.has_room() {
                self.groups.entry(path.to_owned()).or_default().tails.push_back(tail);
            }
        }
        // What there was is not there any more; the name was in use.
        let last = last.or_else(|| missing.last().map(|entry| entry.identity));
        self.groups.entry(path.to_owned()).or_default().last = last;
    }

    /// Takes up files that had this path for a time between two looks, before this one.
    fn between(&mut self, path: &Path, current: &Tail) {
        let followed = self.identities();
        let found = {
            let Some(group) = self.groups.get(path) else { return };
            let tails = group.tails.iter().chain([current]);
            let beside = Beside { path, followed: &followed, since: self.looked, globs: &self.globs };
            beside.generations(siblings::of(path), &tails)
        };
        for sibling in found {
            if self.has_room() {
                let tail = Tail::new(sibling.file, sibling.identity, path);
                self.groups.entry(path.to_owned()).or_default().tails.push_back(tail);
            }
        }
    }

    /// Whether this is a copy of a followed file, of whose name its own was made.
    fn is_copy(&self, path: &Path, tail: &Tail) -> Copied {
        let Some(name) = path.file_name() else { return Copied::No };
        let originals = self.groups.iter().filter(|(other, _)| {
            other.parent() == path.parent()
                && other.file_name().is_some_and(|other| siblings::is_made_of(name, other))
        });
        let tails = originals.flat_map(|(_, group)| &group.tails);
        tails.map(|original| tail.is_copy_of(original)).max().unwrap_or(Copied::No)
    }

    fn identities(&self) -> HashSet<Identity> {
        self.groups.values().flat_map(|group| &group.tails).map(|tail| tail.identity).collect()
    }

    fn is_followed(&self, identity: Identity) -> bool {
        self.groups.values().flat_map(|group| &group.tails).any(|tail| tail.identity == identity)
    }

    /// Whether one more file may be followed; one that may not is counted.
    fn has_room(&self) -> bool {
        let files: usize = self.groups.values().map(|group| group.tails.len()).sum();
        if files >= self.bounds.files {
            add(&self.counts.left_out, 1);
            return false;
        }
        true
    }
}

// === impl Beside ===

impl Beside<'_> {
    /// Those of these siblings that had the path since it was last looked, and are no copies of what others have.
    fn generations<'t>(
        &self,
        siblings: Vec<Sibling>,
        tails: &(impl Iterator<Item = &'t Tail> + Clone),
    ) -> Vec<Sibling> {
        let is_new = |sibling: &Sibling| {
            sibling.is_newer(self.since)
                && !self.followed.contains(&sibling.identity)
                // What is followed by its own name is met by it.
                && !self.globs.iter().any(|glob| glob.is_match(&sibling.path))
                && tails.clone().all(|tail| {
                    tail.identity != sibling.identity && tail.has_copy(&sibling.file) == Copied::No
                })
        };
        siblings.into_iter().filter(is_new).collect()
    }
}

// === impl Group ===

impl Group {
    /// Reads the oldest first. True: all of them were read to their ends.
    fn read(&mut self, beside: &Beside<'_>, line: usize, batch: &mut Batch, counts: &Counts) -> bool {
        let mut place = 0;
        while let Some(tail) = self.tails.get_mut(place) {
            match tail.read(line, batch, counts) {
                Ok(Looked::More) => return false,
                Ok(looked @ (Looked::Cut | Looked::Begun)) => {
                    let before = (looked == Looked::Cut).then(|| tail.entry_as_read());
                    if before.is_some() {
                        add(&counts.truncated, 1);
                        tail.restart();
                    }
                    // In this order: what is a copy of what the file has now was one when it was found.
                    let others = siblings::of(beside.path);
                    let rest = before.and_then(|before| rest_of(&before, &others));
                    let fresh = beside.generations(others, &self.tails.iter().chain(&rest));
                    let fresh = fresh.into_iter().map(|one| Tail::new(one.file, one.identity, beside.path));
                    for (index, tail) in rest.into_iter().chain(fresh).enumerate() {
                        self.tails.insert(place + index, tail);
                    }
                    // Now that, or what was written anew.
                    continue;
                }
                Ok(Looked::End) if tail.phase == Phase::Gone && tail.is_quiet() => {
                    if tail.take_rest(line, batch, counts).is_ok() {
                        tail.phase = Phase::Done;
                    }
                }
                Ok(Looked::End) => {}
                Err(error) => {
                    tracing::warn!(path = %beside.path.display(), %error, "a file cannot be read");
                    add(&counts.unreadable, 1);
                    if tail.phase == Phase::Gone {
                        tail.phase = Phase::Done;
                    }
                }
            }
            place += 1;
        }
        true
    }
}

/// What was not read of a file before it was cut, if a copy of it was made.
fn rest_of(entry: &Entry, others: &[Sibling]) -> Option<Tail> {
    let copy = others.iter().rev().find(|other| other.is_copy_of(entry))?;
    let file = copy.file.try_clone().ok()?;
    Tail::resume(file, copy.identity, entry).ok().flatten()
}
