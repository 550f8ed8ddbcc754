//! A token by which a client says who it is, and the key that it was signed with.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

/// Seconds for which it is good: longer than any run.
const LIFE: u64 = 24 * 60 * 60;

/// A JWT (RFC 7519) of ES256, made for one run.
pub(crate) struct Token {
    /// What follows `Bearer`.
    pub(crate) text: String,
    /// The key set with its public key (RFC 7517).
    pub(crate) keys: String,
}

impl Token {
    /// Makes a key and signs with it what `programs/policies.yaml` asks for.
    pub(crate) fn new() -> Result<Self> {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok().context("make a key")?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).ok().context("read a key")?;
        // After the byte that says that it is not compressed (SEC 1, section 2.3.3).
        let point = key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let keys = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "bench", "x": base64(x), "y": base64(y)},
        ]});
        let header = json!({"typ": "JWT", "alg": "ES256", "kid": "bench"});
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + LIFE;
        let claims =
            json!({"iss": "https://issuer.example.com", "aud": "bench", "sub": "bench", "exp": expires});
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = key.sign(&random, message.as_bytes()).ok().context("sign a token")?;
        Ok(Self { text: format!("{message}.{}", base64(signature)), keys: keys.to_string() })
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_key_set_verifies_the_token() {
        let token = Token::new().unwrap();
        let keys: Value = serde_json::from_str(&token.keys).unwrap();
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let coordinate = |name: &str| part(keys["keys"][0][name].as_str().unwrap());
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let (message, signature) = token.text.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(message.as_bytes(), &part(signature)).unwrap();
    }
}
