//! A map of bounded size. When it is full, the entry that was not used for longest makes place.

use std::collections::HashMap;

/// Entries by hash, in a list from the one used last to the one used first.
#[derive(Debug)]
pub(super) struct Lru<T> {
    capacity: usize,
    places: HashMap<u64, usize>,
    entries: Vec<Entry<T>>,
    newest: usize,
    oldest: usize,
}

/// `newer` of the newest and `older` of the oldest say nothing.
#[derive(Debug)]
struct Entry<T> {
    key: u64,
    value: T,
    newer: usize,
    older: usize,
}

impl<T> Lru<T> {
    /// An empty map for at most so many entries, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { capacity, places: HashMap::new(), entries: Vec::new(), newest: 0, oldest: 0 }
    }

    /// The entry of this key, which is now the newest, and what made place for it. A new one has this value.
    pub(super) fn get_or_insert(&mut self, key: u64, value: T) -> (&mut T, Option<T>) {
        let (place, out) = match self.places.get(&key) {
            Some(place) => (*place, None),
            None => self.insert(key, value),
        };
        self.touch(place);
        // Every place is one of `entries`, from which nothing is removed.
        (&mut self.entries[place].value, out)
    }

    fn insert(&mut self, key: u64, value: T) -> (usize, Option<T>) {
        if self.entries.len() < self.capacity {
            let place = self.entries.len();
            // As the oldest: `touch` makes it the newest.
            let entry = Entry { key, value, newer: self.oldest, older: place };
            if let Some(oldest) = self.entries.get_mut(self.oldest) {
                oldest.older = place;
            }
            self.entries.push(entry);
            self.oldest = place;
            self.places.insert(key, place);
            return (place, None);
        }
        let place = self.oldest;
        let entry = &mut self.entries[place];
        self.places.remove(&entry.key);
        entry.key = key;
        self.places.insert(key, place);
        (place, Some(std::mem::replace(&mut entry.value, value)))
    }

    /// Makes the entry the newest.
    fn touch(&mut self, place: usize) {
        if place == self.newest {
            return;
        }
        let Entry { newer, older, .. } = self.entries[place];
        if place == self.oldest {
            self.oldest = newer;
        } else {
            self.entries[older].newer = newer;
            self.entries[newer].older = older;
        }
        self.entries[self.newest].newer = place;
        self.entries[place].older = self.newest;
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_list(capacity in 1..6_usize, keys in proptest::collection::vec(0..10_u64, 0..200)) {
            let mut lru = Lru::new(capacity);
            // Pairs of key and value, the newest last.
            let mut list: Vec<(u64, usize)> = Vec::new();
            for (step, key) in keys.into_iter().enumerate() {
                let known = list.iter().position(|(known, _)| *known == key).map(|i| list.remove(i));
                let out = (known.is_none() && list.len() == capacity).then(|| list.remove(0).1);
                list.push(known.unwrap_or((key, step)));
                let (value, made_place) = lru.get_or_insert(key, step);
                prop_assert_eq!((Some(*value), made_place), (list.last().map(|(_, value)| *value), out));
                prop_assert!(lru.entries.len() <= capacity && lru.places.len() == lru.entries.len());
            }
        }
    }
}
