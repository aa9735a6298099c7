//! `/metrics`, `/healthz` and `/readyz` of the sensor, over HTTP/1.1.
//!
//! Shell. Loopback only unless told otherwise. Nothing that is asked changes anything; of a request only
//! method, path and Host are looked at. Bounds: [`CONNECTIONS_MAX`] connections, one request each,
//! [`CONNECTION_TIME_MAX`] from its begin to its end; what is beyond them is closed.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use netml_proto::daemon::exposition;
use tokio::sync::Semaphore;

use super::{Observed, STALL_AFTER};

/// Connections at once; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 8;

/// Time for a connection, from its begin to the end of its answer.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head; a longer one gets 431.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Pause after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the sensor cannot be asked there.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Others could reach it.
    #[error(
        "--metrics-listen {0} can be reached from other hosts, in plain text and without a password; listen on 127.0.0.1, or say --metrics-remote"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another with --metrics-listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Where the sensor is asked.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    is_remote: bool,
}

impl Endpoint {
    /// Listens.
    ///
    /// # Errors
    /// Where other hosts could reach it and that was not asked for, or the address cannot be had.
    pub fn bind(address: SocketAddr, is_remote: bool) -> Result<Self, EndpointError> {
        if !is_remote && !address.ip().to_canonical().is_loopback() {
            return Err(EndpointError::NotLoopback(address));
        }
        let failed = |source| EndpointError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            is_remote,
        })
    }

    /// The address, with the port that was chosen where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers for as long as the task lives.
    ///
    /// # Errors
    /// Where the runtime does not take the listener.
    pub async fn serve(self, observed: Arc<Observed>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::debug!("a connection for metrics is one too many");
                continue;
            };
            let (observed, is_remote) = (Arc::clone(&observed), self.is_remote);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answered = answer(&request, &observed, is_remote);
                    async { Ok::<_, Infallible>(answered) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(CONNECTION_TIME_MAX)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                match tokio::time::timeout(CONNECTION_TIME_MAX, served).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ended"),
                    Err(_) => tracing::debug!("a connection for metrics took too long"),
                }
                drop(place);
            });
        }
    }
}

fn answer(request: &Request<Incoming>, observed: &Observed, is_remote: bool) -> Response<String> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    // A page of a foreign name that was made to lead here gets nothing.
    if !is_remote && !host.is_some_and(is_loopback) {
        return text(
            StatusCode::FORBIDDEN,
            "the Host of the request is not this sensor's; ask 127.0.0.1 or localhost\n".into(),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered\n".into(),
        );
    }
    match request.uri().path() {
        "/metrics" => match observed.page() {
            Some(page) => text(StatusCode::OK, page),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the first report is not made yet\n".into(),
            ),
        },
        "/healthz" => state(&observed.stalled(STALL_AFTER)),
        "/readyz" => state(&observed.unready()),
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n".into(),
        ),
    }
}

/// 200 where nothing is wrong, else 503 and a line for each thing that is.
fn state(wrong: &[String]) -> Response<String> {
    match wrong {
        [] => text(StatusCode::OK, "ok\n".into()),
        wrong => text(
            StatusCode::SERVICE_UNAVAILABLE,
            wrong.iter().map(|line| format!("{line}\n")).collect(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(exposition::CONTENT_TYPE),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// True for a name or address of the loopback, with or without a port.
fn is_loopback(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => authority
            .split_once(':')
            .map_or(authority, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::health::Snapshot;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn serving(observed: Arc<Observed>) -> (SocketAddr, tokio::runtime::Runtime) {
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let address = endpoint.address();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(endpoint.serve(observed));
        (address, runtime)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status and body; the connection is closed by the other side.
    fn ask(address: SocketAddr, head: &str) -> (u16, String) {
        let mut stream = connect(address);
        stream
            .write_all(format!("{head}\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    #[test]
    fn it_answers_three_paths_to_its_own_name_only() {
        let observed = Arc::new(Observed::default());
        let (address, _runtime) = serving(Arc::clone(&observed));
        let get = |path: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost"));
        assert_eq!(get("/metrics").0, 503);
        assert_eq!(get("/healthz"), (200, "ok\n".into()));
        assert_eq!(get("/readyz").0, 503);
        observed.set(Snapshot::default());
        let (status, page) = get("/metrics");
        assert_eq!(status, 200);
        exposition::parse::parse(&page).unwrap();
        let (status, why) = get("/readyz");
        assert_eq!(status, 503);
        assert!(why.contains("no interface is attached"), "{why}");
        assert_eq!(get("/").0, 404);
        for head in [
            "GET /metrics HTTP/1.1\r\nHost: rebound.example",
            "GET /metrics HTTP/1.1",
        ] {
            assert_eq!(ask(address, head).0, 403, "{head}");
        }
        let post = "POST /metrics HTTP/1.1\r\nHost: [::1]:9\r\nContent-Length: 0";
        assert_eq!(ask(address, post).0, 405);
        let long = format!("GET /{} HTTP/1.1\r\nHost: localhost", "a".repeat(20_000));
        assert!(ask(address, &long).0 >= 400);
    }

    #[test]
    fn one_connection_too_many_is_closed_and_a_place_comes_back() {
        let (address, _runtime) = serving(Arc::default());
        let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(address)).collect();
        let mut closed = connect(address);
        assert_eq!(closed.read(&mut [0; 1]).unwrap(), 0);
        // One of those that hold a place is served all the same, which gives it back.
        let mut stream = held.pop().unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let mut stream = connect(address);
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            // A connection that was closed at once may answer with a reset.
            if stream.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "no place comes back");
        }
    }

    #[test]
    fn other_hosts_must_be_asked_for() {
        let any: SocketAddr = ([0, 0, 0, 0], 0).into();
        let refused = Endpoint::bind(any, false).unwrap_err().to_string();
        assert!(refused.contains("--metrics-remote"), "{refused}");
        assert!(Endpoint::bind(any, true).is_ok());
        let taken = Endpoint::bind(([127, 0, 0, 1], 0).into(), false).unwrap();
        let again = Endpoint::bind(taken.address(), false).unwrap_err();
        assert!(again.to_string().contains("--metrics-listen"), "{again}");
    }
}
