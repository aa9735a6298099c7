//! The collector: what [`netml_collector::ingest::service`] and its committer do with tasks, in steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::FutureExt as _;
use netml_collector::ingest::books::Books;
use netml_collector::ingest::check;
use netml_collector::ingest::committer::{CommitFailed, GROUP_WAIT, Group, Line, Pending};
use netml_collector::ingest::sequence;
use netml_collector::ingest::service::IN_FLIGHT_BATCHES_MAX;
use netml_collector::record::{Record, SensorName};
use netml_collector::store::memory::MemoryStore;
use netml_collector::store::{Outcome, Store as _, StoreError};
use netml_proto::v1;
use tokio::sync::{Semaphore, oneshot};

use super::{Down, Ledger, Random, Wires};

type Fate = oneshot::Receiver<Result<Outcome, CommitFailed>>;

/// A stream that is open.
struct Connection {
    sensor: SensorName,
    elsewhere: check::Elsewhere,
    line: Line,
    fates: VecDeque<(Fate, u64)>,
}

/// See the module. What is in `store` and beside it below outlives a kill.
#[derive(Default)]
pub(crate) struct Collector {
    store: MemoryStore,
    watermarks: BTreeMap<u64, u64>,
    stored: BTreeSet<(u64, u64)>,
    /// By stream: how far others have it, by what the sensor ever said.
    elsewhere: BTreeMap<u64, u64>,
    /// Stream, first number and the number behind the last.
    gaps: Vec<(u64, u64, u64)>,

    books: Books,
    connections: BTreeMap<u64, Connection>,
    queue: VecDeque<Pending>,
    /// When the first of the queue is stored.
    due_ms: u64,
    back_ms: u64,
    refuses_until_ms: u64,
}

impl Collector {
    pub(crate) fn is_up(&self, now_ms: u64) -> bool {
        now_ms >= self.back_ms
    }

    pub(crate) fn has(&self, stream_id: u64, seq: u64) -> bool {
        self.stored.contains(&(stream_id, seq))
    }

    pub(crate) fn refuse_until(&mut self, until_ms: u64) {
        self.refuses_until_ms = until_ms;
    }

    /// Killed: what was not committed is gone, with all connections.
    pub(crate) fn crash(&mut self, at: usize, now_ms: u64, back_ms: u64, wires: &mut Wires) {
        self.connections.clear();
        self.queue.clear();
        self.books = Books::default();
        self.back_ms = back_ms.max(now_ms + 1);
        for wire in wires.values_mut().filter(|wire| wire.at == at) {
            wire.is_silent = true;
            wire.sensor_until_ms = wire.sensor_until_ms.min(now_ms);
        }
    }

    pub(crate) fn step(
        &mut self,
        at: usize,
        now_ms: u64,
        wires: &mut Wires,
        ledger: &Ledger,
        random: &mut Random,
    ) {
        if !self.is_up(now_ms) {
            return;
        }
        let numbers: Vec<u64> = wires
            .iter()
            .filter(|(_, wire)| wire.at == at)
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.read(number, now_ms, wires, random);
        }
        self.connections
            .retain(|number, _| wires.contains_key(number));
        // Several transactions may end before anybody is told of the first.
        while !self.queue.is_empty() && now_ms >= self.due_ms {
            let mut group = Group::default();
            for _ in 0..=random.below(3) {
                if let Some(pending) = self.queue.pop_front() {
                    group.push(pending, &self.books);
                }
            }
            // Where the store refuses, it does not refuse all.
            let is_refused = now_ms < self.refuses_until_ms && random.one_in(2);
            self.commit(group, is_refused, now_ms);
            if random.one_in(3) {
                break;
            }
        }
        self.acknowledge(now_ms, wires, ledger, random);
    }

    /// Takes what came by a connection, as far as it may be ahead of the store.
    fn read(&mut self, number: u64, now_ms: u64, wires: &mut Wires, random: &mut Random) {
        loop {
            let Some(wire) = wires.get_mut(&number) else {
                return;
            };
            if now_ms >= wire.collector_until_ms {
                self.connections.remove(&number);
                wire.up.clear();
                return;
            }
            let is_due = wire.up.front().is_some_and(|(ms, _)| *ms <= now_ms);
            let is_ahead = self
                .connections
                .get(&number)
                .is_some_and(|of| of.fates.len() >= IN_FLIGHT_BATCHES_MAX);
            if wire.is_silent || !is_due || is_ahead {
                return;
            }
            let Some((_, message)) = wire.up.pop_front() else {
                return;
            };
            match message.message {
                Some(v1::sensor_message::Message::Hello(hello)) => {
                    // A newer connection of a sensor takes the older one's place.
                    let older = std::mem::take(&mut self.connections);
                    let elsewhere = check::stored_elsewhere(&hello).unwrap();
                    for (stream_id, seq) in &elsewhere {
                        let known = self.elsewhere.entry(*stream_id).or_default();
                        *known = seq.max(known).to_owned();
                    }
                    let hello = check::hello(hello).unwrap();
                    let connection = Connection {
                        sensor: hello.sensor,
                        elsewhere,
                        line: Line::default(),
                        fates: VecDeque::new(),
                    };
                    self.connections.insert(number, connection);
                    wire.answer(Down::Opened, now_ms, random);
                    for number in older.into_keys() {
                        if let Some(wire) = wires.get_mut(&number) {
                            wire.answer(Down::Ended, now_ms, random);
                            wire.up.clear();
                        }
                    }
                }
                Some(v1::sensor_message::Message::Batch(batch)) => {
                    // Behind the end of its stream nobody reads any more.
                    let Some(connection) = self.connections.get_mut(&number) else {
                        continue;
                    };
                    let checked =
                        check::batch(&connection.sensor, &batch, &connection.elsewhere).unwrap();
                    let (reply, fate) = oneshot::channel();
                    let memory = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
                    connection.fates.push_back((fate, checked.stream_id));
                    let pending = Pending {
                        batch: checked,
                        line: connection.line.clone(),
                        reply,
                        memory,
                    };
                    if self.queue.is_empty() {
                        let wait_ms = u64::try_from(GROUP_WAIT.as_millis()).unwrap();
                        self.due_ms = now_ms + wait_ms;
                    }
                    self.queue.push_back(pending);
                }
                other => panic!("{other:?} was never sent"),
            }
        }
    }

    fn commit(&mut self, group: Group, is_refused: bool, now_ms: u64) {
        if group.batches().is_empty() {
            return;
        }
        if is_refused {
            assert!(
                group
                    .settle(Err(StoreError::Timeout), &self.books)
                    .is_none()
            );
            return;
        }
        let batches = group.batches().to_vec();
        let appended = self
            .store
            .append(&batches, i64::try_from(now_ms).unwrap())
            .now_or_never()
            .unwrap()
            .unwrap();
        for (batch, outcome) in batches.iter().zip(&appended.outcomes) {
            let Outcome::Stored {
                ack,
                stored,
                duplicate,
                refused,
                gap,
            } = *outcome
            else {
                panic!("{outcome:?}");
            };
            assert_eq!(refused, 0);
            let id = batch.stream_id;
            let watermark = self.watermarks.entry(id).or_default();
            // The model and the arithmetic that ships.
            let admission = sequence::admit(
                batch.watermark_from(*watermark),
                batch.first_seq,
                batch.last_seq(),
            );
            assert_eq!(
                (admission.duplicate, admission.fresh, admission.gap),
                (duplicate, stored, gap)
            );
            assert_eq!(admission.watermark, ack);
            *watermark = ack;
            if gap > 0 {
                self.gaps.push((id, batch.first_seq - gap, batch.first_seq));
            }
            for (seq, record) in (batch.first_seq..)
                .zip(&batch.records)
                .skip(duplicate as usize)
            {
                match record {
                    Some(Record::Packet(packet)) => {
                        assert_eq!(packet.flow_id, seq, "the number of another record");
                        assert!(
                            self.stored.insert((id, seq)),
                            "{seq} of {id:x} is stored twice"
                        );
                    }
                    Some(Record::Event(event)) => assert_eq!(event.kind, "loss"),
                    other => panic!("{other:?} was never made"),
                }
            }
        }
        assert!(group.settle(Ok(appended), &self.books).is_some());
        let of = Books::get;
        assert_eq!(
            of(&self.books.records_in),
            of(&self.books.records_stored) + of(&self.books.records_duplicate)
        );
    }

    /// In the order of arrival.
    fn acknowledge(
        &mut self,
        now_ms: u64,
        wires: &mut Wires,
        ledger: &Ledger,
        random: &mut Random,
    ) {
        let mut ended = Vec::new();
        for (number, connection) in &mut self.connections {
            let Some(wire) = wires.get_mut(number) else {
                continue;
            };
            while let Some((fate, stream_id)) = connection.fates.front_mut() {
                let down = match fate.try_recv() {
                    Err(_) => break,
                    Ok(Ok(Outcome::Stored { ack: seq, .. })) => {
                        let stream_id = *stream_id;
                        // That those are at another one is looked at in the end.
                        let known = self.elsewhere.get(&stream_id).copied().unwrap_or(0);
                        for seq in known + 1..=seq {
                            assert!(
                                self.stored.contains(&(stream_id, seq))
                                    || ledger.may_be_lost(stream_id, seq),
                                "{seq} of {stream_id:x} is acknowledged and not stored"
                            );
                        }
                        Down::Message(v1::CollectorMessage {
                            message: Some(v1::collector_message::Message::Ack(v1::Ack {
                                stream_id,
                                seq,
                            })),
                        })
                    }
                    Ok(_) => {
                        ended.push(*number);
                        Down::Ended
                    }
                };
                let is_end = matches!(down, Down::Ended);
                wire.answer(down, now_ms, random);
                connection.fates.pop_front();
                if is_end {
                    break;
                }
            }
        }
        for number in ended {
            self.connections.remove(&number);
        }
    }

    pub(crate) fn tells_gap(&self, stream_id: u64, seq: u64) -> bool {
        let mut gaps = self.gaps.iter();
        gaps.any(|(of, from, to)| *of == stream_id && (*from..*to).contains(&seq))
    }

    /// A gap is told of nothing that could not be lost.
    pub(crate) fn check(&self, ledger: &Ledger) {
        for (stream_id, from, to) in &self.gaps {
            for seq in *from..*to {
                assert!(
                    ledger.may_be_lost(*stream_id, seq),
                    "{seq} of {stream_id:x} is told as lost and was not"
                );
                assert!(!self.has(*stream_id, seq));
            }
        }
    }
}
