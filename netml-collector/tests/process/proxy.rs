//! A TCP proxy between a sensor and its collector that misbehaves, by a seed.
//!
//! What it does, and what that is on a real way:
//! - [`Kind::Delay`]: pieces wait for up to [`DELAY_MS_MAX`]: a long or crowded path.
//! - [`Kind::Rate`]: [`RATE_BYTES_PER_S`] and no more: a thin line.
//! - [`Kind::Cut`]: both ends are reset in the middle of a piece: a peer that died and came back, a
//!   firewall that forgot the connection.
//! - [`Kind::HalfClose`]: one way ends in good order while the other goes on and is heard: a peer
//!   that shuts down its writing side.
//! - [`Kind::Stall`]: nothing passes any more and nobody is told: a cable that was pulled, a host
//!   that is frozen. What is called a half-open connection.
//! - [`Kind::Corrupt`], [`Kind::Duplicate`], [`Kind::Swap`]: a bit changed, a piece twice, two pieces
//!   in the wrong order. TCP numbers and sums what it carries, so lost, doubled and overtaking
//!   segments are mended below and never come up as this; what does is a broken middlebox, driver or
//!   memory behind the sums. To those who speak over the connection all three are changed bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Longest wait of a delayed piece.
pub(crate) const DELAY_MS_MAX: u64 = 40;

/// Of a thin line.
pub(crate) const RATE_BYTES_PER_S: u64 = 200_000;

/// Largest piece that is passed on at once; most are smaller, by the seed.
const PIECE_BYTES_MAX: u64 = 16 * 1_024;

/// What can happen to a connection. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Delay,
    Rate,
    Cut,
    HalfClose,
    Stall,
    Corrupt,
    Duplicate,
    Swap,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Delay,
        Self::Rate,
        Self::Cut,
        Self::HalfClose,
        Self::Stall,
        Self::Corrupt,
        Self::Duplicate,
        Self::Swap,
    ];
}

/// Which way it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToCollector,
    ToSensor,
}

/// What happens to a connection, and after how many bytes of that way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) way: Way,
    pub(crate) after_bytes: u64,
}

/// Numbers by xorshift.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// What happens to the connection of a number, from 0.
pub(crate) type Plan = Box<dyn Fn(u64, &mut Random) -> Option<Fault> + Send + Sync>;

struct Shared {
    to: SocketAddr,
    happened: [AtomicU64; Kind::ALL.len()],
}

/// See the module. Ends at drop, with all its connections.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr, seed: u64, plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            to,
            happened: Default::default(),
        });
        Self {
            address: listener.local_addr().unwrap(),
            task: tokio::spawn(accept(listener, Arc::clone(&shared), seed, plan)),
            shared,
        }
    }

    /// How often something happened.
    pub(crate) fn happened(&self, kind: Kind) -> u64 {
        self.shared.happened[kind as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, seed: u64, plan: Plan) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((sensor, _)) = listener.accept().await else {
            return;
        };
        let mut random = Random::new(seed ^ (number << 32));
        let fault = plan(number, &mut random);
        connections.spawn(connect(sensor, Arc::clone(&shared), fault, random));
    }
}

/// How one way of a connection ended.
enum End {
    /// In good order; the other way goes on.
    Closed,
    Cut,
    Stalled,
}

async fn connect(
    mut sensor: TcpStream,
    shared: Arc<Shared>,
    fault: Option<Fault>,
    mut random: Random,
) {
    let Ok(mut collector) = TcpStream::connect(shared.to).await else {
        sensor.set_zero_linger().unwrap();
        return;
    };
    sensor.set_nodelay(true).unwrap();
    collector.set_nodelay(true).unwrap();
    let of = |way| fault.filter(|fault| fault.way == way);
    let other = Random::new(random.below(u64::MAX));
    {
        let (from_sensor, to_sensor) = sensor.split();
        let (from_collector, to_collector) = collector.split();
        let up = pass(
            from_sensor,
            to_collector,
            of(Way::ToCollector),
            random,
            &shared,
        );
        let down = pass(from_collector, to_sensor, of(Way::ToSensor), other, &shared);
        tokio::pin!(up, down);
        let (mut is_up, mut is_down) = (true, true);
        while is_up || is_down {
            let ended = tokio::select! {
                ended = &mut up, if is_up => { is_up = false; ended }
                ended = &mut down, if is_down => { is_down = false; ended }
            };
            match ended {
                End::Closed => {}
                End::Cut => break,
                // Open on both sides, and silent, until the proxy ends.
                End::Stalled => std::future::pending().await,
            }
        }
    }
    // Where both ways ended in good order this changes nothing any more.
    for stream in [sensor, collector] {
        stream.set_zero_linger().unwrap();
    }
}

/// Passes one way on until it ends.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    fault: Option<Fault>,
    mut random: Random,
    shared: &Shared,
) -> End {
    let mut buffer = vec![0; usize::try_from(PIECE_BYTES_MAX).unwrap()];
    let mut passed = 0;
    let mut is_done = false;
    loop {
        let size = 1 + random.below(PIECE_BYTES_MAX);
        let size = usize::try_from(size).unwrap();
        let count = match from.read(&mut buffer[..size]).await {
            Ok(0) => {
                // The other end may be gone already.
                drop(to.shutdown().await);
                return End::Closed;
            }
            Ok(count) => count,
            Err(_) => return End::Cut,
        };
        let piece = &mut buffer[..count];
        passed += count as u64;
        let due = fault.filter(|fault| passed > fault.after_bytes);
        let mut happens = || {
            if let Some(fault) = due
                && !is_done
            {
                is_done = true;
                shared.happened[fault.kind as usize].fetch_add(1, Ordering::Relaxed);
                true
            } else {
                false
            }
        };
        let mut out = piece.to_vec();
        match due.map(|fault| fault.kind) {
            None => {}
            Some(Kind::Delay) => {
                happens();
                tokio::time::sleep(Duration::from_millis(random.below(DELAY_MS_MAX + 1))).await;
            }
            Some(Kind::Rate) => {
                happens();
                let micros = count as u64 * 1_000_000 / RATE_BYTES_PER_S;
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
            Some(Kind::Cut) => {
                happens();
                drop(to.write_all(&piece[..count / 2]).await);
                return End::Cut;
            }
            Some(Kind::HalfClose) => {
                happens();
                drop(to.shutdown().await);
                // What still comes is taken and goes nowhere.
                while !matches!(from.read(&mut buffer).await, Ok(0) | Err(_)) {}
                return End::Closed;
            }
            Some(Kind::Stall) => {
                happens();
                return End::Stalled;
            }
            Some(Kind::Corrupt) if happens() => {
                let at = usize::try_from(random.below(count as u64)).unwrap();
                out[at] ^= 1 << random.below(8);
            }
            Some(Kind::Duplicate) if happens() => out.extend_from_slice(piece),
            Some(Kind::Swap) if piece[..count / 2] != piece[count - count / 2..] && happens() => {
                out.rotate_left(count / 2);
            }
            // Once is enough.
            Some(Kind::Corrupt | Kind::Duplicate | Kind::Swap) => {}
        }
        if to.write_all(&out).await.is_err() {
            return End::Cut;
        }
    }
}
