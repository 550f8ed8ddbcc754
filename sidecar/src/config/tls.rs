//! TLS to servers: `spec.tls` of a `Backend`, and `caCertificates` where the proxy asks somebody itself. The files that are
//! named are read here, so that a configuration that is accepted can be used.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::{Serialize, Serializer};

use super::check::Check;
use super::model::Target;
use super::raw::{self, Text};
use super::value::{choice, path};
use crate::tls::{Chain, FileError, Key, Peer, Roots, TlsClient};

/// How a `Backend` is spoken to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// Whom its certificates must name. `None`: each endpoint's own DNS name or address.
    pub hostname: Option<String>,
    /// Whose certificates are believed.
    pub ca_certificates: CaCertificates,
    /// The proxy's own certificate.
    pub client_certificate: Option<PathBuf>,
    /// The file of its key.
    pub client_key: Option<PathBuf>,
    /// Whoever answers is believed.
    pub insecure_skip_verify: bool,
    /// What was in the files.
    #[serde(skip)]
    pub client: TlsClient,
}

/// Whose certificates are believed. Serialises as it is written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CaCertificates {
    /// The system's.
    System,
    /// Those of a file.
    File(PathBuf),
}

/// A server that the proxy itself asks by https. Serialises as [`CaCertificates`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Trust {
    ca_certificates: CaCertificates,
    /// What was in the file.
    pub client: TlsClient,
}

/// Why a value is not what it should be.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error(transparent)]
    Path(#[from] path::PathError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("write a DNS name or an IP address")]
    Hostname,
}

const FIELD: &str = "spec.tls";
/// Instead of the path of a file.
const SYSTEM: &str = "system";

// === impl ===

impl BackendTls {
    /// The server at an endpoint. `None`: nothing says who it must be.
    pub fn peer(&self, target: &Target) -> Option<Peer> {
        let name = match (&self.hostname, target) {
            (Some(hostname), _) => ServerName::try_from(hostname.clone()).ok()?,
            (None, Target::Dns(dns)) => {
                ServerName::try_from(dns.name.strip_suffix('.').unwrap_or(&dns.name).to_owned()).ok()?
            }
            (None, Target::Address(address)) => address.ip().into(),
            (None, Target::Unix(_)) => return None,
        };
        Some(Peer { client: self.client.clone(), name })
    }
}

/// Reads the section (on this line), unless it is wrong.
pub(super) fn read(check: &mut Check<'_>, raw: &raw::Tls, line: u64) -> Option<BackendTls> {
    let at = |leaf: &str| format!("{FIELD}.{leaf}");
    let before = check.errors.len();
    let hostname = raw.hostname.as_ref().and_then(|text| check.value(&at("hostname"), text, hostname));
    let skip = raw.insecure_skip_verify.as_ref();
    let insecure_skip_verify = check.value_or(&at("insecureSkipVerify"), skip, false, choice::parse_bool);
    let named = raw.ca_certificates.as_ref();
    if let Some(text) = named.filter(|_| insecure_skip_verify) {
        let why = "counts for nothing with insecureSkipVerify; leave one of them out";
        check.refuse_value(&at("caCertificates"), text, why);
        return None;
    }
    let believed = if insecure_skip_verify {
        Some((CaCertificates::System, None))
    } else {
        roots(check, &at("caCertificates"), named, line).map(|(from, roots)| (from, Some(roots)))
    };
    let file = |text: &str| path::parse(text).map_err(TlsError::from);
    let (certificate, key) = (raw.client_certificate.as_ref(), raw.client_key.as_ref());
    if let (Some(text), None) | (None, Some(text)) = (certificate, key) {
        let leaf = if key.is_none() { "clientCertificate" } else { "clientKey" };
        check.refuse_value(&at(leaf), text, "write clientCertificate and clientKey, or neither");
    }
    let chain = certificate.and_then(|text| {
        check.value(&at("clientCertificate"), text, |text| {
            file(text).and_then(|path| Ok((Chain::read(&path)?, path)))
        })
    });
    let secret = key.and_then(|text| {
        check.value(&at("clientKey"), text, |text| file(text).and_then(|path| Ok((Key::read(&path)?, path))))
    });
    let (ca_certificates, roots) = believed?;
    if check.errors.len() > before {
        return None;
    }
    let identity = chain.as_ref().zip(secret.as_ref()).map(|((chain, _), (key, _))| (chain, key));
    match TlsClient::new(roots.as_ref(), identity) {
        Ok(client) => Some(BackendTls {
            hostname,
            ca_certificates,
            client_certificate: chain.map(|(_, path)| path),
            client_key: secret.map(|(_, path)| path),
            insecure_skip_verify,
            client,
        }),
        Err(error) => {
            let why = format_args!("cannot be used with its certificate: {error}");
            match key {
                Some(text) => check.refuse_value(&at("clientKey"), text, why),
                None => check.refuse(line, FIELD, error),
            }
            None
        }
    }
}

/// Reads whom to believe where the proxy itself asks by https; on this line is what it asks.
pub(super) fn trust(check: &mut Check<'_>, field: &str, raw: Option<&Text>, line: u64) -> Option<Trust> {
    let (ca_certificates, roots) = roots(check, field, raw, line)?;
    match TlsClient::new(Some(&roots), None) {
        Ok(client) => Some(Trust { ca_certificates, client }),
        Err(error) => {
            check.refuse(line, field, error);
            None
        }
    }
}

fn roots(
    check: &mut Check<'_>,
    field: &str,
    raw: Option<&Text>,
    line: u64,
) -> Option<(CaCertificates, Roots)> {
    let read = |text: &str| {
        if text == SYSTEM {
            return Ok((CaCertificates::System, Roots::of_system()?));
        }
        let path = path::parse(text)?;
        let roots = Roots::read(&path)?;
        Ok::<_, TlsError>((CaCertificates::File(path), roots))
    };
    match raw {
        Some(text) => check.value(field, text, read),
        None => read(SYSTEM).map_err(|error| check.refuse(line, field, error)).ok(),
    }
}

fn hostname(text: &str) -> Result<String, TlsError> {
    let name = text.to_ascii_lowercase();
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => Err(TlsError::Hostname),
    }
}

impl CaCertificates {
    fn text(&self) -> &Path {
        match self {
            Self::System => Path::new(SYSTEM),
            Self::File(path) => path,
        }
    }
}

impl Serialize for CaCertificates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text().serialize(serializer)
    }
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.ca_certificates.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const HEAD: &str = "apiVersion: sidecar.dev/v1alpha1\nkind: Backend\nmetadata: {name: a}\nspec:\n";
    const ENDPOINT: &str = "  endpoints: [{address: \"10.0.0.1:443\"}]\n";

    /// The errors of a spec, which begins on line 5.
    fn errors(spec: &str) -> Vec<String> {
        let config = Config::parse(&format!("{HEAD}{spec}"), "f");
        config.err().map(|errors| errors.to_string()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = empty.path().display();
        let cases = [
            (
                "{caCertificates: /nowhere}",
                r#"f:6: spec.tls.caCertificates: "/nowhere": cannot read: No such file"#,
            ),
            ("{caCertificates: /etc}", r#"f:6: spec.tls.caCertificates: "/etc": is not a file"#),
            ("{caCertificates: EMPTY}", r#"f:6: spec.tls.caCertificates: "EMPTY": has no certificate"#),
            (
                "{hostname: a..b, insecureSkipVerify: true}",
                r#"f:6: spec.tls.hostname: "a..b": write a DNS name or"#,
            ),
            (
                "{insecureSkipVerify: true, caCertificates: system}",
                r#"f:6: spec.tls.caCertificates: "system": counts for nothing with insecureSkipVerify"#,
            ),
            (
                "{insecureSkipVerify: true, clientKey: EMPTY}",
                r#"f:6: spec.tls.clientKey: "EMPTY": write clientCertificate and clientKey, or neither"#,
            ),
            (
                "{insecureSkipVerify: true, clientCertificate: EMPTY, clientKey: EMPTY}",
                r#"f:6: spec.tls.clientKey: "EMPTY": has no private key"#,
            ),
            ("{hostName: a}", "f:6: spec.tls.hostName: unknown field; the fields here are hostname, "),
        ];
        for (tls, start) in cases {
            let [tls, start] = [tls, start].map(|text| text.replace("EMPTY", &empty.to_string()));
            let found = errors(&format!("{ENDPOINT}  tls: {tls}\n"));
            assert!(found.iter().any(|line| line.starts_with(&start)), "{start}\nnot in {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_verified_or_encrypted_is_refused() {
        let unix = "  tls: {insecureSkipVerify: true}\n  endpoints: [{unix: /a.sock}]\n";
        let found = errors(unix);
        assert!(found[0].starts_with("f:6: spec.endpoints[0]: nothing says whom"), "{found:?}");
        assert_eq!(errors(&unix.replace("{insecure", "{hostname: a, insecure")), [""; 0]);
        let found = errors(&format!("{ENDPOINT}  protocol: tcp\n  tls: {{insecureSkipVerify: true}}\n"));
        assert!(found[0].starts_with("f:7: spec.tls: is for requests"), "{found:?}");
    }

    #[test]
    fn the_dump_shows_what_was_written() {
        let text = format!("{HEAD}{ENDPOINT}  tls: {{hostname: App.Test, insecureSkipVerify: true}}\n");
        let config = Config::parse(&text, "f").unwrap();
        let tls = serde_json::json!(config.backends["a"].tls);
        let expected = serde_json::json!({"hostname": "app.test", "caCertificates": "system",
            "clientCertificate": null, "clientKey": null, "insecureSkipVerify": true});
        assert_eq!(tls, expected);
        assert_eq!(config, Config::parse(&text, "f").unwrap());
    }
}
