//! HTTP: the API, the live feed, exports, metrics and the dashboard's files.
//!
//! Every request passes [`guard`] first.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::health::Health;
use crate::ingest::books::Books;
use crate::ingest::registry::Registry;
use crate::pki::Pki;
use crate::store::Store;

mod api;
mod assets;
pub mod connections;
pub mod error;
pub(crate) mod export;
pub mod guard;
mod health;
pub mod live;
mod openapi;
pub mod params;
pub mod tls;
pub mod view;

/// Largest body of a request in bytes; a larger one gets 413.
pub const BODY_BYTES_MAX: usize = 16 * 1_024;

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    /// What was received.
    pub store: Arc<dyn Store>,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// Who may speak as which sensor; None without TLS.
    pub pki: Option<Arc<Pki>>,
    /// What came in.
    pub books: Arc<Books>,
    /// How it fares.
    pub health: Arc<Health>,
    /// Who watches.
    pub hub: live::Hub,
    /// Whose certificate is shown; None: plain text.
    pub identity: Option<Arc<tls::Identity>>,
    /// Whether reading needs no token.
    pub reading_is_open: bool,
    /// What allows changes.
    pub token: guard::Token,
    /// When the collector started.
    pub started_unix_ms: i64,
    /// True once the collector stops.
    pub stop: watch::Receiver<bool>,
}

/// All routes.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/", get(assets::index))
        .route("/api/status", get(api::status))
        .route("/api/sensors", get(api::sensors))
        .route("/api/sensors/{sensor}/commands", post(api::command))
        .route("/api/traffic", get(api::traffic))
        .route("/api/totals", get(api::totals))
        .route("/api/packets", get(api::packets))
        .route("/api/flows", get(api::flows))
        .route("/api/flows/{flow_id}", get(api::flow))
        .route("/api/talkers", get(api::talkers))
        .route("/api/events", get(api::events))
        .route("/api/export/{file}", get(export::export))
        .route("/api/live", get(live::live))
        .route("/api/commands/{command_id}", get(api::command_state))
        .route("/api/openapi.json", get(openapi::openapi))
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(get(assets::asset))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(connections::in_time))
        .layer(from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}
