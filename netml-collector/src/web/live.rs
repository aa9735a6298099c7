//! `GET /api/live`: what just changed, as server-sent events.
//!
//! Updates are encoded once for all watchers. A watcher that reads too slowly misses events and
//! is told how many (`lagged`); it never holds up another, nor ingest. Events are not kept: who
//! comes back with a `Last-Event-ID` is told first that what passed meanwhile is not repeated.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt as _};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};

use super::AppState;
use super::error::ApiError;
use super::params::Params;
use super::view::{EventItem, FlowItem, LiveTrafficItem, PacketItem};
use crate::ingest::service::stopped;
use crate::live::Update;
use crate::store::Appended;

/// Watchers at once; one more gets 503.
pub const WATCHERS_MAX: usize = 64;

/// Encoded events kept for slow watchers; a watcher further behind misses some.
pub const FRAMES_MAX: usize = 48;

/// Newest packets, and newest flows, shown of one transaction; the lists hold the rest.
pub const ITEMS_MAX: usize = 200;

/// A comment is sent this often, so that dead connections are found.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a browser sends when it takes up a feed that ended.
const LAST_EVENT_ID: &str = "last-event-id";

/// An encoded event.
#[derive(Debug)]
struct Frame {
    id: u64,
    name: &'static str,
    data: String,
}

/// The watchers of the live feed.
#[derive(Clone)]
pub struct Hub {
    frames: broadcast::Sender<Arc<Frame>>,
    next_id: Arc<AtomicU64>,
    watchers: Arc<AtomicUsize>,
}

impl Hub {
    /// A hub without watchers. Ids go on from the start time, so that they also rise over restarts.
    #[must_use]
    pub fn new(started_unix_ms: i64) -> Self {
        let first = u64::try_from(started_unix_ms).unwrap_or(0);
        Self {
            frames: broadcast::channel(FRAMES_MAX).0,
            next_id: Arc::new(AtomicU64::new(first)),
            watchers: Arc::default(),
        }
    }

    /// Pages that watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    fn send<T: Serialize>(&self, name: &'static str, value: &T) {
        let data = match serde_json::to_string(value) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(%error, name, "a live event could not be encoded");
                return;
            }
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // An error means that nobody watches.
        drop(self.frames.send(Arc::new(Frame { id, name, data })));
    }

    fn stored(&self, appended: &Appended) {
        for point in &appended.traffic {
            self.send("traffic", &LiveTrafficItem::from(point));
        }
        let skip = appended.packets.len().saturating_sub(ITEMS_MAX);
        let packets: Vec<PacketItem> = appended.packets.iter().skip(skip).map(Into::into).collect();
        if !packets.is_empty() {
            self.send("packets", &packets);
        }
        let skip = appended.flows.len().saturating_sub(ITEMS_MAX);
        let flows: Vec<FlowItem> = appended.flows.iter().skip(skip).map(Into::into).collect();
        if !flows.is_empty() {
            self.send("flows", &flows);
        }
        for event in &appended.events {
            self.send("event", &EventItem::from(event));
        }
    }
}

/// Encodes updates until ingest ends.
pub async fn encode(state: AppState, mut updates: mpsc::Receiver<Update>) {
    let loops = Arc::clone(&state.books.loops);
    while let Some(update) = updates.recv().await {
        let _busy = loops.encodes.begin();
        if state.hub.frames.receiver_count() == 0 {
            continue;
        }
        let mut sensors_changed = false;
        match update {
            Update::Stored(appended) => {
                state.hub.stored(&appended);
                sensors_changed = !appended.health.is_empty();
            }
            Update::Sensors => sensors_changed = true,
            Update::Command(command) => state.hub.send("command", &*command),
        }
        if sensors_changed {
            match super::api::sensor_items(&state).await {
                Ok(sensors) => state.hub.send("sensors", &sensors),
                Err(_) => tracing::debug!("the sensors list is not available for the live feed"),
            }
        }
    }
}

/// Counts a watcher as long as it lives.
struct Watcher(Arc<AtomicUsize>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /api/live`. With a `Last-Event-ID` the first event is `lagged` with `missed` null: how many
/// passed is not known, since none is made while nobody watches.
///
/// # Errors
/// When too many watch.
#[utoipa::path(get, path = "/api/live", responses(
    (status = 200, description = "Server-sent events: traffic, packets, flows, sensors, event, command, lagged", content_type = "text/event-stream"),
    (status = 503, description = "Too many watchers", body = super::view::ErrorView)))]
pub async fn live(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    Params::parse(uri.query())?.end()?;
    let watcher = Watcher(Arc::clone(&state.hub.watchers));
    if watcher.0.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{WATCHERS_MAX} pages watch already; close one"),
        ));
    }
    let frames = state.hub.frames.subscribe();
    let events = stream::unfold((frames, watcher), |(mut frames, watcher)| async {
        let event = match frames.recv().await {
            Ok(frame) => Event::default()
                .id(frame.id.to_string())
                .event(frame.name)
                .data(&frame.data),
            Err(broadcast::error::RecvError::Lagged(missed)) => Event::default()
                .event("lagged")
                .data(format!("{{\"missed\":{missed}}}")),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(event), (frames, watcher)))
    });
    let mut stop = state.stop.clone();
    let hello = stream::once(async { Ok(Event::default().comment("netml")) });
    let missed = headers
        .contains_key(LAST_EVENT_ID)
        .then(|| Ok(Event::default().event("lagged").data("{\"missed\":null}")));
    let events = hello
        .chain(stream::iter(missed))
        .chain(events)
        .take_until(async move { stopped(&mut stop).await });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}
