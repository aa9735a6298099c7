//! Who may speak to this collector as which sensor: certificate authority, tokens, certificates.
//!
//! Pure: [`authority`] makes and signs certificates, [`verifier`] judges the one a connection
//! shows. Shell: [`records`] keeps it all in `pki.db`, apart from the store, whose backend can be
//! another one; commands of the command line change that file beside a running collector, which
//! reads it anew every [`RELOAD_INTERVAL`] ([`Pki::watch`]).
//!
//! A certificate is known by its SHA-256, and one that is not in `pki.db` is refused whoever signed
//! it: what a restored or stolen authority key makes elsewhere is of no use here. Bounds:
//! [`TOKENS_MAX`] open tokens, [`CERTIFICATES_MAX`] certificates.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use netml_proto::token::{Fingerprint, Token};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::clock;
use crate::ingest::registry::Registry;
use crate::record::SensorName;
use crate::web::tls::Identity;

pub mod authority;
pub mod records;
pub mod verifier;

use authority::{Authority, Issued, SigningError};
use records::{Records, RecordsError};
use verifier::{Doorkeeper, ServerIdentity};

/// Life of a sensor's certificate. The sensor renews it when two thirds are over.
pub const CERTIFICATE_MS: i64 = 7 * DAY_MS;

/// How long after its end a certificate may still renew itself: a sensor that was off comes back
/// without hands.
pub const RENEWAL_GRACE_MS: i64 = 30 * DAY_MS;

/// Open tokens at once; one more is refused.
pub const TOKENS_MAX: i64 = 1_000;

/// Certificates kept at once; one more is refused. A sensor renews every five days and a
/// certificate is kept for 37: eight for each of more sensors than a store takes.
pub const CERTIFICATES_MAX: i64 = 10_000;

/// How often the running collector looks for what commands changed: half of it on average, and
/// never more than it, passes until a revocation acts.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// By these a browser on the collector's host reaches it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The collector's own certificate is made anew when it is this old.
const SERVER_RENEWAL_MS: i64 = DAY_MS;

/// Why a certificate was not given.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// `pki.db`.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What was to be signed, or the key to sign with.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// No authority yet.
    #[error("{} holds no certificate authority; make one: netml-collector ca init", .0.display())]
    NoAuthority(PathBuf),
    /// One is there already.
    #[error("{} holds a certificate authority already; to replace it: netml-collector ca rotate", .0.display())]
    AuthorityExists(PathBuf),
    /// A second rotation within one.
    #[error("a new authority waits already; make it sign: netml-collector ca activate")]
    RotationUnderWay,
    /// Activation without rotation.
    #[error("no new authority waits; make one: netml-collector ca rotate")]
    NoRotation,
    /// Sensors would be shut out.
    #[error("{what}: {sensors}; wait until they have renewed (at most 5 days), or --force")]
    StillNeeded {
        /// Why not.
        what: &'static str,
        /// Their names.
        sensors: String,
    },
    /// A bound is reached.
    #[error("{0} are held already, one more is refused")]
    Full(&'static str),
    /// The token is unknown, used, expired or for another authority: which of these is for the log.
    #[error("the token is not valid; get a new one: netml-collector enroll token --name SENSOR")]
    Token,
    /// Renewal with another key or without a certificate.
    #[error("a certificate is renewed by its own key only; enrol anew with a token")]
    OtherKey,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// TLS refuses what was made.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate that was given to a sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// To whom.
    pub sensor: SensorName,
    /// End of its life, unix milliseconds.
    pub not_after_unix_ms: i64,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Certificates by fingerprint, shared with whoever judges connections.
#[derive(Debug, Default)]
pub struct Roll(RwLock<HashMap<Fingerprint, Known>>);

impl Roll {
    /// A certificate, where it is known.
    #[must_use]
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<Known> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(fingerprint).cloned()
    }

    fn set(&self, known: HashMap<Fingerprint, Known>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn add(&self, fingerprint: Fingerprint, known: Known) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(fingerprint, known);
    }
}

/// SHA-256 of some bytes: the fingerprint of a certificate in DER, the hash of a secret.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// The authority of a running collector.
pub struct Pki {
    records: Records,
    roll: Arc<Roll>,
    doorkeeper: Arc<Doorkeeper>,
    server: Arc<ServerIdentity>,
    web: Arc<Identity>,
    served: tokio::sync::Mutex<Option<Served>>,
}

/// What the server's own certificate was made of.
#[derive(PartialEq)]
struct Served {
    authority: i64,
    hosts: Vec<String>,
    made_unix_ms: i64,
}

impl Pki {
    /// Opens `pki.db` of a data directory; None where it holds no authority.
    ///
    /// # Errors
    /// Where the file cannot be read, or what it holds is no authority.
    pub async fn open(directory: &Path) -> Result<Option<Arc<Self>>, PkiError> {
        let Some(records) = Records::open(directory).await? else {
            return Ok(None);
        };
        if records.authorities().await?.is_empty() {
            return Ok(None);
        }
        let roll = Arc::new(Roll::default());
        let pki = Self {
            records,
            doorkeeper: Arc::new(Doorkeeper::new(Arc::clone(&roll))),
            server: Arc::default(),
            web: Arc::default(),
            served: tokio::sync::Mutex::default(),
            roll,
        };
        pki.reload(clock::unix_ms()).await?;
        Ok(Some(Arc::new(pki)))
    }

    /// Settings for connections of sensors: TLS 1.3, certificates asked for and not demanded, since
    /// a sensor that enrols has none yet.
    ///
    /// # Errors
    /// Where TLS refuses them.
    pub fn tls(&self) -> Result<rustls::ServerConfig, PkiError> {
        let mut config = rustls::ServerConfig::builder_with_provider(verifier::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&self.doorkeeper) as Arc<_>)
            .with_cert_resolver(Arc::clone(&self.server) as Arc<_>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would show no certificate to judge.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The certificate for browsers: for the hosts of this collector, and for its loopback.
    #[must_use]
    pub fn web(&self) -> Arc<Identity> {
        Arc::clone(&self.web)
    }

    /// Certificates that are known.
    #[must_use]
    pub fn roll(&self) -> Arc<Roll> {
        Arc::clone(&self.roll)
    }

    /// What the verifier refused.
    #[must_use]
    pub fn doorkeeper(&self) -> &Doorkeeper {
        &self.doorkeeper
    }

    /// Reads everything anew; the server's own certificate is made anew where it is old or the
    /// authority is another.
    async fn reload(&self, now_unix_ms: i64) -> Result<(), PkiError> {
        let authorities = self.records.authorities().await?;
        let roots: Vec<_> = authorities.iter().map(Authority::certificate).collect();
        self.roll.set(self.records.certificates().await?);
        self.doorkeeper.trust(&roots)?;
        let Some(issuing) = authorities.iter().find(|of| of.is_issuing()) else {
            return Err(PkiError::NoAuthority(self.records.path().to_owned()));
        };
        let hosts = self.records.hosts().await?;
        let mut served = self.served.lock().await;
        let is_good = served.as_ref().is_some_and(|served| {
            served.authority == issuing.id()
                && served.hosts == hosts
                && (now_unix_ms - served.made_unix_ms).abs() < SERVER_RENEWAL_MS
        });
        if !is_good {
            self.server
                .set(issuing.server_certificate(&hosts, now_unix_ms)?)?;
            let own = LOOPBACK.map(str::to_owned);
            let hosts_of_web: Vec<String> = hosts.iter().cloned().chain(own).collect();
            let made = issuing.server_certificate(&hosts_of_web, now_unix_ms)?;
            self.web.set(made, &hosts_of_web)?;
            *served = Some(Served {
                authority: issuing.id(),
                hosts,
                made_unix_ms: now_unix_ms,
            });
        }
        Ok(())
    }

    /// Follows what commands change, and ends connections of those whose certificate was taken
    /// back, until `stop` says true.
    pub async fn watch(self: Arc<Self>, registry: Arc<Registry>, mut stop: watch::Receiver<bool>) {
        let mut pulse = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            tokio::select! {
                _ = pulse.tick() => {}
                () = crate::ingest::service::stopped(&mut stop) => return,
            }
            let now_unix_ms = clock::unix_ms();
            if let Err(error) = self.reload(now_unix_ms).await {
                tracing::error!(%error, "certificates could not be read anew; the old ones stay");
                continue;
            }
            registry.close_where(|certificate| {
                let known = self.roll.get(certificate?);
                match known {
                    None => Some("the certificate is not known any more"),
                    Some(known) if known.revoked => Some("the certificate was revoked"),
                    Some(known) if known.not_after_unix_ms < now_unix_ms => {
                        Some("the certificate has expired; renew it")
                    }
                    Some(_) => None,
                }
            });
            if let Err(error) = self.records.tidy(now_unix_ms).await {
                tracing::warn!(%error, "old certificates could not be removed");
            }
        }
    }

    /// Gives the holder of a token a certificate.
    ///
    /// # Errors
    /// Where the token or the request is not good, or a bound is reached.
    pub async fn enroll(
        &self,
        token: &str,
        request: &[u8],
        now_unix_ms: i64,
    ) -> Result<(SensorName, Issued), PkiError> {
        let token = Token::parse(token).ok_or(PkiError::Token)?;
        let sensor = SensorName::parse(&token.sensor).ok_or(PkiError::Token)?;
        let authorities = self.records.authorities().await?;
        let issuing = self.issuing(&authorities)?;
        // Signed before the token is used up: a request that cannot be signed costs none.
        let issued = issuing.sign(&sensor, request, now_unix_ms)?;
        self.records
            .redeem(&sha256(&token.secret), &sensor, &issued, now_unix_ms)
            .await?;
        self.note(&sensor, &issued);
        Ok((sensor, issued))
    }

    /// Gives the holder of a certificate the next one.
    ///
    /// # Errors
    /// Where the request is by another key, or a bound is reached.
    pub async fn renew(
        &self,
        certificate: &Fingerprint,
        request: &[u8],
        now_unix_ms: i64,
    ) -> Result<(SensorName, Issued), PkiError> {
        let known = self.roll.get(certificate).ok_or(PkiError::OtherKey)?;
        let authorities = self.records.authorities().await?;
        let issued = self
            .issuing(&authorities)?
            .sign(&known.sensor, request, now_unix_ms)?;
        self.records
            .renew(certificate, &known.sensor, &issued)
            .await?;
        self.note(&known.sensor, &issued);
        Ok((known.sensor, issued))
    }

    fn issuing<'a>(&self, authorities: &'a [Authority]) -> Result<&'a Authority, PkiError> {
        let issuing = authorities.iter().find(|of| of.is_issuing());
        issuing.ok_or_else(|| PkiError::NoAuthority(self.records.path().to_owned()))
    }

    fn note(&self, sensor: &SensorName, issued: &Issued) {
        let known = Known {
            sensor: sensor.clone(),
            not_after_unix_ms: issued.not_after_unix_ms,
            revoked: false,
        };
        self.roll.add(issued.fingerprint(), known);
    }

    /// Certificates of all authorities that are trusted, DER.
    ///
    /// # Errors
    /// Where `pki.db` cannot be read.
    pub async fn authorities(&self) -> Result<Vec<Vec<u8>>, PkiError> {
        let authorities = self.records.authorities().await?;
        let der = |of: &Authority| of.certificate().to_vec();
        Ok(authorities.iter().map(der).collect())
    }
}
