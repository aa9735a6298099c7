//! The whole sensor on a wire: how many packets a second it takes without loss, what it costs bulk
//! TCP, and what a flood of half-open flows does to it.
//!
//! Sender, sensor and the host behind it share the machine's cores. Needs root; skipped without.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::live_frames::{BarePass, Kind, Sender};
use super::pair::{A, B, Books, End, Pair, Via, joined};
use crate::e2e::system::resident_bytes;
use crate::sys;

/// Frames of one trial last this long at the rate asked for.
const TRIAL: Duration = Duration::from_secs(3);
/// Frames are offered in slices of this length or longer, each as fast as the kernel can.
const SLICE: Duration = Duration::from_millis(1);
/// Rates tried first, frames a second; then as fast as can be.
const RATES: [u64; 6] = [400_000, 700_000, 1_000_000, 1_200_000, 1_400_000, 1_600_000];
/// Halvings between the last good and the first bad rate.
const HALVINGS: u32 = 3;
/// Frames of a trial without a rate.
const FRAMES_AT_ONCE: u32 = 4_000_000;
/// What the host does behind the sensor, and the sources as a power of two.
const SETTINGS: [(Via, u32); 3] = [(Via::Mirror, 10), (Via::Mirror, 15), (Via::Host, 10)];
/// First octet of invented sources.
const FIRST_OCTET: u8 = 11;

/// Bulk TCP of one condition lasts this long.
const BULK: Duration = Duration::from_millis(1_500);
const BULK_PORT: u16 = 5_201;
const BULK_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sources of the flood, as a power of two: 1,048,576.
const FLOOD_BITS: u32 = 20;
const FLOOD_RATE: u64 = 200_000;
const FLOODS: u32 = 3;
/// Half-open flows live ten seconds; the sensor looks once a second.
const HALF_OPEN: Duration = Duration::from_secs(12);

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Part {
    /// Packets a second without loss
    Rates,
    /// Bulk TCP with and without the sensor
    Bulk,
    /// Half-open flows of a million sources
    Flood,
}

/// Runs all of it, or one part.
///
/// # Errors
/// The kernel refuses something, or the sensor fails.
pub(super) fn run(part: Option<Part>, rounds: u32) -> anyhow::Result<()> {
    if !sys::is_root() {
        println!("live: skipped: needs root");
        return Ok(());
    }
    sys::catch_stop_signals()?;
    let is_asked = |this| part.is_none_or(|part| part == this);
    if is_asked(Part::Rates) {
        for setting in SETTINGS {
            rates(setting)?;
        }
    }
    if is_asked(Part::Bulk) {
        bulk(rounds)?;
    }
    if is_asked(Part::Flood) {
        flood()?;
    }
    Ok(())
}

/// One rate offered to a sensor of its own.
struct Trial {
    sent: u64,
    per_second: f64,
    books: Books,
}

impl Trial {
    /// Nothing lost.
    fn is_whole(&self) -> bool {
        self.books.lost == 0
    }

    /// Every packet recorded.
    fn is_recorded(&self) -> bool {
        self.is_whole() && self.books.mapped == 0
    }
}

/// Steps through rates with and without loss, then halves between them.
fn rates(setting: (Via, u32)) -> anyhow::Result<()> {
    println!(
        "live: datagrams of 64 bytes from {} sources, {}, native XDP on veth, release build with \
         features and forest; sender, host and sensor on the same cores; {} s each:",
        1_u32 << setting.1,
        match setting.0 {
            Via::Host => "for the host, which finds no way for them",
            Via::Mirror => "for other hosts as on a mirror port",
        },
        TRIAL.as_secs()
    );
    let bare = bare(setting)?;
    println!("  {bare:>9.0} a second: as fast as can be into a bare XDP_PASS, no sensor");
    let mut trials = Vec::new();
    for rate in RATES.map(Some).into_iter().chain([None]) {
        trials.push((rate.unwrap_or(u64::MAX), trial(setting, rate)?));
    }
    for (name, is_good) in [
        ("nothing lost", Trial::is_whole as fn(&Trial) -> bool),
        (
            "every packet recorded, none counted by flow",
            Trial::is_recorded,
        ),
    ] {
        for _ in 0..HALVINGS {
            trials.sort_by_key(|(rate, _)| *rate);
            let bad = trials.iter().position(|(_, trial)| !is_good(trial));
            let (low, high) = match bad {
                // A rate of "as fast as can be" is what came of it.
                Some(at) if at > 0 => (trials[at - 1].0, trials[at].0),
                _ => break,
            };
            let high = high.min(2_000_000);
            let rate = (low + high) / 2;
            if high <= low || high - low < 40_000 {
                break;
            }
            trials.push((rate, trial(setting, Some(rate))?));
        }
        trials.sort_by_key(|(rate, _)| *rate);
        let best = trials
            .iter()
            .take_while(|(_, trial)| is_good(trial))
            .map(|(_, trial)| trial.per_second)
            .fold(0.0, f64::max);
        println!(
            "  {name}: up to {best:.0} a second, {:.0} % of the bare pass",
            best / bare * 100.0
        );
    }
    Ok(())
}

/// What the sender and the host manage by themselves.
fn bare((via, source_bits): (Via, u32)) -> anyhow::Result<f64> {
    let pair = Pair::create()?;
    let pass = pair.within(End::A, bare_pass)?;
    let (sent, elapsed) = pair.within(End::B, move || {
        send(&sender(Kind::Udp, via, source_bits)?, None)
    })?;
    drop(pass);
    Ok(sent as f64 / elapsed.as_secs_f64())
}

/// On the sensor's interface; to be called at end A.
fn bare_pass() -> anyhow::Result<BarePass> {
    let ifindex = u32::try_from(sys::interface_index("a0")?)?;
    BarePass::attach(ifindex).context("cannot attach a bare program")
}

/// Offers one rate, or as much as can be, and prints what became of it.
fn trial((via, source_bits): (Via, u32), rate: Option<u64>) -> anyhow::Result<Trial> {
    let pair = Pair::create()?;
    let sensor = pair.sensor(&["--capture", "native"])?;
    let sending = pair.spawn(End::B, move || {
        send(&sender(Kind::Udp, via, source_bits)?, rate)
    })?;
    let (sent, elapsed) = joined(sending)?;
    let books = sensor.books()?;
    let trial = Trial {
        sent,
        per_second: sent as f64 / elapsed.as_secs_f64(),
        books,
    };
    let Books {
        frames,
        recorded,
        mapped,
        lost,
        flows,
        ..
    } = trial.books;
    println!(
        "  {:>9.0} a second: {} sent, {frames} seen = {recorded} recorded + {mapped} counted by flow + \
         {lost} lost; {flows} flows",
        trial.per_second, trial.sent
    );
    // Between sender and program lies the queue of the veth pair.
    ensure!(
        frames <= sent,
        "more frames than were sent: {frames} of {sent}"
    );
    Ok(trial)
}

/// Sends for [`TRIAL`], longer where the rate is not to be had.
fn send(sender: &Sender, rate: Option<u64>) -> anyhow::Result<(u64, Duration)> {
    let begin = Instant::now();
    let sent = if let Some(rate) = rate {
        paced(sender, rate * TRIAL.as_secs(), rate)?
    } else {
        // In one call: each takes milliseconds to begin and to end.
        sender.send(FRAMES_AT_ONCE)?;
        u64::from(FRAMES_AT_ONCE)
    };
    Ok((sent, begin.elapsed()))
}

/// A sender at end B, where this must be called.
fn sender(kind: Kind, via: Via, source_bits: u32) -> anyhow::Result<Sender> {
    let ifindex = u32::try_from(sys::interface_index("b0")?)?;
    Sender::new(ifindex, kind, &Pair::target(via), FIRST_OCTET, source_bits)
        .context("the kernel refuses to send live frames (Linux 5.18 and root are needed)")
}

/// Sends so many frames at a rate, in slices.
fn paced(sender: &Sender, frames: u64, rate: u64) -> anyhow::Result<u64> {
    let begin = Instant::now();
    let mut sent = 0;
    while sent < frames && !sys::stop_requested() {
        let due_us = u64::try_from((begin.elapsed() + SLICE).as_micros())?;
        let due = rate * due_us / 1_000_000;
        let now = due.min(frames).saturating_sub(sent);
        if let Ok(now @ 1..) = u32::try_from(now) {
            sender.send(now)?;
            sent += u64::from(now);
        }
        let next = Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    Ok(sent)
}

/// What is on the sensor's end while bulk TCP runs through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Nothing,
    SensorTc,
    BarePass,
    SensorXdp,
}

/// Bulk TCP in all conditions in turn.
fn bulk(rounds: u32) -> anyhow::Result<()> {
    const CONDITIONS: [(Condition, &str); 4] = [
        (Condition::Nothing, "no program"),
        (Condition::SensorTc, "sensor, --capture tc"),
        (Condition::BarePass, "bare XDP_PASS, native"),
        (Condition::SensorXdp, "sensor, native XDP"),
    ];
    println!(
        "bulk TCP, one connection over veth with its offloads, {rounds} rounds of {} ms in turn, Gbit/s:",
        BULK.as_millis()
    );
    for (way, is_received) in [("received by", true), ("sent by", false)] {
        let mut rates = [const { Vec::new() }; CONDITIONS.len()];
        for _ in 0..rounds {
            for (rates, (condition, _)) in rates.iter_mut().zip(CONDITIONS) {
                rates.push(bulk_once(condition, is_received)?);
            }
        }
        // Each round is a pair of its own: its moment was the same.
        let ratio = |of: usize, to: usize| {
            let pairs = rates[of].iter().zip(&rates[to]);
            median(pairs.map(|(of, to)| of / to).collect())
        };
        let ratios = [1.0, ratio(1, 0), ratio(2, 0), ratio(3, 2)];
        for (at, (_, name)) in CONDITIONS.into_iter().enumerate() {
            let (least, most) = rates[at]
                .iter()
                .fold((f64::MAX, 0.0_f64), |(l, m), r| (l.min(*r), m.max(*r)));
            let against = if at == 3 { "a bare pass" } else { "no program" };
            println!(
                "  {way} the sensor's host, {name:<22} {:>6.2} ({least:.2}–{most:.2}), {:.1} % of {against}",
                median(rates[at].clone()),
                ratios[at] * 100.0
            );
        }
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Gbit/s of one connection into or out of the sensor's end.
fn bulk_once(condition: Condition, is_received: bool) -> anyhow::Result<f64> {
    ensure!(!sys::stop_requested(), "stopped");
    let pair = Pair::create()?;
    let sensor = match condition {
        Condition::Nothing | Condition::BarePass => None,
        Condition::SensorTc => Some(pair.sensor(&["--capture", "tc"])?),
        Condition::SensorXdp => Some(pair.sensor(&["--capture", "native"])?),
    };
    let pass = (condition == Condition::BarePass)
        .then(|| pair.within(End::A, bare_pass))
        .transpose()?;
    let (from, to, address) = if is_received {
        (End::B, End::A, A)
    } else {
        (End::A, End::B, B)
    };
    let listener = pair.within(to, move || {
        Ok(TcpListener::bind(SocketAddrV4::new(address, BULK_PORT))?)
    })?;
    let sending = pair.spawn(from, move || {
        let mut stream = TcpStream::connect(SocketAddrV4::new(address, BULK_PORT))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let buffer = vec![0; BULK_BYTES];
        let begin = Instant::now();
        while begin.elapsed() < BULK {
            stream.write_all(&buffer)?;
        }
        Ok(())
    })?;
    let receiving = pair.spawn(to, move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = vec![0; BULK_BYTES];
        let (begin, mut bytes) = (Instant::now(), 0_u64);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(bytes as f64 * 8.0 / begin.elapsed().as_secs_f64() / 1e9),
                read => bytes += read as u64,
            }
        }
    })?;
    joined(sending)?;
    let rate = joined(receiving)?;
    drop(pass);
    if let Some(sensor) = sensor {
        let books = sensor.books()?;
        ensure!(books.frames > 1_000, "the sensor saw nothing: {books:?}");
    }
    Ok(rate)
}

/// Half-open flows of a million sources: memory before and after, and what became of the flows.
fn flood() -> anyhow::Result<()> {
    let pair = Pair::create()?;
    let sensor = pair.sensor(&["--capture", "native"])?;
    let mebibytes = |sensor: &super::pair::Sensor| {
        resident_bytes(sensor.0.id()).map(|bytes| bytes as f64 / f64::from(1 << 20))
    };
    let before = mebibytes(&sensor)?;
    let frames = 1_u64 << FLOOD_BITS;
    let mut after = Vec::new();
    for _ in 0..FLOODS {
        let (sent, _) = pair.within(End::B, move || {
            let sender = sender(Kind::Syn, Via::Host, FLOOD_BITS)?;
            let begin = Instant::now();
            Ok((paced(&sender, frames, FLOOD_RATE)?, begin.elapsed()))
        })?;
        ensure!(sent == frames, "stopped");
        after.push(mebibytes(&sensor)?);
    }
    std::thread::sleep(HALF_OPEN);
    let aged = mebibytes(&sensor)?;
    let books = sensor.books()?;
    println!(
        "SYN flood of {frames} sources {FLOODS} times over, {FLOOD_RATE} a second: {} seen = {} recorded + {} counted by \
         flow + {} lost; {} flows, {} evicted; resident {before:.1} MiB before, {after:.1?} after each, \
         {aged:.1} when all had aged",
        books.frames, books.recorded, books.mapped, books.lost, books.flows, books.evicted
    );
    Ok(())
}
