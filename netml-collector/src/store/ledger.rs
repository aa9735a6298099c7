//! The accounting of an append, as a pure computation: which records are new, and by how much
//! each sum changes. A store applies a [`Plan`] in one transaction and then tells the [`Ledger`].
//!
//! Counters and flow totals arrive cumulative. What enters a sum is the difference to the value
//! stored last, so a lost batch, a resend or a restart of either side changes no total.

use std::collections::{BTreeMap, HashMap};

use super::{Dimension, FlowKey, Outcome, TrafficPoint, Volume};
use crate::ingest::sequence;
use crate::record::{
    CounterTotals, Counters, Direction, Event, Flow, FlowState, Health, Packet, Record,
    SensorBatch, SensorName, Verdict,
};

/// Most flows whose last totals are kept in memory; beyond it all are forgotten and looked up
/// again where needed.
pub const FLOW_BASES_MAX: usize = 65_536;

/// Most streams, and most counters, kept in memory in the same way. A sensor has a stream for each
/// of its starts and a counter for each attachment of an interface, of which a day can see many.
pub const WATERMARKS_MAX: usize = 4_096;
/// See [`WATERMARKS_MAX`].
pub const COUNTER_BASES_MAX: usize = 4_096;

/// Names a counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// Whose.
    pub sensor: String,
    /// Interface.
    pub interface: String,
    /// Direction.
    pub direction: Direction,
    /// Attachment: totals restart with a new one.
    pub attach_id: u64,
}

impl CounterKey {
    fn of(sensor: &SensorName, counters: &Counters) -> Self {
        Self {
            sensor: sensor.as_str().to_owned(),
            interface: counters.interface.clone(),
            direction: counters.direction,
            attach_id: counters.attach_id,
        }
    }
}

/// A counter as stored last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterBase {
    /// Stream it came in: one for each start of the sensor.
    pub stream_id: u64,
    /// When it was read.
    pub unix_ns: i64,
    /// Its cumulative values.
    pub totals: CounterTotals,
}

/// A flow as stored last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowBase {
    /// Its row in the file being written, if it has one there.
    pub row: Option<i64>,
    /// Both directions.
    pub packets: u64,
    /// Both directions.
    pub bytes: u64,
    /// Its verdict.
    pub verdict: Verdict,
}

/// A stream's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Whose stream it is.
    pub sensor: String,
    /// Everything up to here is stored or was given up by the sensor.
    pub seq: u64,
}

/// The state that appends build on; as far as it is remembered, equal to what the store holds.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By stream id.
    pub watermarks: HashMap<u64, Watermark>,
    /// Counters as stored last.
    pub counters: HashMap<CounterKey, CounterBase>,
    /// Flows as stored last, as far as remembered.
    pub flows: HashMap<FlowKey, FlowBase>,
}

/// What an append changes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// One per batch.
    pub outcomes: Vec<Outcome>,
    /// Watermarks to set.
    pub watermarks: BTreeMap<u64, Watermark>,
    /// Packets to insert: sensor, stream, packet.
    pub packets: Vec<(SensorName, u64, Packet)>,
    /// Flows to insert or replace, each once, in the order first met.
    pub flows: Vec<(SensorName, u64, Flow)>,
    /// Place of each of those flows in `flows`.
    flow_places: HashMap<FlowKey, usize>,
    /// Bases of those flows before the append.
    pub flow_bases: HashMap<FlowKey, FlowBase>,
    /// Events to insert.
    pub events: Vec<(SensorName, Event)>,
    /// Latest health by sensor.
    pub health: BTreeMap<SensorName, Health>,
    /// Counters to set.
    pub counters: BTreeMap<CounterKey, CounterBase>,
    /// What to add to the seconds.
    pub traffic: BTreeMap<(i64, String, String), TrafficPoint>,
    /// What to add to the minutes' talkers.
    pub talkers: BTreeMap<(i64, Dimension), HashMap<String, Volume>>,
    /// What to add to the count of flows by verdict; by stream.
    pub verdicts: BTreeMap<(u64, Verdict), (String, i64)>,
}

impl Ledger {
    /// Flows of `batches` whose bases are not in memory. To be looked up before [`Self::plan`].
    #[must_use]
    pub fn unknown_flows(&self, batches: &[SensorBatch]) -> Vec<FlowKey> {
        let mut keys: Vec<FlowKey> = batches
            .iter()
            .flat_map(|batch| batch.records.iter().map(move |r| (batch.stream_id, r)))
            .filter_map(|(stream_id, record)| match record {
                Some(Record::Flow(flow)) => Some(FlowKey {
                    stream_id,
                    flow_id: flow.flow_id,
                }),
                _ => None,
            })
            .filter(|key| !self.flows.contains_key(key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Streams of `batches` whose watermarks are not in memory. To be looked up likewise.
    #[must_use]
    pub fn unknown_streams(&self, batches: &[SensorBatch]) -> Vec<u64> {
        let streams = batches.iter().map(|batch| batch.stream_id);
        let mut streams: Vec<u64> = streams
            .filter(|stream_id| !self.watermarks.contains_key(stream_id))
            .collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// Counters of `batches` whose bases are not in memory. To be looked up likewise.
    #[must_use]
    pub fn unknown_counters(&self, batches: &[SensorBatch]) -> Vec<CounterKey> {
        let mut keys: Vec<CounterKey> = batches
            .iter()
            .flat_map(|batch| batch.records.iter().map(move |r| (&batch.sensor, r)))
            .filter_map(|(sensor, record)| match record {
                Some(Record::Counters(counters)) => Some(CounterKey::of(sensor, counters)),
                _ => None,
            })
            .filter(|key| !self.counters.contains_key(key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Remembers what was looked up.
    pub fn learn(&mut self, found: Ledger) {
        self.watermarks.extend(found.watermarks);
        self.counters.extend(found.counters);
        self.flows.extend(found.flows);
    }

    /// What storing `batches` changes, in their order.
    #[must_use]
    pub fn plan(&self, batches: &[SensorBatch], received_unix_ms: i64) -> Plan {
        let mut plan = Plan::default();
        for batch in batches {
            let outcome = self.plan_batch(&mut plan, batch, received_unix_ms);
            plan.outcomes.push(outcome);
        }
        plan
    }

    /// Takes over a plan that was stored; `row_of` gives the row of each of its flows. Returns how
    /// many streams, counters and flows were forgotten for want of room.
    pub fn apply(&mut self, plan: &Plan, row_of: impl Fn(FlowKey) -> Option<i64>) -> u64 {
        self.watermarks.extend(plan.watermarks.clone());
        self.counters.extend(plan.counters.clone());
        for (_, stream_id, flow) in &plan.flows {
            let key = FlowKey {
                stream_id: *stream_id,
                flow_id: flow.flow_id,
            };
            if flow.state == FlowState::End {
                self.flows.remove(&key);
            } else {
                self.flows.insert(key, base_of(flow, row_of(key)));
            }
        }
        bound(&mut self.watermarks, WATERMARKS_MAX)
            + bound(&mut self.counters, COUNTER_BASES_MAX)
            + bound(&mut self.flows, FLOW_BASES_MAX)
    }

    fn plan_batch(&self, plan: &mut Plan, batch: &SensorBatch, received_unix_ms: i64) -> Outcome {
        let known = plan
            .watermarks
            .get(&batch.stream_id)
            .or_else(|| self.watermarks.get(&batch.stream_id));
        if known.is_some_and(|w| w.sensor != batch.sensor.as_str()) {
            return Outcome::ForeignStream;
        }
        let watermark = batch.watermark_from(known.map_or(0, |w| w.seq));
        let admission = sequence::admit(watermark, batch.first_seq, batch.last_seq());
        plan.watermarks.insert(
            batch.stream_id,
            Watermark {
                sensor: batch.sensor.as_str().to_owned(),
                seq: admission.watermark,
            },
        );
        if admission.gap > 0 {
            plan.events.push((
                batch.sensor.clone(),
                gap_event(batch, &admission, received_unix_ms),
            ));
        }
        let skip = usize::try_from(admission.duplicate).unwrap_or(usize::MAX);
        let mut refused = 0;
        for record in batch.records.iter().skip(skip) {
            match record {
                None => refused += 1,
                Some(Record::Counters(c)) => self.plan_counters(plan, batch, c),
                Some(Record::Flow(flow)) => self.plan_flow(plan, batch, flow),
                Some(Record::Packet(p)) => {
                    plan.packets
                        .push((batch.sensor.clone(), batch.stream_id, p.clone()));
                }
                Some(Record::Event(e)) => plan.events.push((batch.sensor.clone(), e.clone())),
                Some(Record::Health(h)) => {
                    plan.health.insert(batch.sensor.clone(), h.clone());
                }
            }
        }
        Outcome::Stored {
            ack: admission.watermark,
            stored: admission.fresh - refused,
            duplicate: admission.duplicate,
            refused,
            gap: admission.gap,
        }
    }

    fn plan_counters(&self, plan: &mut Plan, batch: &SensorBatch, counters: &Counters) {
        let key = CounterKey::of(&batch.sensor, counters);
        let none = CounterTotals::default();
        let base = plan.counters.get(&key).or_else(|| self.counters.get(&key));
        let before = base.map_or(&none, |b| &b.totals);
        let now = &counters.totals;
        // Totals of one attachment only grow: a smaller one is an older reading and changes nothing.
        let (Some(packets), Some(bytes), Some(_)) = (
            now.packets.checked_sub(before.packets),
            now.bytes.checked_sub(before.bytes),
            now.lost_total().checked_sub(before.lost_total()),
        ) else {
            return;
        };
        let unix_ns = base.map_or(counters.unix_ns, |b| b.unix_ns.max(counters.unix_ns));
        let unix_s = counters.unix_ns.div_euclid(1_000_000_000);
        let point = plan
            .traffic
            .entry((unix_s, key.sensor.clone(), key.interface.clone()))
            .or_insert_with(|| TrafficPoint {
                unix_s,
                sensor: key.sensor.clone(),
                interface: key.interface.clone(),
                ..TrafficPoint::default()
            });
        let mut change = TrafficPoint {
            lost_packets: now.missing_total().saturating_sub(before.missing_total()),
            ..TrafficPoint::default()
        };
        match counters.direction {
            Direction::Ingress => (change.rx_packets, change.rx_bytes) = (packets, bytes),
            Direction::Egress => (change.tx_packets, change.tx_bytes) = (packets, bytes),
        }
        point.add(&change);
        let base = CounterBase {
            stream_id: batch.stream_id,
            unix_ns,
            totals: now.clone(),
        };
        plan.counters.insert(key, base);
    }

    fn plan_flow(&self, plan: &mut Plan, batch: &SensorBatch, flow: &Flow) {
        let key = FlowKey {
            stream_id: batch.stream_id,
            flow_id: flow.flow_id,
        };
        let place = plan.flow_places.get(&key).copied();
        let base = match place.and_then(|p| plan.flows.get(p)) {
            Some((_, _, earlier)) => Some(base_of(earlier, None)),
            None => self.flows.get(&key).copied(),
        };
        let now = base_of(flow, None);
        let volume = Volume {
            bytes: now.bytes.saturating_sub(base.map_or(0, |b| b.bytes)),
            packets: now.packets.saturating_sub(base.map_or(0, |b| b.packets)),
            flows: u64::from(base.is_none()),
        };
        let minute = flow.last_unix_ns.div_euclid(60_000_000_000);
        for dimension in Dimension::ALL {
            plan.talkers
                .entry((minute, dimension))
                .or_default()
                .entry(dimension.key(batch.sensor.as_str(), flow))
                .or_default()
                .add(volume);
        }
        let mut count = |verdict, change| {
            plan.verdicts
                .entry((batch.stream_id, verdict))
                .or_insert_with(|| (batch.sensor.as_str().to_owned(), 0))
                .1 += change;
        };
        match base.map(|b| b.verdict) {
            Some(before) if before == now.verdict => {}
            Some(before) => {
                count(before, -1);
                count(now.verdict, 1);
            }
            None => count(now.verdict, 1),
        }
        match place.and_then(|p| plan.flows.get_mut(p)) {
            Some(slot) => slot.2 = flow.clone(),
            None => {
                plan.flow_places.insert(key, plan.flows.len());
                plan.flow_bases.extend(base.map(|b| (key, b)));
                plan.flows
                    .push((batch.sensor.clone(), batch.stream_id, flow.clone()));
            }
        }
    }
}

/// Forgets everything once there is too much; returns how many entries.
fn bound<K, V>(kept: &mut HashMap<K, V>, max: usize) -> u64 {
    if kept.len() <= max {
        return 0;
    }
    let forgotten = kept.len() as u64;
    kept.clear();
    forgotten
}

/// The base that the next record of a flow is compared with.
#[must_use]
pub fn base_of(flow: &Flow, row: Option<i64>) -> FlowBase {
    FlowBase {
        row,
        packets: flow.fwd_packets.saturating_add(flow.rev_packets),
        bytes: flow.fwd_bytes.saturating_add(flow.rev_bytes),
        verdict: flow.verdict,
    }
}

fn gap_event(batch: &SensorBatch, admission: &sequence::Admission, received_unix_ms: i64) -> Event {
    Event {
        unix_ns: received_unix_ms.saturating_mul(1_000_000),
        kind: "gap".to_owned(),
        severity: "warning".to_owned(),
        message: format!(
            "{} records of the sensor are not here: it gave them up or sent them elsewhere, or they were in a \
             day's file that was set aside",
            admission.gap
        ),
        fields: BTreeMap::from([
            ("records".to_owned(), admission.gap.to_string()),
            ("before_seq".to_owned(), batch.first_seq.to_string()),
        ]),
    }
}
