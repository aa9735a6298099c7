//! `/metrics`, `/healthz` and `/readyz`: plain text, for programs.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netml_proto::daemon::exposition;

use super::AppState;
use crate::health::STALL_AFTER;
use crate::health::metrics::{Door, FAMILIES, Sensor, Snapshot};
use crate::ingest::books::Books;

/// `GET /metrics`: every metric, in Prometheus' text format.
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let page = exposition::page(FAMILIES, &snapshot(&state).await);
    text(StatusCode::OK, page)
}

/// `GET /healthz`: whether the collector lives.
pub(super) async fn healthz(State(state): State<AppState>) -> Response {
    told(&state.health.stalled(STALL_AFTER))
}

/// `GET /readyz`: whether it takes and stores.
pub(super) async fn readyz(State(state): State<AppState>) -> Response {
    told(&state.health.unready().await)
}

async fn snapshot(state: &AppState) -> Snapshot {
    let connected = state.registry.clock_offsets_ms();
    // What is wrong with the store the other metrics tell.
    let known = state.store.sensors().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "metrics are told without sensors");
        Vec::new()
    });
    let sensors = known.into_iter().map(|row| Sensor {
        connected: connected.contains_key(&row.hello.sensor),
        clock_offset_ms: connected.get(&row.hello.sensor).copied().flatten(),
        name: row.hello.sensor.as_str().to_owned(),
        last_seen_unix_ms: row.last_seen_unix_ms,
    });
    let door = state.pki.as_ref().map(|pki| {
        let door = pki.doorkeeper();
        Door {
            unknown: Books::get(&door.unknown),
            revoked: Books::get(&door.revoked),
            expired: Books::get(&door.expired),
        }
    });
    Snapshot {
        started_unix_ms: state.started_unix_ms,
        usage: state.health.usage(),
        stages: state.health.stages(),
        books: state.books.clone(),
        loops: state.books.loops.clone(),
        queued: state.health.queued() as u64,
        size: state.store.size(),
        sensors: sensors.collect(),
        watchers: state.hub.watchers() as u64,
        door: door.unwrap_or_default(),
    }
}

/// 200 where nothing is wrong, else 503 and a line for each thing that is.
fn told(wrong: &[String]) -> Response {
    match wrong {
        [] => text(StatusCode::OK, "ok\n".into()),
        wrong => text(
            StatusCode::SERVICE_UNAVAILABLE,
            wrong.iter().map(|line| format!("{line}\n")).collect(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(exposition::CONTENT_TYPE),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
