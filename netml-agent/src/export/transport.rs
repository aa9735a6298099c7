//! The way to a collector: in plain text on this host, or by TLS 1.3 with certificates on both
//! sides.
//!
//! Shell. tonic's own TLS has neither our verifier nor certificates that change, so the connection
//! is made here and handed to it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use netml_proto::token::{Fingerprint, Token};
use netml_proto::v1;
use netml_proto::v1::enrolment_client::EnrolmentClient;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::credentials::{Credentials, CredentialsError, NewKey, provider};
use crate::sys;

/// Time for a connection, handshake included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Time for an answer about a certificate.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest sleep of the renewal: clocks are set, hosts are suspended.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);

/// Pause after a renewal that failed; a third of a certificate's life has 50 of them. Once the
/// certificate has ended nothing can be sent before it is renewed, and the pause is [`RENEWAL_LOOK`].
const RENEWAL_PAUSE: Duration = Duration::from_secs(3_600);

/// Largest answer about a certificate that is taken.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;

/// A collector's URL that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not of the form.
    #[error(
        "--collector takes a URL like http://127.0.0.1:8081 or https://collector.example:8081, not {0:?}"
    )]
    Form(String),
    /// TLS without credentials.
    #[error("{0} needs an identity file (--identity FILE); get one: netml-agent enroll")]
    NoIdentity(String),
    /// Credentials without TLS.
    #[error("--identity is of use with a URL that begins with https://, not with {0}")]
    NoTls(String),
}

/// Host and port of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// That of the URL; a URL for TLS names one, one without may leave it out and means 80.
    pub port: u16,
}

impl Place {
    fn of(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: uri.port_u16().unwrap_or(80),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Transport {
    url: String,
    /// Always of scheme `http`: TLS is made below it.
    endpoint: Endpoint,
    secure: Option<Arc<Secure>>,
}

/// What a way by TLS needs.
#[derive(Debug)]
struct Secure {
    place: Place,
    identity: Arc<Identity>,
}

/// An identity file; ways to several collectors may share it.
#[derive(Debug)]
struct Identity {
    path: PathBuf,
    credentials: Mutex<Credentials>,
    renewals: watch::Sender<u64>,
}

impl Transport {
    /// The way to a URL; with `identity` by TLS.
    ///
    /// # Errors
    /// Where the URL is none, or does not fit to the identity.
    pub fn new(url: &str, identity: Option<(&Path, Credentials)>) -> Result<Self, UrlError> {
        let identity = identity.map(|(path, credentials)| {
            Arc::new(Identity {
                path: path.to_owned(),
                credentials: Mutex::new(credentials),
                renewals: watch::Sender::new(0),
            })
        });
        Self::by(url, identity)
    }

    /// The way to another collector, by the same identity where there is one.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn to(&self, url: &str) -> Result<Self, UrlError> {
        let secure = self.secure.as_ref();
        Self::by(url, secure.map(|secure| Arc::clone(&secure.identity)))
    }

    fn by(url: &str, identity: Option<Arc<Identity>>) -> Result<Self, UrlError> {
        let shown = || url.chars().take(100).collect::<String>();
        let (uri, is_tls) = parse(url).ok_or_else(|| UrlError::Form(shown()))?;
        let secure = match (is_tls, identity) {
            (true, None) => return Err(UrlError::NoIdentity(shown())),
            (false, Some(_)) => return Err(UrlError::NoTls(shown())),
            (false, None) => None,
            (true, Some(identity)) => Some(Arc::new(Secure {
                place: Place::of(&uri),
                identity,
            })),
        };
        Ok(Self {
            url: url.to_owned(),
            endpoint: Endpoint::from(uri),
            secure,
        })
    }

    /// The URL as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name in the certificate, where there is one.
    #[must_use]
    pub fn sensor(&self) -> Option<String> {
        Some(self.secure.as_ref()?.identity.credentials().sensor)
    }

    /// Counts renewed certificates: a connection made before one shows the old certificate.
    #[must_use]
    pub fn renewals(&self) -> Option<watch::Receiver<u64>> {
        Some(self.secure.as_ref()?.identity.renewals.subscribe())
    }

    /// Connects.
    ///
    /// # Errors
    /// Why not, for people.
    pub async fn connect(
        &self,
        adapt: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<Channel, String> {
        let endpoint = adapt(self.endpoint.clone().connect_timeout(CONNECT_TIME_MAX));
        let connecting = async {
            match &self.secure {
                None => endpoint.connect().await,
                Some(secure) => {
                    let connector = secure.connector();
                    match connector {
                        Ok(connector) => endpoint.connect_with_connector(connector).await,
                        Err(error) => return Err(error.to_string()),
                    }
                }
            }
            .map_err(|error| with_causes(&error))
        };
        let late = |_| format!("no answer within {} s", CONNECT_TIME_MAX.as_secs());
        timeout(CONNECT_TIME_MAX, connecting).await.map_err(late)?
    }

    fn has_identity(&self, identity: &Arc<Identity>) -> bool {
        let secure = self.secure.as_ref();
        secure.is_some_and(|secure| Arc::ptr_eq(&secure.identity, identity))
    }

    /// Renews the certificates of these ways whenever it is time to, each at the first collector that does
    /// it. Runs for ever; returns at once without a certificate. What fails is said and tried again.
    pub async fn keep_renewed(ways: Vec<Self>) {
        let mut renewing = JoinSet::new();
        for (place, way) in ways.iter().enumerate() {
            let Some(secure) = &way.secure else {
                continue;
            };
            let identity = Arc::clone(&secure.identity);
            if !ways[..place].iter().any(|way| way.has_identity(&identity)) {
                let ways = ways.iter().filter(|way| way.has_identity(&identity));
                let ways = ways.cloned().collect();
                renewing.spawn(identity.keep_renewed(ways));
            }
        }
        renewing.join_all().await;
    }

    /// Gets a new certificate from this collector.
    async fn renewed(&self, credentials: &Credentials) -> Result<Credentials, String> {
        let request = credentials.request().map_err(|error| error.to_string())?;
        let channel = self.connect(|endpoint| endpoint).await?;
        let mut client = EnrolmentClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let asking = client.renew(v1::RenewRequest { request });
        let renewed = credentials.renewed(answer(asking).await?);
        // Used only once it can be: a file of the wrong kind would shut the sensor out.
        renewed.tls().map_err(|error| error.to_string())?;
        Ok(renewed)
    }
}

impl Identity {
    fn credentials(&self) -> Credentials {
        let credentials = self.credentials.lock();
        credentials.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn keep_renewed(self: Arc<Self>, ways: Vec<Transport>) {
        loop {
            let now_unix_ms = i64::try_from(sys::unix_ns() / 1_000_000).unwrap_or(i64::MAX);
            let left_ms = self.credentials().renew_at_unix_ms() - now_unix_ms;
            if left_ms > 0 {
                let left = Duration::from_millis(left_ms.unsigned_abs());
                tokio::time::sleep(left.min(RENEWAL_LOOK)).await;
                continue;
            }
            match self.renew(&ways).await {
                Ok(()) => tracing::info!("the sensor's certificate was renewed"),
                Err(error) => {
                    let left_ms = self.credentials().not_after_unix_ms - now_unix_ms;
                    let pause = if left_ms > 0 {
                        RENEWAL_PAUSE
                    } else {
                        RENEWAL_LOOK
                    };
                    tracing::warn!(
                        ends_h = left_ms / 3_600_000,
                        again_s = pause.as_secs(),
                        "the sensor's certificate could not be renewed, trying again: {error}"
                    );
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn renew(&self, ways: &[Transport]) -> Result<(), String> {
        let credentials = self.credentials();
        let mut why = String::new();
        for way in ways {
            match way.renewed(&credentials).await {
                Ok(renewed) => {
                    renewed
                        .write(&self.path)
                        .map_err(|error| error.to_string())?;
                    *self
                        .credentials
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = renewed;
                    self.renewals.send_modify(|count| *count += 1);
                    return Ok(());
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl Secure {
    fn connector(&self) -> Result<Connector, CredentialsError> {
        Ok(Connector {
            place: self.place.clone(),
            tls: Arc::new(self.identity.credentials().tls()?),
        })
    }
}

/// Enrols: makes a key, shows the token to the collector it names, and gives the credentials.
///
/// # Errors
/// Why not, for people.
pub async fn enroll(url: &str, token: &Token) -> Result<Credentials, String> {
    let key = NewKey::make().map_err(|error| error.to_string())?;
    let request = key.request().map_err(|error| error.to_string())?;
    let channel = without_certificate(url, Pinned::new(token.authority)).await?;
    let mut client = EnrolmentClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let asking = client.enroll(v1::EnrollRequest {
        token: token.reveal(),
        request,
    });
    let credentials = key.with(token.sensor.clone(), answer(asking).await?);
    credentials.tls().map_err(|error| error.to_string())?;
    Ok(credentials)
}

/// Connects without showing a certificate, which is good for enrolment only.
///
/// # Errors
/// Why not, for people.
pub async fn without_certificate(
    url: &str,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Channel, String> {
    let form = || UrlError::Form(url.chars().take(100).collect()).to_string();
    let (uri, is_tls) = parse(url).ok_or_else(form)?;
    if !is_tls {
        return Err(form());
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = Connector {
        place: Place::of(&uri),
        tls: Arc::new(config),
    };
    let endpoint = Endpoint::from(uri).connect_timeout(CONNECT_TIME_MAX);
    let connecting = timeout(CONNECT_TIME_MAX, endpoint.connect_with_connector(connector));
    connecting
        .await
        .map_err(|_| format!("no answer within {} s", CONNECT_TIME_MAX.as_secs()))?
        .map_err(|error| with_causes(&error))
}

/// Host and port of a collector's URL.
///
/// # Errors
/// Where it is none.
pub fn place(url: &str) -> Result<Place, UrlError> {
    let (uri, _) = parse(url).ok_or_else(|| UrlError::Form(url.chars().take(100).collect()))?;
    Ok(Place::of(&uri))
}

async fn answer(
    asking: impl Future<Output = Result<tonic::Response<v1::IssuedCertificate>, Status>>,
) -> Result<v1::IssuedCertificate, String> {
    let late = |_| format!("no answer within {} s", ANSWER_TIME_MAX.as_secs());
    let answer = timeout(ANSWER_TIME_MAX, asking).await.map_err(late)?;
    let issued = answer
        .map_err(|status| describe_status(&status))?
        .into_inner();
    if issued.not_after_unix_ms <= issued.not_before_unix_ms {
        return Err("the collector gave a certificate without a life".into());
    }
    Ok(issued)
}

/// The URI below, of scheme `http`, and whether TLS was asked for.
fn parse(url: &str) -> Option<(Uri, bool)> {
    let (rest, is_tls) = match url.strip_prefix("https://") {
        Some(rest) => (rest, true),
        None => (url.strip_prefix("http://")?, false),
    };
    let uri: Uri = format!("http://{rest}").parse().ok()?;
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    let names_port = uri.port_u16().is_some() || !is_tls;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    (has_host && names_port && is_bare).then_some((uri, is_tls))
}

/// Trusts the one authority of a fingerprint, which the collector shows behind its certificate.
#[derive(Debug)]
pub struct Pinned {
    authority: Fingerprint,
}

impl Pinned {
    /// Trusts the authority of this SHA-256.
    #[must_use]
    pub fn new(authority: Fingerprint) -> Arc<Self> {
        Arc::new(Self { authority })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let authority = intermediates
            .iter()
            .find(|of| <[u8; 32]>::from(Sha256::digest(of)) == self.authority)
            .ok_or(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer,
            ))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?;
        chains.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Makes connections for tonic.
#[derive(Clone)]
struct Connector {
    place: Place,
    tls: Arc<ClientConfig>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { place, tls } = self.clone();
        Box::pin(async move {
            let name = ServerName::try_from(place.host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Characters of an error text that are shown.
const ERROR_CHARS_MAX: usize = 200;

/// A status with what caused it: a certificate that is refused is known from the alert that ended
/// the connection and from nothing else.
pub(super) fn describe_status(status: &Status) -> String {
    let mut text = format!("{:?}", status.code());
    if !status.message().is_empty() {
        text.push_str(": ");
        text.push_str(status.message());
    }
    if let Some(cause) = std::error::Error::source(status) {
        let said = with_causes(cause);
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    shown(&text)
}

/// An error with its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    shown(&text)
}

/// Text from elsewhere for a log line: bounded and without control characters.
fn shown(text: &str) -> String {
    text.chars()
        .take(ERROR_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whether_it_is_by_tls() {
        let plain = Transport::new("http://127.0.0.1:8081", None).unwrap();
        assert!(plain.renewals().is_none() && plain.sensor().is_none());
        for bad in [
            "",
            "127.0.0.1:8081",
            "ftp://x:1",
            "http://",
            "http://a b",
            "https://x",
            "http://x:1/path?q",
        ] {
            assert!(
                matches!(Transport::new(bad, None), Err(UrlError::Form(_))),
                "{bad:?}"
            );
        }
        let without = Transport::new("https://collector.example:8081", None);
        assert!(matches!(without, Err(UrlError::NoIdentity(_))));
    }
}
