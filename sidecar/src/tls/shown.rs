//! What a server shows: a certificate that may be changed while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Chain, Digest, HTTP1, Key, provider};

/// The certificate that is shown. A handle: clones share it.
#[derive(Clone, Default)]
pub struct Shown(Arc<RwLock<Option<Certified>>>);

struct Certified {
    key: Arc<CertifiedKey>,
    digests: [Digest; 2],
}

impl Shown {
    /// Shows this one from now on. Fails if the key is not that of the certificate. False: it was shown before.
    pub fn show(&self, chain: &Chain, key: &Key) -> Result<bool, rustls::Error> {
        let digests = [chain.digest(), key.digest()];
        let certified = CertifiedKey::from_der(chain.certificates(), key.clone_key(), &provider())?;
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = shown.as_ref().is_none_or(|shown| shown.digests != digests);
        *shown = Some(Certified { key: Arc::new(certified), digests });
        Ok(is_new)
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A server that shows it, for HTTP/1.1, and asks clients for none.
    pub fn server(&self) -> Result<ServerConfig, rustls::Error> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().map(|shown| Arc::clone(&shown.key))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.is_there()).finish()
    }
}
