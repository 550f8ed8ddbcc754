//! The admission webhook: the API server asks it about each new Pod, and it answers with what to add (`inject`).
//!
//! [`review`] answers, [`serve`] is the server around it, [`certificate`] makes what the server shows and [`keeper`] keeps it,
//! with all replicas, in a Secret, and tells the API server whom to believe; [`mounted`] takes it from files instead.

mod certificate;
mod keeper;
mod mounted;
mod review;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

pub use self::keeper::Keeper;
pub use self::mounted::Mounted;
pub use self::serve::serve;
use crate::inject::Settings;
use crate::tls::Shown;

/// What the webhook needs to answer. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Webhook {
    settings: Arc<Settings>,
    native: Arc<AtomicU8>,
    shown: Shown,
}

/// The objects that it keeps.
#[derive(Clone, Debug)]
pub struct Names {
    /// The namespace of the Service and the Secret.
    pub namespace: String,
    /// The Service by which the API server reaches it; its DNS names are in the certificate.
    pub service: String,
    /// The Secret that all replicas share.
    pub secret: String,
    /// The `MutatingWebhookConfiguration`.
    pub configuration: String,
}

/// Where the certificate is mounted: `tls.crt` and `tls.key`, as cert-manager writes them.
#[derive(Clone, Debug)]
pub struct TlsDirectory(pub PathBuf);

/// Whether sidecars are native ones.
mod native {
    pub(super) const UNKNOWN: u8 = 0;
    pub(super) const NO: u8 = 1;
    pub(super) const YES: u8 = 2;
}

/// The first minor version of Kubernetes 1 in which native sidecars are on.
const NATIVE_SINCE: u32 = 29;

impl Webhook {
    /// With these settings; `native` is found out unless it is given.
    pub fn new(settings: Settings, native: Option<bool>) -> Self {
        let webhook = Self {
            settings: Arc::new(settings),
            native: Arc::new(AtomicU8::new(native::UNKNOWN)),
            shown: Shown::default(),
        };
        if let Some(native) = native {
            webhook.set_native(native);
        }
        webhook
    }

    /// Why it cannot answer yet.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.shown.is_there() {
            return Err("there is no certificate yet");
        }
        if self.settings().is_none() {
            return Err("the version of Kubernetes is not known yet");
        }
        Ok(())
    }

    fn set_native(&self, native: bool) {
        let value = if native { native::YES } else { native::NO };
        if self.native.swap(value, Ordering::Relaxed) != value {
            tracing::info!(native, "the kind of sidecars");
        }
    }

    fn settings(&self) -> Option<Settings> {
        let native = match self.native.load(Ordering::Relaxed) {
            native::UNKNOWN => return None,
            native => native == native::YES,
        };
        Some(Settings { native, ..Settings::clone(&self.settings) })
    }
}

/// Whether this version has native sidecars: `1` and `29`, `29+`.
fn has_native_sidecars(major: &str, minor: &str) -> bool {
    let digits = minor.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    major == "1" && digits.parse().is_ok_and(|minor: u32| minor >= NATIVE_SINCE)
}

#[cfg(test)]
mod tests {
    use super::has_native_sidecars;

    #[test]
    fn versions_are_told_apart() {
        assert!(!has_native_sidecars("1", "20"));
        assert!(!has_native_sidecars("1", "28+"));
        assert!(has_native_sidecars("1", "29"));
        assert!(has_native_sidecars("1", "33+"));
        assert!(has_native_sidecars("1", "30-gke.1"));
        assert!(!has_native_sidecars("", ""));
    }
}
