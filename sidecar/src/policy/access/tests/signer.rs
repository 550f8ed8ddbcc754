//! An issuer with keys of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

/// Made for these tests; ring makes no RSA keys.
const RSA: &[u8] = include_bytes!("rsa.der");

pub(super) struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
        };
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(RSA).unwrap(),
            p256: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    /// Its keys, called `rsa`, `p256`, `p384` and `ed25519`.
    pub(super) fn jwks(&self) -> Value {
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let ec = |key: &EcdsaKeyPair, kid: &str, crv: &str| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "crv": crv, "kid": kid, "x": base64(x), "y": base64(y)})
        };
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": base64(&rsa.n), "e": base64(&rsa.e)},
            ec(&self.p256, "p256", "P-256"),
            ec(&self.p384, "p384", "P-384"),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed25519", "x": base64(self.ed25519.public_key())},
            {"kty": "oct", "kid": "shared", "k": base64("secret")},
        ]})
    }

    /// The bytes that an attacker may take for a shared secret.
    pub(super) fn rsa_public(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// A token signed by the key that fits the algorithm.
    pub(super) fn sign(&self, alg: &str, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({"typ": "JWT", "alg": alg});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        self.sign_as(alg, &header, claims)
    }

    /// A token with this header, signed by that algorithm.
    pub(super) fn sign_as(&self, alg: &str, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, bytes, &mut signature).unwrap();
            signature
        };
        let signature = match alg {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, bytes).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(bytes).as_ref().to_vec(),
            other => panic!("{other}"),
        };
        format!("{message}.{}", base64(signature))
    }
}
