//! Connections to the sensors' port: how many, and how long one may stay silent at first.
//!
//! One beyond [`SOCKETS_MAX`] is closed at once, one that does not begin with HTTP/2 within
//! [`PREFACE_TIME_MAX`] as well; both are counted. After that pings find who is gone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, future};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::books::Books;
use super::registry::CONNECTIONS_MAX;

/// Connections at once; one more is closed at once and counted. Twice the sensors, since one that
/// restarts connects before its old connection is found dead.
pub const SOCKETS_MAX: usize = 2 * CONNECTIONS_MAX;

/// Time for the client's preface; a connection without it is closed and counted.
pub const PREFACE_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of the client's preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// Connections as they come, within the bounds.
pub fn incoming(
    listener: TcpListener,
    books: Arc<Books>,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(SOCKETS_MAX));
    TcpListenerStream::new(listener).filter_map(move |accepted| {
        let connection = accepted
            .map(|stream| match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => Some(Connection {
                    stream,
                    silence: Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_TIME_MAX)))),
                    books: Arc::clone(&books),
                    _place: place,
                }),
                Err(_) => {
                    Books::add(&books.connections_refused, 1);
                    None
                }
            })
            .transpose();
        future::ready(connection)
    })
}

/// A connection that holds one of the places.
pub struct Connection {
    stream: TcpStream,
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
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
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
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}
