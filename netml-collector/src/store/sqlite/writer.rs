//! The one writer: applies a [`Plan`] to the day's file in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};

use super::columns::{self, Columns, from_json, to_json};
use super::{day, open};
use crate::record::{CounterTotals, Direction, SensorBatch, Verdict};
use crate::store::ledger::{
    COUNTER_BASES_MAX, CounterBase, CounterKey, FLOW_BASES_MAX, FlowBase, Ledger, Plan,
    WATERMARKS_MAX, Watermark,
};
use crate::store::talkers::{Changes, Minute};
use crate::store::{
    Appended, Dimension, EventRow, FlowKey, FlowRow, PacketRow, RowId, StoreError, TrafficPoint,
    Volume,
};

/// Minutes of talkers kept in memory; the oldest beyond it is closed.
const OPEN_MINUTES_MAX: usize = 3;

/// State of streams, counters and verdict counts not touched for this long is not carried into a
/// new day's file: 30 days.
const CARRY_AGE_MAX_MS: i64 = 30 * 86_400_000;

/// Most rows of each kind of state carried into a new day's file, latest first.
const CARRY_ROWS_MAX: i64 = 10_000;

/// The open file of the day and the state that appends build on.
pub(super) struct Writer {
    directory: PathBuf,
    day: u32,
    connection: SqliteConnection,
    /// The day before, to find flows that cross midnight.
    previous: Option<SqliteConnection>,
    ledger: Ledger,
    minutes: BTreeMap<i64, BTreeMap<Dimension, Minute>>,
    health_minute: HashMap<String, i64>,
    next_packet: i64,
    next_flow: i64,
    next_event: i64,
}

impl Writer {
    /// Opens the file of `day`, made from the state of `previous_day` if it is new.
    pub(super) async fn open(
        directory: &Path,
        day: u32,
        previous_day: Option<u32>,
    ) -> Result<Self, StoreError> {
        let mut connection = open::writer(&day::path(directory, day), &open::DAY).await?;
        carry(&mut connection, directory, previous_day).await?;
        let previous = match previous_day {
            Some(previous_day) => {
                Some(open::writer(&day::path(directory, previous_day), &open::DAY).await?)
            }
            None => None,
        };
        let ledger = Ledger {
            watermarks: load_watermarks(&mut connection).await?,
            counters: load_counters(&mut connection).await?,
            // In its full size from the start: it fills within minutes and then keeps it.
            flows: HashMap::with_capacity(FLOW_BASES_MAX),
        };
        let next_packet = next_id(&mut connection, "SELECT max(id) FROM packets").await?;
        let next_flow = next_id(&mut connection, "SELECT max(id) FROM flows").await?;
        let next_event = next_id(&mut connection, "SELECT max(id) FROM events").await?;
        Ok(Self {
            directory: directory.to_owned(),
            day,
            connection,
            previous,
            ledger,
            minutes: BTreeMap::new(),
            health_minute: HashMap::new(),
            next_packet,
            next_flow,
            next_event,
        })
    }

    /// Day of the open file.
    pub(super) fn day(&self) -> u32 {
        self.day
    }

    /// Closes the files; the day's log is folded into its file.
    pub(super) async fn close(mut self) -> Result<(), StoreError> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.connection)
            .await?;
        self.connection.close().await?;
        if let Some(previous) = self.previous {
            previous.close().await?;
        }
        Ok(())
    }

    /// Closes the day and opens the next one.
    pub(super) async fn turn(self, day: u32) -> Result<Self, StoreError> {
        let (directory, previous_day) = (self.directory.clone(), self.day);
        self.close().await?;
        Self::open(&directory, day, Some(previous_day)).await
    }

    /// Stores batches. After an error the writer's state may differ from the file: open anew.
    pub(super) async fn append(
        &mut self,
        batches: &[SensorBatch],
        received_unix_ms: i64,
    ) -> Result<Appended, StoreError> {
        let found = Ledger {
            watermarks: self
                .look_up_streams(&self.ledger.unknown_streams(batches))
                .await?,
            counters: self
                .look_up_counters(&self.ledger.unknown_counters(batches))
                .await?,
            flows: self
                .look_up_flows(&self.ledger.unknown_flows(batches))
                .await?,
        };
        self.ledger.learn(found);
        let mut plan = self.ledger.plan(batches, received_unix_ms);
        let mut appended = self.rows(&mut plan);

        let mut transaction = self.connection.begin().await?;
        let connection = &mut *transaction;
        for rows in columns::pieces(&appended.packets) {
            columns::insert_packets(rows)
                .build()
                .execute(&mut *connection)
                .await?;
        }
        for rows in columns::pieces(&appended.flows) {
            columns::upsert_flows(rows)?
                .build()
                .execute(&mut *connection)
                .await?;
        }
        for row in &appended.events {
            columns::insert_event(row)?
                .execute(&mut *connection)
                .await?;
        }
        store_traffic(connection, &plan).await?;
        store_state(connection, &plan, received_unix_ms).await?;
        store_talkers(connection, &mut self.minutes, &plan).await?;
        store_health(connection, &mut self.health_minute, &plan).await?;
        transaction.commit().await?;

        let rows: HashMap<FlowKey, i64> = appended
            .flows
            .iter()
            .map(|row| (row.key(), row.id.row))
            .collect();
        appended.forgotten = self.ledger.apply(&plan, |key| rows.get(&key).copied());
        appended.outcomes = plan.outcomes;
        appended.traffic = plan.traffic.into_values().collect();
        appended.health = plan.health.into_iter().collect();
        Ok(appended)
    }

    /// Gives the plan's rows their places.
    fn rows(&mut self, plan: &mut Plan) -> Appended {
        let day = self.day;
        let place = |next: &mut i64| {
            let id = RowId { day, row: *next };
            *next += 1;
            id
        };
        let packets =
            std::mem::take(&mut plan.packets)
                .into_iter()
                .map(|(sensor, stream_id, packet)| PacketRow {
                    id: place(&mut self.next_packet),
                    sensor: sensor.as_str().to_owned(),
                    flow: FlowKey {
                        stream_id,
                        flow_id: packet.flow_id,
                    },
                    packet,
                });
        let packets = packets.collect();
        let flows = plan.flows.iter().map(|(sensor, stream_id, flow)| {
            let key = FlowKey {
                stream_id: *stream_id,
                flow_id: flow.flow_id,
            };
            let id = match plan.flow_bases.get(&key).and_then(|base| base.row) {
                Some(row) => RowId { day, row },
                None => place(&mut self.next_flow),
            };
            FlowRow {
                id,
                sensor: sensor.as_str().to_owned(),
                stream_id: *stream_id,
                flow: flow.clone(),
            }
        });
        let flows = flows.collect();
        let events = plan.events.iter().map(|(sensor, event)| EventRow {
            id: place(&mut self.next_event),
            sensor: sensor.as_str().to_owned(),
            event: event.clone(),
        });
        Appended {
            packets,
            flows,
            events: events.collect(),
            ..Appended::default()
        }
    }

    /// Watermarks from the file, which began with those of the day before.
    async fn look_up_streams(
        &mut self,
        stream_ids: &[u64],
    ) -> Result<HashMap<u64, Watermark>, StoreError> {
        let mut found = HashMap::new();
        for stream_id in stream_ids {
            let row =
                sqlx::query("SELECT stream_id, sensor, seq FROM watermarks WHERE stream_id = ?")
                    .bind(stream_id.cast_signed())
                    .fetch_optional(&mut self.connection)
                    .await?;
            found.extend(row.as_ref().map(watermark).transpose()?);
        }
        Ok(found)
    }

    /// Counters likewise.
    async fn look_up_counters(
        &mut self,
        keys: &[CounterKey],
    ) -> Result<HashMap<CounterKey, CounterBase>, StoreError> {
        let mut found = HashMap::new();
        for key in keys {
            let mut query = sqlx::QueryBuilder::new(COUNTER_SELECT);
            query
                .push(" WHERE sensor = ")
                .push_bind(key.sensor.clone())
                .push(" AND interface = ")
                .push_bind(key.interface.clone())
                .push(" AND direction = ")
                .push_bind(key.direction.number())
                .push(" AND attach_id = ")
                .push_bind(key.attach_id.cast_signed());
            let row = query.build().fetch_optional(&mut self.connection).await?;
            if let Some(row) = row {
                let (key, base, _) = counter(&row)?;
                found.insert(key, base);
            }
        }
        Ok(found)
    }

    /// Bases of flows from the file, or from the day before.
    async fn look_up_flows(
        &mut self,
        keys: &[FlowKey],
    ) -> Result<HashMap<FlowKey, FlowBase>, StoreError> {
        let mut found = HashMap::new();
        for key in keys {
            let mut base = select_base(&mut self.connection, *key).await?;
            if base.is_none()
                && let Some(previous) = &mut self.previous
            {
                base = select_base(previous, *key)
                    .await?
                    .map(|base| FlowBase { row: None, ..base });
            }
            found.extend(base.map(|base| (*key, base)));
        }
        Ok(found)
    }
}

async fn next_id(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    let last: Option<i64> = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(last.unwrap_or(0) + 1)
}

async fn select_base(
    connection: &mut SqliteConnection,
    key: FlowKey,
) -> Result<Option<FlowBase>, StoreError> {
    let row = sqlx::query(
        "SELECT id, fwd_packets + rev_packets, fwd_bytes + rev_bytes, verdict FROM flows \
         WHERE stream_id = ? AND flow_id = ?",
    )
    .bind(key.stream_id.cast_signed())
    .bind(key.flow_id.cast_signed())
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let mut at = Columns::new(&row);
        Ok(FlowBase {
            row: Some(at.next()?),
            packets: at.count()?,
            bytes: at.count()?,
            verdict: at.named(Verdict::of_number)?,
        })
    })
    .transpose()
}

/// Copies the lasting state of the day before into a new file, once.
async fn carry(
    connection: &mut SqliteConnection,
    directory: &Path,
    previous_day: Option<u32>,
) -> Result<(), StoreError> {
    let carried: Option<i64> = sqlx::query_scalar("SELECT one FROM carried")
        .fetch_optional(&mut *connection)
        .await?;
    if carried.is_some() {
        return Ok(());
    }
    if let Some(previous_day) = previous_day {
        // Also brings an older file's schema up to date before it is read.
        let path = day::path(directory, previous_day);
        open::writer(&path, &open::DAY).await?.close().await?;
        sqlx::query("ATTACH DATABASE ? AS previous")
            .bind(path.to_string_lossy().into_owned())
            .execute(&mut *connection)
            .await?;
    }
    let mut transaction = connection.begin().await?;
    if previous_day.is_some() {
        for sql in [
            "INSERT INTO watermarks SELECT * FROM previous.watermarks WHERE updated_unix_ms > \
             (SELECT max(updated_unix_ms) FROM previous.watermarks) - ? \
             ORDER BY updated_unix_ms DESC LIMIT ?",
            "INSERT INTO counter_bases SELECT * FROM previous.counter_bases WHERE updated_unix_ms > \
             (SELECT max(updated_unix_ms) FROM previous.counter_bases) - ? \
             ORDER BY updated_unix_ms DESC LIMIT ?",
            "INSERT INTO verdict_totals SELECT * FROM previous.verdict_totals WHERE updated_unix_ms > \
             (SELECT max(updated_unix_ms) FROM previous.verdict_totals) - ? \
             ORDER BY updated_unix_ms DESC LIMIT ?",
        ] {
            sqlx::query(sql)
                .bind(CARRY_AGE_MAX_MS)
                .bind(CARRY_ROWS_MAX)
                .execute(&mut *transaction)
                .await?;
        }
    }
    sqlx::query("INSERT INTO carried VALUES (1)")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    if previous_day.is_some() {
        sqlx::query("DETACH DATABASE previous")
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn load_watermarks(
    connection: &mut SqliteConnection,
) -> Result<HashMap<u64, Watermark>, StoreError> {
    let rows = sqlx::query(
        "SELECT stream_id, sensor, seq FROM watermarks ORDER BY updated_unix_ms DESC LIMIT ?",
    )
    .bind(WATERMARKS_MAX as i64)
    .fetch_all(connection)
    .await?;
    rows.iter().map(watermark).collect()
}

/// A row of `stream_id, sensor, seq`.
fn watermark(row: &SqliteRow) -> Result<(u64, Watermark), StoreError> {
    let mut at = Columns::new(row);
    Ok((
        at.id()?,
        Watermark {
            sensor: at.next()?,
            seq: at.count()?,
        },
    ))
}

async fn load_counters(
    connection: &mut SqliteConnection,
) -> Result<HashMap<CounterKey, CounterBase>, StoreError> {
    let mut query = sqlx::QueryBuilder::new(COUNTER_SELECT);
    query
        .push(" ORDER BY updated_unix_ms DESC LIMIT ")
        .push_bind(COUNTER_BASES_MAX as i64);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter()
        .map(|row| counter(row).map(|(key, base, _)| (key, base)))
        .collect()
}

/// Columns of [`counter`].
pub(super) const COUNTER_SELECT: &str = "SELECT sensor, interface, direction, attach_id, unix_ns, \
     packets, bytes, frames, recorded, mapped, lost, protocol_packets, protocol_bytes, stream_id, \
     updated_unix_ms FROM counter_bases";

/// A counter and when it was stored (unix milliseconds), selected with [`COUNTER_SELECT`].
pub(super) fn counter(row: &SqliteRow) -> Result<(CounterKey, CounterBase, i64), StoreError> {
    let mut at = Columns::new(row);
    let key = CounterKey {
        sensor: at.next()?,
        interface: at.next()?,
        direction: at.named(Direction::of_number)?,
        attach_id: at.id()?,
    };
    let unix_ns = at.next()?;
    let totals = CounterTotals {
        packets: at.count()?,
        bytes: at.count()?,
        frames: at.count()?,
        recorded: at.count()?,
        mapped: at.count()?,
        lost: from_json(at.next()?, "lost")?,
        protocol_packets: from_json(at.next()?, "protocol packets")?,
        protocol_bytes: from_json(at.next()?, "protocol bytes")?,
    };
    let base = CounterBase {
        stream_id: at.id()?,
        unix_ns,
        totals,
    };
    Ok((key, base, at.next()?))
}

/// Adds to the seconds, minutes and hours.
async fn store_traffic(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), StoreError> {
    // Sums stop at 2^53 - 1 instead of overflowing into a value the column refuses.
    macro_rules! add_to {
        ($table:literal) => {
            concat!(
                "INSERT INTO ",
                $table,
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
                 rx_bytes = min(rx_bytes + excluded.rx_bytes, 9007199254740991), \
                 tx_bytes = min(tx_bytes + excluded.tx_bytes, 9007199254740991), \
                 rx_packets = min(rx_packets + excluded.rx_packets, 9007199254740991), \
                 tx_packets = min(tx_packets + excluded.tx_packets, 9007199254740991), \
                 lost_packets = min(lost_packets + excluded.lost_packets, 9007199254740991)"
            )
        };
    }
    for point in plan.traffic.values() {
        for (sql, width_s) in [
            (add_to!("traffic_1h"), 3_600),
            (add_to!("traffic_1m"), 60),
            (add_to!("traffic_1s"), 1),
        ] {
            sqlx::query(sql)
                .bind(point.unix_s.div_euclid(width_s) * width_s)
                .bind(point.sensor.clone())
                .bind(point.interface.clone())
                .bind(point.rx_bytes.cast_signed())
                .bind(point.tx_bytes.cast_signed())
                .bind(point.rx_packets.cast_signed())
                .bind(point.tx_packets.cast_signed())
                .bind(point.lost_packets.cast_signed())
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// A row of a traffic table, all columns.
pub(super) fn traffic_point(row: &SqliteRow) -> Result<TrafficPoint, StoreError> {
    let mut at = Columns::new(row);
    Ok(TrafficPoint {
        unix_s: at.next()?,
        sensor: at.next()?,
        interface: at.next()?,
        rx_bytes: at.count()?,
        tx_bytes: at.count()?,
        rx_packets: at.count()?,
        tx_packets: at.count()?,
        lost_packets: at.count()?,
    })
}

/// Sets watermarks and counters, adds to the verdict counts.
async fn store_state(
    connection: &mut SqliteConnection,
    plan: &Plan,
    received_unix_ms: i64,
) -> Result<(), StoreError> {
    for (stream_id, watermark) in &plan.watermarks {
        sqlx::query("INSERT OR REPLACE INTO watermarks VALUES (?, ?, ?, ?)")
            .bind(stream_id.cast_signed())
            .bind(watermark.sensor.clone())
            .bind(watermark.seq.cast_signed())
            .bind(received_unix_ms)
            .execute(&mut *connection)
            .await?;
    }
    for (key, base) in &plan.counters {
        let totals = &base.totals;
        sqlx::query(
            "INSERT OR REPLACE INTO counter_bases (sensor, interface, direction, attach_id, unix_ns, \
             packets, bytes, frames, recorded, mapped, lost, protocol_packets, protocol_bytes, \
             updated_unix_ms, stream_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.sensor.clone())
        .bind(key.interface.clone())
        .bind(key.direction.number())
        .bind(key.attach_id.cast_signed())
        .bind(base.unix_ns)
        .bind(totals.packets.cast_signed())
        .bind(totals.bytes.cast_signed())
        .bind(totals.frames.cast_signed())
        .bind(totals.recorded.cast_signed())
        .bind(totals.mapped.cast_signed())
        .bind(to_json(&totals.lost, "lost")?)
        .bind(to_json(&totals.protocol_packets, "protocol packets")?)
        .bind(to_json(&totals.protocol_bytes, "protocol bytes")?)
        .bind(received_unix_ms)
        .bind(base.stream_id.cast_signed())
        .execute(&mut *connection)
        .await?;
    }
    for ((stream_id, verdict), (sensor, change)) in &plan.verdicts {
        sqlx::query(
            "INSERT INTO verdict_totals VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             flows = flows + excluded.flows, updated_unix_ms = excluded.updated_unix_ms",
        )
        .bind(sensor.clone())
        .bind(stream_id.cast_signed())
        .bind(verdict.number())
        .bind(*change)
        .bind(received_unix_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn store_talkers(
    connection: &mut SqliteConnection,
    minutes: &mut BTreeMap<i64, BTreeMap<Dimension, Minute>>,
    plan: &Plan,
) -> Result<(), StoreError> {
    for ((minute, dimension), volumes) in &plan.talkers {
        if !minutes.contains_key(minute) {
            let loaded = load_minute(connection, *minute).await?;
            minutes.insert(*minute, loaded);
        }
        let dimensions = minutes.entry(*minute).or_default();
        let changes = dimensions.entry(*dimension).or_default().add(volumes);
        write_talkers(connection, *minute, *dimension, &changes).await?;
        while minutes.len() > OPEN_MINUTES_MAX {
            // The one being added to comes last in the plan's order, or is the oldest: then it
            // closes itself, which is right for a straggler.
            if let Some((closed, dimensions)) = minutes.pop_first() {
                for (dimension, mut talkers) in dimensions {
                    let changes = talkers.close();
                    write_talkers(connection, closed, dimension, &changes).await?;
                }
            }
        }
    }
    Ok(())
}

async fn load_minute(
    connection: &mut SqliteConnection,
    minute: i64,
) -> Result<BTreeMap<Dimension, Minute>, StoreError> {
    let mut loaded = BTreeMap::new();
    for dimension in Dimension::ALL {
        let rows = sqlx::query(
            "SELECT key, bytes, packets, flows FROM talkers WHERE minute = ? AND dimension = ?",
        )
        .bind(minute)
        .bind(dimension as i32)
        .fetch_all(&mut *connection)
        .await?;
        let rows: Vec<(String, Volume)> = rows.iter().map(talker).collect::<Result<_, _>>()?;
        loaded.insert(dimension, Minute::from_rows(rows));
    }
    Ok(loaded)
}

/// A row of `key, bytes, packets, flows`.
pub(super) fn talker(row: &SqliteRow) -> Result<(String, Volume), StoreError> {
    let mut at = Columns::new(row);
    Ok((
        at.next()?,
        Volume {
            bytes: at.count()?,
            packets: at.count()?,
            flows: at.count()?,
        },
    ))
}

async fn write_talkers(
    connection: &mut SqliteConnection,
    minute: i64,
    dimension: Dimension,
    changes: &Changes,
) -> Result<(), StoreError> {
    for key in &changes.removed {
        sqlx::query("DELETE FROM talkers WHERE minute = ? AND dimension = ? AND key = ?")
            .bind(minute)
            .bind(dimension as i32)
            .bind(key.clone())
            .execute(&mut *connection)
            .await?;
    }
    for rows in columns::pieces(&changes.set) {
        let mut query = sqlx::QueryBuilder::new("INSERT OR REPLACE INTO talkers ");
        query.push_values(rows, |mut tuple, (key, volume)| {
            tuple
                .push_bind(minute)
                .push_bind(dimension as i32)
                .push_bind(key.clone())
                .push_bind(volume.bytes.cast_signed())
                .push_bind(volume.packets.cast_signed())
                .push_bind(volume.flows.cast_signed());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Keeps one health record a minute and sensor.
async fn store_health(
    connection: &mut SqliteConnection,
    last_minute: &mut HashMap<String, i64>,
    plan: &Plan,
) -> Result<(), StoreError> {
    for (sensor, health) in &plan.health {
        let minute = health.unix_ms.div_euclid(60_000);
        if last_minute.insert(sensor.as_str().to_owned(), minute) == Some(minute) {
            continue;
        }
        sqlx::query("INSERT OR REPLACE INTO health VALUES (?, ?, ?)")
            .bind(minute * 60)
            .bind(sensor.as_str().to_owned())
            .bind(to_json(health, "health")?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
