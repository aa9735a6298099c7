//! Connections to the web port: how many, and how long each may take for a request.
//!
//! On loopback every program of the host can connect. None of them may take all places for long:
//! a connection beyond [`CONNECTIONS_MAX`] is closed at once, one that sends no whole request
//! head within [`HEAD_TIME_MAX`] as well, and a request whose body or answer takes longer than
//! [`REQUEST_TIME_MAX`] is given up. The first two are counted. With HTTPS a connection that has not
//! shaken hands within [`HANDSHAKE_TIME_MAX`] is closed and counted too.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::error::ApiError;
use super::live::WATCHERS_MAX;
use crate::ingest::books::Books;
use crate::ingest::connections::HANDSHAKE_TIME_MAX;
use crate::ingest::service::stopped;

/// Connections at once; one more is closed at once and counted.
pub const CONNECTIONS_MAX: usize = 256;

const _: () = assert!(
    CONNECTIONS_MAX > 2 * WATCHERS_MAX,
    "watchers leave room for requests"
);

/// Time for the head of a request, from the connection or the answer before it; a browser's idle
/// connection ends by it too. Counted when it is up.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// Time from the head of a request to that of its answer; then it gets 408.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` says true and every open request is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    books: Arc<Books>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok(_) if connections.len() >= CONNECTIONS_MAX => {
                Books::add(&books.connections_refused, 1);
            }
            Ok((stream, _)) => {
                let books = Arc::clone(&books);
                let (router, stop) = (router.clone(), stop.clone());
                match tls.clone() {
                    None => connections.spawn(connection(stream, router, books, stop)),
                    Some(tls) => connections.spawn(secure(stream, tls, router, books, stop)),
                };
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the dashboard could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Shakes hands first.
async fn secure(
    stream: TcpStream,
    tls: TlsAcceptor,
    router: Router,
    books: Arc<Books>,
    mut stop: watch::Receiver<bool>,
) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)) => shaken,
        () = stopped(&mut stop) => return,
    };
    match shaken {
        Ok(Ok(stream)) => connection(stream, router, books, stop).await,
        Ok(Err(error)) => {
            Books::add(&books.tls_failed, 1);
            tracing::debug!(%error, "a connection to the dashboard did not become TLS");
        }
        Err(_) => {
            Books::add(&books.tls_failed, 1);
            tracing::debug!("a connection to the dashboard shook no hands in time");
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    books: Arc<Books>,
    mut stop: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        if error.is_timeout() {
            Books::add(&books.connections_timed_out, 1);
        }
        tracing::debug!(%error, "a connection to the dashboard ended");
    }
}

/// Gives up a request that takes too long. A stream that has begun may go on.
pub async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request was not complete, or not answered, in time; send it again",
        )
        .into_response(),
    }
}
