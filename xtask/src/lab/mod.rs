//! The lab: labelled traffic between network namespaces of its own.
//!
//! `cargo xtask lab` runs scenarios and prints one JSON report a scenario; `run --lab` runs them
//! over and over behind the dashboard; end-to-end tests compare the reports with what the sensor
//! says. Every scenario is bounded in time and packets. Nothing of these is in training data;
//! [`capture`] makes other captures, by real tools, for training.

mod attack;
mod benign;
pub(crate) mod capture;
mod endless;
mod frame;
mod pcap;
mod random;
pub(crate) mod relay;
pub(crate) mod report;
mod services;
pub(crate) mod space;
mod talk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use crate::sys;
pub(crate) use endless::Endless;
use random::Random;
pub(crate) use relay::Relay;
use report::{Label, Report, unix_ms};
use services::{Datagrams, Service};
pub(crate) use space::{Lab, Offloads, Space};
use talk::Worker;

/// Longest wait for the lab's services to listen.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// A kind of traffic.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Truth about it.
    pub(crate) label: Label,
    /// Kind of attack or traffic, as in the model's classes.
    pub(crate) kind: &'static str,
    /// What runs at the same time.
    parts: &'static [Part],
}

/// One worker of a scenario.
#[derive(Debug)]
struct Part {
    space: Space,
    run: fn(&mut Worker) -> anyhow::Result<()>,
}

/// All scenarios, benign ones first.
pub(crate) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    benign::SCENARIOS.iter().chain(attack::SCENARIOS)
}

/// Options of `xtask lab`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: Option<LabCommand>,
    /// Scenarios, comma-separated; or all, benign, malicious
    #[arg(long, default_value = "all")]
    scenario: String,
    /// How long each scenario lasts, 1 to 3600 seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Writes one capture and one report a scenario into this directory; runs them one by one
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Leaves the namespaces in place at the end; the next lab removes them
    #[arg(long)]
    keep: bool,
    /// Seed of sizes, pauses and choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// With --write: all scenarios in one capture, attacks in its second half
    #[arg(long, requires = "write")]
    mixed: bool,
    /// Only lists the scenarios
    #[arg(long)]
    list: bool,
}

/// What the lab does besides.
#[derive(Subcommand, Debug)]
enum LabCommand {
    /// Runs real tools and writes labelled captures for training
    Capture(capture::CaptureArgs),
}

/// Runs `xtask lab`.
///
/// # Errors
/// Unknown scenario, no root, or the kernel refuses namespaces.
pub(crate) fn run(args: &LabArgs) -> anyhow::Result<()> {
    if let Some(LabCommand::Capture(args)) = &args.command {
        return capture::run(args);
    }
    if args.list {
        for scenario in scenarios() {
            println!(
                "{:<16} {:?}, {}",
                scenario.name, scenario.label, scenario.kind
            );
        }
        return Ok(());
    }
    let chosen = choose(&args.scenario)?;
    sys::catch_stop_signals()?;
    let mut lab = Lab::create(Offloads::Off)?;
    if args.keep {
        lab.keep();
    }
    let services = Services::start(&lab)?;
    let duration = Duration::from_secs(args.seconds);
    eprintln!(
        "lab: sensor interface eth0 in namespace {}",
        lab.name(Space::Server)
    );
    let reports = match &args.write {
        Some(directory) if args.mixed => {
            let path = directory.join("lab");
            record(&lab, &path, || {
                play_mixed(&lab, &chosen, duration, args.seed)
            })?
        }
        Some(directory) => write(&lab, &chosen, duration, args.seed, directory)?,
        None => play(&lab, &chosen, duration, args.seed)?,
    };
    services.stop();
    for report in reports {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

/// Scenarios of a name or group.
///
/// # Errors
/// The name is not known.
pub(crate) fn choose(name: &str) -> anyhow::Result<Vec<&'static Scenario>> {
    let chosen: Vec<_> = scenarios()
        .filter(|scenario| match name {
            "all" => true,
            "benign" => scenario.label == Label::Benign,
            "malicious" => scenario.label == Label::Malicious,
            names => names.split(',').any(|name| name == scenario.name),
        })
        .collect();
    if chosen.is_empty() {
        bail!("there is no scenario {name}: see cargo xtask lab --list");
    }
    Ok(chosen)
}

/// Runs scenarios at the same time and gives their reports in the same order.
///
/// # Errors
/// A worker cannot be started or fails otherwise than by a refused connection.
pub(crate) fn play(
    lab: &Lab,
    chosen: &[&'static Scenario],
    duration: Duration,
    seed: u64,
) -> anyhow::Result<Vec<Report>> {
    let stop = Arc::new(AtomicBool::new(false));
    let running: Vec<_> = chosen
        .iter()
        .map(|scenario| start(lab, scenario, duration, seed, &stop))
        .collect::<anyhow::Result<_>>()?;
    running.into_iter().map(Running::finish).collect()
}

/// A scenario under way.
pub(crate) struct Running {
    report: Report,
    workers: Vec<JoinHandle<anyhow::Result<Report>>>,
}

impl Running {
    /// True once all workers are done.
    pub(crate) fn is_finished(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the workers and gives what they sent.
    ///
    /// # Errors
    /// A worker failed.
    pub(crate) fn finish(mut self) -> anyhow::Result<Report> {
        for worker in self.workers {
            match worker.join() {
                Ok(part) => self
                    .report
                    .merge(part.with_context(|| format!("scenario {}", self.report.scenario))?),
                Err(_) => bail!("a worker of scenario {} panicked", self.report.scenario),
            }
        }
        self.report.ended_unix_ms = unix_ms();
        Ok(self.report)
    }
}

/// Starts the workers of a scenario.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(
    lab: &Lab,
    scenario: &'static Scenario,
    duration: Duration,
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Running> {
    let new_report = || Report::new(scenario.name, scenario.label, scenario.kind);
    let deadline = Instant::now() + duration;
    let mut workers = Vec::new();
    for (number, part) in scenario.parts.iter().enumerate() {
        let mut worker = Worker {
            random: Random::new(seed, &format!("{}-{number}", scenario.name)),
            report: new_report(),
            deadline,
            stop: Arc::clone(stop),
        };
        workers.push(lab.spawn(part.space, move || {
            (part.run)(&mut worker)?;
            Ok(worker.report)
        })?);
    }
    Ok(Running {
        report: new_report(),
        workers,
    })
}

/// Ordinary scenarios for the whole time, attacks in the second half of it.
fn play_mixed(
    lab: &Lab,
    chosen: &[&'static Scenario],
    duration: Duration,
    seed: u64,
) -> anyhow::Result<Vec<Report>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (ordinary, attacks): (Vec<&Scenario>, Vec<&Scenario>) = chosen
        .iter()
        .partition(|scenario| scenario.label == Label::Benign);
    let mut running = Vec::new();
    for scenario in ordinary {
        running.push(start(lab, scenario, duration, seed, &stop)?);
    }
    std::thread::sleep(duration / 2);
    let slice = duration / 2 / u32::try_from(attacks.len().max(1))?;
    for scenario in attacks {
        running.push(start(lab, scenario, slice, seed, &stop)?);
        std::thread::sleep(slice);
    }
    running.into_iter().map(Running::finish).collect()
}

/// Runs scenarios one by one and writes what passed the server's interface.
fn write(
    lab: &Lab,
    chosen: &[&'static Scenario],
    duration: Duration,
    seed: u64,
    directory: &Path,
) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for scenario in chosen {
        let path = directory.join(scenario.name);
        reports.extend(record(lab, &path, || {
            play(lab, &[scenario], duration, seed)
        })?);
        if sys::stop_requested() {
            break;
        }
    }
    Ok(reports)
}

/// Writes a capture (`.pcap`) of what passes the server's interface meanwhile, and the reports
/// (`.json`) beside it.
fn record(
    lab: &Lab,
    path: &Path,
    body: impl FnOnce() -> anyhow::Result<Vec<Report>>,
) -> anyhow::Result<Vec<Report>> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let recorded = Arc::new(AtomicBool::new(false));
    let (capture, stop) = (path.with_extension("pcap"), Arc::clone(&recorded));
    let (ready, is_ready) = mpsc::channel();
    let recorder = lab.spawn(Space::Server, move || {
        let socket = sys::packet_socket("eth0")?;
        ready.send(()).context("nobody waits for the recorder")?;
        pcap::record(&socket, &capture, &stop)
    })?;
    let played = match is_ready.recv_timeout(READY_PATIENCE) {
        Ok(()) => body(),
        Err(_) => Ok(Vec::new()), // The recorder's own error says more.
    };
    recorded.store(true, Ordering::SeqCst);
    match recorder.join() {
        Ok(frames) => eprintln!("lab: {}: {} frames", path.display(), frames?),
        Err(_) => bail!("the recorder panicked"),
    }
    let reports = played?;
    let path = path.with_extension("json");
    std::fs::write(&path, serde_json::to_vec_pretty(&reports)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(reports)
}

/// The far ends of all conversations, in their namespaces.
pub(crate) struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Services {
    /// Starts all services and waits until they listen.
    ///
    /// # Errors
    /// A service cannot be started.
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        const QUIET: Service = Service::Scripted { banner: b"" };
        const SSH: Service = Service::Scripted {
            banner: benign::SSH_BANNER,
        };
        const SERVER_PORTS: &[(u16, Service)] = &[
            (22, SSH),
            (80, Service::Http),
            (443, QUIET),
            (873, QUIET),
            (1_883, QUIET),
        ];
        const INTERNET_PORTS: &[(u16, Service)] = &[(80, Service::Http), (443, QUIET)];
        const HOME_PORTS: &[(u16, Service)] = &[(443, QUIET)];
        let mut services = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        let (ready, is_ready) = mpsc::channel();
        for (space, ports) in [
            (Space::Server, SERVER_PORTS),
            (Space::Client, INTERNET_PORTS),
            (Space::Attacker, HOME_PORTS),
        ] {
            let (stop, ready) = (Arc::clone(&services.stop), ready.clone());
            services.threads.push(lab.spawn(space, move || {
                services::serve_tcp(ports, &stop, || announce(&ready))
            })?);
        }
        for (space, address, service) in [
            (Space::Server, space::SERVER.into(), Datagrams::Dns),
            (Space::Server, space::SERVER6.into(), Datagrams::Dns),
            (
                Space::Client,
                space::client(benign::RESOLVER).into(),
                Datagrams::Dns,
            ),
            (
                Space::Client,
                space::client(benign::TIME_SERVER).into(),
                Datagrams::Ntp,
            ),
            (
                Space::Attacker,
                space::attacker(attack::TUNNEL_HOST).into(),
                Datagrams::Dns,
            ),
        ] {
            let (stop, ready) = (Arc::clone(&services.stop), ready.clone());
            services.threads.push(lab.spawn(space, move || {
                services::serve_udp(address, service, &stop, || announce(&ready))
            })?);
        }
        drop(ready);
        for _ in 0..services.threads.len() {
            if is_ready.recv_timeout(READY_PATIENCE).is_err() {
                services.stop();
                bail!("a service of the lab did not start");
            }
        }
        Ok(services)
    }

    /// Stops all services and says which had failed.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("lab: a service failed: {error:#}"),
                Err(_) => eprintln!("lab: a service panicked"),
            }
        }
    }
}

fn announce(ready: &mpsc::Sender<()>) {
    // Only fails when the starter gave up already; it says so itself.
    if ready.send(()).is_err() {
        eprintln!("lab: a service was ready too late");
    }
}

/// Puts packets on the wire that are a flow each, at a rate; gives how many.
///
/// # Errors
/// The packet socket fails.
pub(crate) fn many_flows(lab: &Lab, packets: u64, per_second: u64) -> anyhow::Result<u64> {
    lab.within(Space::Attacker, move || {
        attack::many_flows(packets, per_second)
    })
}
