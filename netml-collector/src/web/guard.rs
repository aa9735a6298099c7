//! Who may ask, and what every answer carries.
//!
//! On loopback every program and every web page on the host can reach the port. So a request must
//! name a loopback host (a rebound DNS name does not), a page of another origin gets nothing, and
//! changes need the token.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::error::ApiError;

/// Name of the session cookie.
pub const COOKIE: &str = "netml_session";

/// The page loads nothing but its own files, and nothing may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";

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
    let checked = check(
        request.method(),
        request.headers(),
        request.uri().authority().map(|a| a.as_str()),
        &state.token,
    );
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
    response
}

/// Pure part of [`guard`].
fn check(
    method: &Method,
    headers: &HeaderMap,
    authority: Option<&str>,
    token: &Token,
) -> Result<Access, ApiError> {
    let forbidden = |why| ApiError::new(StatusCode::FORBIDDEN, why);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|h| h.to_str().ok());
    let host = match (host, hosts.next()) {
        (Some(host), None) if is_loopback(host) && authority.is_none_or(is_loopback) => host,
        _ => {
            return Err(forbidden(
                "the Host of the request is not this collector's; open it as 127.0.0.1 or localhost",
            ));
        }
    };
    let origin = headers.get(header::ORIGIN);
    let same_origin = match origin {
        None => false,
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
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
    Ok(Access {
        can_change: bearer || session,
    })
}

/// Names of this host that a rebound DNS name cannot have. The port may be another: of a tunnel.
fn is_loopback(authority: &str) -> bool {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
            None => return false,
        },
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let literal = |name: &str| name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let known = name.eq_ignore_ascii_case("localhost") || literal(name);
    known && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
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

    const TOKEN: &str = "0123456789abcdef";

    fn outcome(method: Method, pairs: &[(&'static str, &str)]) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        check(&method, &headers, None, &Token::parse(TOKEN).unwrap())
            .map(|access| access.can_change)
            .map_err(|error| error.status.as_u16())
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
