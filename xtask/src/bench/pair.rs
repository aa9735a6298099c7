//! Two namespaces and the wire between them, with the sensor on one end.
//!
//! ```text
//! a: a0 198.18.0.1 (sensor) ── veth ── b0 198.18.0.2 :b
//! ```
//! No IPv6, neighbours written down: every packet on the wire is the bench's. The names begin as
//! those of the lab do, which removes what a killed bench left.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::live_frames::Target;
use crate::lab::space::remove_stale;
use crate::process::{EndBy, Logs, Program, target_dir};
use crate::sys;

/// The sensor's end.
pub(super) const A: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The other end.
pub(super) const B: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Nobody's address: a host that takes the frame looks for a way, finds none and answers nothing.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

const A_MAC: [u8; 6] = [0x02, 0x6e, 0x6d, 0x6c, 1, 1];
const B_MAC: [u8; 6] = [0x02, 0x6e, 0x6d, 0x6c, 1, 2];
const OTHER_MAC: [u8; 6] = [0x02, 0x6e, 0x6d, 0x6c, 1, 3];

/// What the sensor's host does with a frame behind the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// It is for the host, which looks for a way.
    Host,
    /// It is for another one, as all are on a mirror port.
    Mirror,
}

/// Longest wait for the sensor to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// One end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With the sensor.
    A,
    /// The other.
    B,
}

/// The namespaces; gone at drop.
#[derive(Debug)]
pub(super) struct Pair(String);

impl Pair {
    /// Makes them.
    ///
    /// # Errors
    /// Not root, no `ip` command, or the kernel refuses.
    pub(super) fn create() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_stale()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pair = Self(format!("netml-lab-{}-bench{number}-", std::process::id()));
        for end in [End::A, End::B] {
            ip(&format!("netns add {}", pair.name(end)))?;
            pair.within(end, || {
                for interfaces in ["all", "default"] {
                    let file = format!("/proc/sys/net/ipv6/conf/{interfaces}/disable_ipv6");
                    // A kernel without IPv6 has no such file, and nothing to turn off.
                    if PathBuf::from(&file).exists() {
                        std::fs::write(&file, "1")
                            .with_context(|| format!("cannot write {file}"))?;
                    }
                }
                Ok(())
            })?;
        }
        let (a, b) = (pair.name(End::A), pair.name(End::B));
        let (a_mac, b_mac) = (mac_text(A_MAC), mac_text(B_MAC));
        ip(&format!(
            "-n {a} link add a0 address {a_mac} type veth peer name b0 address {b_mac} netns {b}"
        ))?;
        for (name, device, own, other, other_mac) in
            [(&a, "a0", A, B, &b_mac), (&b, "b0", B, A, &a_mac)]
        {
            ip(&format!("-n {name} address add {own}/24 dev {device}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set {device} up"))?;
            ip(&format!(
                "-n {name} neigh add {other} lladdr {other_mac} dev {device} nud permanent"
            ))?;
        }
        Ok(pair)
    }

    /// Where frames of the sender at end B go: to nobody, by way of `via`.
    pub(super) const fn target(via: Via) -> Target {
        Target {
            from_mac: B_MAC,
            to_mac: match via {
                Via::Host => A_MAC,
                Via::Mirror => OTHER_MAC,
            },
            to: NOBODY,
            port: 9,
        }
    }

    /// Name of a namespace.
    pub(super) fn name(&self, end: End) -> String {
        format!(
            "{}{}",
            self.0,
            match end {
                End::A => "a",
                End::B => "b",
            }
        )
    }

    /// Runs `body` on a new thread inside a namespace.
    ///
    /// # Errors
    /// The thread cannot be started. Failing to enter is the thread's result.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        end: End,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
        let file = PathBuf::from("/run/netns").join(self.name(end));
        std::thread::Builder::new()
            .name("bench".into())
            .spawn(move || {
                sys::enter_netns(&file)
                    .with_context(|| format!("cannot enter {}", file.display()))?;
                body()
            })
            .context("cannot start a thread")
    }

    /// Runs `body` inside a namespace and waits for its result.
    ///
    /// # Errors
    /// What `body` gives, or that it panicked.
    pub(super) fn within<T: Send + 'static>(
        &self,
        end: End,
        body: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        joined(self.spawn(end, body)?)
    }

    /// Starts the release build of the sensor at end A.
    ///
    /// # Errors
    /// It does not say within [`READY_PATIENCE`] that it watches.
    pub(super) fn sensor(&self, arguments: &[&str]) -> anyhow::Result<Sensor> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name(End::A)])
            .arg(target_dir().join("release/netml-agent"))
            .args(["run", "--interface", "a0", "--no-collector"])
            .args(arguments);
        let mut program = Program::start("sensor", command, EndBy::Signal, Logs::Kept)?;
        let deadline = Instant::now() + READY_PATIENCE;
        while !program.tail().contains("watching") {
            if let Some(status) = program.ended()? {
                bail!("the sensor ended ({status}): {}", program.tail());
            }
            ensure!(
                Instant::now() < deadline && !sys::stop_requested(),
                "the sensor does not watch: {}",
                program.tail()
            );
            std::thread::sleep(POLL);
        }
        Ok(Sensor(program))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for end in [End::A, End::B] {
            let name = self.name(end);
            if PathBuf::from("/run/netns").join(&name).exists()
                && let Err(error) = ip(&format!("netns del {name}"))
            {
                eprintln!("bench: {error:#}");
            }
        }
    }
}

/// Result of a thread of [`Pair::spawn`].
///
/// # Errors
/// What its body gave, or that it panicked.
pub(super) fn joined<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread of the bench panicked"),
    }
}

/// A sensor at work; ended at drop.
pub(super) struct Sensor(pub(super) Program);

impl Sensor {
    /// Ends it as a user would and gives its books.
    ///
    /// # Errors
    /// It fails, or its books do not balance.
    pub(super) fn books(mut self) -> anyhow::Result<Books> {
        let status = self.0.end()?;
        // Its last lines are still on their way to the thread that keeps them.
        let deadline = Instant::now() + READY_PATIENCE;
        while !self.0.tail().contains("books ") && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let tail = self.0.tail();
        ensure!(status.success(), "the sensor failed: {tail}");
        ensure!(tail.contains("books balance"), "no balance: {tail}");
        Books::read(&tail).with_context(|| format!("no books: {tail}"))
    }
}

/// What the sensor says of the whole run.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    /// Frames the programs saw.
    pub(super) frames: u64,
    /// Of them recorded.
    pub(super) recorded: u64,
    /// Counted by flow.
    pub(super) mapped: u64,
    /// Neither, for whatever reason.
    pub(super) lost: u64,
    /// Flows begun.
    pub(super) flows: u64,
    /// Of them evicted for want of room.
    pub(super) evicted: u64,
}

impl Books {
    fn read(text: &str) -> Option<Self> {
        let line = |head: &str| {
            text.split(" | ")
                .map(str::trim)
                .find(|line| line.starts_with(head))
        };
        let kernel = line("kernel:")?;
        let flows = line("flows:")?;
        let books = Self {
            frames: number_before(kernel, " frames")?,
            recorded: number_before(kernel, " records")?,
            mapped: number_before(kernel, " counted by flow")?,
            lost: 0,
            flows: number_before(flows, " started")?,
            evicted: number_before(flows, " evicted")?,
        };
        let lost = books.frames.checked_sub(books.recorded + books.mapped)?;
        Some(Self { lost, ..books })
    }
}

/// The number that ends where `text` begins.
fn number_before(line: &str, text: &str) -> Option<u64> {
    let before = &line[..line.find(text)?];
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("cannot run ip: install iproute2 (cargo xtask setup)")?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_a_sensor_are_read_from_its_last_lines() {
        let text = "watching |   kernel:  10 frames = 4 records + 3 counted by flow + 2 ring-full + 1 arp; \
             12 packets, 720 bytes |   flows:   5 started = 5 ended (2 evicted) with 7 packets, 3 of them";
        let books = Books::read(text).unwrap();
        assert_eq!(
            (books.frames, books.recorded, books.mapped, books.lost),
            (10, 4, 3, 3)
        );
        assert_eq!((books.flows, books.evicted), (5, 2));
        assert!(Books::read("error: no such interface").is_none());
    }
}
