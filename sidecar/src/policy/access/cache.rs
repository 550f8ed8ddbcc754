//! What was verified and is still good.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// A bounded cache. Entries that are good no longer go when they are looked up, or when it is full; a cache full of good
/// ones is emptied, which costs each a verification and happens at most once in as many insertions.
pub(super) struct Cache<K, V> {
    entries: RwLock<HashMap<K, Arc<V>>>,
    max: usize,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// An empty cache for so many entries.
    pub(super) fn new(max: usize) -> Self {
        Self { entries: RwLock::default(), max }
    }

    /// The entry, if it is there and good.
    pub(super) fn get(&self, key: &K, is_good: impl Fn(&V) -> bool) -> Option<Arc<V>> {
        let found = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        if is_good(&found) {
            return Some(found);
        }
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        None
    }

    /// Puts an entry in.
    pub(super) fn put(&self, key: K, value: Arc<V>, is_good: impl Fn(&V) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.max {
            entries.retain(|_, value| is_good(value));
        }
        if entries.len() >= self.max {
            entries.clear();
        }
        entries.insert(key, value);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.read().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_good() {
        let cache = Cache::new(3);
        for i in 0..3 {
            cache.put(i, Arc::new(i), |_| true);
        }
        assert_eq!(cache.get(&1, |_| true).as_deref(), Some(&1));
        assert_eq!(cache.get(&1, |_| false), None);
        assert_eq!((cache.get(&1, |_| true), cache.len()), (None, 2), "gone");
        cache.put(3, Arc::new(3), |_| true);
        cache.put(4, Arc::new(4), |&value| value == 2);
        assert_eq!((cache.get(&2, |_| true).as_deref(), cache.len()), (Some(&2), 2), "only the good");
        cache.put(5, Arc::new(5), |_| true);
        cache.put(6, Arc::new(6), |_| true);
        assert_eq!((cache.get(&6, |_| true).as_deref(), cache.len()), (Some(&6), 1), "emptied");
    }
}
