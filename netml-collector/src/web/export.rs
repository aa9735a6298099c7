//! `GET /api/export/…`: any list or table as CSV or NDJSON, streamed page by page.
//!
//! Each page is a short read of its own: an export of any length pins no snapshot.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::AppState;
use super::error::ApiError;
use super::params::Params;
use super::view::{ErrorView, EventItem, FlowItem, PacketItem, TrafficItem};
use crate::clock;
use crate::store::{Filter, PAGE_ROWS_MAX, PageRequest, RowId, Step, Store};

/// Most rows of one export, but for the rest of a page. The answer's header
/// [`ROWS_MAX_HEADER`] says so, and the last line of an export that was cut there where it goes on.
const EXPORT_ROWS_MAX: usize = 5_000_000;

/// See [`EXPORT_ROWS_MAX`].
const ROWS_MAX_HEADER: &str = "x-netml-rows-max";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Ndjson,
}

#[derive(Clone, Copy)]
enum Table {
    Packets,
    Flows,
    Events,
}

/// Packets, flows, events, talkers or traffic as CSV or NDJSON; the parameters are those of the
/// call of the same name, but `limit`, which bounds the rows of talkers only.
#[utoipa::path(get, path = "/api/export/{file}",
    params(("file" = String, Path, description = "packets, flows, talkers, traffic or events, then .csv or .ndjson")),
    responses((status = 200, description = "Rows", content_type = "text/csv"),
        (status = 400, body = ErrorView), (status = 404, body = ErrorView)))]
pub(super) async fn export(
    State(state): State<AppState>,
    Path(file): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let unknown = || {
        ApiError::missing(
            "exports are packets, flows, talkers, traffic and events, each .csv or .ndjson",
        )
    };
    let (table, format) = file.split_once('.').ok_or_else(unknown)?;
    let format = match format {
        "csv" => Format::Csv,
        "ndjson" => Format::Ndjson,
        _ => return Err(unknown()),
    };
    let mut params = Params::parse(uri.query())?;
    let body = match table {
        "packets" => {
            let filter = params.packet_filter()?;
            paged(state, Table::Packets, format, filter, params)?
        }
        "flows" => {
            let filter = params.flow_filter()?;
            paged(state, Table::Flows, format, filter, params)?
        }
        "events" => {
            let filter = Filter {
                sensor: params.sensor()?,
                ..Filter::default()
            };
            paged(state, Table::Events, format, filter, params)?
        }
        "talkers" => {
            let dimension = params.dimension()?;
            let range = params.range(clock::unix_ms())?;
            let order = params.order()?;
            let limit = params.limit()?;
            params.end()?;
            let talkers = state.store.talkers(dimension, range, order, limit).await?;
            Body::from(encode(&super::api::talker_items(talkers), format, true)?)
        }
        "traffic" => {
            let range = params.range(clock::unix_ms())?;
            let sensor = params.sensor()?;
            let interface = params.interface()?;
            params.end()?;
            let step = Step::of_range(range.to_unix_s - range.from_unix_s);
            let points = state
                .store
                .traffic(range, step, sensor.as_deref(), interface.as_deref())
                .await?;
            let items: Vec<TrafficItem> = points.iter().map(Into::into).collect();
            Body::from(encode(&items, format, true)?)
        }
        _ => return Err(unknown()),
    };
    let (content_type, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", format!("netml-{table}.csv")),
        Format::Ndjson => ("application/x-ndjson", format!("netml-{table}.ndjson")),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ROWS_MAX_HEADER, HeaderValue::from(EXPORT_ROWS_MAX));
    // The name is one of ten.
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// Where an export stands.
struct Cursor {
    /// `None`: everything was told.
    before: Option<RowId>,
    rows: usize,
    first: bool,
}

/// What an export reads.
#[derive(Clone)]
struct Source {
    store: Arc<dyn Store>,
    table: Table,
    format: Format,
    filter: Filter,
    stop: watch::Receiver<bool>,
}

fn paged(
    state: AppState,
    table: Table,
    format: Format,
    filter: Filter,
    mut params: Params,
) -> Result<Body, ApiError> {
    // Taken and not used, so that a list's address can be exported as it is.
    params.limit()?;
    let before = params.page()?.before;
    params.end()?;
    let source = Source {
        store: state.store,
        table,
        format,
        filter,
        stop: state.stop,
    };
    let rows = rows(source, before, EXPORT_ROWS_MAX);
    Ok(Body::from_stream(rows))
}

/// The rows from `before` on, page by page, up to `rows_max` and the rest of a page.
fn rows(
    source: Source,
    before: RowId,
    rows_max: usize,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let start = Cursor {
        before: Some(before),
        rows: 0,
        first: true,
    };
    stream::try_unfold(start, move |cursor| {
        let source = source.clone();
        async move {
            let Some(before) = cursor.before else {
                return Ok(None);
            };
            if cursor.rows >= rows_max {
                let line = cut_line(source.table, source.format, cursor.rows, before);
                let done = Cursor {
                    before: None,
                    ..cursor
                };
                return Ok(Some((Bytes::from(line), done)));
            }
            // An error breaks the transfer off: a part must not look like the whole.
            if *source.stop.borrow() {
                return Err(std::io::Error::other("the collector is stopping"));
            }
            let (chunk, rows, next) = page(&source, before, cursor.first)
                .await
                .map_err(|error| std::io::Error::other(error.message))?;
            let cursor = Cursor {
                before: next,
                rows: cursor.rows + rows,
                first: false,
            };
            Ok::<_, std::io::Error>(Some((Bytes::from(chunk), cursor)))
        }
    })
}

/// The last line of an export that was cut: an object of its own, or a row whose first cell says it.
fn cut_line(table: Table, format: Format, rows: usize, before: RowId) -> String {
    match format {
        Format::Ndjson => {
            format!("{{\"cut\":true,\"rows\":{rows},\"before\":\"{before}\"}}\n")
        }
        Format::Csv => {
            let columns = match table {
                Table::Packets => PacketItem::COLUMNS,
                Table::Flows => FlowItem::COLUMNS,
                Table::Events => EventItem::COLUMNS,
            };
            let rest = ",".repeat(columns.len() - 1);
            format!("cut after {rows} rows: go on with before={before}{rest}\r\n")
        }
    }
}

async fn page(
    source: &Source,
    before: RowId,
    first: bool,
) -> Result<(String, usize, Option<RowId>), ApiError> {
    let request = PageRequest {
        before,
        limit: PAGE_ROWS_MAX,
    };
    let (store, filter, format) = (&source.store, &source.filter, source.format);
    match source.table {
        Table::Packets => {
            let page = store.packets(filter, request).await?;
            let items: Vec<PacketItem> = page.rows.iter().map(Into::into).collect();
            Ok((encode(&items, format, first)?, items.len(), page.next))
        }
        Table::Flows => {
            let page = store.flows(filter, request).await?;
            let items: Vec<FlowItem> = page.rows.iter().map(Into::into).collect();
            Ok((encode(&items, format, first)?, items.len(), page.next))
        }
        Table::Events => {
            let page = store.events(filter, request).await?;
            let items: Vec<EventItem> = page.rows.iter().map(Into::into).collect();
            Ok((encode(&items, format, first)?, items.len(), page.next))
        }
    }
}

pub(crate) fn encode<T: Serialize + Columns>(
    items: &[T],
    format: Format,
    first: bool,
) -> Result<String, ApiError> {
    let mut out = String::new();
    if format == Format::Csv && first {
        out.push_str(&T::COLUMNS.join(","));
        out.push_str("\r\n");
    }
    for item in items {
        let value =
            serde_json::to_value(item).map_err(|_| ApiError::bad("a row could not be encoded"))?;
        match format {
            Format::Ndjson => {
                out.push_str(&value.to_string());
                out.push('\n');
            }
            Format::Csv => {
                for (index, column) in T::COLUMNS.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    cell(&mut out, value.get(column).unwrap_or(&Value::Null));
                }
                out.push_str("\r\n");
            }
        }
    }
    Ok(out)
}

/// Columns of a table's CSV, by their names in JSON.
pub(crate) trait Columns {
    const COLUMNS: &'static [&'static str];
}

impl Columns for PacketItem {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "unix_ms",
        "unix_ns",
        "sensor",
        "interface",
        "src_ip",
        "dst_ip",
        "src_port",
        "dst_port",
        "protocol",
        "bytes",
        "segments",
        "tcp_flags",
        "direction",
        "verdict",
        "kind",
        "probability",
        "flow_id",
    ];
}

impl Columns for FlowItem {
    const COLUMNS: &'static [&'static str] = &[
        "flow_id",
        "sensor",
        "interface",
        "state",
        "end_reason",
        "first_unix_ms",
        "last_unix_ms",
        "src_ip",
        "dst_ip",
        "src_port",
        "dst_port",
        "protocol",
        "fwd_packets",
        "rev_packets",
        "fwd_bytes",
        "rev_bytes",
        "tcp_flags",
        "verdict",
        "kind",
        "probability",
        "score",
        "reasons",
        "model_id",
        "lost_meanwhile",
        "expected_false_alarms_per_day",
        "initiator_direction",
        "unrecorded_packets",
        "rule",
        "forest",
        "forest_score",
        "also_seen_on",
        "tunnel",
        "icmp_errors",
        "icmp_last",
        "dns",
        "baseline",
    ];
}

impl Columns for EventItem {
    const COLUMNS: &'static [&'static str] = &[
        "id", "unix_ms", "sensor", "kind", "severity", "message", "fields",
    ];
}

impl Columns for super::view::TalkerItem {
    const COLUMNS: &'static [&'static str] = &["key", "bytes", "packets", "flows"];
}

impl Columns for TrafficItem {
    const COLUMNS: &'static [&'static str] = &[
        "unix_ms",
        "rx_bytes",
        "tx_bytes",
        "rx_packets",
        "tx_packets",
        "lost_packets",
    ];
}

/// Writes one cell (RFC 4180). A text that a spreadsheet would run as a formula gets a leading `'`.
fn cell(out: &mut String, value: &Value) {
    let text = match value {
        Value::Null => return,
        Value::Number(number) => {
            out.push_str(&number.to_string());
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let quoted = text.contains(['"', ',', '\r', '\n', '\t']);
    if quoted {
        out.push('"');
    }
    if formula {
        out.push('\'');
    }
    if quoted {
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(&text);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::record::{Event, Record, SensorBatch, SensorName};
    use crate::store::memory::MemoryStore;

    fn csv(value: Value) -> String {
        let mut out = String::new();
        cell(&mut out, &value);
        out
    }

    /// All of an export, as text.
    async fn exported(
        store: &Arc<dyn Store>,
        format: Format,
        before: RowId,
        rows_max: usize,
    ) -> String {
        let source = Source {
            store: Arc::clone(store),
            table: Table::Events,
            format,
            filter: Filter::default(),
            stop: watch::channel(false).1,
        };
        let chunks: Vec<Bytes> = rows(source, before, rows_max).try_collect().await.unwrap();
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn an_export_that_reaches_its_bound_says_so_and_where_it_goes_on() {
        let event = Record::Event(Event {
            unix_ns: 0,
            kind: "started".to_owned(),
            severity: "info".to_owned(),
            message: String::new(),
            fields: std::collections::BTreeMap::new(),
        });
        let batch = SensorBatch {
            sensor: SensorName::parse("a").unwrap(),
            stream_id: 1,
            first_seq: 1,
            elsewhere_seq: 0,
            records: vec![Some(event); 2_500],
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        store.append(&[batch], 0).await.unwrap();

        let cut = exported(&store, Format::Ndjson, RowId::END, 1_500).await;
        let lines: Vec<Value> = cut
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2_001, "whole pages and the last line");
        let last = &lines[2_000];
        assert_eq!((&last["cut"], &last["rows"]), (&true.into(), &2_000.into()));
        let before = RowId::parse(last["before"].as_str().unwrap()).unwrap();
        let rest = exported(&store, Format::Ndjson, before, 1_500).await;
        assert_eq!(rest.lines().count(), 500, "a whole export says nothing");
        assert!(!rest.contains("\"cut\""));

        let csv = exported(&store, Format::Csv, RowId::END, 1_500).await;
        let rows: Vec<&str> = csv.lines().collect();
        let expected = format!("cut after 2000 rows: go on with before={before},,,,,,");
        assert_eq!((rows.len(), rows[2_001]), (2_002, expected.as_str()));
        assert_eq!(
            expected.matches(',').count(),
            rows[0].matches(',').count(),
            "as many cells as any row"
        );
    }

    #[test]
    fn formulas_are_made_harmless_and_numbers_left_alone() {
        assert_eq!(csv("=1+1".into()), "'=1+1");
        assert_eq!(csv("@SUM(A1)".into()), "'@SUM(A1)");
        assert_eq!(csv("-cmd".into()), "'-cmd");
        assert_eq!(csv("\t=1".into()), "\"'\t=1\"");
        assert_eq!(csv("=\"a\",b".into()), "\"'=\"\"a\"\",b\"");
        assert_eq!(csv(Value::from(-1.5)), "-1.5");
        assert_eq!(csv("plain".into()), "plain");
        assert_eq!(csv("a,b".into()), "\"a,b\"");
        assert_eq!(csv(Value::Null), "");
    }
}
