//! The wire between the two sides of a site, carried by this process: it delays, loses and queues
//! frames as a path through networks does, and records what passes. Namespaces alone answer within
//! microseconds, which no real network does.
//!
//! The recorder stands at the inner end: frames that go in are recorded as they leave the wire,
//! frames that go out as they enter it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use socket2::Socket;

use super::labels::{Ends, Rule};
use crate::lab::random::Random;
use crate::sys;

/// Bytes kept of a frame: all headers.
const SNAP_BYTES: usize = 128;
/// Ports whose UDP frames are kept whole: names, whose numbers are features.
const WHOLE_PORTS: [u16; 3] = [53, 5_353, 5_355];
/// Frames waiting in one direction; one more is lost, as in a router's queue.
const QUEUE_FRAMES_MAX: usize = 1_000;
/// Frames taken off the socket before those that are due are sent on.
const BATCH_FRAMES: usize = 64;
/// Receive buffer: a flood fits while the other direction has the processor.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Longest wait before the end is looked for.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// How a path through networks treats frames, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// Name in the notes of the labels.
    pub(crate) name: &'static str,
    /// Least delay, microseconds.
    pub(crate) delay_us: u64,
    /// Most delay on top, microseconds; the order of frames is kept.
    pub(crate) jitter_us: u64,
    /// Frames lost of 10,000.
    pub(crate) loss_per_10k: u64,
    /// Rate, kbit/s.
    pub(crate) rate_kbit: u64,
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Towards the servers.
    In,
    /// Towards the clients.
    Out,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames.
    pub(super) packets: u64,
    /// Of them IPv4 or IPv6.
    pub(super) ip_packets: u64,
    /// Of them attack by the rule.
    pub(super) attack_packets: u64,
    /// From the first to the last frame.
    pub(super) span: Duration,
}

/// A capture being written; bounded in frames.
pub(super) struct Tape {
    out: BufWriter<File>,
    rule: Option<Rule>,
    frames_max: u64,
    counts: Counts,
    first: Option<Duration>,
}

impl Tape {
    /// Begins a classic pcap file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(path: &Path, rule: Option<Rule>, frames_max: u64) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = BufWriter::new(file);
        out.write_all(&crate::lab::pcap::header(65_535))?;
        Ok(Self {
            out,
            rule,
            frames_max,
            counts: Counts::default(),
            first: None,
        })
    }

    /// True once no further frame is taken.
    pub(super) fn is_full(&self) -> bool {
        self.counts.packets >= self.frames_max
    }

    fn record(&mut self, frame: &[u8]) -> io::Result<()> {
        if self.is_full() {
            return Ok(());
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(io::Error::other)?;
        let first = *self.first.get_or_insert(now);
        self.counts.span = now.saturating_sub(first);
        self.counts.packets += 1;
        let ends = Ends::of_frame(frame);
        if let Some(ends) = &ends {
            self.counts.ip_packets += 1;
            let attack = self.rule.as_ref().is_some_and(|rule| rule.attack(ends));
            self.counts.attack_packets += u64::from(attack);
        }
        let whole = ends.is_some_and(|ends| {
            ends.ip_protocol == 17 && ends.ports.iter().any(|port| WHOLE_PORTS.contains(port))
        });
        let kept = if whole {
            frame
        } else {
            &frame[..frame.len().min(SNAP_BYTES)]
        };
        self.out.write_all(&crate::lab::pcap::record_header(
            now,
            kept.len(),
            frame.len(),
        ))?;
        self.out.write_all(kept)
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn finish(mut self) -> io::Result<Counts> {
        self.out.flush()?;
        Ok(self.counts)
    }
}

/// One end of the wire: a packet socket of the calling thread's namespace.
///
/// # Errors
/// No such interface, or no right to packet sockets.
pub(super) fn end(interface: &str) -> anyhow::Result<Socket> {
    let socket = sys::packet_socket(interface)
        .and_then(|socket| sys::ignore_outgoing(&socket).map(|()| socket))
        .with_context(|| format!("cannot open the wire's end {interface}"))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Carries frames one way until `stop`.
///
/// # Errors
/// A socket or the capture fails.
pub(super) fn carry(
    (from, to): (&Socket, &Socket),
    way: Way,
    path: Course,
    random: &mut Random,
    tape: &Mutex<Tape>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let record = |frame: &[u8]| {
        let mut tape = tape.lock().unwrap_or_else(PoisonError::into_inner);
        tape.record(frame).context("cannot write the capture")
    };
    let mut queue: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0_u8; 65_536];
    let (mut free_at, mut last_due) = (Instant::now(), Instant::now());
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        while let Some((_, frame)) = queue.pop_front_if(|(due, _)| *due <= now) {
            if way == Way::In {
                record(&frame)?;
            }
            send(to, &frame)?;
        }
        let wait = queue.front().map_or(LOOK_PERIOD, |(due, _)| {
            due.saturating_duration_since(now).min(LOOK_PERIOD)
        });
        if wait < Duration::from_millis(1) && !queue.is_empty() {
            // poll counts in milliseconds.
            std::thread::sleep(wait);
        } else if sys::readable(&[from.as_fd()], wait)? == [false] {
            continue;
        }
        for _ in 0..BATCH_FRAMES {
            let mut reader = from;
            let length = match reader.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The other end goes down while the site is taken apart.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => break,
                Err(error) => bail!("cannot read the wire: {error}"),
            };
            let frame = &buffer[..length];
            if way == Way::Out {
                record(frame)?;
            }
            if queue.len() >= QUEUE_FRAMES_MAX || random.next() % 10_000 < path.loss_per_10k {
                continue;
            }
            let sent_us = length as u64 * 8_000 / path.rate_kbit.max(1);
            free_at = free_at.max(Instant::now()) + Duration::from_micros(sent_us);
            let delay_us = path.delay_us + random.between(0, path.jitter_us);
            last_due = last_due.max(free_at + Duration::from_micros(delay_us));
            queue.push_back((last_due, frame.to_vec()));
        }
    }
    Ok(())
}

/// A frame that the other end does not take is lost, as on any link.
fn send(to: &Socket, frame: &[u8]) -> anyhow::Result<()> {
    match to.send(frame) {
        Ok(_) => Ok(()),
        Err(error)
            if [libc::ENOBUFS, libc::EAGAIN, libc::ENETDOWN, libc::EMSGSIZE]
                .contains(&error.raw_os_error().unwrap_or(0)) =>
        {
            Ok(())
        }
        Err(error) => bail!("cannot send on the wire: {error}"),
    }
}
