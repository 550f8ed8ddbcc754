//! Certificates and keys, read from files in PEM (RFC 7468).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Digest, sha256};

/// Whom to believe. A handle: clones share it.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    digest: Digest,
}

/// A certificate and those that lead from it to an issuer whom others believe.
#[derive(Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    digest: Digest,
}

/// The key of a certificate.
pub struct Key {
    key: PrivateKeyDer<'static>,
    digest: Digest,
}

/// The system's, while somebody needs them, and the state of the file that they were in.
struct OfSystem {
    store: Weak<RootCertStore>,
    digest: Digest,
    read: Option<(SystemTime, u64)>,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, or not for us.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// A directory, a pipe.
    #[error("is not a file")]
    NotAFile,
    /// Certificates of all issuers of the world take a quarter of that.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// Something in it is no PEM.
    #[error("is not valid PEM: {0}")]
    Pem(#[from] pem::Error),
    /// It has something else.
    #[error("has no certificate; write a file with certificates in PEM")]
    NoCertificate,
    /// It has something else, or an encrypted key.
    #[error("has no private key; write a file with one in PEM, not encrypted")]
    NoKey,
    /// It is no certificate of an issuer.
    #[error("certificate {0} of the file: {1}")]
    Certificate(usize, rustls::Error),
    /// There is no file where systems commonly have it.
    #[error("the system has no certificates in any of {}; write the path of a file", SYSTEM.join(", "))]
    NoSystem,
}

/// How large a file may be.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Debian and Alpine, Fedora, openSUSE, and what remains.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

// === impl Roots ===

impl Roots {
    /// Those of a file, each of which must be good.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let pem = read(path)?;
        let mut store = RootCertStore::empty();
        for (i, certificate) in certificates(&pem)?.into_iter().enumerate() {
            store.add(certificate).map_err(|error| FileError::Certificate(i + 1, error))?;
        }
        Ok(Self::new(store, &pem))
    }

    /// Those that the system believes. They are in memory once, and only while somebody needs them; read again when their file
    /// has changed.
    pub fn of_system() -> Result<Self, FileError> {
        static LAST: Mutex<OfSystem> =
            Mutex::new(OfSystem { store: Weak::new(), digest: [0; 32], read: None });
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let path = SYSTEM.iter().map(Path::new).find(|path| path.exists()).ok_or(FileError::NoSystem)?;
        let now = fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if let Some(store) = last.store.upgrade().filter(|_| last.read == now) {
            return Ok(Self { store, digest: last.digest });
        }
        let pem = read(path)?;
        let mut store = RootCertStore::empty();
        // Collections of that size have some that are too old to be read.
        let (good, _) = store.add_parsable_certificates(certificates(&pem)?);
        if good == 0 {
            return Err(FileError::NoSystem);
        }
        let roots = Self::new(store, &pem);
        *last = OfSystem { store: Arc::downgrade(&roots.store), digest: roots.digest, read: now };
        Ok(roots)
    }

    fn new(mut store: RootCertStore, pem: &[u8]) -> Self {
        store.roots.shrink_to_fit();
        Self { store: Arc::new(store), digest: sha256(pem) }
    }

    pub(super) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

// === impl Chain ===

impl Chain {
    /// Of a file; the certificate itself comes first.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(&read(path)?)
    }

    /// Of a text.
    pub fn parse(pem: &[u8]) -> Result<Self, FileError> {
        Ok(Self { certificates: certificates(pem)?, digest: sha256(pem) })
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.clone()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

// === impl Key ===

impl Key {
    /// The first key of a file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::parse(&read(path)?)
    }

    /// The first key of a text.
    pub fn parse(pem: &[u8]) -> Result<Self, FileError> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            pem::Error::NoItemsFound => FileError::NoKey,
            error => error.into(),
        })?;
        Ok(Self { key, digest: sha256(pem) })
    }

    pub(super) fn clone_key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(FileError::NoCertificate) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    // To open a pipe may take forever.
    if !fs::metadata(path)?.is_file() {
        return Err(FileError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES { Err(FileError::TooLarge) } else { Ok(bytes) }
}
