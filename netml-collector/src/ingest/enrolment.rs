//! The gRPC service that gives certificates: by a token, once, and to holders of the one before.
//!
//! Every refusal is counted and logged with its reason; the sensor is told no more than what helps
//! its user.

use std::sync::Arc;

use netml_proto::v1;
use tonic::{Request, Response, Status};

use super::books::Books;
use super::connections::Peer;
use crate::clock;
use crate::pki::authority::{Issued, SigningError};
use crate::pki::{Pki, PkiError};

/// Largest message of a sensor here: a token and a request.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1_024;

/// See the module.
pub struct Enrolment {
    pki: Arc<Pki>,
    books: Arc<Books>,
}

impl Enrolment {
    /// Gives certificates of this authority.
    #[must_use]
    pub fn new(pki: Arc<Pki>, books: Arc<Books>) -> Self {
        Self { pki, books }
    }

    fn refuse(&self, error: &PkiError) -> Status {
        Books::add(&self.books.enrolments_refused, 1);
        tracing::warn!(%error, "a certificate was refused");
        match error {
            PkiError::Token | PkiError::OtherKey => Status::unauthenticated(error.to_string()),
            PkiError::Signing(SigningError::Request(_) | SigningError::Key) => {
                Status::invalid_argument(error.to_string())
            }
            PkiError::Full(_) => Status::resource_exhausted(error.to_string()),
            _ => Status::unavailable("no certificate can be given; the collector's log says why"),
        }
    }

    async fn answer(&self, issued: Issued) -> Result<Response<v1::IssuedCertificate>, Status> {
        let authorities = self.pki.authorities().await;
        Ok(Response::new(v1::IssuedCertificate {
            authorities: authorities.map_err(|error| self.refuse(&error))?,
            certificate: issued.certificate,
            not_before_unix_ms: issued.not_before_unix_ms,
            not_after_unix_ms: issued.not_after_unix_ms,
        }))
    }
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Enrolment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::IssuedCertificate>, Status> {
        let v1::EnrollRequest { token, request } = request.into_inner();
        let given = self.pki.enroll(&token, &request, clock::unix_ms()).await;
        let (sensor, issued) = given.map_err(|error| self.refuse(&error))?;
        tracing::info!(%sensor, "a sensor enrolled");
        self.answer(issued).await
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::IssuedCertificate>, Status> {
        let Some(Peer::Tls {
            certificate: Some(certificate),
        }) = request.extensions().get().copied()
        else {
            return Err(self.refuse(&PkiError::OtherKey));
        };
        let request = request.into_inner().request;
        let given = self
            .pki
            .renew(&certificate, &request, clock::unix_ms())
            .await;
        let (sensor, issued) = given.map_err(|error| self.refuse(&error))?;
        tracing::info!(%sensor, "a sensor's certificate was renewed");
        self.answer(issued).await
    }
}
