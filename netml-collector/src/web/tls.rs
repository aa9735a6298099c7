//! HTTPS for the dashboard: which certificate is shown, and by which names the collector is asked.
//!
//! The certificate is one of files, read anew when they change or at SIGHUP ([`Identity::follow`]), or
//! one that the collector's own authority makes ([`crate::pki`]). One that cannot be used never takes
//! the place of one that can: at the start it is an error, later it is logged and the old one stays.
//! TLS 1.3 only, HTTP/1.1 only.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error as RustlsError, ServerConfig};
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;

use crate::clock;
use crate::ingest::service::stopped;
use crate::pki::authority::ServerCertificate;
use crate::pki::verifier::provider;

/// Time between two looks whether the files changed.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Largest file that is read, in bytes; a chain of certificates has some thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files with a certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, then those it is signed by.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How the dashboard is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text, on loopback.
    #[default]
    Http,
    /// With a certificate of files.
    Given(Files),
    /// With one of the collector's own authority.
    Own,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; give a PEM file with {option}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Option that names it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file is something else.
    #[error("{path} holds no {what} in PEM; give one with {option}")]
    Empty {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// Option that names it.
        option: &'static str,
    },
    /// The first certificate is none.
    #[error("{path} holds no certificate that can be read: {reason}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its time is over, or has not come.
    #[error("the certificate in {path} is good from {from} to {to} only, not now; get a new one")]
    Time {
        /// Which file.
        path: PathBuf,
        /// Begin of its life.
        from: String,
        /// End of its life.
        to: String,
    },
    /// The two do not belong together.
    #[error("the key in {key} is not that of the certificate in {certificate}")]
    Mismatch {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        certificate: PathBuf,
    },
    /// The key is of a kind that is not spoken.
    #[error("the key in {path} cannot be used: {reason}; ECDSA, Ed25519 and RSA keys can")]
    Key {
        /// File of the key.
        path: PathBuf,
        /// Why.
        reason: RustlsError,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] RustlsError),
}

/// What is shown now.
struct Shown {
    certified: Arc<CertifiedKey>,
    names: Vec<String>,
}

/// State of a file: when it changed, its size, its number.
type Stamp = (i64, i64, u64, u64);

/// See the module.
#[derive(Default)]
pub struct Identity {
    files: Option<Files>,
    shown: RwLock<Option<Arc<Shown>>>,
    tried: Mutex<Option<[Option<Stamp>; 2]>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.files)
    }
}

impl Identity {
    /// That of files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of_files(files: Files, now_unix_ms: i64) -> Result<Self, TlsError> {
        let identity = Self {
            files: Some(files),
            ..Self::default()
        };
        identity.reload(now_unix_ms)?;
        Ok(identity)
    }

    /// Shows a certificate of the collector's own authority from now on, good for these names.
    ///
    /// # Errors
    /// Where its key cannot be used.
    pub fn set(&self, made: ServerCertificate, names: &[String]) -> Result<(), RustlsError> {
        let ServerCertificate { chain, key } = made;
        let certified = CertifiedKey::from_der(chain, key.into(), &provider())?;
        self.show(certified, names.iter().map(|name| normal(name)).collect());
        Ok(())
    }

    fn show(&self, certified: CertifiedKey, names: Vec<String>) {
        let shown = Arc::new(Shown {
            certified: Arc::new(certified),
            names,
        });
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Some(shown);
    }

    fn shown(&self) -> Option<Arc<Shown>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    /// Reads the files anew; without files nothing happens, and false comes back.
    ///
    /// # Errors
    /// What is wrong with them; what was shown before stays.
    pub fn reload(&self, now_unix_ms: i64) -> Result<bool, TlsError> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamps(files));
        let (certified, names) = read(files, now_unix_ms)?;
        self.show(certified, names);
        Ok(true)
    }

    /// True where the certificate is good for this host, given without a port.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        let host = normal(host);
        self.shown()
            .is_some_and(|shown| shown.names.iter().any(|name| fits(name, &host)))
    }

    /// A name for the address bar: the first of the certificate that is no pattern.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let shown = self.shown()?;
        let mut names = shown.names.iter();
        names.find(|name| !name.starts_with('*')).cloned()
    }

    /// Settings for connections of browsers.
    ///
    /// # Errors
    /// Where TLS refuses them.
    pub fn settings(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<_>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Reads the files anew when they change, until `stop` says true.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let Some(files) = &self.files else {
            return;
        };
        let mut pulse = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            tokio::select! {
                _ = pulse.tick() => {}
                () = stopped(&mut stop) => return,
            }
            let tried = *self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if tried != Some(stamps(files)) {
                self.reload_and_say();
            }
        }
    }

    /// Reads the files anew and says what came of it.
    pub fn reload_and_say(&self) {
        match self.reload(clock::unix_ms()) {
            Ok(true) => tracing::info!("the dashboard's certificate was read anew"),
            Ok(false) => tracing::info!("no certificate of files to read anew"),
            Err(error) => {
                tracing::error!(%error, "the dashboard's certificate cannot be used; the old one stays");
            }
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown().map(|shown| Arc::clone(&shown.certified))
    }
}

fn stamps(files: &Files) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|path| {
        let of = fs::metadata(path).ok()?;
        Some((of.mtime(), of.mtime_nsec(), of.size(), of.ino()))
    })
}

fn read(files: &Files, now_unix_ms: i64) -> Result<(CertifiedKey, Vec<String>), TlsError> {
    let Files { certificate, key } = files;
    let pem = bytes(certificate, "--web-certificate")?;
    let none = |path: &Path, what, option| TlsError::Empty {
        path: path.to_owned(),
        what,
        option,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| none(certificate, "certificate", "--web-certificate"))?;
    let Some(first) = chain.first() else {
        return Err(none(certificate, "certificate", "--web-certificate"));
    };
    let names = names(first, certificate, now_unix_ms)?;
    let pem = bytes(key, "--web-key")?;
    let private =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| none(key, "private key", "--web-key"))?;
    let provider = provider();
    let private = provider.key_provider.load_private_key(private);
    let private = private.map_err(|reason| TlsError::Key {
        path: key.clone(),
        reason,
    })?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) => Ok((certified, names)),
        Err(RustlsError::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            key: key.clone(),
            certificate: certificate.clone(),
        }),
        Err(error) => Err(TlsError::Certificate {
            path: certificate.clone(),
            reason: error.to_string(),
        }),
    }
}

fn bytes(path: &Path, option: &'static str) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        option,
        source,
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        let why = format!("{size} bytes are more than {FILE_BYTES_MAX}");
        return Err(failed(io::Error::other(why)));
    }
    fs::read(path).map_err(failed)
}

/// Names and addresses of a certificate whose time it is.
fn names(
    certificate: &CertificateDer<'_>,
    path: &Path,
    now_unix_ms: i64,
) -> Result<Vec<String>, TlsError> {
    let unreadable = |reason: String| TlsError::Certificate {
        path: path.to_owned(),
        reason,
    };
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| unreadable(error.to_string()))?;
    let validity = parsed.validity();
    let now_s = now_unix_ms.div_euclid(1_000);
    if now_s < validity.not_before.timestamp() || now_s > validity.not_after.timestamp() {
        return Err(TlsError::Time {
            path: path.to_owned(),
            from: validity.not_before.to_string(),
            to: validity.not_after.to_string(),
        });
    }
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    let names: Vec<String> = alternatives
        .iter()
        .flat_map(|of| &of.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(normal(name)),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return Err(unreadable(
            "it names no host (subject alternative name), so no browser takes it".into(),
        ));
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// A host in the one way in which it is compared.
fn normal(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// `*` stands for one label, the first (RFC 6125 §6.4.3).
fn fits(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => {
            let labels = host.split_once('.');
            labels.is_some_and(|(first, of)| !first.is_empty() && of == rest)
        }
        None => name == host,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const NOW_MS: i64 = 1_750_000_000_000;

    struct Pair {
        directory: tempfile::TempDir,
        files: Files,
    }

    fn at(unix_s: i64) -> time::OffsetDateTime {
        time::OffsetDateTime::from_unix_timestamp(unix_s).unwrap()
    }

    /// A certificate for these names, good for a day around `unix_s`, and its key.
    fn made(names: &[&str], unix_s: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = at(unix_s - 43_200);
        params.not_after = at(unix_s + 43_200);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn pair(certificate: &str, key: &str) -> Pair {
        let directory = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: directory.path().join("web.pem"),
            key: directory.path().join("web.key"),
        };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        Pair { directory, files }
    }

    fn refused(certificate: &str, key: &str) -> String {
        let pair = pair(certificate, key);
        let error = Identity::of_files(pair.files, NOW_MS).unwrap_err();
        error.to_string()
    }

    #[test]
    fn hosts_are_those_of_the_certificate() {
        let names = ["netml.example", "*.lab.example", "192.0.2.7", "fd00::7"];
        let (certificate, key) = made(&names, NOW_MS / 1_000);
        let pair = pair(&certificate, &key);
        let identity = Identity::of_files(pair.files.clone(), NOW_MS).unwrap();
        for host in [
            "netml.example",
            "NETML.Example.",
            "a.lab.example",
            "192.0.2.7",
            "FD00:0::7",
        ] {
            assert!(identity.knows(host), "{host}");
        }
        for host in [
            "",
            "example",
            "lab.example",
            ".lab.example",
            "a.b.lab.example",
            "192.0.2.8",
        ] {
            assert!(!identity.knows(host), "{host}");
        }
        assert_eq!(identity.name().as_deref(), Some("netml.example"));
        assert!(pair.directory.path().exists());
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_file_and_option() {
        let (certificate, key) = made(&["a.example"], NOW_MS / 1_000);
        let (_, other_key) = made(&["a.example"], NOW_MS / 1_000);
        let (nameless, nameless_key) = made(&[], NOW_MS / 1_000);
        let (old, old_key) = made(&["a.example"], NOW_MS / 1_000 - 86_400);
        let (early, early_key) = made(&["a.example"], NOW_MS / 1_000 + 86_400);
        for (certificate, key, said) in [
            ("", key.as_str(), "--web-certificate"),
            (key.as_str(), key.as_str(), "holds no certificate"),
            (certificate.as_str(), "", "--web-key"),
            (certificate.as_str(), certificate.as_str(), "no private key"),
            (certificate.as_str(), other_key.as_str(), "is not that of"),
            (nameless.as_str(), nameless_key.as_str(), "names no host"),
            (old.as_str(), old_key.as_str(), "get a new one"),
            (early.as_str(), early_key.as_str(), "get a new one"),
        ] {
            let error = refused(certificate, key);
            assert!(error.contains(said), "{said}: {error}");
        }
        let cut = &certificate[..certificate.len() / 2];
        assert!(refused(cut, &key).contains("no certificate"));
        let missing = Files {
            certificate: "/nowhere/web.pem".into(),
            key: "/nowhere/web.key".into(),
        };
        let error = Identity::of_files(missing, NOW_MS).unwrap_err().to_string();
        assert!(error.contains("/nowhere/web.pem") && error.contains("--web-certificate"));
    }

    #[test]
    fn a_bad_pair_never_takes_the_place_of_a_good_one() {
        let (certificate, key) = made(&["first.example"], NOW_MS / 1_000);
        let pair = pair(&certificate, &key);
        let identity = Identity::of_files(pair.files.clone(), NOW_MS).unwrap();
        let (certificate, key) = made(&["second.example"], NOW_MS / 1_000);
        fs::write(&pair.files.certificate, &certificate).unwrap();
        assert!(identity.reload(NOW_MS).is_err(), "the key is not there yet");
        assert!(identity.knows("first.example"));
        fs::write(&pair.files.key, &key).unwrap();
        assert!(identity.reload(NOW_MS).unwrap());
        assert!(identity.knows("second.example") && !identity.knows("first.example"));
        assert!(!Identity::default().reload(NOW_MS).unwrap());
    }
}
