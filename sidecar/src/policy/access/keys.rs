//! Key sets (RFC 7517) and what their keys can verify (RFC 7518, RFC 8037).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// A signature algorithm. There is no `none`, and none that signs with a shared secret: who verifies could sign as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// The public keys of one issuer.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(PartialEq, Eq, Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm that it is for.
    algorithm: Option<Algorithm>,
    public: Public,
}

#[derive(PartialEq, Eq, Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed points (SEC 1, section 2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why a text is not a key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not JSON, or without `keys`.
    #[error("is not a JSON Web Key Set: {0}")]
    Malformed(serde_json::Error),
    /// More than 64 keys.
    #[error("has more than {MAX_KEYS} keys; leave some out")]
    TooMany,
    /// Keys of other kinds, or none.
    #[error("has no public RSA (2048 to 8192 bits), P-256, P-384 or Ed25519 key for signatures")]
    NoneUsable,
}

/// Why no key of a set verifies a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mismatch {
    /// No key has this `kid`.
    UnknownKey,
    /// The keys do not fit the algorithm.
    Algorithm,
    /// The signature is not theirs.
    Signature,
}

/// How many keys a set may have: issuers have two or three. A token without `kid` is tried with all.
const MAX_KEYS: usize = 64;
/// What RSA moduli ring takes, in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a key set. Keys of other kinds and uses are left out, as RFC 7517 asks (section 5); one must remain.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let RawSet { keys } = serde_json::from_slice(json).map_err(KeySetError::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys: Vec<Key> = keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeySetError::NoneUsable) } else { Ok(Self { keys }) }
    }

    /// Checks a signature with the key called `id`, or with all keys if the token names none.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Mismatch> {
        let mut named = self.keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
        if named.peek().is_none() {
            return Err(Mismatch::UnknownKey);
        }
        let mut fitting = named.filter(|key| key.fits(algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(Mismatch::Algorithm);
        }
        let good = fitting.any(|key| key.verify(algorithm, message, signature));
        if good { Ok(()) } else { Err(Mismatch::Signature) }
    }
}

// === impl Key ===

impl Key {
    /// The key, if it is one for signatures that we know.
    fn read(raw: Value) -> Option<Self> {
        let raw: RawKey = serde_json::from_value(raw).ok()?;
        if raw.usage.as_deref().is_some_and(|usage| usage != "sig")
            || raw.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
        {
            return None;
        }
        let algorithm = match &raw.alg {
            Some(name) => Some(Algorithm::parse(name)?),
            None => None,
        };
        let key = Self { public: Public::read(&raw)?, id: raw.kid, algorithm };
        algorithm.is_none_or(|algorithm| key.fits(algorithm)).then_some(key)
    }

    /// The token must not choose how its key is used (RFC 8725, section 3.1).
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let kind = match self.public {
            Public::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Public::P256(_) => algorithm == Es256,
            Public::P384(_) => algorithm == Es384,
            Public::Ed25519(_) => algorithm == EdDsa,
        };
        kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Checks a signature by an algorithm that fits.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let result = match &self.public {
            Public::Rsa { n, e } => match algorithm.rsa() {
                Some(parameters) => RsaPublicKeyComponents { n, e }.verify(parameters, message, signature),
                None => return false,
            },
            Public::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Public::P384(key) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).verify(message, signature)
            }
            Public::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        result.is_ok()
    }
}

// === impl Public ===

impl Public {
    fn read(raw: &RawKey) -> Option<Self> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let exactly =
            |text: &Option<String>, length: usize| bytes(text).filter(|bytes| bytes.len() == length);
        let point =
            |length: usize| Some([vec![4], exactly(&raw.x, length)?, exactly(&raw.y, length)?].concat());
        match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => {
                let trim =
                    |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
                let (n, e) = (trim(bytes(&raw.n)?), trim(bytes(&raw.e)?));
                RSA_BYTES.contains(&n.len()).then_some(Self::Rsa { n, e })
            }
            ("EC", Some("P-256")) => point(32).map(Self::P256),
            ("EC", Some("P-384")) => point(48).map(Self::P384),
            ("OKP", Some("Ed25519")) => exactly(&raw.x, 32).map(Self::Ed25519),
            _ => None,
        }
    }
}

// === impl Algorithm ===

impl Algorithm {
    /// The algorithm of this `alg`. `Ed25519` is what RFC 9864 calls `EdDSA` with that curve.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}
