//! `xtask run`: builds, starts collector and sensor, prints the dashboard's address, ends both.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::lab::{Endless, Lab, Offloads, Relay, Services, Space};
use crate::process::{EndBy, Logs, Program, cargo, is_installed, sudo, target_dir, workspace};
use crate::sys;

/// Cargo profile of programs that run: optimised, without the link-time part that takes longest.
const PROFILE: &str = "quick";
/// Longest wait for a program to be ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// A look at the programs this often.
const POLL: Duration = Duration::from_millis(100);
/// The capture shown where no live one can be had; made by the lab.
pub(crate) const BUNDLED: &str = "xtask/fixtures/lab.pcap.gz";
/// Options of `xtask run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Interface to watch; without it, that of the default route
    #[arg(long, value_name = "NAME", conflicts_with_all = ["replay", "lab"])]
    interface: Option<String>,
    /// Shows a capture file instead of live packets (no root needed)
    #[arg(long, value_name = "FILE", conflicts_with = "lab")]
    replay: Option<PathBuf>,
    /// Watches the lab: traffic of its own between network namespaces (root)
    #[arg(long)]
    lab: bool,
    /// Port of the dashboard on 127.0.0.1
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port for sensors on 127.0.0.1
    #[arg(long, default_value_t = 8081)]
    sensor_port: u16,
    /// Where the collector keeps its data
    #[arg(long, value_name = "DIR", default_value = "netml-data")]
    data: PathBuf,
    /// Unoptimised programs, as the tests build them: for work on netml itself
    #[arg(long)]
    dev: bool,
    /// Ends by itself after this many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// Where packets come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Live(String),
    Replay(PathBuf),
    Bundled(PathBuf),
    Lab,
}

/// How the sensor gets the rights to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Root,
    Sudo,
    None,
}

/// The arguments ask for what there is not; exit code 2.
#[derive(Debug)]
pub(crate) struct Misuse(String);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Runs `xtask run` until Ctrl-C.
///
/// # Errors
/// The build fails, no interface is found, a port is in use, or a program ends by itself.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let rights = rights();
    let source = choose_source(args, rights)?;
    check_ports(args)?;
    sys::catch_stop_signals()?;
    build(args.dev)?;
    if rights == Rights::Sudo && matches!(source, Source::Live(_)) {
        // In the foreground, so that it can ask for the password.
        let status = Command::new("sudo").arg("-v").status();
        ensure!(
            status.is_ok_and(|status| status.success()),
            "sudo refused; run it as root, or see the sensor at work with --replay FILE"
        );
    }
    let mut collector = start_collector(args)?;
    let dashboard = collector.wait_for_line("dashboard: ", READY_PATIENCE)?;
    let sensors = collector.wait_for_line("sensors: ", READY_PATIENCE)?;
    let mut stage = Stage::default();
    let mut agent = start_agent(&source, rights, args.dev, &sensors, &mut stage)?;
    println!("netml: {}", describe(&source));
    println!("netml: dashboard {dashboard}");
    println!(
        "netml: Ctrl-C ends it; data is kept in {}",
        args.data.display()
    );
    let result = watch(args, &source, &mut collector, &mut agent);
    let agent_end = agent.end();
    drop(stage);
    let collector_end = collector.end();
    result?;
    agent_end?;
    collector_end?;
    Ok(())
}

/// Waits for Ctrl-C, the time given, or the end of a program.
fn watch(
    args: &RunArgs,
    source: &Source,
    collector: &mut Program,
    agent: &mut Program,
) -> anyhow::Result<()> {
    let deadline = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut replayed = false;
    while !sys::stop_requested() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        if let Some(status) = collector.ended()? {
            bail!("the collector ended ({status}): {}", collector.tail());
        }
        if !replayed && let Some(status) = agent.ended()? {
            let is_replay = matches!(source, Source::Replay(_) | Source::Bundled(_));
            ensure!(
                is_replay && status.success(),
                "the sensor ended ({status}): {}",
                agent.tail()
            );
            println!("netml: the replay is over; the dashboard stays until Ctrl-C");
            replayed = true;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn rights() -> Rights {
    if sys::is_root() {
        Rights::Root
    } else if is_installed("sudo") {
        Rights::Sudo
    } else {
        Rights::None
    }
}

fn choose_source(args: &RunArgs, rights: Rights) -> anyhow::Result<Source> {
    if let Some(file) = &args.replay {
        ensure!(
            file.is_file(),
            "there is no capture file {}",
            file.display()
        );
        return Ok(Source::Replay(file.canonicalize()?));
    }
    if args.lab {
        ensure!(
            rights == Rights::Root,
            "the lab makes network namespaces: run it as root (sudo cargo xtask run --lab)"
        );
        return Ok(Source::Lab);
    }
    if rights == Rights::None {
        let file = workspace().join(BUNDLED);
        ensure!(
            file.is_file(),
            "neither root nor sudo, and {BUNDLED} is not here: use --replay FILE"
        );
        eprintln!(
            "netml: neither root nor sudo, so no live packets can be had; \
             showing a bundled replay instead"
        );
        return Ok(Source::Bundled(file));
    }
    if let Some(interface) = &args.interface {
        let known = interfaces();
        if interface != "lo" && !known.contains(interface) {
            let known = known.join(", ");
            let text = format!("there is no interface {interface}; there are: {known}");
            return Err(Misuse(text).into());
        }
        return Ok(Source::Live(interface.clone()));
    }
    match default_route_interface() {
        Some(interface) => Ok(Source::Live(interface)),
        None => bail!(
            "no default route, so no interface to choose: name one with --interface ({}), \
             or use --lab or --replay FILE",
            interfaces().join(", ")
        ),
    }
}

/// Says before the build what the collector would say after it, with the options of this command.
fn check_ports(args: &RunArgs) -> anyhow::Result<()> {
    let listen = |port: u16, option| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("cannot listen on 127.0.0.1:{port}; choose another port with {option}")
        })
    };
    let web = listen(args.port, "--port")?;
    // Both at once, so that they are not the same.
    let sensors = listen(args.sensor_port, "--sensor-port")?;
    drop((web, sensors));
    Ok(())
}

fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lo")
        .collect();
    names.sort();
    names
}

fn default_route_interface() -> Option<String> {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    first_default_v4(&v4).or_else(|| first_default_v6(&v6))
}

/// The usable default route of the lowest metric; of several, the first (`/proc/net/route`).
fn first_default_v4(table: &str) -> Option<String> {
    const UP: u32 = 1;
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, "00000000", _, flags, _, _, metric, "00000000", ..] = fields[..] else {
                return None;
            };
            let up = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0);
            let metric: u32 = metric.parse().ok()?;
            up.then(|| (metric, name.to_owned()))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, name)| name)
}

/// The same for `/proc/net/ipv6_route`; the kernel's own reject route on `lo` is none.
fn first_default_v6(table: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let metric = u32::from_str_radix(fields.get(5)?, 16).ok()?;
            let name = *fields.get(9)?;
            let any = fields[0].bytes().all(|byte| byte == b'0') && fields[1] == "00";
            (any && name != "lo").then(|| (metric, name.to_owned()))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, name)| name)
}

/// Builds both programs; the kernel object comes from the repository, so stable Rust is enough.
fn build(dev: bool) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["build", "--locked"]);
    if dev {
        // All of the workspace, so that features and with them the build are those of the tests.
        command.args(["--workspace", "--bins"]);
    } else {
        command.args(["--profile", PROFILE]);
        command.args(["--package", "netml-agent", "--package", "netml-collector"]);
    }
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(())
}

fn program(name: &str, dev: bool) -> PathBuf {
    target_dir()
        .join(if dev { "debug" } else { PROFILE })
        .join(name)
}

fn start_collector(args: &RunArgs) -> anyhow::Result<Program> {
    let mut command = Command::new(program("netml-collector", args.dev));
    command
        .arg("serve")
        .args(["--web", &format!("127.0.0.1:{}", args.port)])
        .args(["--grpc", &format!("127.0.0.1:{}", args.sensor_port)])
        .arg("--data")
        .arg(&args.data);
    Program::start("collector", command, EndBy::Signal, Logs::Shown)
}

/// What has to live as long as the sensor: the lab's traffic, services, relay and namespaces,
/// ended in this order.
#[derive(Default)]
struct Stage {
    traffic: Option<Endless>,
    services: Option<Services>,
    relay: Option<Relay>,
    lab: Option<Arc<Lab>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.traffic.take());
        if let Some(services) = self.services.take() {
            services.stop();
        }
        drop(self.relay.take());
        drop(self.lab.take());
    }
}

fn start_agent(
    source: &Source,
    rights: Rights,
    dev: bool,
    sensors: &str,
    stage: &mut Stage,
) -> anyhow::Result<Program> {
    let agent = program("netml-agent", dev);
    let mut arguments: Vec<String> = Vec::new();
    let mut command = Command::new(&agent);
    let mut end_by = EndBy::Signal;
    let mut collector = sensors.to_owned();
    match source {
        Source::Live(interface) => {
            arguments.extend(["run", "--interface", interface].map(String::from));
            if rights == Rights::Sudo {
                command = sudo(&agent);
                end_by = EndBy::Input;
            }
        }
        Source::Replay(file) | Source::Bundled(file) => {
            arguments.extend(["replay", "--speed", "1x"].map(String::from));
            if matches!(source, Source::Bundled(_)) {
                arguments.extend(["--source", "bundled"].map(String::from));
            }
            arguments.push(file.display().to_string());
        }
        Source::Lab => {
            let lab = Arc::new(Lab::create(Offloads::On)?);
            let target = socket_address(sensors)?;
            let relay = Relay::start(&lab, target)?;
            collector = format!("http://{}", relay.inside);
            command = Command::new("ip");
            command
                .args(["netns", "exec", &lab.name(Space::Server)])
                .arg(&agent);
            arguments.extend(["run", "--interface", "eth0", "--source", "lab"].map(String::from));
            stage.services = Some(Services::start(&lab)?);
            stage.traffic = Some(Endless::start(Arc::clone(&lab), 1)?);
            stage.relay = Some(relay);
            stage.lab = Some(lab);
        }
    }
    arguments.extend(["--collector".to_owned(), collector]);
    command.args(&arguments);
    Program::start("sensor", command, end_by, Logs::Shown)
}

fn socket_address(url: &str) -> anyhow::Result<SocketAddr> {
    let authority = url.split("//").nth(1).unwrap_or(url).trim_end_matches('/');
    authority
        .parse()
        .with_context(|| format!("the collector gave no address for sensors: {url}"))
}

fn describe(source: &Source) -> String {
    match source {
        Source::Live(interface) => format!("watching {interface}"),
        Source::Replay(file) => format!("replaying {}", file.display()),
        Source::Bundled(_) => "replaying the bundled capture".to_owned(),
        Source::Lab => "watching the lab's server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::{
        Misuse, Rights, RunArgs, check_ports, choose_source, first_default_v4, first_default_v6,
        socket_address,
    };

    const HEADER: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    #[test]
    fn of_several_default_routes_the_lowest_metric_wins_and_then_the_first() {
        let table = format!(
            "{HEADER}wlan0 00000000 0102A8C0 0003 0 0 600 00000000 0 0 0\n\
             eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\n\
             eth1 00000000 0103A8C0 0003 0 0 100 00000000 0 0 0\n\
             eth0 0001A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0\n"
        );
        assert_eq!(first_default_v4(&table).as_deref(), Some("eth0"));
    }

    #[test]
    fn a_half_default_and_a_route_that_is_down_are_none() {
        let table = format!(
            "{HEADER}tun0 00000000 0102A8C0 0003 0 0 0 00000080 0 0 0\n\
             eth0 00000000 0101A8C0 0002 0 0 100 00000000 0 0 0\n"
        );
        assert_eq!(first_default_v4(&table), None);
        assert_eq!(first_default_v4(""), None);
    }

    #[test]
    fn the_kernels_reject_route_is_no_ipv6_default() {
        let zero = "0".repeat(32);
        let reject = format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo");
        let real = format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000003 eth0");
        assert_eq!(first_default_v6(&reject), None);
        assert_eq!(
            first_default_v6(&format!("{reject}\n{real}\n")).as_deref(),
            Some("eth0")
        );
    }

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn an_interface_that_is_none_is_misuse_and_no_path() {
        for name in ["nope0", "../net/lo", ""] {
            let command: Command = clap::Parser::parse_from(["x", "--interface", name]);
            let error = choose_source(&command.run, Rights::Root).unwrap_err();
            assert!(error.is::<Misuse>(), "{name}: {error}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_with_the_option_that_chooses_another() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = taken.local_addr().map(|a| a.port().to_string()).unwrap();
        let check = |options: [&str; 4]| {
            let command: Command = clap::Parser::parse_from(["x"].iter().chain(&options));
            check_ports(&command.run).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(check(["--port", "0", "--sensor-port", "0"]), Ok(()));
        for (option, other) in [("--port", "--sensor-port"), ("--sensor-port", "--port")] {
            let error = check([option, &taken, other, "0"]).unwrap_err();
            assert!(error.contains(option), "{error}");
            assert!(error.contains(&taken), "{error}");
        }
    }

    #[test]
    fn the_sensors_url_becomes_an_address() {
        let address = socket_address("http://127.0.0.1:8081").unwrap();
        assert_eq!(address.port(), 8_081);
        assert!(socket_address("nonsense").is_err());
    }
}
