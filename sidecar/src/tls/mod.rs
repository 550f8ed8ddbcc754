//! TLS, as a client: whom it believes, what it shows, and the handshake; as a server, what it shows. Nothing is loaded unless a configuration asks for it.

mod files;
mod shown;
mod unverified;

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::{Arc, OnceLock};

use ::ring::digest::{SHA256, digest};
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::files::{Chain, FileError, Key, MAX_BYTES, Roots};
pub use self::shown::Shown;
use self::unverified::Unverified;

/// The names of protocols that are agreed on in the handshake (RFC 7301, section 6).
pub const HTTP1: &[u8] = b"http/1.1";
/// Likewise.
pub const HTTP2: &[u8] = b"h2";

/// What the proxy believes and shows as a client. Equal where all that went into it is, also if it was read again.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    digest: Digest,
}

/// A server to speak to, and who it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// What is believed.
    pub client: TlsClient,
    /// Whom its certificate must name; a DNS name is also told in the handshake (SNI).
    pub name: ServerName<'static>,
}

type Digest = [u8; 32];

// === impl TlsClient ===

impl TlsClient {
    /// Of these issuers, or of anyone; with a certificate and its key to show who asks.
    pub fn new(roots: Option<&Roots>, identity: Option<(&Chain, &Key)>) -> Result<Self, rustls::Error> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match roots {
            Some(roots) => builder.with_root_certificates(roots.store()),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        };
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.certificates(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        let mut parts = Vec::new();
        parts.extend(roots.map(Roots::digest));
        parts.extend(identity.iter().flat_map(|(chain, key)| [chain.digest(), key.digest()]));
        let digest = sha256(&[&[u8::from(roots.is_some())][..], parts.concat().as_slice()].concat());
        Ok(Self { config: Arc::new(config), digest })
    }

    /// As rustls has it, offering no protocol.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TlsClient {}

impl Hash for TlsClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

// === impl Peer ===

impl Peer {
    /// The handshake, as the client. What the server chose of the protocols offered is in the connection.
    pub async fn connect<T>(&self, io: T, offers: &[&[u8]]) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = ClientConfig::clone(&self.client.config);
        config.alpn_protocols = offers.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config)).connect(self.name.clone(), io).await
    }
}

/// What TLS has to say about an error, if it comes from there: a server may refuse us after the handshake.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(ring::default_provider())))
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = Digest::default();
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}
