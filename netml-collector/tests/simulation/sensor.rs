//! The sensor: what [`netml_agent::export::client`] does with sockets, done with simulated ones.

use std::collections::VecDeque;

use netml_agent::export::batcher::{Batcher, Limits, Sealer};
use netml_agent::export::route::{Act, Change, Dispatch, Queue};
use netml_agent::spool::{Moment, Settings, Spool};
use netml_proto::v1;

use super::disk::sim::SimFs;
use super::{Down, KEEP_ALIVE_MS, Ledger, PACE, Random, STEP_MS, Wire, Wires};

/// Messages between the client and the connection, as in the client.
const OUTBOUND_MAX: usize = 4;

/// Time for a stream to open.
const OPEN_MS: u64 = 1_000;

pub(crate) const NAME: &str = "sensor";

/// Where batches wait.
enum Kept {
    Memory(Batcher),
    Disk(Box<Spool<SimFs>>, Sealer),
}

/// See [`Kept`]; with the time, which a queue is not told.
pub(crate) struct Waiting {
    kept: Kept,
    now: Moment,
}

impl Waiting {
    fn push(&mut self, record: &v1::Record) {
        match &mut self.kept {
            Kept::Memory(batcher) => batcher.push(record, self.now.mono_ms),
            Kept::Disk(spool, sealer) => {
                if let Some(batch) = sealer.push(record, self.now.mono_ms).unwrap() {
                    spool.append(batch, self.now);
                }
            }
        }
    }

    fn tick(&mut self, now: Moment) {
        self.now = now;
        match &mut self.kept {
            Kept::Memory(batcher) => batcher.tick(now.mono_ms),
            Kept::Disk(spool, sealer) => {
                if let Some(batch) = sealer.tick(now.mono_ms) {
                    spool.append(batch, now);
                }
                spool.tick(sealer.made(), now);
            }
        }
        let books_balance = match &self.kept {
            Kept::Memory(batcher) => {
                let books = batcher.books();
                books.records_in == books.acked + books.lost + batcher.waiting()
            }
            Kept::Disk(spool, _) => {
                let books = spool.books();
                books.found + books.records_in == books.acked + books.lost() + spool.waiting()
            }
        };
        assert!(books_balance, "the sensor's books do not balance");
    }

    fn waiting(&self) -> u64 {
        match &self.kept {
            Kept::Memory(batcher) => batcher.waiting(),
            Kept::Disk(spool, sealer) => spool.waiting() + sealer.open_records(),
        }
    }
}

impl Queue for Waiting {
    fn take_unsent(&mut self) -> Option<v1::Batch> {
        match &mut self.kept {
            Kept::Memory(batcher) => {
                let batch = batcher.unsent().cloned();
                batcher.mark_sent();
                batch
            }
            Kept::Disk(spool, _) => spool.next(self.now),
        }
    }

    fn rewind(&mut self) {
        match &mut self.kept {
            Kept::Memory(batcher) => batcher.rewind(),
            Kept::Disk(spool, _) => spool.rewind(),
        }
    }

    fn refused(&mut self) {
        panic!("nothing was changed on the way, and a batch is refused");
    }

    fn ack(&mut self, ack: v1::Ack) -> bool {
        match &mut self.kept {
            Kept::Memory(batcher) => batcher.ack(ack),
            Kept::Disk(spool, _) => spool.ack(ack),
        }
    }

    fn acknowledged_before(&self) -> Vec<v1::Ack> {
        match &self.kept {
            Kept::Memory(_) => Vec::new(),
            Kept::Disk(spool, _) => spool.acknowledged(),
        }
    }
}

enum Link {
    Down(u64),
    Opening(u64),
    /// The stream, and one that is to take its place.
    Up(u64, Option<u64>),
}

pub(crate) struct Sensor {
    seed: u64,
    collectors: usize,
    disk: Option<SimFs>,
    may_crash: bool,
    starts: u64,
    stream_id: u64,
    seq: u64,
    dispatch: Dispatch<Waiting>,
    link: Link,
    next_wire: u64,
}

fn moment(now_ms: u64) -> Moment {
    Moment {
        mono_ms: now_ms,
        unix_ns: 1_700_000_000_000_000_000 + now_ms * 1_000_000,
    }
}

/// A record that names its place.
fn record(stream_id: u64, seq: u64, now_ms: u64) -> v1::Record {
    v1::Record {
        record: Some(v1::record::Record::Packet(v1::PacketSample {
            unix_ns: moment(now_ms).unix_ns,
            src_ip: stream_id.to_be_bytes()[4..].to_vec(),
            dst_ip: vec![192, 0, 2, 1],
            ip_protocol: 17,
            direction: v1::Direction::Egress.into(),
            interface: "eth0".into(),
            verdict: v1::Verdict::NoVerdict.into(),
            flow_id: seq,
            ..v1::PacketSample::default()
        })),
    }
}

impl Sensor {
    pub(crate) fn new(seed: u64, collectors: usize, has_disk: bool, random: &mut Random) -> Self {
        let disk = has_disk.then(|| SimFs::new(seed));
        let mut sensor = Self {
            seed,
            collectors,
            may_crash: has_disk && random.one_in(2),
            stream_id: 0,
            starts: 0,
            seq: 0,
            dispatch: Dispatch::new(
                Waiting {
                    kept: Kept::Memory(Batcher::new(0, Limits::default())),
                    now: moment(0),
                },
                collectors,
                seed,
                PACE,
                0,
            ),
            disk,
            link: Link::Down(0),
            next_wire: 0,
        };
        sensor.start(0);
        sensor
    }

    fn start(&mut self, now_ms: u64) {
        self.starts += 1;
        // Random in a sensor; the lower half is the address in its packets.
        self.stream_id = (self.seed << 32) | self.starts;
        self.seq = 0;
        let now = moment(now_ms);
        let kept = match &self.disk {
            None => Kept::Memory(Batcher::new(self.stream_id, Limits::default())),
            Some(disk) => {
                let mut settings = Settings::new(NAME.into(), self.stream_id, 1 << 20);
                settings.segment_bytes = 4_096;
                let spool = Spool::open(disk.clone(), settings, now).unwrap();
                Kept::Disk(Box::new(spool), Sealer::new(self.stream_id))
            }
        };
        let waiting = Waiting { kept, now };
        self.dispatch = Dispatch::new(waiting, self.collectors, self.seed, PACE, now_ms);
        self.link = Link::Down(now_ms);
    }

    pub(crate) fn may_crash(&self) -> bool {
        self.may_crash
    }

    pub(crate) fn make(&mut self, now_ms: u64, ledger: &mut Ledger) {
        self.seq += 1;
        ledger.made.insert((self.stream_id, self.seq), now_ms);
        let record = record(self.stream_id, self.seq, now_ms);
        self.dispatch.queue.push(&record);
    }

    /// The process dies, or the host with it, and starts again.
    pub(crate) fn crash(
        &mut self,
        by_power: bool,
        now_ms: u64,
        wires: &mut Wires,
        ledger: &mut Ledger,
        random: &mut Random,
    ) {
        ledger.crashes.insert(self.stream_id, (now_ms, by_power));
        for wire in wires.values_mut() {
            // What was handed to the network may come.
            wire.is_closed = true;
            if by_power || random.one_in(2) {
                wire.up.clear();
            }
            wire.collector_until_ms = wire
                .collector_until_ms
                .min(now_ms + if by_power { KEEP_ALIVE_MS } else { 1_000 });
        }
        if by_power && let Some(disk) = &self.disk {
            disk.cut_power_after(0);
            // The last change before the power is gone.
            self.dispatch.queue.tick_without_books(moment(now_ms));
            disk.power_on();
        }
        self.start(now_ms);
    }

    pub(crate) fn step(
        &mut self,
        now_ms: u64,
        wires: &mut Wires,
        is_up: &[bool],
        random: &mut Random,
    ) {
        self.dispatch.queue.tick(moment(now_ms));
        match self.dispatch.tick(now_ms) {
            Some(Act::Probe) => self.dispatch.probed(is_up[0], now_ms),
            Some(Act::Return) => {
                let opening = self.open(0, now_ms, wires, random);
                if let Link::Up(_, next) = &mut self.link {
                    *next = Some(opening);
                }
            }
            Some(Act::GiveUp) => self.lost(now_ms, wires),
            None => {}
        }
        match self.link {
            Link::Down(until_ms) => {
                if now_ms >= until_ms {
                    let at = self.dispatch.at();
                    if is_up[at] {
                        self.link = Link::Opening(self.open(at, now_ms, wires, random));
                    } else {
                        self.lost(now_ms, wires);
                    }
                }
            }
            Link::Opening(wire) => self.hear(wire, now_ms, wires),
            Link::Up(wire, next) => {
                self.hear(wire, now_ms, wires);
                if let (Some(next), Link::Up(..)) = (next, &self.link) {
                    self.hear(next, now_ms, wires);
                }
            }
        }
        if let Link::Up(number, _) = self.link
            && let Some(wire) = wires.get_mut(&number)
        {
            while wire.up.len() < OUTBOUND_MAX
                && let Some(batch) = self.dispatch.take_unsent(now_ms)
            {
                let message = Some(v1::sensor_message::Message::Batch(batch));
                wire.send(v1::SensorMessage { message }, now_ms, random);
            }
        }
    }

    fn open(&mut self, at: usize, now_ms: u64, wires: &mut Wires, random: &mut Random) -> u64 {
        self.next_wire += 1;
        let mut wire = Wire {
            at,
            up: VecDeque::new(),
            down: VecDeque::new(),
            is_silent: false,
            sensor_until_ms: now_ms + OPEN_MS,
            collector_until_ms: u64::MAX,
            is_closed: false,
        };
        let hello = v1::Hello {
            protocol_version: netml_proto::PROTOCOL_VERSION,
            sensor: NAME.into(),
            source: v1::Source::Live.into(),
            stream_id: self.stream_id,
            stored_elsewhere: self.dispatch.stored_elsewhere(at),
            ..v1::Hello::default()
        };
        let message = Some(v1::sensor_message::Message::Hello(hello));
        wire.send(v1::SensorMessage { message }, now_ms, random);
        // Over all starts: an earlier connection may still have something on the way.
        let number = (self.starts << 32) | self.next_wire;
        wires.insert(number, wire);
        number
    }

    /// Takes what came by a connection.
    fn hear(&mut self, number: u64, now_ms: u64, wires: &mut Wires) {
        loop {
            let is_main = match self.link {
                Link::Down(_) => false,
                Link::Opening(wire) | Link::Up(wire, _) => wire == number,
            };
            let Some(wire) = wires.get_mut(&number) else {
                return self.gone(is_main, now_ms, wires);
            };
            if wire.is_closed {
                return;
            }
            if now_ms >= wire.sensor_until_ms {
                return self.gone(is_main, now_ms, wires);
            }
            let is_due = wire.down.front().is_some_and(|(ms, _)| *ms <= now_ms);
            if wire.is_silent || !is_due {
                return;
            }
            let at = wire.at;
            let Some((_, down)) = wire.down.pop_front() else {
                return;
            };
            match down {
                Down::Opened => {
                    wire.sensor_until_ms = u64::MAX;
                    let before = match self.link {
                        Link::Up(before, _) if before != number => Some(before),
                        _ => None,
                    };
                    if let Some(before) = before.and_then(|before| wires.get_mut(&before)) {
                        before.is_closed = true;
                    }
                    let change = self.dispatch.opened(at, now_ms);
                    assert!(change != Change::Returned(0));
                    self.link = Link::Up(number, None);
                }
                Down::Ended => return self.gone(is_main, now_ms, wires),
                Down::Message(message) => {
                    let Some(v1::collector_message::Message::Ack(ack)) = message.message else {
                        panic!("not sent by a collector here");
                    };
                    // An earlier stream is forgotten with its last acknowledgement; where the collector knows more
                    // of it than the disk did, the next one says the same.
                    if is_main && !self.dispatch.ack(ack, now_ms) {
                        assert!(ack.stream_id != self.stream_id, "{ack:?} of nothing sent");
                    }
                }
            }
        }
    }

    /// A connection is no more.
    fn gone(&mut self, is_main: bool, now_ms: u64, wires: &mut Wires) {
        if is_main {
            self.lost(now_ms, wires);
        } else if let Link::Up(_, next) = &mut self.link {
            if let Some(wire) = next.take().and_then(|next| wires.get_mut(&next)) {
                wire.is_closed = true;
            }
            self.dispatch.not_returned(now_ms);
        }
    }

    fn lost(&mut self, now_ms: u64, wires: &mut Wires) {
        let (main, next) = match self.link {
            Link::Down(_) => (None, None),
            Link::Opening(wire) => (Some(wire), None),
            Link::Up(wire, next) => (Some(wire), next),
        };
        for number in [main, next].into_iter().flatten() {
            if let Some(wire) = wires.get_mut(&number) {
                wire.is_closed = true;
            }
        }
        let pause_ms = self.dispatch.lost(false, now_ms);
        assert!(pause_ms <= PACE.backoff_max_ms);
        self.link = Link::Down(now_ms + pause_ms);
    }

    /// Nothing waits, and the preferred collector is spoken to.
    pub(crate) fn is_calm(&self) -> bool {
        let is_up = matches!(self.link, Link::Up(_, None));
        is_up && self.dispatch.at() == 0 && self.dispatch.queue.waiting() == 0
    }

    pub(crate) fn described(&self) -> String {
        format!(
            "at collector {} of {}, {} records wait, {} steps of {STEP_MS} ms",
            self.dispatch.at(),
            self.collectors,
            self.dispatch.queue.waiting(),
            match self.link {
                Link::Down(_) => "down",
                Link::Opening(_) => "opening",
                Link::Up(..) => "up",
            }
        )
    }

    /// There was room: what is lost is what the power took.
    pub(crate) fn check(&self, had_power: bool) {
        if let Kept::Disk(spool, _) = &self.dispatch.queue.kept {
            assert!(!had_power || spool.books().lost() == 0);
        }
    }
}

impl Waiting {
    /// As the power goes, writes fail.
    fn tick_without_books(&mut self, now: Moment) {
        if let Kept::Disk(spool, sealer) = &mut self.kept {
            spool.tick(sealer.made(), now);
        }
    }
}
