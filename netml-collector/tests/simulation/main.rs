//! A sensor, a network and one to three collectors in one thread, by a seed: the same seed gives the same
//! run. What runs is what ships: of the sensor the sealing of batches, the spool (on a simulated disk) or the
//! backlog in memory, and what decides whom to speak to and what to send ([`Dispatch`]); of the collector the
//! checks of each message, the groups of the committer and the arithmetic of sequence numbers. Not in it: the
//! threads and sockets around them, HTTP/2 and SQLite, which the process tests run.
//!
//! The network delays messages and loses them with their connection, in either direction, told to one side,
//! to both or to nobody; it never changes their order, since TCP does not. The sensor is killed or loses
//! power (the disk then keeps of what was not synced what it likes); collectors are killed and keep what
//! they committed; their store refuses for a while. Then all of that ends, and everything has to be in order.
//!
//! `NETML_SEEDS` sets the number of seeds (1,000; ten times as many with `NETML_EVERY`), `NETML_SEED` runs one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; the exemption of clippy.toml does not reach their helpers"
)]

mod collector;
mod disk;
mod sensor;

use std::collections::VecDeque;

use collector::Collector;
use netml_agent::export::Pace;
use netml_proto::v1;
use sensor::Sensor;

/// Grain of the simulated time.
const STEP_MS: u64 = 50;

/// Faults happen until then; records are made a little longer.
const FAULTS_MS: u64 = 8_000;
const RECORDS_MS: u64 = 9_000;

/// Nothing waits and the preferred collector is spoken to for so long at the end: what tells of a loss has
/// arrived.
const CALM_MS: u64 = 1_500;

/// Everything has to be in order by then.
const END_MS: u64 = 60_000;

/// A message takes at most so long.
const DELAY_MS_MAX: u64 = 300;

/// A silent connection is found dead after so long, by either side.
const KEEP_ALIVE_MS: u64 = 1_500;

/// Times of the route, shortened.
const PACE: Pace = Pace {
    backoff_first_ms: 100,
    backoff_max_ms: 800,
    fail_over_ms: 1_000,
    ack_max_ms: 2_000,
    probe_ms: 300,
    probe_max_ms: 1_200,
    return_ms: 1_000,
    return_max_ms: 8_000,
    drain_ms: 400,
};

/// Numbers by xorshift.
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        disk::sim::below(&mut self.0, bound)
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What a collector says, or that it ended the stream.
pub(crate) enum Down {
    /// The stream is open.
    Opened,
    Message(v1::CollectorMessage),
    Ended,
}

/// A connection, with what is on the way in it.
pub(crate) struct Wire {
    pub(crate) at: usize,
    pub(crate) up: VecDeque<(u64, v1::SensorMessage)>,
    pub(crate) down: VecDeque<(u64, Down)>,
    /// Nothing passes any more, and nobody is told.
    pub(crate) is_silent: bool,
    /// When the sensor, and the collector, take it for dead.
    pub(crate) sensor_until_ms: u64,
    pub(crate) collector_until_ms: u64,
    /// The sensor has closed it: what is on the way still comes.
    pub(crate) is_closed: bool,
}

impl Wire {
    pub(crate) fn send(&mut self, message: v1::SensorMessage, now_ms: u64, random: &mut Random) {
        let at_ms = arrival(self.up.back().map(|(ms, _)| *ms), now_ms, random);
        self.up.push_back((at_ms, message));
    }

    pub(crate) fn answer(&mut self, down: Down, now_ms: u64, random: &mut Random) {
        let at_ms = arrival(self.down.back().map(|(ms, _)| *ms), now_ms, random);
        self.down.push_back((at_ms, down));
    }
}

/// In order, whatever the delays.
fn arrival(before_ms: Option<u64>, now_ms: u64, random: &mut Random) -> u64 {
    (now_ms + random.below(DELAY_MS_MAX)).max(before_ms.unwrap_or(0))
}

/// Connections by number.
pub(crate) type Wires = std::collections::BTreeMap<u64, Wire>;

/// What is known of each record: its stream and number, when it was made, and when its stream's sensor
/// was killed (`true`: by the power).
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) made: std::collections::BTreeMap<(u64, u64), u64>,
    pub(crate) crashes: std::collections::BTreeMap<u64, (u64, bool)>,
}

impl Ledger {
    /// True where the record may be lost: not sealed at a kill, not synced when the power went.
    pub(crate) fn may_be_lost(&self, stream_id: u64, seq: u64) -> bool {
        let Some((crash_ms, by_power)) = self.crashes.get(&stream_id) else {
            return false;
        };
        // The age at which a batch is sealed, or sealed and synced, and the grain of the clock.
        let young_ms = if *by_power { 200 + 500 } else { 200 } + 2 * STEP_MS;
        let made_ms = self.made.get(&(stream_id, seq));
        made_ms.is_none_or(|made_ms| made_ms + young_ms >= *crash_ms)
    }
}

struct World {
    now_ms: u64,
    random: Random,
    sensor: Sensor,
    collectors: Vec<Collector>,
    wires: Wires,
    ledger: Ledger,
    /// What has happened, so that a run without faults does not pass for one with them.
    happened: [u64; 6],
    calm_since_ms: Option<u64>,
}

const CUT: usize = 0;
const SILENT: usize = 1;
const SENSOR_KILLED: usize = 2;
const POWER_CUT: usize = 3;
const COLLECTOR_KILLED: usize = 4;
const STORE_FAILED: usize = 5;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let collectors = 1 + random.below(3) as usize;
        Self {
            now_ms: 0,
            // Half of the sensors have a spool, and of those some crash.
            sensor: Sensor::new(seed, collectors, random.one_in(2), &mut random),
            collectors: (0..collectors).map(|_| Collector::default()).collect(),
            wires: Wires::new(),
            ledger: Ledger::default(),
            random,
            happened: [0; 6],
            calm_since_ms: None,
        }
    }

    fn step(&mut self) {
        let now_ms = self.now_ms;
        if now_ms < FAULTS_MS {
            self.fault();
        }
        if now_ms < RECORDS_MS {
            for _ in 0..self.random.below(4) {
                self.sensor.make(now_ms, &mut self.ledger);
            }
        }
        let is_up: Vec<bool> = self.collectors.iter().map(|c| c.is_up(now_ms)).collect();
        self.sensor
            .step(now_ms, &mut self.wires, &is_up, &mut self.random);
        for at in 0..self.collectors.len() {
            self.collectors[at].step(at, now_ms, &mut self.wires, &self.ledger, &mut self.random);
        }
        // Closed by the sensor, and everything has come.
        self.wires
            .retain(|_, wire| !(wire.is_closed && (wire.up.is_empty() || wire.is_silent)));
        self.calm_since_ms = if now_ms > RECORDS_MS && self.sensor.is_calm() {
            self.calm_since_ms.or(Some(now_ms))
        } else {
            None
        };
        self.now_ms += STEP_MS;
    }

    fn fault(&mut self) {
        let now_ms = self.now_ms;
        let random = &mut self.random;
        for wire in self.wires.values_mut() {
            if random.one_in(60) {
                self.happened[CUT] += 1;
                // What is on the way is lost; each side hears of it at once or finds out.
                wire.is_silent = true;
                wire.up.clear();
                wire.down.clear();
                for until_ms in [&mut wire.sensor_until_ms, &mut wire.collector_until_ms] {
                    *until_ms = now_ms + [0, 200, KEEP_ALIVE_MS][random.below(3) as usize];
                }
            } else if random.one_in(150) {
                self.happened[SILENT] += 1;
                wire.is_silent = true;
                wire.sensor_until_ms = now_ms + KEEP_ALIVE_MS;
                wire.collector_until_ms = now_ms + KEEP_ALIVE_MS;
            }
        }
        if self.sensor.may_crash() && random.one_in(80) {
            let by_power = random.one_in(2);
            self.happened[if by_power { POWER_CUT } else { SENSOR_KILLED }] += 1;
            self.sensor
                .crash(by_power, now_ms, &mut self.wires, &mut self.ledger, random);
        }
        for at in 0..self.collectors.len() {
            if self.collectors[at].is_up(now_ms) && random.one_in(80) {
                self.happened[COLLECTOR_KILLED] += 1;
                let back_ms = now_ms + random.below(4_000);
                self.collectors[at].crash(at, now_ms, back_ms, &mut self.wires);
            }
            if random.one_in(80) {
                self.happened[STORE_FAILED] += 1;
                self.collectors[at].refuse_until(now_ms + random.below(600));
            }
        }
    }

    fn is_in_order(&self) -> bool {
        let since_ms = self.calm_since_ms;
        since_ms.is_some_and(|since_ms| self.now_ms - since_ms >= CALM_MS)
    }

    fn check(&self) {
        let had_power = self.happened[POWER_CUT] == 0;
        for (stream_id, seq) in self.ledger.made.keys() {
            let (stream_id, seq) = (*stream_id, *seq);
            let is_stored = self.collectors.iter().any(|c| c.has(stream_id, seq));
            if is_stored {
                continue;
            }
            assert!(
                self.ledger.may_be_lost(stream_id, seq),
                "record {seq} of stream {stream_id:x} is nowhere"
            );
            // How many were made is noted at each step, and synced with the rest.
            let is_told = self.collectors.iter().any(|c| c.tells_gap(stream_id, seq));
            assert!(
                is_told || !had_power,
                "the loss of {seq} of {stream_id:x} is not told"
            );
        }
        for collector in &self.collectors {
            collector.check(&self.ledger);
        }
        self.sensor.check(had_power);
    }
}

fn run(seed: u64, happened: &mut [u64; 6]) {
    let mut world = World::new(seed);
    while !world.is_in_order() {
        world.step();
        assert!(
            world.now_ms < END_MS,
            "no progress after the faults ended: {}",
            world.sensor.described()
        );
    }
    world.check();
    for (sum, count) in happened.iter_mut().zip(world.happened) {
        *sum += count;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_fails_what_is_acknowledged_is_stored_once_gaps_are_told_and_it_goes_on() {
    let seeds = match number("NETML_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let often = if std::env::var_os("NETML_EVERY").is_some() {
                10_000
            } else {
                1_000
            };
            0..number("NETML_SEEDS").unwrap_or(often)
        }
    };
    let mut happened = [0; 6];
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut happened = [0; 6];
            run(seed, &mut happened);
            happened
        });
        match ran {
            Ok(counts) => {
                for (sum, count) in happened.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
            Err(panic) => {
                println!("failed with NETML_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!(
        "{count} seeds; cut, silent, sensor killed, power cut, collector killed, store failed: {happened:?}"
    );
    assert!(count < 100 || happened.iter().all(|count| *count > 0));
}
