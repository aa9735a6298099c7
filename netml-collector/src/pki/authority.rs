//! Certificates: the authority's own, the collector's, those of sensors.
//!
//! Core: keys and times in, certificates out. Keys are ECDSA on P-256, certificates X.509 v3
//! (RFC 5280).

use std::fmt;

use netml_proto::token::Fingerprint;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};

use super::{CERTIFICATE_MS, sha256};
use crate::record::SensorName;

/// Life of an authority.
const AUTHORITY_MS: i64 = 10 * 365 * 24 * 3_600 * 1_000;

/// Certificates begin this long before they are made, for clocks that are behind.
const BACKDATED_MS: i64 = 3_600 * 1_000;

/// Longest request that is looked at, in bytes; one by a key on P-256 has about 250.
const REQUEST_BYTES_MAX: usize = 4_096;

/// Bytes of a serial number.
const SERIAL_BYTES: usize = 16;

/// State of the authority that signs.
pub(super) const ISSUING: i64 = 1;

/// What could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The request.
    #[error("the request is no PKCS#10 signed by its own key ({0})")]
    Request(String),
    /// Another kind of key.
    #[error("keys are ECDSA on P-256, this one is not")]
    Key,
    /// A host that is neither a name nor an address.
    #[error("{0:?} is neither the name nor the address of a host")]
    Host(String),
    /// The stored authority.
    #[error("the stored authority cannot be used: {0}")]
    Authority(rcgen::Error),
    /// The library.
    #[error("a certificate cannot be made: {0}")]
    Make(rcgen::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// A time beyond all calendars.
    #[error("the clock cannot be right: {0} ms after 1970")]
    Clock(i64),
}

/// A certificate for a sensor.
#[derive(Clone, Debug)]
pub struct Issued {
    /// X.509, DER.
    pub certificate: Vec<u8>,
    /// SHA-256 of its public key.
    pub public_key: Fingerprint,
    /// Number of the authority that signed it.
    pub authority: i64,
    /// When it was signed.
    pub issued_unix_ms: i64,
    /// Begin of its life.
    pub not_before_unix_ms: i64,
    /// End of its life.
    pub not_after_unix_ms: i64,
}

impl Issued {
    /// SHA-256 of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        sha256(&self.certificate)
    }
}

/// The collector's own certificate with its key.
pub struct ServerCertificate {
    /// The certificate, then the authority's, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// An authority as it is stored.
#[derive(Clone)]
pub struct Authority {
    id: i64,
    certificate: CertificateDer<'static>,
    key_pem: String,
    state: i64,
    created_unix_ms: i64,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, state {})", self.id, self.state)
    }
}

impl Authority {
    /// One that was stored.
    #[must_use]
    pub fn stored(
        id: i64,
        certificate: Vec<u8>,
        key_pem: String,
        state: i64,
        created_unix_ms: i64,
    ) -> Self {
        Self {
            id,
            certificate: certificate.into(),
            key_pem,
            state,
            created_unix_ms,
        }
    }

    /// A new one: its certificate in DER, and its key in PEM.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn make(now_unix_ms: i64) -> Result<(Vec<u8>, String), SigningError> {
        let key = KeyPair::generate().map_err(SigningError::Make)?;
        // A name of its own: by it a verifier tells a foreign authority from a bad signature.
        let number = getrandom::u32().map_err(|_| SigningError::NoRandom)?;
        let name = format!("netml authority {number:08x}");
        let mut params = params(&name, now_unix_ms, AUTHORITY_MS)?;
        // Signs certificates of sensors and collectors, and no other authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(SigningError::Make)?;
        Ok((certificate.der().to_vec(), key.serialize_pem()))
    }

    /// Number in `pki.db`.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// When it was made.
    #[must_use]
    pub fn created_unix_ms(&self) -> i64 {
        self.created_unix_ms
    }

    /// State in `pki.db`.
    #[must_use]
    pub fn state(&self) -> i64 {
        self.state
    }

    /// True for the one that signs.
    #[must_use]
    pub fn is_issuing(&self) -> bool {
        self.state == ISSUING
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, SigningError> {
        let key = KeyPair::from_pem(&self.key_pem).map_err(SigningError::Authority)?;
        Issuer::from_ca_cert_der(&self.certificate, key).map_err(SigningError::Authority)
    }

    /// Signs the key of a request for a sensor. Nothing else of the request is taken over.
    ///
    /// # Errors
    /// Where the request is no request, or its key of another kind.
    pub fn sign(
        &self,
        sensor: &SensorName,
        request: &[u8],
        now_unix_ms: i64,
    ) -> Result<Issued, SigningError> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(SigningError::Request(format!("{} bytes", request.len())));
        }
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|error| SigningError::Request(error.to_string()))?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(SigningError::Key);
        }
        let mut params = params(sensor.as_str(), now_unix_ms, CERTIFICATE_MS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&request.public_key, &self.issuer()?)
            .map_err(SigningError::Make)?;
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            public_key: sha256(request.public_key.der_bytes()),
            authority: self.id,
            issued_unix_ms: now_unix_ms,
            not_before_unix_ms: now_unix_ms - BACKDATED_MS,
            not_after_unix_ms: now_unix_ms + CERTIFICATE_MS,
        })
    }

    /// A certificate for the collector itself, with a key of its own.
    ///
    /// # Errors
    /// Where a host is none, or the certificate cannot be made.
    pub fn server_certificate(
        &self,
        hosts: &[String],
        now_unix_ms: i64,
    ) -> Result<ServerCertificate, SigningError> {
        let key = KeyPair::generate().map_err(SigningError::Make)?;
        let mut params = params("netml collector", now_unix_ms, CERTIFICATE_MS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = hosts
            .iter()
            .map(|host| alternative(host))
            .collect::<Result<_, _>>()?;
        let certificate = params
            .signed_by(&key, &self.issuer()?)
            .map_err(SigningError::Make)?;
        Ok(ServerCertificate {
            chain: vec![certificate.der().clone(), self.certificate()],
            key: key.serialize_der().into(),
        })
    }
}

/// A host as it stands in a certificate.
///
/// # Errors
/// Where it is neither an address nor a name.
pub fn alternative(host: &str) -> Result<SanType, SigningError> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || SigningError::Host(host.chars().take(253).collect());
    rustls::pki_types::DnsName::try_from(host).map_err(|_| refused())?;
    let name = Ia5String::try_from(host).map_err(|_| refused())?;
    Ok(SanType::DnsName(name))
}

fn params(name: &str, now_unix_ms: i64, life_ms: i64) -> Result<CertificateParams, SigningError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = time(now_unix_ms - BACKDATED_MS)?;
    params.not_after = time(now_unix_ms + life_ms)?;
    params.use_authority_key_identifier_extension = true;
    // By default it would be that of the key, and the same again in every renewal.
    let mut serial = [0; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(|_| SigningError::NoRandom)?;
    // Positive and not zero (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn time(unix_ms: i64) -> Result<time::OffsetDateTime, SigningError> {
    let refused = |_| SigningError::Clock(unix_ms);
    time::OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1_000)).map_err(refused)
}
