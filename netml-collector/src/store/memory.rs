//! A model of a store, for tests: it keeps every new record and computes each answer from all of
//! them. Slow and simple, so that the real store's sums can be held against it. Unbounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, ready};

use super::{
    Appended, Dimension, EventRow, Filter, FlowKey, FlowRow, Order, Outcome, PacketRow, Page,
    PageRequest, Range, Retention, RowId, SensorRow, Step, Store, StoreError, Talkers, Totals,
    TrafficPoint, Volume, talkers,
};
use crate::record::{
    Counters, Direction, Event, Health, Hello, Record, SensorBatch, SensorName, Verdict,
};

/// Day of all rows of the model.
const DAY: u32 = 20_000_101;

/// The model. See the module.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Every new record in the order of receipt: sensor, stream, record.
    records: Vec<(String, u64, Record)>,
    /// Sequence numbers stored or skipped, by stream.
    seen: BTreeMap<u64, BTreeSet<u64>>,
    owners: HashMap<u64, String>,
    hellos: BTreeMap<SensorName, (Hello, i64)>,
}

impl Kept {
    fn append(&mut self, batch: &SensorBatch, received_unix_ms: i64) -> Outcome {
        let sensor = batch.sensor.as_str().to_owned();
        let owner = self.owners.entry(batch.stream_id).or_insert(sensor.clone());
        if *owner != sensor {
            return Outcome::ForeignStream;
        }
        let seen = self.seen.entry(batch.stream_id).or_default();
        let stored = seen.last().copied().unwrap_or(0);
        let highest = batch.watermark_from(stored);
        seen.extend(stored + 1..=highest);
        let skipped: Vec<u64> = (highest + 1..batch.first_seq).collect();
        let gap = skipped.len() as u64;
        seen.extend(skipped);
        let (mut stored, mut duplicate, mut refused) = (0, 0, 0);
        let mut fresh = Vec::new();
        if gap > 0 {
            let event = Event {
                unix_ns: received_unix_ms * 1_000_000,
                kind: "gap".to_owned(),
                severity: "warning".to_owned(),
                message: String::new(),
                fields: BTreeMap::new(),
            };
            fresh.push((sensor.clone(), batch.stream_id, Record::Event(event)));
        }
        for (seq, record) in (batch.first_seq..).zip(&batch.records) {
            match record {
                _ if !seen.insert(seq) => duplicate += 1,
                None => refused += 1,
                Some(record) => {
                    stored += 1;
                    fresh.push((sensor.clone(), batch.stream_id, record.clone()));
                }
            }
        }
        self.records.extend(fresh);
        Outcome::Stored {
            ack: self
                .seen
                .get(&batch.stream_id)
                .and_then(|s| s.last())
                .copied()
                .unwrap_or(0),
            stored,
            duplicate,
            refused,
            gap,
        }
    }

    fn packets(&self) -> Vec<PacketRow> {
        let packets = self.records.iter().filter_map(|(sensor, stream_id, r)| {
            let Record::Packet(packet) = r else {
                return None;
            };
            Some((sensor, *stream_id, packet))
        });
        let rows = (1..)
            .zip(packets)
            .map(|(row, (sensor, stream_id, packet))| PacketRow {
                id: RowId { day: DAY, row },
                sensor: sensor.clone(),
                flow: FlowKey {
                    stream_id,
                    flow_id: packet.flow_id,
                },
                packet: packet.clone(),
            });
        rows.collect()
    }

    /// Every flow record with the volume it adds, in order.
    fn flow_records(&self) -> Vec<(FlowRow, Volume)> {
        let mut last: HashMap<FlowKey, (RowId, u64, u64)> = HashMap::new();
        let mut next = 1;
        let mut all = Vec::new();
        for (sensor, stream_id, record) in &self.records {
            let Record::Flow(flow) = record else {
                continue;
            };
            let key = FlowKey {
                stream_id: *stream_id,
                flow_id: flow.flow_id,
            };
            let bytes = flow.fwd_bytes + flow.rev_bytes;
            let packets = flow.fwd_packets + flow.rev_packets;
            let known = last.get(&key).copied();
            let id = known.map_or(
                RowId {
                    day: DAY,
                    row: next,
                },
                |k| k.0,
            );
            next += i64::from(known.is_none());
            let (_, bytes_before, packets_before) = known.unwrap_or((id, 0, 0));
            last.insert(key, (id, bytes, packets));
            let row = FlowRow {
                id,
                sensor: sensor.clone(),
                stream_id: *stream_id,
                flow: (**flow).clone(),
            };
            let volume = Volume {
                bytes: bytes.saturating_sub(bytes_before),
                packets: packets.saturating_sub(packets_before),
                flows: u64::from(known.is_none()),
            };
            all.push((row, volume));
        }
        all
    }

    fn flows(&self) -> Vec<FlowRow> {
        let rows = self
            .flow_records()
            .into_iter()
            .map(|(row, _)| (row.id, row));
        rows.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn events(&self) -> Vec<EventRow> {
        let events = self.records.iter().filter_map(|(sensor, _, r)| match r {
            Record::Event(event) => Some((sensor, event)),
            _ => None,
        });
        let rows = (1..).zip(events).map(|(row, (sensor, event))| EventRow {
            id: RowId { day: DAY, row },
            sensor: sensor.clone(),
            event: event.clone(),
        });
        rows.collect()
    }

    fn counters(&self) -> impl Iterator<Item = (&str, u64, &Counters)> {
        self.records
            .iter()
            .filter_map(|(sensor, stream_id, r)| match r {
                Record::Counters(counters) => Some((sensor.as_str(), *stream_id, counters)),
                _ => None,
            })
    }

    fn traffic(
        &self,
        range: Range,
        step: Step,
        sensor: Option<&str>,
        interface: Option<&str>,
    ) -> Vec<TrafficPoint> {
        let width = step.seconds();
        let from = range.from_unix_s.div_euclid(width) * width;
        let mut last: HashMap<_, (u64, u64, u64)> = HashMap::new();
        let mut points: BTreeMap<i64, TrafficPoint> = BTreeMap::new();
        for (of, _, c) in self.counters() {
            let key = (of, c.interface.as_str(), c.direction, c.attach_id);
            let now = (c.totals.packets, c.totals.bytes, c.totals.missing_total());
            let before = last.insert(key, now).unwrap_or_default();
            let unix_s = c.unix_ns.div_euclid(1_000_000_000).div_euclid(width) * width;
            let wanted = sensor.is_none_or(|s| s == of)
                && interface.is_none_or(|i| i == c.interface)
                && (from..range.to_unix_s).contains(&unix_s);
            if !wanted {
                continue;
            }
            let point = points.entry(unix_s).or_default();
            point.unix_s = unix_s;
            point.lost_packets += now.2 - before.2;
            let (packets, bytes) = (now.0 - before.0, now.1 - before.1);
            match c.direction {
                Direction::Ingress => {
                    point.rx_packets += packets;
                    point.rx_bytes += bytes;
                }
                Direction::Egress => {
                    point.tx_packets += packets;
                    point.tx_bytes += bytes;
                }
            }
        }
        points.into_values().collect()
    }

    fn talkers(&self, dimension: Dimension, range: Range, order: Order, limit: usize) -> Talkers {
        let minutes = range.from_unix_s.div_euclid(60)..(range.to_unix_s + 59).div_euclid(60);
        let mut sums: HashMap<String, Volume> = HashMap::new();
        for (row, volume) in self.flow_records() {
            if minutes.contains(&row.flow.last_unix_ns.div_euclid(60_000_000_000)) {
                let key = dimension.key(&row.sensor, &row.flow);
                sums.entry(key).or_default().add(volume);
            }
        }
        talkers::top(sums, Volume::default(), order, limit)
    }

    fn totals(&self, sensor: Option<&str>) -> Totals {
        let mut totals = Totals::default();
        let mut last_start: HashMap<&str, u64> = HashMap::new();
        for (of, stream_id, record) in &self.records {
            if matches!(record, Record::Counters(_)) {
                last_start.insert(of, *stream_id);
            }
        }
        let mut latest: BTreeMap<(&str, &str, Direction), &Counters> = BTreeMap::new();
        for (of, stream_id, c) in self.counters() {
            if last_start.get(of) != Some(&stream_id) {
                continue;
            }
            let place = (of, c.interface.as_str(), c.direction);
            let newer = latest.get(&place).is_none_or(|l| l.unix_ns <= c.unix_ns);
            if newer && sensor.is_none_or(|s| s == of) {
                latest.insert(place, c);
            }
        }
        for c in latest.values() {
            match c.direction {
                Direction::Ingress => totals.rx.add(&c.totals),
                Direction::Egress => totals.tx.add(&c.totals),
            }
        }
        let flows = self.flows();
        let mut last_stream: HashMap<&str, u64> = HashMap::new();
        for (of, stream_id, record) in &self.records {
            if matches!(record, Record::Flow(_)) {
                last_stream.insert(of, *stream_id);
            }
        }
        for row in &flows {
            let wanted = sensor.is_none_or(|s| s == row.sensor)
                && last_stream.get(row.sensor.as_str()) == Some(&row.stream_id);
            let place = Verdict::ALL.iter().position(|v| *v == row.flow.verdict);
            if let Some(count) = place.and_then(|p| totals.verdicts.get_mut(p))
                && wanted
            {
                *count += 1;
            }
        }
        totals
    }
}

fn page<T>(
    rows: Vec<T>,
    id: fn(&T) -> RowId,
    page: PageRequest,
    wanted: impl Fn(&T) -> bool,
) -> Page<T> {
    let mut rows: Vec<T> = rows
        .into_iter()
        .rev()
        .filter(|row| id(row) < page.before && wanted(row))
        .collect();
    let next = rows.len() > page.limit;
    rows.truncate(page.limit);
    Page {
        next: rows.last().map(id).filter(|_| next),
        rows,
    }
}

fn answer<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(ready(Ok(value)))
}

impl MemoryStore {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    /// The model has one day, which stays.
    fn retain(&self, _retention: Retention) -> BoxFuture<'_, Result<Vec<u32>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn append<'a>(
        &'a self,
        batches: &'a [SensorBatch],
        received_unix_ms: i64,
    ) -> BoxFuture<'a, Result<Appended, StoreError>> {
        let mut kept = self.kept();
        let outcomes = batches.iter().map(|b| kept.append(b, received_unix_ms));
        answer(Appended {
            outcomes: outcomes.collect(),
            ..Appended::default()
        })
    }

    fn hello<'a>(
        &'a self,
        hello: &'a Hello,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let entry = (hello.clone(), now_unix_ms);
        self.kept().hellos.insert(hello.sensor.clone(), entry);
        answer(())
    }

    fn seen<'a>(
        &'a self,
        sensor: &'a SensorName,
        now_unix_ms: i64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if let Some(entry) = self.kept().hellos.get_mut(sensor) {
            entry.1 = now_unix_ms;
        }
        answer(())
    }

    fn sensors(&self) -> BoxFuture<'_, Result<Vec<SensorRow>, StoreError>> {
        let kept = self.kept();
        let health = |of: &SensorName| -> Option<Health> {
            kept.records
                .iter()
                .rev()
                .find_map(|(sensor, _, r)| match r {
                    Record::Health(health) if sensor == of.as_str() => Some(health.clone()),
                    _ => None,
                })
        };
        let rows = kept.hellos.iter().map(|(sensor, (hello, seen))| SensorRow {
            hello: hello.clone(),
            last_seen_unix_ms: *seen,
            health: health(sensor),
        });
        answer(rows.collect())
    }

    fn packets<'a>(
        &'a self,
        filter: &'a Filter,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<Page<PacketRow>, StoreError>> {
        answer(page(
            self.kept().packets(),
            |row| row.id,
            request,
            |row| {
                let p = &row.packet;
                filter.admits_time(p.unix_ns, p.unix_ns)
                    && filter.sensor.as_ref().is_none_or(|s| *s == row.sensor)
                    && filter.verdict.is_none_or(|v| v == p.verdict)
                    && filter.kind.as_ref().is_none_or(|k| *k == p.kind)
                    && filter.ip_protocol.is_none_or(|n| n == p.ip_protocol)
                    && filter
                        .address
                        .is_none_or(|a| a == p.src_ip || a == p.dst_ip)
                    && filter
                        .port
                        .is_none_or(|n| n == p.src_port || n == p.dst_port)
                    && filter.direction.is_none_or(|d| d == p.direction)
            },
        ))
    }

    fn flows<'a>(
        &'a self,
        filter: &'a Filter,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<Page<FlowRow>, StoreError>> {
        answer(page(
            self.kept().flows(),
            |row| row.id,
            request,
            |row| {
                let f = &row.flow;
                filter.admits_time(f.first_unix_ns, f.last_unix_ns)
                    && filter.sensor.as_ref().is_none_or(|s| *s == row.sensor)
                    && filter.verdict.is_none_or(|v| v == f.verdict)
                    && filter.kind.as_ref().is_none_or(|k| *k == f.kind)
                    && filter.ip_protocol.is_none_or(|n| n == f.ip_protocol)
                    && filter
                        .address
                        .is_none_or(|a| a == f.src_ip || a == f.dst_ip)
                    && filter
                        .port
                        .is_none_or(|n| n == f.src_port || n == f.dst_port)
            },
        ))
    }

    fn flow(&self, key: FlowKey) -> BoxFuture<'_, Result<Option<FlowRow>, StoreError>> {
        answer(self.kept().flows().into_iter().find(|row| row.key() == key))
    }

    fn events<'a>(
        &'a self,
        filter: &'a Filter,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<Page<EventRow>, StoreError>> {
        answer(page(
            self.kept().events(),
            |row| row.id,
            request,
            |row| {
                let at = row.event.unix_ns;
                filter.admits_time(at, at)
                    && filter.sensor.as_ref().is_none_or(|s| *s == row.sensor)
            },
        ))
    }

    fn traffic<'a>(
        &'a self,
        range: Range,
        step: Step,
        sensor: Option<&'a str>,
        interface: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<TrafficPoint>, StoreError>> {
        answer(self.kept().traffic(range, step, sensor, interface))
    }

    fn talkers(
        &self,
        dimension: Dimension,
        range: Range,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'_, Result<Talkers, StoreError>> {
        answer(self.kept().talkers(dimension, range, order, limit))
    }

    fn totals<'a>(&'a self, sensor: Option<&'a str>) -> BoxFuture<'a, Result<Totals, StoreError>> {
        answer(self.kept().totals(sensor))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
