//! Reads: short, on their own read-only connections, and bounded in time.
//!
//! Lists are walked backwards in windows of row numbers. When the time of a call is used up, the
//! page ends where the walk stands and says where to go on: a filter that admits little costs
//! several calls, never a long one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{QueryBuilder, SqlitePool};

use super::columns::{self, Columns, EVENT_COLUMNS, FLOW_COLUMNS, PACKET_COLUMNS, address_bytes};
use super::{SqliteStore, damage, day, state, writer};
use crate::record::{Direction, FlowState, Verdict};
use crate::store::ledger::{CounterBase, CounterKey};
use crate::store::{
    Dimension, EventRow, Filter, FlowKey, FlowRow, Order, PacketRow, Page, PageRequest, Range,
    RowId, Step, StoreError, Talkers, Totals, TrafficPoint, Volume, talkers,
};

/// Row numbers searched by one statement.
const WINDOW_ROWS: i64 = 50_000;

/// Time a list's walk may take before its page ends.
const WALK_TIME_MAX: Duration = Duration::from_millis(800);

/// Time any one statement may take before it is interrupted.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(3);

/// Instructions of the database's machine between two looks at the clock.
const INSTRUCTIONS_PER_LOOK: i32 = 10_000;

/// A read-only connection whose statements end at a deadline.
pub(super) struct Reader {
    day: u32,
    connection: PoolConnection<Sqlite>,
}

impl Reader {
    pub(super) async fn acquire(day: u32, pool: &SqlitePool) -> Result<Self, StoreError> {
        Self::until(Instant::now() + STATEMENT_TIME_MAX, day, pool).await
    }

    async fn until(deadline: Instant, day: u32, pool: &SqlitePool) -> Result<Self, StoreError> {
        let mut connection = pool
            .acquire()
            .await
            .map_err(|error| damage::of_day(day, error.into()))?;
        connection
            .lock_handle()
            .await?
            .set_progress_handler(INSTRUCTIONS_PER_LOOK, move || Instant::now() < deadline);
        Ok(Self { day, connection })
    }

    async fn rows(
        &mut self,
        mut query: QueryBuilder<Sqlite>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        query
            .build()
            .fetch_all(&mut *self.connection)
            .await
            .map_err(|error| damage::of_day(self.day, interrupted(error)))
    }

    /// The latest row of a table before a place.
    async fn last_row(&mut self, table: &'static str, before: i64) -> Result<i64, StoreError> {
        let mut query = QueryBuilder::new(format!("SELECT max(id) FROM {table} WHERE id < "));
        query.push_bind(before);
        let rows = self.rows(query).await?;
        let max = rows
            .first()
            .map(|row| Columns::new(row).next::<Option<i64>>());
        Ok(max.transpose()?.flatten().unwrap_or(0))
    }
}

/// The first day on which what was seen at a time can have been received.
fn first_day(from_unix_s: i64) -> u32 {
    day::of_unix_ms(from_unix_s.saturating_sub(86_400).saturating_mul(1_000))
}

/// A walk has to come nearer to its end with every row.
fn in_order(day: u32, is_so: bool) -> Result<(), StoreError> {
    if is_so {
        return Ok(());
    }
    Err(StoreError::DayDamaged {
        day,
        reason: "its rows are out of order".to_owned(),
    })
}

/// SQLITE_INTERRUPT is the deadline's doing.
fn interrupted(error: sqlx::Error) -> StoreError {
    let code = error
        .as_database_error()
        .and_then(|e| e.code().map(std::borrow::Cow::into_owned));
    match code.as_deref() {
        Some("9") => StoreError::Timeout,
        _ => StoreError::Database(error),
    }
}

/// What a list is made of.
struct List<T> {
    table: &'static str,
    columns: &'static str,
    conditions: fn(&mut QueryBuilder<Sqlite>, &Filter),
    decode: fn(u32, &SqliteRow) -> Result<T, StoreError>,
}

impl SqliteStore {
    pub(super) async fn read_packets(
        &self,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Page<PacketRow>, StoreError> {
        let list = List {
            table: "packets",
            columns: PACKET_COLUMNS,
            conditions: |query, filter| {
                time_condition(query, filter, "unix_ns", "unix_ns");
                common_conditions(query, filter);
                if let Some(direction) = filter.direction {
                    query
                        .push(" AND direction = ")
                        .push_bind(direction.number());
                }
            },
            decode: columns::packet,
        };
        self.walk(&list, filter, page).await
    }

    pub(super) async fn read_flows(
        &self,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Page<FlowRow>, StoreError> {
        let list = List {
            table: "flows",
            columns: FLOW_COLUMNS,
            conditions: |query, filter| {
                time_condition(query, filter, "first_unix_ns", "last_unix_ns");
                common_conditions(query, filter);
            },
            decode: columns::flow,
        };
        let mut page = self.walk(&list, filter, page).await?;
        // A flow that crossed midnight has a row in both files; the later one stands.
        let mut kept = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            if row.flow.state == FlowState::End || !self.has_later(&row).await? {
                kept.push(row);
            }
        }
        page.rows = kept;
        Ok(page)
    }

    pub(super) async fn read_events(
        &self,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Page<EventRow>, StoreError> {
        let list = List {
            table: "events",
            columns: EVENT_COLUMNS,
            conditions: |query, filter| {
                time_condition(query, filter, "unix_ns", "unix_ns");
                sensor_condition(query, filter);
            },
            decode: columns::event,
        };
        self.walk(&list, filter, page).await
    }

    async fn walk<T>(
        &self,
        list: &List<T>,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Page<T>, StoreError> {
        let deadline = Instant::now() + WALK_TIME_MAX;
        let mut rows: Vec<T> = Vec::new();
        let mut days = self.days_back(page.before.day);
        if let Some(range) = filter.seen {
            let first = first_day(range.from_unix_s);
            days.retain(|(day, _)| *day >= first);
        }
        for (index, (day, pool)) in days.iter().enumerate() {
            let mut reader = Reader::acquire(*day, pool).await?;
            let mut before = if *day == page.before.day {
                page.before.row
            } else {
                i64::MAX
            };
            loop {
                // From row to row and not from number to number: those of a damaged file can lie
                // anywhere.
                let last = reader.last_row(list.table, before).await?;
                in_order(*day, last < before)?;
                before = last.saturating_add(1);
                if before <= 1 {
                    break;
                }
                let low = (before - WINDOW_ROWS).max(1);
                let wanted = page.limit - rows.len();
                let mut query = QueryBuilder::new(format!(
                    "SELECT {} FROM {} WHERE id < ",
                    list.columns, list.table
                ));
                query.push_bind(before).push(" AND id >= ").push_bind(low);
                (list.conditions)(&mut query, filter);
                query
                    .push(" ORDER BY id DESC LIMIT ")
                    .push_bind(i64::try_from(wanted).unwrap_or(i64::MAX));
                let found = reader.rows(query).await?;
                let mut last = before;
                for row in &found {
                    let id: i64 = Columns::new(row).next()?;
                    in_order(*day, id < last && id >= low)?;
                    last = id;
                    let decoded = (list.decode)(*day, row);
                    rows.extend(self.readable((list.table, *day, last), decoded));
                }
                let full = rows.len() >= page.limit;
                // Rows left out make room for further ones of the same window.
                before = if found.len() >= wanted { last } else { low };
                let more = before > 1 || index + 1 < days.len();
                if (full || Instant::now() >= deadline) && more {
                    return Ok(Page {
                        rows,
                        next: Some(RowId {
                            day: *day,
                            row: before,
                        }),
                    });
                }
                if full {
                    break;
                }
            }
        }
        Ok(Page { rows, next: None })
    }

    /// Whether a later day's file holds the same flow.
    async fn has_later(&self, row: &FlowRow) -> Result<bool, StoreError> {
        let Some((day, pool)) = self.day_after(row.id.day) else {
            return Ok(false);
        };
        Ok(self.select_flow(day, &pool, row.key()).await?.is_some())
    }

    async fn select_flow(
        &self,
        day: u32,
        pool: &SqlitePool,
        key: FlowKey,
    ) -> Result<Option<FlowRow>, StoreError> {
        let mut reader = Reader::acquire(day, pool).await?;
        let mut query = QueryBuilder::new(format!(
            "SELECT {FLOW_COLUMNS} FROM flows WHERE stream_id = "
        ));
        query
            .push_bind(key.stream_id.cast_signed())
            .push(" AND flow_id = ")
            .push_bind(key.flow_id.cast_signed());
        let rows = reader.rows(query).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let place = ("flows", day, Columns::new(row).next()?);
        Ok(self.readable(place, columns::flow(day, row)))
    }

    pub(super) async fn read_flow(&self, key: FlowKey) -> Result<Option<FlowRow>, StoreError> {
        for (day, pool) in self.days_back(u32::MAX) {
            if let Some(row) = self.select_flow(day, &pool, key).await? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    pub(super) async fn read_traffic(
        &self,
        range: Range,
        step: Step,
        sensor: Option<&str>,
        interface: Option<&str>,
    ) -> Result<Vec<TrafficPoint>, StoreError> {
        let table = match step {
            Step::Second => "traffic_1s",
            Step::Minute => "traffic_1m",
            Step::Hour => "traffic_1h",
        };
        // The first step is the one that `from` lies in.
        let from = range.from_unix_s.div_euclid(step.seconds()) * step.seconds();
        let mut points: BTreeMap<i64, TrafficPoint> = BTreeMap::new();
        for (day, pool) in self.days_from(range.from_unix_s) {
            let mut reader = Reader::acquire(day, &pool).await?;
            let mut query = QueryBuilder::new(format!("SELECT * FROM {table} WHERE unix_s >= "));
            query
                .push_bind(from)
                .push(" AND unix_s < ")
                .push_bind(range.to_unix_s);
            if let Some(sensor) = sensor {
                query.push(" AND sensor = ").push_bind(sensor.to_owned());
            }
            if let Some(interface) = interface {
                query
                    .push(" AND interface = ")
                    .push_bind(interface.to_owned());
            }
            for row in &reader.rows(query).await? {
                let place = (table, day, Columns::new(row).next().unwrap_or(0));
                let Some(point) = self.readable(place, writer::traffic_point(row)) else {
                    continue;
                };
                points
                    .entry(point.unix_s)
                    .or_insert_with(|| TrafficPoint {
                        unix_s: point.unix_s,
                        ..TrafficPoint::default()
                    })
                    .add(&point);
            }
        }
        Ok(points.into_values().collect())
    }

    pub(super) async fn read_talkers(
        &self,
        dimension: Dimension,
        range: Range,
        order: Order,
        limit: usize,
    ) -> Result<Talkers, StoreError> {
        let mut sums: HashMap<String, Volume> = HashMap::new();
        let mut other = Volume::default();
        for (day, pool) in self.days_from(range.from_unix_s) {
            let mut reader = Reader::acquire(day, &pool).await?;
            // `total` is a float: exact up to 2^53, and it cannot overflow.
            let mut query = QueryBuilder::new(
                "SELECT key, CAST(total(bytes) AS INTEGER), CAST(total(packets) AS INTEGER), \
                 CAST(total(flows) AS INTEGER) FROM talkers WHERE minute >= ",
            );
            query
                .push_bind(range.from_unix_s.div_euclid(60))
                .push(" AND minute < ")
                .push_bind(range.to_unix_s.saturating_add(59).div_euclid(60))
                .push(" AND dimension = ")
                .push_bind(dimension as i32)
                .push(" GROUP BY key");
            for row in &reader.rows(query).await? {
                let place = ("talkers", day, range.from_unix_s);
                let Some((key, volume)) = self.readable(place, writer::talker(row)) else {
                    continue;
                };
                if key.is_empty() {
                    other.add(volume);
                } else {
                    sums.entry(key).or_default().add(volume);
                }
            }
        }
        Ok(talkers::top(sums, other, order, limit))
    }

    pub(super) async fn read_totals(&self, sensor: Option<&str>) -> Result<Totals, StoreError> {
        let mut totals = Totals::default();
        let Some((day, pool)) = self.days_back(u32::MAX).into_iter().next() else {
            return Ok(totals);
        };
        let mut reader = Reader::acquire(day, &pool).await?;
        let mut query = QueryBuilder::new(state::COUNTER_SELECT);
        query.push(" WHERE TRUE");
        let filter = Filter {
            sensor: sensor.map(str::to_owned),
            ..Filter::default()
        };
        sensor_condition(&mut query, &filter);
        let rows = reader.rows(query).await?;
        let counters: Vec<(CounterKey, CounterBase, i64)> = rows
            .iter()
            .map(state::counter)
            .collect::<Result<_, _>>()
            .map_err(|error| damage::of_day(day, error))?;
        add_present(&mut totals, counters);

        let mut query = QueryBuilder::new(
            "SELECT stream_id, verdict, flows, updated_unix_ms, sensor FROM verdict_totals WHERE TRUE",
        );
        sensor_condition(&mut query, &filter);
        let mut present = Present::default();
        let mut counts: Vec<(String, u64, Verdict, u64)> = Vec::new();
        for row in &reader.rows(query).await? {
            let (sensor, stream_id, verdict, flows, updated_unix_ms) =
                verdict_total(row).map_err(|error| damage::of_day(day, error))?;
            present.note(&sensor, stream_id, updated_unix_ms);
            counts.push((sensor, stream_id, verdict, flows));
        }
        for (sensor, stream_id, verdict, flows) in counts {
            if present.is(&sensor, stream_id)
                && let Some(place) = Verdict::ALL.iter().position(|v| *v == verdict)
                && let Some(count) = totals.verdicts.get_mut(place)
            {
                *count = count.saturating_add(flows);
            }
        }
        Ok(totals)
    }

    /// Files of `day` and before, latest first.
    fn days_back(&self, day: u32) -> Vec<(u32, SqlitePool)> {
        self.days()
            .range(..=day)
            .rev()
            .map(|(day, pool)| (*day, pool.clone()))
            .collect()
    }

    fn day_after(&self, day: u32) -> Option<(u32, SqlitePool)> {
        let days = self.days();
        let next = days.range(day.saturating_add(1)..).next();
        next.map(|(day, pool)| (*day, pool.clone()))
    }

    /// Files that can hold what was seen at `from` or later: nothing is received before it is
    /// seen, but for a day of error in a sensor's clock.
    fn days_from(&self, from_unix_s: i64) -> Vec<(u32, SqlitePool)> {
        self.days()
            .range(first_day(from_unix_s)..)
            .map(|(day, pool)| (*day, pool.clone()))
            .collect()
    }
}

/// Sensor, stream, verdict, flows and when they were stored.
fn verdict_total(row: &SqliteRow) -> Result<(String, u64, Verdict, u64, i64), StoreError> {
    let mut at = Columns::new(row);
    let stream_id = at.id()?;
    let verdict = at.named(Verdict::of_number)?;
    let flows = u64::try_from(at.next::<i64>()?).unwrap_or(0);
    let updated_unix_ms = at.next()?;
    Ok((at.next()?, stream_id, verdict, flows, updated_unix_ms))
}

/// The stream each sensor wrote to last: that of its present start.
#[derive(Default)]
struct Present(HashMap<String, (i64, u64)>);

impl Present {
    fn note(&mut self, sensor: &str, stream_id: u64, updated_unix_ms: i64) {
        match self.0.get_mut(sensor) {
            Some(known) if known.0 >= updated_unix_ms => {}
            Some(known) => *known = (updated_unix_ms, stream_id),
            None => {
                self.0
                    .insert(sensor.to_owned(), (updated_unix_ms, stream_id));
            }
        }
    }

    fn is(&self, sensor: &str, stream_id: u64) -> bool {
        self.0.get(sensor).is_some_and(|known| known.1 == stream_id)
    }
}

/// Adds the counters of each sensor's present start, of each interface and direction those of the
/// latest attachment. An interface that the sensor no longer watches is not in them.
fn add_present(totals: &mut Totals, counters: Vec<(CounterKey, CounterBase, i64)>) {
    let mut present = Present::default();
    for (key, base, updated_unix_ms) in &counters {
        present.note(&key.sensor, base.stream_id, *updated_unix_ms);
    }
    let mut latest: HashMap<(String, String, Direction), CounterBase> = HashMap::new();
    for (key, base, _) in counters {
        if !present.is(&key.sensor, base.stream_id) {
            continue;
        }
        let place = (key.sensor, key.interface, key.direction);
        let newer = latest
            .get(&place)
            .is_none_or(|known| known.unix_ns < base.unix_ns);
        if newer {
            latest.insert(place, base);
        }
    }
    for ((_, _, direction), base) in latest {
        match direction {
            Direction::Ingress => totals.rx.add(&base.totals),
            Direction::Egress => totals.tx.add(&base.totals),
        }
    }
}

fn time_condition(
    query: &mut QueryBuilder<Sqlite>,
    filter: &Filter,
    first: &'static str,
    last: &'static str,
) {
    if let Some(range) = filter.seen {
        let (from, to) = range.unix_ns();
        query.push(format!(" AND {first} < ")).push_bind(to);
        query.push(format!(" AND {last} >= ")).push_bind(from);
    }
}

fn sensor_condition(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    if let Some(sensor) = &filter.sensor {
        query.push(" AND sensor = ").push_bind(sensor.clone());
    }
}

fn common_conditions(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    sensor_condition(query, filter);
    if let Some(verdict) = filter.verdict {
        query.push(" AND verdict = ").push_bind(verdict.number());
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND kind = ").push_bind(kind.clone());
    }
    if let Some(ip_protocol) = filter.ip_protocol {
        query.push(" AND ip_protocol = ").push_bind(ip_protocol);
    }
    if let Some(address) = filter.address {
        let bytes = address_bytes(address);
        query.push(" AND (src_ip = ").push_bind(bytes.clone());
        query.push(" OR dst_ip = ").push_bind(bytes).push(")");
    }
    if let Some(port) = filter.port {
        query.push(" AND (src_port = ").push_bind(port);
        query.push(" OR dst_port = ").push_bind(port).push(")");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::open;

    #[tokio::test]
    async fn a_statement_without_end_is_stopped_at_its_deadline() {
        const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                               SELECT count(*) FROM n";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("day-20261122.db");
        open::close(open::writer(&path, &open::DAY).await.unwrap()).await;
        let pool = open::readers(&path);
        let mut reader = Reader::until(Instant::now(), 20_261_122, &pool)
            .await
            .unwrap();
        let stopped = reader.rows(QueryBuilder::new(ENDLESS)).await;
        assert!(matches!(stopped, Err(StoreError::Timeout)));
        // The connection is as good as before.
        drop(reader);
        let mut reader = Reader::acquire(20_261_122, &pool).await.unwrap();
        let rows = reader.rows(QueryBuilder::new("SELECT 1")).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
}
