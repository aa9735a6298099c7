//! The one writer: applies a [`Plan`] to the day's file in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, SqliteConnection};

use super::columns::{self, Columns, to_json};
use super::state::{self, State, watermark_select};
use super::{damage, open};
use crate::record::{SensorBatch, Verdict};
use crate::store::ledger::{
    CounterBase, CounterKey, FLOW_BASES_MAX, FlowBase, Ledger, Plan, Watermark,
};
use crate::store::talkers::{Changes, Minute};
use crate::store::{
    Appended, Dimension, EventRow, FlowKey, FlowRow, PacketRow, RowId, StoreError, TrafficPoint,
    Volume,
};

/// Minutes of talkers kept in memory; the oldest beyond it is closed.
const OPEN_MINUTES_MAX: usize = 3;

/// No day holds as many rows: a number beyond it was not given here.
const ROWS_MAX: i64 = 1 << 53;

/// The open file of the day and the state that appends build on.
pub(super) struct Writer {
    day: u32,
    connection: SqliteConnection,
    /// The day before and its file, to find flows that cross midnight.
    previous: Option<(u32, SqliteConnection)>,
    ledger: Ledger,
    minutes: BTreeMap<i64, BTreeMap<Dimension, Minute>>,
    health_minute: HashMap<String, i64>,
    next_packet: i64,
    next_flow: i64,
    next_event: i64,
}

/// What a writer starts with.
struct Start {
    ledger: Ledger,
    next_packet: i64,
    next_flow: i64,
    next_event: i64,
}

impl Start {
    async fn load(
        connection: &mut SqliteConnection,
        directory: &Path,
        day: u32,
        previous: &mut Option<(u32, SqliteConnection)>,
    ) -> Result<Self, StoreError> {
        let here = |error| damage::of_day(day, error);
        if !state::is_carried(connection).await.map_err(here)? {
            let mut sources = Vec::new();
            let previous_day = match previous {
                Some((previous_day, previous)) => {
                    let state = State::read(previous)
                        .await
                        .map_err(|error| damage::of_day(*previous_day, error))?;
                    sources.push(state);
                    Some(*previous_day)
                }
                None => None,
            };
            let set_aside = state::of_set_aside(directory, previous_day).await?;
            sources.extend(set_aside.into_iter().map(|(_, state)| state));
            // Nothing, unless the file was cut off from its mark.
            sources.push(State::read(connection).await.map_err(here)?);
            state::carry(connection, &sources).await.map_err(here)?;
        }
        let ledger = Ledger {
            watermarks: state::watermarks(connection).await.map_err(here)?,
            counters: state::counters(connection).await.map_err(here)?,
            // In its full size from the start: it fills within minutes and then keeps it.
            flows: HashMap::with_capacity(FLOW_BASES_MAX),
        };
        let mut next = [0; 3];
        for (next, sql) in next.iter_mut().zip([
            "SELECT max(id) FROM packets",
            "SELECT max(id) FROM flows",
            "SELECT max(id) FROM events",
        ]) {
            *next = next_id(connection, sql).await.map_err(here)?;
        }
        let [next_packet, next_flow, next_event] = next;
        Ok(Self {
            ledger,
            next_packet,
            next_flow,
            next_event,
        })
    }
}

impl Writer {
    /// Opens the file of `day`; a new one begins with the state of `previous_day`.
    ///
    /// # Errors
    /// Damage names the day whose file it is in.
    pub(super) async fn open(
        directory: &Path,
        day: u32,
        previous_day: Option<u32>,
    ) -> Result<Self, StoreError> {
        let mut connection = open::day_writer(directory, day).await?;
        let mut previous = match previous_day {
            // Also brings an older file's schema up to date before it is read.
            Some(previous_day) => match open::day_writer(directory, previous_day).await {
                Ok(previous) => Some((previous_day, previous)),
                Err(error) => {
                    open::close(connection).await;
                    return Err(error);
                }
            },
            None => None,
        };
        match Start::load(&mut connection, directory, day, &mut previous).await {
            Ok(start) => Ok(Self {
                day,
                connection,
                previous,
                ledger: start.ledger,
                minutes: BTreeMap::new(),
                health_minute: HashMap::new(),
                next_packet: start.next_packet,
                next_flow: start.next_flow,
                next_event: start.next_event,
            }),
            Err(error) => {
                open::close(connection).await;
                if let Some((_, previous)) = previous {
                    open::close(previous).await;
                }
                Err(error)
            }
        }
    }

    /// Day of the open file.
    pub(super) fn day(&self) -> u32 {
        self.day
    }

    /// Whether it holds the file of a day open.
    pub(super) fn uses(&self, day: u32) -> bool {
        let previous = self.previous.as_ref();
        self.day == day || previous.is_some_and(|(previous, _)| *previous == day)
    }

    /// Closes the files; the day's log is folded into its file.
    pub(super) async fn close(mut self) -> Result<(), StoreError> {
        let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.connection)
            .await;
        let day = self.day;
        self.abandon().await;
        folded.map_err(|error| damage::of_day(day, error.into()))?;
        Ok(())
    }

    /// Closes the files as they are.
    pub(super) async fn abandon(self) {
        open::close(self.connection).await;
        if let Some((_, previous)) = self.previous {
            open::close(previous).await;
        }
    }

    /// Stores batches. After an error the writer's state may differ from the file: open anew.
    ///
    /// # Errors
    /// Damage names the day whose file it is in.
    pub(super) async fn append(
        &mut self,
        batches: &[SensorBatch],
        received_unix_ms: i64,
    ) -> Result<Appended, StoreError> {
        let appended = self.store(batches, received_unix_ms).await;
        appended.map_err(|error| damage::of_day(self.day, error))
    }

    async fn store(
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
            let row = sqlx::query(concat!(watermark_select!(), " WHERE stream_id = ?"))
                .bind(stream_id.cast_signed())
                .fetch_optional(&mut self.connection)
                .await?;
            let row = row.as_ref().map(state::watermark).transpose()?;
            found.extend(row.map(|(stream_id, watermark, _)| (stream_id, watermark)));
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
            let mut query = sqlx::QueryBuilder::new(state::COUNTER_SELECT);
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
                let (key, base, _) = state::counter(&row)?;
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
                && let Some((day, previous)) = &mut self.previous
            {
                base = select_base(previous, *key)
                    .await
                    .map_err(|error| damage::of_day(*day, error))?
                    .map(|base| FlowBase { row: None, ..base });
            }
            found.extend(base.map(|base| (*key, base)));
        }
        Ok(found)
    }
}

async fn next_id(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, StoreError> {
    let last: Option<i64> = sqlx::query_scalar(sql).fetch_one(connection).await?;
    match last.unwrap_or(0) {
        last if last < ROWS_MAX => Ok(last + 1),
        _ => Err(StoreError::Damaged("row number")),
    }
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
        state::set_watermark(connection, *stream_id, watermark, received_unix_ms).await?;
    }
    for (key, base) in &plan.counters {
        state::set_counter(connection, key, base, received_unix_ms).await?;
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
