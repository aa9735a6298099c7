//! TLS: what of a certificate is checked when a sensor connects.
//!
//! Signature and chain are checked by rustls' own verifier; known, revoked and expired are told by
//! the [`Roll`]. A certificate that has expired, by at most [`RENEWAL_GRACE_MS`], passes: it is good
//! for renewal only, which is for the service to say.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::authority::ServerCertificate;
use super::{PkiError, RENEWAL_GRACE_MS, Roll, sha256};

/// The one provider of cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Judges the certificates that sensors show.
pub struct Doorkeeper {
    roll: Arc<Roll>,
    chains: RwLock<Option<Arc<dyn ClientCertVerifier>>>,
    provider: Arc<CryptoProvider>,
    /// Certificates that no authority here signed, or that are not in `pki.db`.
    pub unknown: AtomicU64,
    /// Certificates that were taken back.
    pub revoked: AtomicU64,
    /// Certificates too old even for renewal.
    pub expired: AtomicU64,
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doorkeeper")
    }
}

impl Doorkeeper {
    /// One that trusts no authority yet.
    #[must_use]
    pub fn new(roll: Arc<Roll>) -> Self {
        Self {
            roll,
            chains: RwLock::default(),
            provider: provider(),
            unknown: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// From now on trusts these authorities and no other.
    ///
    /// # Errors
    /// Where one of them is no certificate.
    pub fn trust(&self, authorities: &[CertificateDer<'static>]) -> Result<(), PkiError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        *self.chains.write().unwrap_or_else(PoisonError::into_inner) = Some(chains);
        Ok(())
    }

    fn chains(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        chains.clone()
    }
}

fn refused(counter: &AtomicU64, why: CertificateError) -> Error {
    counter.fetch_add(1, Ordering::Relaxed);
    Error::InvalidCertificate(why)
}

impl ClientCertVerifier for Doorkeeper {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Of authorities that come and go none is hinted at: a sensor has one certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let unknown = || refused(&self.unknown, CertificateError::UnknownIssuer);
        let known = self.roll.get(&sha256(end_entity)).ok_or_else(unknown)?;
        if known.revoked {
            return Err(refused(&self.revoked, CertificateError::Revoked));
        }
        let now_ms = i64::try_from(now.as_secs()).unwrap_or(i64::MAX / 1_000) * 1_000;
        if now_ms > known.not_after_unix_ms.saturating_add(RENEWAL_GRACE_MS) {
            return Err(refused(&self.expired, CertificateError::Expired));
        }
        // Of one that may renew itself the chain is checked as of its last second.
        let last_s = u64::try_from(known.not_after_unix_ms / 1_000 - 1).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().min(last_s)));
        let chains = self.chains().ok_or_else(unknown)?;
        chains
            .verify_client_cert(end_entity, intermediates, at)
            .inspect_err(|_| {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The collector's own certificate, changed while it serves.
#[derive(Default)]
pub struct ServerIdentity(RwLock<Option<Arc<CertifiedKey>>>);

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity")
    }
}

impl ServerIdentity {
    /// Shows this one from now on.
    ///
    /// # Errors
    /// Where its key cannot be used.
    pub fn set(&self, made: ServerCertificate) -> Result<(), PkiError> {
        let ServerCertificate { chain, key } = made;
        let key = provider().key_provider.load_private_key(key.into())?;
        let certified = Arc::new(CertifiedKey::new(chain, key));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
