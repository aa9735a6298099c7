//! Who may ask, and what every answer carries.
//!
//! On loopback every program and every web page on the host can reach the port. So a request must
//! name a loopback host (a rebound DNS name does not) or, with HTTPS, one of the certificate; a page of
//! another origin gets nothing, and changes need the token. Where other hosts reach the port, reading
//! what sensors saw needs it as well.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::error::ApiError;
use super::tls::Identity;

/// Name of the session cookie.
pub const COOKIE: &str = "netml_session";

/// The page loads nothing but its own files, and nothing may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";

/// For half a year no browser that was here asks in plain text.
const STRICT_TRANSPORT_SECURITY: HeaderValue = HeaderValue::from_static("max-age=15768000");

/// The secret that allows changes.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Bytes of randomness in a new token.
    const RANDOM_BYTES: usize = 24;

    /// A new random token.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; Self::RANDOM_BYTES];
        getrandom::fill(&mut bytes)?;
        let digits = bytes.iter().map(|b| format!("{b:02x}"));
        Ok(Self(digits.collect()))
    }

    /// A given token: 16 to 128 of `[A-Za-z0-9._-]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (16..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The secret itself, for the URL that is shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the length alone.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differences = own.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == given.len() && differences == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a request may do; put into its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It carried the token or the session.
    pub can_change: bool,
}

/// Checks a request before anything else sees it, and dresses the answer.
pub async fn guard(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let rule = Rule {
        token: &state.token,
        identity: state.identity.as_deref(),
        reading_is_open: state.reading_is_open,
    };
    let is_strict = is_strict(request.headers(), &rule);
    let checked = check(request.method(), request.headers(), request.uri(), &rule);
    let mut response = match checked {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::debug!(status = %refusal.status, "a request was refused");
            refusal.into_response()
        }
    };
    dress(response.headers_mut());
    if is_strict {
        let headers = response.headers_mut();
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT_SECURITY);
    }
    response
}

/// True where the browser may be told never to ask in plain text. Told by way of `localhost` it would
/// ask every other service of the host so.
fn is_strict(headers: &HeaderMap, rule: &Rule<'_>) -> bool {
    let host = text(headers, "host").and_then(name_of);
    rule.identity.is_some() && host.is_some_and(|name| !is_loopback(name))
}

fn is_loopback(name: &str) -> bool {
    let literal = name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    literal || name.eq_ignore_ascii_case("localhost")
}

/// What requests are held against.
struct Rule<'a> {
    token: &'a Token,
    /// None: plain text.
    identity: Option<&'a Identity>,
    reading_is_open: bool,
}

impl Rule<'_> {
    /// True for a name of this collector, with or without a port.
    fn is_ours(&self, authority: &str) -> bool {
        let Some(name) = name_of(authority) else {
            return false;
        };
        is_loopback(name) || self.identity.is_some_and(|identity| identity.knows(name))
    }
}

/// The page's own files and signs of life tell nothing of what sensors saw.
fn tells_of_traffic(path: &str) -> bool {
    path.starts_with("/api/") || path == "/metrics"
}

/// Pure part of [`guard`].
fn check(
    method: &Method,
    headers: &HeaderMap,
    uri: &Uri,
    rule: &Rule<'_>,
) -> Result<Access, ApiError> {
    let forbidden = |why| ApiError::new(StatusCode::FORBIDDEN, why);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|h| h.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str());
    let token = rule.token;
    let host = match (host, hosts.next()) {
        (Some(host), None)
            if rule.is_ours(host) && authority.is_none_or(|name| rule.is_ours(name)) =>
        {
            host
        }
        _ => {
            return Err(forbidden(match rule.identity {
                None => {
                    "the Host of the request is not this collector's; open it as 127.0.0.1 or localhost"
                }
                Some(_) => {
                    "the Host of the request is not this collector's; open it by a name of its certificate"
                }
            }));
        }
    };
    let scheme = if rule.identity.is_some() {
        "https://"
    } else {
        "http://"
    };
    let origin = headers.get(header::ORIGIN);
    let same_origin = match origin {
        None => false,
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix(scheme))
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
    };
    if origin.is_some() && !same_origin {
        return Err(forbidden("requests of other origins are refused"));
    }
    // A page of another origin may link here, but not fetch, embed or post.
    let cross_site = text(headers, "sec-fetch-site") == Some("cross-site");
    let navigates = text(headers, "sec-fetch-mode") == Some("navigate") && *method == Method::GET;
    if cross_site && !navigates {
        return Err(forbidden("requests of other sites are refused"));
    }
    let bearer = text(headers, "authorization")
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|given| token.matches(given));
    let session = session(headers).is_some_and(|given| token.matches(given));
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    // A browser states the origin of every post: with a cookie it must be there.
    if changes && !bearer && !(session && same_origin) {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "changes need the token: open the URL that the collector printed, or send it as Authorization: Bearer",
        ));
    }
    if !rule.reading_is_open && tells_of_traffic(uri.path()) && !bearer && !session {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "reading needs the token here: open the URL that the collector printed, or send it as Authorization: Bearer",
        ));
    }
    Ok(Access {
        can_change: bearer || session,
    })
}

/// The name in a Host header. The port may be any: that of a tunnel.
fn name_of(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address, port.strip_prefix(':').unwrap_or(port))
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    (port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

fn session(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn dress(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::authority::Authority;

    const TOKEN: &str = "0123456789abcdef";

    fn outcome(method: Method, pairs: &[(&'static str, &str)]) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let rule = Rule {
            token: &Token::parse(TOKEN).unwrap(),
            identity: None,
            reading_is_open: true,
        };
        check(&method, &headers, &Uri::from_static("/"), &rule)
            .map(|access| access.can_change)
            .map_err(|error| error.status.as_u16())
    }

    /// Of a GET by HTTPS with a certificate for `netml.example`.
    fn secure(path: &'static str, pairs: &[(&'static str, &str)], open: bool) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let names = ["netml.example".to_owned()];
        let (certificate, key) = Authority::make(0).unwrap();
        let authority = Authority::stored(1, certificate, key, 1, 0);
        let identity = Identity::default();
        identity
            .set(authority.server_certificate(&names, 0).unwrap(), &names)
            .unwrap();
        let rule = Rule {
            token: &Token::parse(TOKEN).unwrap(),
            identity: Some(&identity),
            reading_is_open: open,
        };
        check(&Method::GET, &headers, &Uri::from_static(path), &rule)
            .map(|access| access.can_change)
            .map_err(|error| error.status.as_u16())
    }

    #[test]
    fn by_https_the_names_of_the_certificate_are_answered_and_their_origin_is_secure() {
        for host in ["netml.example:8443", "localhost", "127.0.0.1:8443"] {
            assert_eq!(secure("/", &[("host", host)], true), Ok(false), "{host}");
        }
        assert_eq!(secure("/", &[("host", "evil.example")], true), Err(403));
        let host = ("host", "netml.example:8443");
        let origin = |origin| secure("/api/status", &[host, ("origin", origin)], true);
        assert_eq!(origin("https://netml.example:8443"), Ok(false));
        assert_eq!(origin("http://netml.example:8443"), Err(403));
    }

    #[test]
    fn where_others_reach_the_port_reading_needs_the_token() {
        let host = ("host", "netml.example");
        let bearer = ("authorization", "Bearer 0123456789abcdef");
        let cookie = ("cookie", "netml_session=0123456789abcdef");
        for path in ["/api/status", "/api/live", "/metrics"] {
            assert_eq!(secure(path, &[host], false), Err(401), "{path}");
            assert_eq!(secure(path, &[host, bearer], false), Ok(true), "{path}");
            assert_eq!(secure(path, &[host, cookie], false), Ok(true), "{path}");
            assert_eq!(secure(path, &[host], true), Ok(false), "{path}");
        }
        for path in ["/", "/app/main.js", "/healthz", "/readyz"] {
            assert_eq!(secure(path, &[host], false), Ok(false), "{path}");
        }
    }

    #[test]
    fn only_loopback_hosts_are_answered() {
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "LocalHost:1",
            "[::1]:8080",
            "[::1]",
            // `--web` takes any loopback address.
            "127.0.0.2:8080",
        ] {
            assert_eq!(outcome(Method::GET, &[("host", host)]), Ok(false), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1:8080@evil",
            "[::1",
            "[::1]x",
            "192.168.1.2:8080",
            "0.0.0.0:8080",
            "127.0.0.1.nip.example",
            "",
        ] {
            assert_eq!(outcome(Method::GET, &[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(outcome(Method::GET, &[]), Err(403));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(outcome(Method::GET, &twice), Err(403));
    }

    #[test]
    fn other_origins_and_sites_get_nothing_but_may_link_here() {
        let host = ("host", "127.0.0.1:8080");
        let from = |origin| outcome(Method::GET, &[host, ("origin", origin)]);
        assert_eq!(from("http://127.0.0.1:8080"), Ok(false));
        for origin in [
            "http://127.0.0.1:3000",
            "http://localhost:8080",
            "https://127.0.0.1:8080",
            "http://evil.example",
            "null",
        ] {
            assert_eq!(from(origin), Err(403), "{origin}");
        }
        let site = ("sec-fetch-site", "cross-site");
        assert_eq!(outcome(Method::GET, &[host, site]), Err(403));
        let navigate = ("sec-fetch-mode", "navigate");
        assert_eq!(outcome(Method::GET, &[host, site, navigate]), Ok(false));
        assert_eq!(outcome(Method::POST, &[host, site, navigate]), Err(403));
    }

    #[test]
    fn changes_need_the_token_and_a_cookie_needs_the_origin() {
        let host = ("host", "127.0.0.1:8080");
        let origin = ("origin", "http://127.0.0.1:8080");
        let bearer = ("authorization", "Bearer 0123456789abcdef");
        let cookie = ("cookie", "a=b; netml_session=0123456789abcdef");
        assert_eq!(outcome(Method::POST, &[host]), Err(401));
        assert_eq!(outcome(Method::POST, &[host, bearer]), Ok(true));
        assert_eq!(outcome(Method::POST, &[host, cookie]), Err(401));
        assert_eq!(outcome(Method::POST, &[host, cookie, origin]), Ok(true));
        let wrong = ("cookie", "netml_session=0123456789abcdeg");
        assert_eq!(outcome(Method::POST, &[host, wrong, origin]), Err(401));
        assert_eq!(outcome(Method::GET, &[host, cookie]), Ok(true));
        assert_eq!(outcome(Method::GET, &[host, wrong]), Ok(false));
    }
}
