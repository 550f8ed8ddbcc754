//! Keeps issuers' key sets current.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Uri};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::http::{self, Causes, HttpClient};
use super::keys::{KeySet, KeySetError};
use crate::config::access::{AccessPolicy, Jwks};

/// The key sets of all policies, one for each source: policies share them, and a new configuration keeps those of before.
pub struct KeyStores {
    stores: Vec<Arc<KeyStore>>,
}

/// The keys of one source.
pub(super) struct KeyStore {
    source: Jwks,
    /// Replaced as a whole. The same set twice keeps its `Arc`, so that its identity tells whether keys changed.
    current: RwLock<Arc<KeySet>>,
    /// A token named a key that is not there.
    wanted: Notify,
}

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("key set {path}: cannot read: {cause}", path = .path.display())]
    Read { path: Box<Path>, cause: io::Error },
    #[error("key set {uri}: cannot fetch: {}", Causes(&**cause))]
    Fetch { uri: Uri, cause: Box<dyn std::error::Error + Send + Sync> },
    #[error("key set {uri}: the answer is {status}, not 200")]
    Status { uri: Uri, status: hyper::StatusCode },
    #[error("key set {uri}: no answer within {FETCH_TIMEOUT:?}")]
    Timeout { uri: Uri },
    #[error("key set {name}: {cause}")]
    Parse { name: String, cause: KeySetError },
}

/// What tells that a file changed: its time, length and inode (a mounted `ConfigMap` swaps a symbolic link).
#[derive(PartialEq, Eq)]
struct Stamp(SystemTime, u64, u64);

/// How large a key set may be.
const MAX_BYTES: usize = 1024 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two fetches because of unknown keys, which anyone can make up.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// How often files are looked at.
const FILE_PAUSE: Duration = Duration::from_secs(5);

// === impl KeyStores ===

impl KeyStores {
    /// The key sets that these policies name; those of `before` keep their keys. Inline ones are there at once, others
    /// after [`Self::refresh`].
    pub fn new(policies: &[AccessPolicy], before: Option<&Self>) -> Self {
        let mut stores: Vec<Arc<KeyStore>> = Vec::new();
        for source in policies.iter().flat_map(|policy| &policy.jwt).map(|rule| &rule.jwks) {
            if stores.iter().all(|store| store.source != *source) {
                let old = before.and_then(|before| before.find(source));
                stores.push(old.unwrap_or_else(|| Arc::new(KeyStore::new(source))));
            }
        }
        Self { stores }
    }

    /// Loads every key set once. What cannot be loaded is logged and keeps the keys that it had.
    pub async fn refresh(&self) {
        let mut loading = JoinSet::new();
        for store in &self.stores {
            let store = Arc::clone(store);
            loading.spawn(async move { store.reload().await });
        }
        loading.join_all().await;
    }

    /// Loads key sets again when they are due, change, or lack a key. Never ends; ends all when dropped.
    pub async fn keep_fresh(&self) {
        let mut keeping = JoinSet::new();
        for store in &self.stores {
            let store = Arc::clone(store);
            keeping.spawn(async move { store.keep_fresh().await });
        }
        while keeping.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }

    pub(super) fn find(&self, source: &Jwks) -> Option<Arc<KeyStore>> {
        self.stores.iter().find(|store| store.source == *source).cloned()
    }
}

// === impl KeyStore ===

impl KeyStore {
    /// No keys yet, unless they are inline.
    pub(super) fn new(source: &Jwks) -> Self {
        let keys = match source {
            // Validation read it already.
            Jwks::Inline(json) => KeySet::parse(json.as_bytes()).unwrap_or_default(),
            Jwks::File { .. } | Jwks::Uri { .. } => KeySet::default(),
        };
        Self { source: source.clone(), current: RwLock::new(Arc::new(keys)), wanted: Notify::new() }
    }

    /// The keys as they are now.
    pub(super) fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other keys in their place.
    pub(super) fn replace(&self, keys: KeySet) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if **current != keys {
            *current = Arc::new(keys);
        }
    }

    /// Notes that a token named a key that is not there: the issuer may have new ones.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    #[cfg(test)]
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    async fn reload(&self) {
        match load(&self.source).await {
            Ok(Some(keys)) => self.replace(keys),
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}; the keys of before are kept"),
        }
    }

    async fn keep_fresh(&self) {
        match &self.source {
            Jwks::Uri { refresh, .. } => {
                fetch_when_due(*refresh, &self.wanted, || self.reload()).await;
            }
            Jwks::File { path, refresh } => {
                let (mut before, mut read) = (stamp(path).await, Instant::now());
                loop {
                    sleep(FILE_PAUSE.min(*refresh)).await;
                    let now = stamp(path).await;
                    if now != before || read.elapsed() >= *refresh {
                        (before, read) = (now, Instant::now());
                        self.reload().await;
                    }
                }
            }
            Jwks::Inline(_) => {}
        }
    }
}

/// Loads again and again: when the last time is `refresh` ago, or keys are wanted and it was not just now.
async fn fetch_when_due<F: Future<Output = ()>>(refresh: Duration, wanted: &Notify, load: impl Fn() -> F) {
    loop {
        let last = Instant::now();
        tokio::select! {
            () = sleep(refresh) => {}
            () = wanted.notified() => sleep_until(last + UNKNOWN_KEY_PAUSE.min(refresh)).await,
        }
        load().await;
    }
}

/// The keys of a source; `None`: they do not change.
async fn load(source: &Jwks) -> Result<Option<KeySet>, LoadError> {
    let (name, json) = match source {
        Jwks::Inline(_) => return Ok(None),
        Jwks::Uri { uri, trust, .. } => {
            // Fetches are rare: between them no connection is kept.
            let client = HttpClient::new(trust.as_ref().map(|trust| &trust.client));
            (uri.to_string(), fetch(uri, &client).await?)
        }
        Jwks::File { path, .. } => {
            let of: Box<Path> = path.clone().into();
            let read = tokio::task::spawn_blocking(move || read(&of).map_err(|cause| (of, cause)));
            let json = read.await.unwrap_or_else(|error| Err((path.clone().into(), io::Error::other(error))));
            let json = json.map_err(|(path, cause)| LoadError::Read { path, cause })?;
            (path.display().to_string(), json)
        }
    };
    KeySet::parse(&json).map(Some).map_err(|cause| LoadError::Parse { name, cause })
}

async fn fetch(uri: &Uri, client: &HttpClient) -> Result<Bytes, LoadError> {
    let failed = |cause| LoadError::Fetch { uri: uri.clone(), cause };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    let answered = async {
        let answer = client.request(request).await.map_err(|error| failed(error.into()))?;
        if answer.status() != hyper::StatusCode::OK {
            return Err(LoadError::Status { uri: uri.clone(), status: answer.status() });
        }
        http::body(answer.into_body(), MAX_BYTES).await.map_err(failed)
    };
    let timed_out = |_| LoadError::Timeout { uri: uri.clone() };
    tokio::time::timeout(FETCH_TIMEOUT, answered).await.map_err(timed_out)?
}

fn read(path: &Path) -> io::Result<Bytes> {
    let (mut json, max) = (Vec::new(), MAX_BYTES as u64);
    File::open(path)?.take(max + 1).read_to_end(&mut json)?;
    if json.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "is larger than 1 MiB"));
    }
    Ok(json.into())
}

/// `None`: the file is not there, or not readable.
async fn stamp(path: &Path) -> Option<Stamp> {
    let path = path.to_owned();
    let metadata = tokio::task::spawn_blocking(move || fs::metadata(path)).await.ok()?.ok()?;
    Some(Stamp(metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unknown_keys_are_fetched_once_in_thirty_seconds() {
        let (wanted, loads) = (Notify::new(), Cell::new(0));
        let load = || async { loads.set(loads.get() + 1) };
        let mut keeping = std::pin::pin!(fetch_when_due(Duration::from_secs(300), &wanted, load));
        let mut after = async |seconds: u64, wants: u32| {
            for _ in 0..wants {
                wanted.notify_one();
            }
            let _ = tokio::time::timeout(Duration::from_secs(seconds), &mut keeping).await;
            loads.get()
        };
        assert_eq!(after(29, 1000).await, 0);
        assert_eq!(after(2, 1000).await, 1);
        assert_eq!(after(28, 1000).await, 1);
        assert_eq!(after(2, 0).await, 2);
        assert_eq!(after(298, 0).await, 3, "wanted while it was loaded");
        assert_eq!(after(30, 0).await, 3);
        assert_eq!(after(2, 0).await, 4, "due");
    }

    #[test]
    fn the_same_keys_again_are_no_rotation() {
        let set = |x: &str| format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{}"}}]}}"#, x.repeat(43));
        let parse = |json: String| KeySet::parse(json.as_bytes()).unwrap();
        let store = KeyStore::new(&Jwks::Inline(set("A")));
        let before = store.current();
        store.replace(parse(set("A")));
        assert!(Arc::ptr_eq(&before, &store.current()));
        store.replace(parse(set("E")));
        assert!(!Arc::ptr_eq(&before, &store.current()));
    }
}
