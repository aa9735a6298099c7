//! What a sensor shows to its collector: a key made here, the certificate for it, and the
//! authorities by which it knows the collector in turn.
//!
//! One file, readable by its owner only, replaced as a whole: some lines of text, then the key, the
//! certificate and the authorities in PEM (RFC 7468).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use netml_proto::v1;
use pem::Pem;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1_024;

/// Tags of the blocks.
const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file.
    #[error("the identity file {path} cannot be {action}: {source}{}", if source.kind() == io::ErrorKind::NotFound { "; get one: netml-agent enroll" } else { "" })]
    File {
        /// Where.
        path: PathBuf,
        /// read or written
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What is in it.
    #[error("the identity file {path} {what}; get a new one: netml-agent enroll")]
    Content {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The library of certificates.
    #[error("no key can be made: {0}")]
    Make(#[from] rcgen::Error),
    /// TLS refuses them.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Name in the certificate.
    pub sensor: String,
    /// Begin of the certificate's life, unix milliseconds.
    pub not_before_unix_ms: i64,
    /// Its end.
    pub not_after_unix_ms: i64,
    /// PKCS#8, DER.
    key: Vec<u8>,
    /// X.509, DER.
    certificate: Vec<u8>,
    /// X.509, DER.
    authorities: Vec<Vec<u8>>,
}

/// Without the key.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, …)", self.sensor)
    }
}

/// A key that waits for its certificate.
pub struct NewKey(KeyPair);

impl NewKey {
    /// Makes one: ECDSA on P-256.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn make() -> Result<Self, CredentialsError> {
        Ok(Self(KeyPair::generate()?))
    }

    /// What asks for a certificate: PKCS#10, DER.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn request(&self) -> Result<Vec<u8>, CredentialsError> {
        request(&self.0)
    }

    /// The credentials, with the certificate that came for the key.
    #[must_use]
    pub fn with(self, sensor: String, issued: v1::IssuedCertificate) -> Credentials {
        Credentials {
            sensor,
            not_before_unix_ms: issued.not_before_unix_ms,
            not_after_unix_ms: issued.not_after_unix_ms,
            key: self.0.serialize_der(),
            certificate: issued.certificate,
            authorities: issued.authorities,
        }
    }
}

fn request(key: &KeyPair) -> Result<Vec<u8>, CredentialsError> {
    // The collector takes nothing but the key: it knows the name.
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read, or is no such file.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let file = |source| CredentialsError::File {
            path: path.to_owned(),
            action: "read",
            source,
        };
        if fs::metadata(path).map_err(file)?.len() > FILE_BYTES_MAX {
            return Err(CredentialsError::Content {
                path: path.to_owned(),
                what: "is far too long",
            });
        }
        let text = fs::read_to_string(path).map_err(file)?;
        Self::parse(&text).map_err(|what| CredentialsError::Content {
            path: path.to_owned(),
            what,
        })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let said = |name: &str| {
            let mut lines = text.lines().take_while(|line| !line.starts_with("-----"));
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let time = |name| said(name).and_then(|text| text.parse().ok());
        let blocks = pem::parse_many(text).map_err(|_| "is damaged")?;
        let mut keys = blocks.iter().filter(|block| block.tag() == KEY);
        let mut certificates = blocks
            .iter()
            .filter(|block| block.tag() == CERTIFICATE)
            .map(|block| block.contents().to_vec());
        let credentials = Self {
            sensor: said("sensor").ok_or("names no sensor")?.to_owned(),
            not_before_unix_ms: time("not-before-unix-ms").ok_or("has no begin")?,
            not_after_unix_ms: time("not-after-unix-ms").ok_or("has no end")?,
            key: keys.next().ok_or("has no key")?.contents().to_vec(),
            certificate: certificates.next().ok_or("has no certificate")?,
            authorities: certificates.collect(),
        };
        if credentials.authorities.is_empty() {
            return Err("has no authority");
        }
        Ok(credentials)
    }

    fn text(&self) -> String {
        let certificates = std::iter::once(&self.certificate).chain(&self.authorities);
        let mut blocks = vec![Pem::new(KEY, self.key.clone())];
        blocks.extend(certificates.map(|der| Pem::new(CERTIFICATE, der.clone())));
        format!(
            "The identity of a netml sensor. Whoever has this file is the sensor.\n\
             sensor: {}\nnot-before-unix-ms: {}\nnot-after-unix-ms: {}\n{}",
            self.sensor,
            self.not_before_unix_ms,
            self.not_after_unix_ms,
            pem::encode_many_config(
                &blocks,
                pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF)
            )
        )
    }

    /// Writes the file anew: beside it, synced, then renamed.
    ///
    /// # Errors
    /// Where that fails; the old file stays.
    pub fn write(&self, path: &Path) -> Result<(), CredentialsError> {
        self.write_beside(path)
            .map_err(|source| CredentialsError::File {
                path: path.to_owned(),
                action: "written",
                source,
            })
    }

    fn write_beside(&self, path: &Path) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let beside = PathBuf::from(name);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// When the next certificate is to be asked for: after two thirds of this one's life.
    #[must_use]
    pub fn renew_at_unix_ms(&self) -> i64 {
        let life_ms = self.not_after_unix_ms - self.not_before_unix_ms;
        self.not_before_unix_ms + life_ms / 3 * 2
    }

    /// What asks for the next certificate, by the same key: PKCS#10, DER.
    ///
    /// # Errors
    /// Where the key cannot be used.
    pub fn request(&self) -> Result<Vec<u8>, CredentialsError> {
        let key = PrivatePkcs8KeyDer::from(self.key.as_slice());
        request(&KeyPair::try_from(&key)?)
    }

    /// The same with the next certificate.
    #[must_use]
    pub fn renewed(&self, issued: v1::IssuedCertificate) -> Self {
        Self {
            sensor: self.sensor.clone(),
            not_before_unix_ms: issued.not_before_unix_ms,
            not_after_unix_ms: issued.not_after_unix_ms,
            key: self.key.clone(),
            certificate: issued.certificate,
            authorities: issued.authorities,
        }
    }

    /// The same with other authorities to know a collector by.
    #[must_use]
    pub fn trusting(self, authorities: Vec<Vec<u8>>) -> Self {
        Self {
            authorities,
            ..self
        }
    }

    /// Settings of connections: TLS 1.3, our certificate, these authorities.
    ///
    /// # Errors
    /// Where TLS refuses them.
    pub fn tls(&self) -> Result<ClientConfig, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(CertificateDer::from(authority.clone()))?;
        }
        let chain = vec![CertificateDer::from(self.certificate.clone())];
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        NewKey::make().unwrap().with(
            "edge-1".into(),
            v1::IssuedCertificate {
                certificate: vec![1; 300],
                authorities: vec![vec![2; 300], vec![3; 10]],
                not_before_unix_ms: 1_000,
                not_after_unix_ms: 4_000,
            },
        )
    }

    #[test]
    fn what_is_written_is_read_and_is_nobody_elses() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.pem");
        let credentials = credentials();
        credentials.write(&path).unwrap();
        assert_eq!(Credentials::read(&path).unwrap(), credentials);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(credentials.renew_at_unix_ms(), 3_000);
        // Again, over what is there and over what a crash left.
        fs::write(directory.path().join("identity.pem.new"), "half").unwrap();
        credentials.write(&path).unwrap();
        assert_eq!(Credentials::read(&path).unwrap(), credentials);
    }

    #[test]
    fn a_request_comes_of_the_key_that_stays() {
        let credentials = credentials();
        let next = credentials.renewed(v1::IssuedCertificate::default());
        assert_eq!(next.key, credentials.key);
        assert!(!credentials.request().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_identity_is_refused_with_what_is_missing() {
        let text = credentials().text();
        let key = text.find("-----BEGIN PRIVATE").unwrap();
        for (bad, what) in [
            (String::new(), "names no sensor"),
            (text.replace("sensor:", "who:"), "names no sensor"),
            (text.replace("not-after-unix-ms: ", "x"), "has no end"),
            (text[..key].to_owned(), "has no key"),
            (text.replace("CERTIFICATE", "OTHER"), "has no certificate"),
            (text.replace("AQEB", "?QEB"), "is damaged"),
        ] {
            assert_eq!(Credentials::parse(&bad).unwrap_err(), what);
        }
    }
}
