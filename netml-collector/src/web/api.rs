//! The calls of `docs/api.md`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use netml_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AppState;
use super::error::ApiError;
use super::guard::Access;
use super::params::Params;
use super::view::{
    BooksView, ErrorView, EventItem, FlowItem, List, PacketItem, ProtocolItem, SensorItem, Status,
    TalkerItem, TotalsView, Traffic,
};
use crate::clock;
use crate::ingest::books::Books;
use crate::ingest::commands::CommandState;
use crate::ingest::registry::CommandRefused;
use crate::ingest::target;
use crate::pki::verifier::Doorkeeper;
use crate::record::{SensorName, Source, Verdict};
use crate::store::{FlowKey, Page, Step, Talkers, Totals};

type Answer<T> = Result<Json<T>, ApiError>;

/// How the collector fares.
#[utoipa::path(get, path = "/api/status", responses((status = 200, body = Status)))]
pub(super) async fn status(
    State(state): State<AppState>,
    Extension(access): Extension<Access>,
    uri: Uri,
) -> Answer<Status> {
    Params::parse(uri.query())?.end()?;
    let sources = state.registry.sources();
    let distinct: HashSet<Source> = sources.iter().copied().collect();
    let source = match (distinct.iter().next(), distinct.len()) {
        (Some(source), 1) => source.name(),
        (None, _) => "none",
        (Some(_), _) => "mixed",
    };
    let books = &state.books;
    let damage = state.store.damage();
    let door = |counter: fn(&Doorkeeper) -> &AtomicU64| {
        let pki = state.pki.as_ref();
        pki.map_or(0, |pki| Books::get(counter(pki.doorkeeper())))
    };
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_unix_ms: state.started_unix_ms,
        now_unix_ms: clock::unix_ms(),
        source,
        sensors_connected: sources.len(),
        can_change: access.can_change,
        books: BooksView {
            batches_in: Books::get(&books.batches_in),
            batches_refused: Books::get(&books.batches_refused),
            batches_failed: Books::get(&books.batches_failed),
            records_in: Books::get(&books.records_in),
            records_stored: Books::get(&books.records_stored),
            records_duplicate: Books::get(&books.records_duplicate),
            records_refused: Books::get(&books.records_refused),
            records_gap: Books::get(&books.records_gap),
            connections_refused: Books::get(&books.connections_refused),
            connections_timed_out: Books::get(&books.connections_timed_out),
            tls_failed: Books::get(&books.tls_failed),
            certificates_unknown: door(|door| &door.unknown),
            certificates_revoked: door(|door| &door.revoked),
            certificates_expired: door(|door| &door.expired),
            certificates_missing: Books::get(&books.certificates_missing),
            names_foreign: Books::get(&books.names_foreign),
            enrolments_refused: Books::get(&books.enrolments_refused),
            live_dropped: Books::get(&books.live_dropped),
            days_removed: Books::get(&books.days_removed),
            state_forgotten: Books::get(&books.state_forgotten),
            days_set_aside: damage.days_set_aside,
            rows_unreadable: damage.rows_unreadable,
        },
        set_aside: damage.files,
    }))
}

/// All known sensors.
#[utoipa::path(get, path = "/api/sensors", responses((status = 200, body = List<SensorItem>)))]
pub(super) async fn sensors(State(state): State<AppState>, uri: Uri) -> Answer<List<SensorItem>> {
    Params::parse(uri.query())?.end()?;
    Ok(Json(List {
        items: sensor_items(&state).await?,
        next: None,
    }))
}

/// All known sensors, as answers and the live feed show them.
pub(super) async fn sensor_items(state: &AppState) -> Result<Vec<SensorItem>, ApiError> {
    let connected = state.registry.clock_offsets_ms();
    let now_unix_ms = clock::unix_ms();
    let mut items = Vec::new();
    for row in state.store.sensors().await? {
        let hello = row.hello;
        let mut totals = state.store.totals(Some(hello.sensor.as_str())).await?;
        let (rx, tx) = (std::mem::take(&mut totals.rx), totals.tx);
        let mut both = rx;
        both.add(&tx);
        let clock_offset_ms = connected.get(&hello.sensor).copied().flatten();
        let connected = connected.contains_key(&hello.sensor);
        let late_ms = row
            .health
            .as_ref()
            .zip(clock_offset_ms)
            .map(|(of, ahead_ms)| {
                let made_unix_ms = of.unix_ms.saturating_sub(ahead_ms);
                now_unix_ms.saturating_sub(made_unix_ms).max(0)
            });
        items.push(SensorItem {
            sensor: hello.sensor.as_str().to_owned(),
            connected,
            source: hello.source.name(),
            version: hello.version,
            kernel: hello.kernel,
            last_seen_unix_ms: row.last_seen_unix_ms,
            model_id: (!hello.model_id.is_empty()).then_some(hello.model_id),
            schema_digest: hello.schema_digest,
            accepted_commands: hello.accepted_commands,
            interfaces: hello.interfaces,
            health: row.health,
            clock_offset_ms,
            late_ms,
            lost: both.lost,
            frames: both.frames,
            recorded: both.recorded,
            mapped: both.mapped,
        });
    }
    Ok(items)
}

/// Traffic over time: differences of exact kernel counters.
#[utoipa::path(get, path = "/api/traffic", params(
    ("from_unix_ms" = Option<i64>, Query, description = "Start, inclusive; default: 15 minutes before the end"),
    ("to_unix_ms" = Option<i64>, Query, description = "End, exclusive; default: now"),
    ("sensor" = Option<String>, Query, description = "Only this sensor"),
    ("interface" = Option<String>, Query, description = "Only interfaces of this name")),
    responses((status = 200, body = Traffic), (status = 400, body = ErrorView)))]
pub(super) async fn traffic(State(state): State<AppState>, uri: Uri) -> Answer<Traffic> {
    let mut params = Params::parse(uri.query())?;
    let range = params.range(clock::unix_ms())?;
    let sensor = params.sensor()?;
    let interface = params.interface()?;
    params.end()?;
    let step = Step::of_range(range.to_unix_s - range.from_unix_s);
    let points = state
        .store
        .traffic(range, step, sensor.as_deref(), interface.as_deref())
        .await?;
    Ok(Json(Traffic {
        step_ms: step.seconds() * 1_000,
        items: points.iter().map(Into::into).collect(),
    }))
}

/// Exact totals since the sensors attached.
#[utoipa::path(get, path = "/api/totals", params(
    ("sensor" = Option<String>, Query, description = "Only this sensor")),
    responses((status = 200, body = TotalsView), (status = 400, body = ErrorView)))]
pub(super) async fn totals(State(state): State<AppState>, uri: Uri) -> Answer<TotalsView> {
    let mut params = Params::parse(uri.query())?;
    let sensor = params.sensor()?;
    params.end()?;
    let totals = state.store.totals(sensor.as_deref()).await?;
    Ok(Json(totals_view(&totals)))
}

fn totals_view(totals: &Totals) -> TotalsView {
    let mut both = totals.rx.clone();
    both.add(&totals.tx);
    let mut protocols: Vec<ProtocolItem> = both
        .protocol_packets
        .iter()
        .map(|(protocol, packets)| ProtocolItem {
            protocol: protocol.clone(),
            packets: *packets,
            bytes: both.protocol_bytes.get(protocol).copied().unwrap_or(0),
        })
        .collect();
    protocols.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.protocol.cmp(&b.protocol)));
    let verdicts = Verdict::ALL.iter().zip(totals.verdicts);
    TotalsView {
        rx_bytes: totals.rx.bytes,
        tx_bytes: totals.tx.bytes,
        rx_packets: totals.rx.packets,
        tx_packets: totals.tx.packets,
        frames: both.frames,
        recorded: both.recorded,
        mapped: both.mapped,
        lost: both.lost,
        protocols,
        verdicts: verdicts
            .map(|(verdict, flows)| (verdict.name().to_owned(), flows))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// Packet samples, newest first.
#[utoipa::path(get, path = "/api/packets", params(
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 100"),
    ("before" = Option<String>, Query, description = "`next` of an earlier answer"),
    ("verdict" = Option<String>, Query, description = "NO_VERDICT, NORMAL, UNSURE or SUSPICIOUS"),
    ("protocol" = Option<String>, Query, description = "tcp, udp, icmp, icmpv6 or a number"),
    ("address" = Option<String>, Query, description = "Source or destination address"),
    ("port" = Option<u16>, Query, description = "Source or destination port"),
    ("direction" = Option<String>, Query, description = "ingress or egress"),
    ("sensor" = Option<String>, Query, description = "Only this sensor")),
    responses((status = 200, body = List<PacketItem>), (status = 400, body = ErrorView)))]
pub(super) async fn packets(State(state): State<AppState>, uri: Uri) -> Answer<List<PacketItem>> {
    let mut params = Params::parse(uri.query())?;
    let filter = params.packet_filter()?;
    let page = params.page()?;
    params.end()?;
    Ok(Json(list(&state.store.packets(&filter, page).await?)))
}

/// Flows, latest begun first.
#[utoipa::path(get, path = "/api/flows", params(
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 100"),
    ("before" = Option<String>, Query, description = "`next` of an earlier answer"),
    ("verdict" = Option<String>, Query, description = "NO_VERDICT, NORMAL, UNSURE or SUSPICIOUS"),
    ("kind" = Option<String>, Query, description = "Attack kind"),
    ("protocol" = Option<String>, Query, description = "tcp, udp, icmp, icmpv6 or a number"),
    ("address" = Option<String>, Query, description = "Initiator's or responder's address"),
    ("port" = Option<u16>, Query, description = "Initiator's or responder's port"),
    ("sensor" = Option<String>, Query, description = "Only this sensor")),
    responses((status = 200, body = List<FlowItem>), (status = 400, body = ErrorView)))]
pub(super) async fn flows(State(state): State<AppState>, uri: Uri) -> Answer<List<FlowItem>> {
    let mut params = Params::parse(uri.query())?;
    let filter = params.flow_filter()?;
    let page = params.page()?;
    params.end()?;
    Ok(Json(list(&state.store.flows(&filter, page).await?)))
}

/// One flow.
#[utoipa::path(get, path = "/api/flows/{flow_id}", params(("flow_id" = String, Path, description = "32 hexadecimal digits")),
    responses((status = 200, body = FlowItem), (status = 404, body = ErrorView)))]
pub(super) async fn flow(
    State(state): State<AppState>,
    Path(flow_id): Path<String>,
    uri: Uri,
) -> Answer<FlowItem> {
    Params::parse(uri.query())?.end()?;
    let key = FlowKey::parse(&flow_id)
        .ok_or_else(|| ApiError::bad("a flow_id has 32 hexadecimal digits"))?;
    let row = state.store.flow(key).await?;
    row.map(|row| Json(FlowItem::from(&row)))
        .ok_or_else(|| ApiError::missing("no flow of this id is stored"))
}

/// Greatest talkers, then the rest as `other`.
#[utoipa::path(get, path = "/api/talkers", params(
    ("by" = Option<String>, Query, description = "destination, source, port, protocol or sensor; default destination"),
    ("from_unix_ms" = Option<i64>, Query, description = "Start, widened to whole minutes; default: 15 minutes before the end"),
    ("to_unix_ms" = Option<i64>, Query, description = "End, widened to whole minutes; default: now"),
    ("order" = Option<String>, Query, description = "bytes, packets or flows; default bytes"),
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 100")),
    responses((status = 200, body = List<TalkerItem>), (status = 400, body = ErrorView)))]
pub(super) async fn talkers(State(state): State<AppState>, uri: Uri) -> Answer<List<TalkerItem>> {
    let mut params = Params::parse(uri.query())?;
    let dimension = params.dimension()?;
    let range = params.range(clock::unix_ms())?;
    let order = params.order()?;
    let limit = params.limit()?;
    params.end()?;
    let talkers = state.store.talkers(dimension, range, order, limit).await?;
    Ok(Json(List {
        items: talker_items(talkers),
        next: None,
    }))
}

/// Greatest first, then `other`.
pub(super) fn talker_items(talkers: Talkers) -> Vec<TalkerItem> {
    let other = ("other".to_owned(), talkers.other);
    let all = talkers.top.into_iter().chain([other]);
    all.map(|(key, volume)| TalkerItem {
        key,
        bytes: volume.bytes,
        packets: volume.packets,
        flows: volume.flows,
    })
    .collect()
}

/// Events, newest first.
#[utoipa::path(get, path = "/api/events", params(
    ("limit" = Option<u32>, Query, description = "1 to 1000; default 100"),
    ("before" = Option<String>, Query, description = "`next` of an earlier answer"),
    ("sensor" = Option<String>, Query, description = "Only this sensor")),
    responses((status = 200, body = List<EventItem>), (status = 400, body = ErrorView)))]
pub(super) async fn events(State(state): State<AppState>, uri: Uri) -> Answer<List<EventItem>> {
    let mut params = Params::parse(uri.query())?;
    let filter = crate::store::Filter {
        sensor: params.sensor()?,
        ..crate::store::Filter::default()
    };
    let page = params.page()?;
    params.end()?;
    Ok(Json(list(&state.store.events(&filter, page).await?)))
}

fn list<'a, R, T: From<&'a R>>(page: &'a Page<R>) -> List<T> {
    List {
        items: page.rows.iter().map(T::from).collect(),
        next: page.next.map(|id| id.to_string()),
    }
}

/// A command for a sensor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum CommandBody {
    /// The way to a target, hop by hop.
    Traceroute {
        /// Host name or address.
        target: String,
        /// 1 to 64; default 30.
        hops_max: Option<u32>,
        /// 1 to 10; default 3.
        probes_per_hop: Option<u32>,
    },
    /// Latency, jitter and loss.
    Probe {
        /// Host name or address.
        target: String,
        /// 1 to 50; default 10. The sensor ends after 45 s and says how many it sent.
        count: Option<u32>,
        /// 100 to 5000; default 500.
        interval_ms: Option<u32>,
    },
}

/// A command was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommandSent {
    /// To ask for its results.
    command_id: String,
}

/// Gives a command to a sensor. Needs the token.
#[utoipa::path(post, path = "/api/sensors/{sensor}/commands", request_body = CommandBody,
    params(("sensor" = String, Path, description = "Name of the sensor")),
    responses((status = 202, body = CommandSent), (status = 400, body = ErrorView),
        (status = 401, body = ErrorView), (status = 404, body = ErrorView), (status = 409, body = ErrorView)))]
pub(super) async fn command(
    State(state): State<AppState>,
    Path(sensor): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<CommandSent>), ApiError> {
    Params::parse(uri.query())?.end()?;
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().map(str::trim) == Some("application/json"));
    if !json {
        return Err(ApiError::bad("the body must be sent as application/json"));
    }
    let body: CommandBody = serde_json::from_slice(&body).map_err(|_| {
        ApiError::bad("the body must be {\"command\": \"traceroute\" or \"probe\", \"target\": …} with the fields of /api/openapi.json")
    })?;
    let (name, target, command) = wire_command(body)?;
    let unknown = || ApiError::missing("no sensor of this name is known");
    let sensor = SensorName::parse(&sensor).ok_or_else(unknown)?;
    let known = state.store.sensors().await?;
    if !known.iter().any(|row| row.hello.sensor == sensor) {
        return Err(unknown());
    }
    let id = state
        .registry
        .command(&sensor, name, &target, command)
        .map_err(|refused| {
            let status = match refused {
                CommandRefused::NotConnected | CommandRefused::NotAccepted => StatusCode::CONFLICT,
                CommandRefused::Busy | CommandRefused::NoRandom => StatusCode::SERVICE_UNAVAILABLE,
            };
            ApiError::new(status, refused.to_string())
        })?;
    let sent = CommandSent {
        command_id: format!("{id:016x}"),
    };
    Ok((StatusCode::ACCEPTED, Json(sent)))
}

/// Checks a command and gives its name, target and wire form.
fn wire_command(
    body: CommandBody,
) -> Result<(&'static str, String, v1::command::Command), ApiError> {
    let within = |name: &str, value: Option<u32>, default: u32, low: u32, high: u32| {
        let value = value.unwrap_or(default);
        if (low..=high).contains(&value) {
            Ok(value)
        } else {
            Err(ApiError::bad(format!("{name} must be {low} to {high}")))
        }
    };
    let checked = |target: String| match target::check(&target) {
        Ok(()) => Ok(target),
        Err(error) => Err(ApiError::bad(error.to_string())),
    };
    Ok(match body {
        CommandBody::Traceroute {
            target,
            hops_max,
            probes_per_hop,
        } => {
            let target = checked(target)?;
            let command = v1::Traceroute {
                target: target.clone(),
                hops_max: within("hops_max", hops_max, 30, 1, 64)?,
                probes_per_hop: within("probes_per_hop", probes_per_hop, 3, 1, 10)?,
            };
            (
                "traceroute",
                target,
                v1::command::Command::Traceroute(command),
            )
        }
        CommandBody::Probe {
            target,
            count,
            interval_ms,
        } => {
            let target = checked(target)?;
            let command = v1::Probe {
                target: target.clone(),
                count: within("count", count, 10, 1, 50)?,
                interval_ms: within("interval_ms", interval_ms, 500, 100, 5_000)?,
            };
            ("probe", target, v1::command::Command::Probe(command))
        }
    })
}

/// A command and its results so far.
#[utoipa::path(get, path = "/api/commands/{command_id}", params(("command_id" = String, Path, description = "16 hexadecimal digits")),
    responses((status = 200, body = CommandState), (status = 404, body = ErrorView)))]
pub(super) async fn command_state(
    State(state): State<AppState>,
    Path(command_id): Path<String>,
    uri: Uri,
) -> Answer<CommandState> {
    Params::parse(uri.query())?.end()?;
    let hex = command_id.len() == 16 && command_id.bytes().all(|b| b.is_ascii_hexdigit());
    let id = u64::from_str_radix(&command_id, 16)
        .ok()
        .filter(|_| hex)
        .ok_or_else(|| ApiError::bad("a command_id has 16 hexadecimal digits"))?;
    state
        .registry
        .command_state(id)
        .map(Json)
        .ok_or_else(|| ApiError::missing("no command of this id is remembered"))
}
