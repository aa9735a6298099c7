//! The dashboard's files, embedded at build time.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::AppState;
use super::error::ApiError;
use super::guard::{Access, COOKIE};
use super::params::Params;

/// `index.html` and what it loads; development files stay out.
#[derive(RustEmbed)]
#[folder = "../web"]
#[include = "index.html"]
#[include = "favicon.svg"]
#[include = "app/**/*.js"]
#[include = "styles/*.css"]
#[include = "vendor/*.js"]
#[include = "vendor/*.css"]
#[allow_missing = true]
struct Files;

/// `GET /`: the page. With `?token=` the token becomes a session cookie first, so that it does not
/// stay in the address bar.
pub(super) async fn index(
    State(state): State<AppState>,
    uri: Uri,
    Extension(_access): Extension<Access>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut params = Params::parse(uri.query())?;
    let given = params.take("token", "the token of the printed URL", |text| {
        Some(text.to_owned())
    })?;
    let Some(given) = given else {
        return Ok(file("index.html", &headers));
    };
    if !state.token.matches(&given) {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "the token is not this collector's; open the URL that it printed at its start",
        ));
    }
    let secure = if state.identity.is_some() {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!("{COOKIE}={given}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let cookie = HeaderValue::from_str(&cookie)
        .map_err(|_| ApiError::bad("the token has impossible characters"))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_static("/"));
    headers.insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Any other path that is a file of the dashboard.
pub(super) async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return ApiError::missing("there is no such call; /api/openapi.json lists them")
            .into_response();
    }
    file(path, &headers)
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        let message = if path == "index.html" {
            "this collector was built without the dashboard; its API is at /api/openapi.json"
        } else {
            "there is no such file"
        };
        return ApiError::missing(message).into_response();
    };
    let digest = file.metadata.sha256_hash();
    let digits: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let tag = format!("\"{digits}\"");
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|t| t.trim() == tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(match file.data {
            std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
            std::borrow::Cow::Owned(bytes) => Body::from(bytes),
        })
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(path)),
    );
    // Names carry no version: each use asks whether the file changed.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
