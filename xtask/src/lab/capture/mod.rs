//! `lab capture`: real tools of Debian's packages between namespaces of their own, one labelled
//! capture a scenario, for training.
//!
//! Every capture is labelled by construction: which hosts attack is written in its scenario. All
//! of them are one group, `lab`, since they share one maker. Bounds: [`scenario::SECONDS_MAX`] and
//! [`scenario::FRAMES_MAX`] a capture, [`JOBS_MAX`] scenarios at once; nothing leaves the
//! namespaces, and nothing of the host's configuration is written.

mod attacks;
mod benign;
mod labels;
mod scenario;
mod servers;
mod site;
mod wire;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use sha2::{Digest as _, Sha256};

use super::random::Random;
use super::space;
use crate::setup::{self, SetupArgs};
use crate::sys;
use labels::Line;
use scenario::Scenario;
use site::Site;
use wire::{Counts, Tape, Way};

/// Most scenarios at once.
const JOBS_MAX: u64 = 16;
/// Fewest frames of a capture that is kept.
const FRAMES_MIN: u64 = 20;
/// Recorded after the last command has ended: closing handshakes.
const AFTERMATH: Duration = Duration::from_millis(700);

/// Options of `xtask lab capture`.
#[derive(Args, Debug)]
pub(crate) struct CaptureArgs {
    /// Names of scenarios, or beginnings of names
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["list", "all"])]
    scenarios: Vec<String>,
    /// Only lists the scenarios
    #[arg(long)]
    list: bool,
    /// All scenarios
    #[arg(long)]
    all: bool,
    /// Where captures and labels.csv go
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    output: Option<PathBuf>,
    /// Scenarios at once, 1 to 16; they mostly wait
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=JOBS_MAX))]
    jobs: u64,
    /// Seed of delays and losses
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leaves out scenarios whose capture is there
    #[arg(long)]
    missing: bool,
    /// Writes what the programs say beside the captures
    #[arg(long)]
    logs: bool,
    /// Installs nothing, even if something is missing
    #[arg(long)]
    no_setup: bool,
}

/// All scenarios, attacks first.
fn scenarios() -> Vec<Scenario> {
    let mut all = attacks::scenarios();
    all.extend(benign::scenarios());
    all
}

/// Runs `xtask lab capture`.
///
/// # Errors
/// No root, a tool is missing, or a scenario gave no usable capture; the others are still made.
pub(crate) fn run(args: &CaptureArgs) -> anyhow::Result<()> {
    let mut chosen = scenarios();
    if !args.scenarios.is_empty() {
        for name in &args.scenarios {
            ensure!(
                chosen.iter().any(|one| one.name.starts_with(name.as_str())),
                "no scenario is called {name}: see cargo xtask lab capture --list"
            );
        }
        chosen.retain(|one| {
            args.scenarios
                .iter()
                .any(|name| one.name.starts_with(name.as_str()))
        });
    }
    if args.list {
        for one in &chosen {
            let label = if one.malicious { "malicious" } else { "benign" };
            println!(
                "{:<34} {label:<10} {:<16} {:>3} s",
                one.name, one.kind, one.seconds
            );
        }
        return Ok(());
    }
    let Some(output) = &args.output else {
        bail!("--output says where the captures go");
    };
    ensure!(
        sys::is_root(),
        "the lab makes network namespaces, which needs root: run it as root or with sudo"
    );
    if !args.no_setup {
        setup::run(&SetupArgs {
            lab: true,
            ..SetupArgs::default()
        })?;
    }
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    if args.missing {
        chosen.retain(|one| !output.join(file_of(one)).exists());
    }
    sys::catch_stop_signals()?;
    space::remove_stale()?;
    let count = chosen.len();
    let queue = Mutex::new(VecDeque::from(chosen));
    let failed = Mutex::new(Vec::new());
    let written = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                while !sys::stop_requested() {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(scenario) = next else { break };
                    let made = capture(&scenario, output, args.logs, args.seed).and_then(|line| {
                        let _one = written.lock().unwrap_or_else(PoisonError::into_inner);
                        labels::add(&output.join("labels.csv"), &line)?;
                        Ok(line.counts)
                    });
                    match made {
                        Ok(counts) => eprintln!(
                            "{:<34} {:>6} packets, {:>6} attack, {:>5.1} s",
                            scenario.name,
                            counts.packets,
                            counts.attack_packets,
                            counts.span.as_secs_f64()
                        ),
                        Err(error) => {
                            eprintln!("{:<34} FAILED: {error:#}", scenario.name);
                            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.push(scenario.name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(!sys::stop_requested(), "stopped");
    ensure!(
        failed.is_empty(),
        "{} of {count} scenarios gave no capture: {}",
        failed.len(),
        failed.join(", ")
    );
    println!("{count} captures in {}", output.display());
    Ok(())
}

fn file_of(scenario: &Scenario) -> String {
    format!("{}.pcap.gz", scenario.name)
}

/// Makes one capture and its line of labels.
fn capture(scenario: &Scenario, output: &Path, logs: bool, seed: u64) -> anyhow::Result<Line> {
    scenario.check()?;
    let logs = logs.then(|| output.join(format!("{}.log", scenario.name)));
    // Another lab may make the same capture in the same directory.
    let draft = output.join(format!("{}.{}.pcap", scenario.name, std::process::id()));
    let made = record(scenario, logs, &draft, seed).and_then(|counts| {
        check(scenario, counts)?;
        let pcap_bytes = std::fs::metadata(&draft)?.len();
        let zipped = Command::new("gzip")
            .args(["-9", "-n", "-f", "--"])
            .arg(&draft)
            .status()
            .context("cannot run gzip")?;
        ensure!(zipped.success(), "gzip failed: is the disk full?");
        let file = file_of(scenario);
        std::fs::rename(draft.with_extension("pcap.gz"), output.join(&file))?;
        let bytes = std::fs::read(output.join(&file))?;
        let sha256 = Sha256::digest(&bytes);
        Ok(Line {
            file,
            kind: scenario.kind,
            rule: scenario.rule()?,
            scenario: scenario.name.clone(),
            notes: scenario.notes(),
            counts,
            year: year()?,
            pcap_bytes,
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    });
    if made.is_err() && draft.exists() {
        std::fs::remove_file(&draft)?;
    }
    made
}

/// Runs a scenario and records its wire.
fn record(
    scenario: &Scenario,
    logs: Option<PathBuf>,
    draft: &Path,
    seed: u64,
) -> anyhow::Result<Counts> {
    let mut site = Site::create(scenario, logs)?;
    let (inner, outer) =
        site.within_net(|| Ok((wire::end(site::WIRE_IN)?, wire::end(site::WIRE_OUT)?)))?;
    let ends = Arc::new((inner, outer));
    let rule = scenario.rule()?;
    let mut started = Vec::new();
    for (host, server) in &scenario.servers {
        let program = site.start(host, server.script)?;
        started.push((host.clone(), server.port, program));
    }
    for (host, port, program) in started {
        if port != 0 {
            site.wait_for_port(&host, port, program)?;
        }
    }
    let tape = Arc::new(Mutex::new(Tape::create(draft, rule, scenario.frames_max)?));
    let stop = Arc::new(AtomicBool::new(false));
    let mut carriers = Vec::new();
    for way in [Way::In, Way::Out] {
        let (ends, tape, stop) = (Arc::clone(&ends), Arc::clone(&tape), Arc::clone(&stop));
        let course = scenario.course;
        let mut random = Random::new(seed, &format!("{}-{way:?}", scenario.name));
        carriers.push(std::thread::Builder::new().spawn(move || {
            let pair = match way {
                Way::In => (&ends.1, &ends.0),
                Way::Out => (&ends.0, &ends.1),
            };
            wire::carry(pair, way, course, &mut random, &tape, &stop)
        })?);
    }
    let played = play(scenario, &mut site, &tape);
    stop.store(true, Ordering::SeqCst);
    for carrier in carriers {
        match carrier.join() {
            Ok(ended) => ended?,
            Err(_) => bail!("the wire panicked"),
        }
    }
    drop(site);
    played?;
    let tape = Arc::into_inner(tape).context("the capture is still being written")?;
    let tape = tape.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(tape.finish()?)
}

/// Runs the clients until those that count are done, the time is over or the capture is full.
fn play(scenario: &Scenario, site: &mut Site, tape: &Mutex<Tape>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(scenario.seconds);
    let mut awaited = Vec::new();
    for client in &scenario.clients {
        let program = site.start(&client.host, &client.script)?;
        if !client.beside {
            awaited.push(program);
        }
    }
    let is_full = || {
        tape.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_full()
    };
    while Instant::now() < deadline && !sys::stop_requested() && !is_full() {
        let mut running = false;
        for program in &awaited {
            running |= !site.has_ended(*program)?;
        }
        if !running {
            std::thread::sleep(AFTERMATH);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(!sys::stop_requested(), "stopped");
    Ok(())
}

/// A capture holds what its label says.
fn check(scenario: &Scenario, counts: Counts) -> anyhow::Result<()> {
    ensure!(
        counts.ip_packets >= FRAMES_MIN,
        "only {} packets were recorded: does its tool work? --logs keeps what it says",
        counts.ip_packets
    );
    ensure!(
        !scenario.malicious || counts.attack_packets >= FRAMES_MIN,
        "only {} packets of the attack were recorded",
        counts.attack_packets
    );
    Ok(())
}

/// This year, by the days of the mean Gregorian year.
fn year() -> anyhow::Result<u64> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(1_970 + seconds / 31_556_952)
}

/// Makes one small capture of what every Debian has, and compares it with what was sent.
///
/// # Errors
/// It holds something else, or something is left behind.
pub(crate) fn check_one(output: &Path) -> anyhow::Result<String> {
    const PORTS: u64 = 60;
    let script = format!("bash -c 'for p in {{1..{PORTS}}}; do : <>/dev/tcp/$s1/$p; done'");
    let scenario = scenario::attack("check", "port_scan")
        .idle("s1 s2")
        .run("a1", &script)
        .run(
            "c1",
            "bash -c 'for n in {1..25}; do echo >/dev/udp/$s2_6/514; sleep 0.02; done'",
        )
        .seconds(20);
    std::fs::create_dir_all(output)?;
    space::remove_stale()?;
    let line = capture(&scenario, output, false, 1)?;
    let counts = line.counts;
    // A SYN and its refusal each; the rest is UDP and the errors about it.
    ensure!(
        counts.attack_packets == 2 * PORTS,
        "{PORTS} refused connections are {} packets",
        counts.attack_packets
    );
    let rest = counts.ip_packets - counts.attack_packets;
    ensure!(rest >= 25, "25 datagrams are {rest} packets");
    labels::add(&output.join("labels.csv"), &line)?;
    ensure!(
        output.join(&line.file).exists(),
        "there is no {}",
        line.file
    );
    let own = format!("{}{}-c", space::NAME_PREFIX, std::process::id());
    for entry in std::fs::read_dir(space::NETNS_DIR)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(!name.starts_with(&own), "namespace {name} is left behind");
    }
    Ok(format!(
        "{} packets, {} of the attack",
        counts.packets, counts.attack_packets
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_scenario_is_whole_and_bounded() {
        let mut names = HashSet::new();
        for scenario in scenarios() {
            if let Err(error) = scenario.check() {
                panic!("{error:#}");
            }
            assert!(
                names.insert(scenario.name.clone()),
                "{} twice",
                scenario.name
            );
        }
    }

    #[test]
    fn ordinary_scenarios_are_at_least_as_many_as_attacks() {
        let all = scenarios();
        let malicious = all.iter().filter(|one| one.malicious).count();
        assert!(
            all.len() - malicious >= malicious,
            "{malicious} of {}",
            all.len()
        );
    }

    #[test]
    fn a_scenario_that_is_not_whole_is_refused() {
        use scenario::{attack, benign};
        let good = || benign("good", "web").run("c1", "true");
        assert!(good().check().is_ok());
        for (bad, why) in [
            (good().seconds(91), "not 5 to 90"),
            (good().frames(30_000), "not 100 to"),
            (good().run("c10", "true"), "c10 is no host"),
            (good().run("z1", "true"), "z1 is no host"),
            (benign("No", "web").run("c1", "true"), "not of a-z"),
            (benign("no", "syn_flood").run("c1", "true"), "is not known"),
            (
                benign("no", "web").beside("c1", "true"),
                "nothing that it waits",
            ),
            (attack("no", "syn_flood").run("c1", "true"), "no host tells"),
        ] {
            let error = format!("{:#}", bad.check().expect_err(why));
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_capture_without_its_attack_is_refused() {
        let scenario = scenario::attack("scan", "port_scan").run("a1", "true");
        let mut counts = Counts {
            packets: 50,
            ip_packets: 50,
            ..Counts::default()
        };
        assert!(check(&scenario, counts).is_err());
        counts.attack_packets = 50;
        assert!(check(&scenario, counts).is_ok());
        counts.ip_packets = 3;
        assert!(check(&scenario, counts).is_err());
    }
}
