//! The webhook's own certificate: made together with an issuer whose key is forgotten at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate, its key and its issuer's certificate, in PEM, as they are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Issued {
    pub certificate: String,
    pub key: String,
    /// The issuer's, and the one before while certificates of it are shown.
    pub issuers: String,
    /// When it is time for the next.
    pub renew_at: SystemTime,
    /// The names in it.
    pub names: Vec<String>,
}

/// How long it is valid. It is made anew at two thirds, so that all replicas have ten days to notice.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(60 * 60);

impl Issued {
    /// A new one. What was shown before goes on to be believed.
    pub(super) fn new(names: Vec<String>, before: Option<&Self>) -> Result<Self, rcgen::Error> {
        let now = SystemTime::now();
        let mut issuer = CertificateParams::default();
        issuer.not_before = (now - SKEW).into();
        issuer.not_after = (now + VALIDITY).into();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        issuer.distinguished_name.push(DnType::CommonName, issuer_name(now));
        let issuer_key = KeyPair::generate()?;
        let mut issuers = issuer.self_signed(&issuer_key)?.pem();
        let mut own = CertificateParams::new(names.clone())?;
        own.not_before = issuer.not_before;
        own.not_after = issuer.not_after;
        own.use_authority_key_identifier_extension = true;
        own.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        own.distinguished_name.push(DnType::CommonName, "sidecar webhook");
        let key = KeyPair::generate()?;
        let certificate = own.signed_by(&key, &Issuer::new(issuer, issuer_key))?.pem();
        issuers.push_str(before.map_or("", Self::own_issuer));
        Ok(Self { certificate, key: key.serialize_pem(), issuers, renew_at: now + VALIDITY * 2 / 3, names })
    }

    /// It is of these names, and not too old.
    pub(super) fn is_good(&self, names: &[String]) -> bool {
        self.names == names && SystemTime::now() < self.renew_at
    }

    /// The issuer of the certificate itself, which comes first.
    fn own_issuer(&self) -> &str {
        /// The end of a certificate in PEM.
        const END: &str = "-----END CERTIFICATE-----\n";
        let text = self.issuers.split_inclusive(END).next().unwrap_or_default();
        if text.ends_with(END) { text } else { "" }
    }
}

/// A name of its own for each, by which a reader of two finds the right one.
fn issuer_name(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("sidecar webhook issuer {seconds}-{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::tls::{Chain, Key, Shown};

    fn names() -> Vec<String> {
        vec!["hook.system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    /// As the API server does, which has the issuers as `caBundle`.
    fn believes(issuers: &str, issued: &Issued, name: &'static str, when: SystemTime) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        for issuer in Chain::parse(issuers.as_bytes()).unwrap().certificates() {
            roots.add(issuer).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let chain = Chain::parse(issued.certificate.as_bytes()).unwrap().certificates();
        let when = UnixTime::since_unix_epoch(when.duration_since(UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&chain[0], &[], &ServerName::try_from(name).unwrap(), &[], when).is_ok()
    }

    #[test]
    fn who_has_the_issuer_believes_it() {
        let (now, issued) = (SystemTime::now(), Issued::new(names(), None).unwrap());
        assert!(issued.is_good(&names()) && !issued.is_good(&["other".to_owned()]));
        assert!(believes(&issued.issuers, &issued, "hook.system.svc", now));
        assert!(believes(&issued.issuers, &issued, "127.0.0.1", issued.renew_at));
        assert!(!believes(&issued.issuers, &issued, "other.system.svc", now));
        assert!(!believes(&issued.issuers, &issued, "hook.system.svc", now + VALIDITY + SKEW));
        let other = Issued::new(names(), None).unwrap();
        assert!(!believes(&other.issuers, &issued, "hook.system.svc", now));
        let chain = Chain::parse(issued.certificate.as_bytes()).unwrap();
        let shown = Shown::default();
        assert_eq!(shown.show(&chain, &Key::parse(issued.key.as_bytes()).unwrap()), Ok(true));
        assert_eq!(shown.show(&chain, &Key::parse(issued.key.as_bytes()).unwrap()), Ok(false));
        assert!(shown.show(&chain, &Key::parse(other.key.as_bytes()).unwrap()).is_err());
    }

    #[test]
    fn the_one_before_is_believed_until_the_next_but_one() {
        let (now, first) = (SystemTime::now(), Issued::new(names(), None).unwrap());
        let second = Issued::new(names(), Some(&first)).unwrap();
        let third = Issued::new(names(), Some(&second)).unwrap();
        assert!(believes(&second.issuers, &first, "hook.system.svc", now));
        assert!(believes(&second.issuers, &second, "hook.system.svc", now));
        assert!(believes(&third.issuers, &second, "hook.system.svc", now));
        assert!(!believes(&third.issuers, &first, "hook.system.svc", now));
    }
}
