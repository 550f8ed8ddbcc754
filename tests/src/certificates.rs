//! Certificates for tests, made with openssl(1).

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Finished;

/// An issuer of certificates, all of whose files are gone when it is dropped.
#[derive(Debug)]
pub struct Authority {
    files: TempDir,
}

/// A certificate's file and that of its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one that nobody believes yet.
    #[track_caller]
    pub fn new() -> Self {
        let authority = Self { files: tempfile::tempdir().unwrap() };
        let Certificate { chain, key } = authority.named("ca");
        let mut request = authority.request(&key, "ca");
        Finished::of(request.args(["-x509", "-days", "2", "-out"]).arg(&chain)).success();
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.named("ca").chain
    }

    /// A certificate for these names: `DNS:app.test,IP:10.7.0.2`.
    #[track_caller]
    pub fn issue(&self, name: &str, names: &str) -> Certificate {
        let issued = self.named(name);
        let (wanted, extensions) = (self.path(name, "csr"), self.path(name, "ext"));
        std::fs::write(&extensions, format!("subjectAltName={names}\n")).unwrap();
        Finished::of(self.request(&issued.key, name).arg("-out").arg(&wanted)).success();
        let ca = self.named("ca");
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&wanted);
        sign.arg("-CA").arg(&ca.chain).arg("-CAkey").arg(&ca.key).arg("-extfile").arg(&extensions);
        Finished::of(sign.arg("-out").arg(&issued.chain)).success();
        issued
    }

    /// A request for a certificate, with a new key in this file.
    fn request(&self, key: &Path, name: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]);
        command.arg(format!("/CN={name}")).arg("-keyout").arg(key).current_dir(self.files.path());
        command
    }

    fn named(&self, name: &str) -> Certificate {
        Certificate { chain: self.path(name, "pem"), key: self.path(name, "key") }
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.files.path().join(format!("{name}.{ending}"))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
