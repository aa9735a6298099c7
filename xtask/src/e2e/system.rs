//! The whole chain as processes: the lab, a collector on the host, a sensor in the lab's server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::http::Api;
use crate::lab::space::LinkCounters;
use crate::lab::{Lab, Offloads, Relay, Services, Space};
use crate::process::{EndBy, Logs, Program, target_dir};

/// Longest wait for a program to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that should come true.
const POLL: Duration = Duration::from_millis(100);

/// A directory of one test; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// Makes an empty directory below the build output.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = target_dir().join(format!("e2e-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("e2e: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The chain under test. Fields are dropped in the order written: sensor first, namespaces last.
pub(crate) struct System {
    /// The sensor.
    pub(crate) agent: Program,
    /// The collector.
    pub(crate) collector: Program,
    /// Its API.
    pub(crate) api: Api,
    _relay: Relay,
    services: Option<Services>,
    /// The lab.
    pub(crate) lab: Lab,
    _scratch: Scratch,
}

impl System {
    /// Starts everything and waits until the sensor has attached and is connected.
    ///
    /// # Errors
    /// A part does not start in time; the message holds its last lines.
    pub(crate) fn start(offloads: Offloads) -> anyhow::Result<Self> {
        Self::start_with(offloads, &[])
    }

    /// The same, with further arguments of the sensor.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn start_with(offloads: Offloads, arguments: &[&str]) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let lab = Lab::create(offloads)?;
        let services = Services::start(&lab)?;
        let (collector, dashboard, sensors) = start_collector(&scratch.0)?;
        let relay = Relay::start(&lab, sensors)?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &lab.name(Space::Server)])
            .arg(program("netml-agent"))
            .args(["run", "--interface", "eth0", "--source", "lab"])
            .args(["--sensor", "lab", "--collector"])
            .arg(format!("http://{}", relay.inside));
        command.args(arguments);
        let agent = Program::start("sensor", command, EndBy::Signal, Logs::Kept)?;
        let mut system = Self {
            agent,
            collector,
            api: Api(socket_address(&dashboard)?),
            _relay: relay,
            services: Some(services),
            lab,
            _scratch: scratch,
        };
        system.eventually(READY_PATIENCE, |system| {
            let sensors = system.api.items("/api/sensors")?;
            let attached = sensors
                .iter()
                .any(|sensor| sensor["connected"] == true && sensor["interfaces"][0].is_object());
            Ok(attached
                .then_some(())
                .ok_or("no sensor is connected".to_owned()))
        })?;
        Ok(system)
    }

    /// The one sensor, as the API lists it.
    ///
    /// # Errors
    /// The API fails or lists none.
    pub(crate) fn sensor(&self) -> anyhow::Result<Value> {
        let sensors = self.api.items("/api/sensors")?;
        sensors.into_iter().next().context("no sensor is listed")
    }

    /// Asks again and again until the answer is `Ok`; a program that ended fails at once.
    ///
    /// # Errors
    /// It does not come true in time; the message is the last `Err`.
    pub(crate) fn eventually<T>(
        &mut self,
        patience: Duration,
        mut ask: impl FnMut(&mut Self) -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let missing = match ask(self)? {
                Ok(value) => return Ok(value),
                Err(missing) => missing,
            };
            for program in [&mut self.agent, &mut self.collector] {
                if let Some(status) = program.ended()? {
                    bail!("a program ended ({status}): {}", program.tail());
                }
            }
            if Instant::now() > deadline {
                bail!("{missing} (waited {} s)", patience.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until the wire is quiet for a second; gives the peer's counters.
    ///
    /// # Errors
    /// It does not become quiet.
    pub(crate) fn quiet(&mut self) -> anyhow::Result<LinkCounters> {
        let mut last = self.lab.peer_counters()?;
        let mut since = Instant::now();
        self.eventually(Duration::from_secs(60), |system| {
            let now = system.lab.peer_counters()?;
            if now != last {
                last = now;
                since = Instant::now();
            }
            let quiet = since.elapsed() > Duration::from_secs(1);
            Ok(quiet
                .then_some(now)
                .ok_or("the wire is never quiet".to_owned()))
        })
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(services) = self.services.take() {
            services.stop();
        }
    }
}

/// Starts a collector on ports the kernel chooses; gives its URL and where sensors connect.
///
/// # Errors
/// It does not print its readiness lines in time.
pub(crate) fn start_collector(data: &Path) -> anyhow::Result<(Program, String, SocketAddr)> {
    let mut command = Command::new(program("netml-collector"));
    command
        .args([
            "serve",
            "--web",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(data.join("data"));
    let mut collector = Program::start("collector", command, EndBy::Signal, Logs::Kept)?;
    let dashboard = collector.wait_for_line("dashboard: ", READY_PATIENCE)?;
    let sensors = collector.wait_for_line("sensors: ", READY_PATIENCE)?;
    let sensors = socket_address(&sensors)?;
    Ok((collector, dashboard, sensors))
}

/// A program of this workspace, as the tests were built.
#[must_use]
pub(crate) fn program(name: &str) -> PathBuf {
    target_dir().join("debug").join(name)
}

/// Address in a URL printed by the collector.
///
/// # Errors
/// There is none.
pub(crate) fn socket_address(url: &str) -> anyhow::Result<SocketAddr> {
    let authority = url.split("//").nth(1).unwrap_or(url);
    let authority = authority.split(['/', '?']).next().unwrap_or(authority);
    authority
        .parse()
        .with_context(|| format!("the collector printed no address: {url}"))
}

/// Resident memory of a process in bytes (`VmRSS`).
///
/// # Errors
/// The process is gone.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?
        .parse()?;
    Ok(kibibytes * 1024)
}
