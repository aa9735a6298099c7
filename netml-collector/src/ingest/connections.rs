//! Connections to the sensors' port: how many, and how long one may stay silent at first.
//!
//! One beyond [`SOCKETS_MAX`] is closed at once, one that does not begin with HTTP/2 within
//! [`PREFACE_TIME_MAX`] as well; both are counted. So is one that does not speak TLS where it has to,
//! or not within [`HANDSHAKE_TIME_MAX`]. After that pings find who is gone. Where the system gives no
//! socket (its limit of open files), taking rests for [`ACCEPT_PAUSE`] instead of asking without end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use netml_proto::token::Fingerprint;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

use super::books::Books;
use super::registry::CONNECTIONS_MAX;
use crate::pki::sha256;

/// Connections at once; one more is closed at once and counted. Twice the sensors, since one that
/// restarts connects before its old connection is found dead.
pub const SOCKETS_MAX: usize = 2 * CONNECTIONS_MAX;

/// Time for the client's preface; a connection without it is closed and counted.
pub const PREFACE_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for the TLS handshake; a connection that takes longer is closed and counted.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Rest after a connection that could not be taken.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What keeps connections from being taken is said again this often.
const REMINDER: Duration = Duration::from_secs(60);

/// Bytes of the client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Connections as they come, within the bounds; with TLS once they have shaken hands.
pub fn incoming(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    books: Arc<Books>,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    let mut said: Option<Instant> = None;
    TcpListenerStream::new(listener)
        .filter_map(move |accepted| {
            let is_due = said.is_none_or(|said| said.elapsed() >= REMINDER);
            if let Err(error) = &accepted
                && is_due
            {
                said = Some(Instant::now());
                tracing::error!(%error, "a sensor's connection cannot be taken");
            }
            async move {
                if accepted.is_err() {
                    sleep(ACCEPT_PAUSE).await;
                }
                accepted.ok()
            }
        })
        .map(move |stream| {
            let place = Arc::clone(&places).try_acquire_owned();
            let (tls, books) = (tls.clone(), Arc::clone(&books));
            async move {
                let Ok(place) = place else {
                    Books::add(&books.connections_refused, 1);
                    return None;
                };
                let (stream, peer) = shake_hands(stream, tls, &books).await?;
                Some(Ok(Connection {
                    stream,
                    peer,
                    silence: Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_TIME_MAX)))),
                    books,
                    _place: place,
                }))
            }
        })
        // One that shakes hands slowly holds up nobody; those beyond the places are done at once.
        .buffer_unordered(SOCKETS_MAX + 1)
        .filter_map(std::future::ready)
}

/// Speaks TLS where it has to; None, counted, where the other side does not.
async fn shake_hands(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    books: &Books,
) -> Option<(Io, Peer)> {
    let Some(tls) = tls else {
        return Some((Io::Plain(stream), Peer::Plain));
    };
    let from = stream.peer_addr();
    let shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await;
    let why = match shaken {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let certificate = shown.and_then(|chain| chain.first()).map(|of| sha256(of));
            return Some((Io::Tls(Box::new(stream)), Peer::Tls { certificate }));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE_TIME_MAX.as_secs()),
    };
    Books::add(&books.tls_failed, 1);
    match from {
        Ok(from) => tracing::warn!(%from, "a connection was refused: {why}"),
        Err(_) => tracing::warn!("a connection was refused: {why}"),
    }
    None
}

/// Whom a connection is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on this host.
    Plain,
    /// Somebody who was given a certificate, or has none yet.
    Tls {
        /// SHA-256 of the certificate shown.
        certificate: Option<Fingerprint>,
    },
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that holds one of the places.
pub struct Connection {
    stream: Io,
    peer: Peer,
    /// Bytes of the preface still to come, and until when; gone once they came.
    silence: Option<(usize, Pin<Box<Sleep>>)>,
    books: Arc<Books>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.stream {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        let Some((missing, until)) = &mut this.silence else {
            return read;
        };
        if read.is_pending() {
            ready!(until.as_mut().poll(context));
            Books::add(&this.books.connections_timed_out, 1);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            this.silence = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}
