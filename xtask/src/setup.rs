//! Installs what building the kernel object and the checks need: by apt and cargo, as root, on
//! Debian and Ubuntu; elsewhere the commands are printed. What is there is left alone, so that a
//! second run is quick.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// `cargo xtask setup`; without a flag: everything but `--lab`.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct SetupArgs {
    /// The BPF toolchain: rustc-web, LLVM 22 and bpf-linker
    #[arg(long)]
    pub(crate) bpf: bool,
    /// The headless browser and what drives it: chromium, nodejs, npm
    #[arg(long)]
    pub(crate) browser: bool,
    /// Tools of the checks: iproute2, ethtool, tshark, cargo-deny, cargo-machete
    #[arg(long)]
    pub(crate) checks: bool,
    /// Tools and servers of `lab capture`, on a machine to spare; no server is started
    #[arg(long)]
    pub(crate) lab: bool,
    /// Only print the commands
    #[arg(long)]
    pub(crate) dry_run: bool,
}

const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

/// A Debian package and the file that shows it is there.
struct Package {
    name: &'static str,
    shown_by: &'static str,
}

const fn package(name: &'static str, shown_by: &'static str) -> Package {
    Package { name, shown_by }
}

const BPF_PACKAGES: [Package; 6] = [
    package("rustc-web", "/usr/bin/rustc"),
    package("libstd-rust-web-dev-bpf", BPF_CORE),
    package("llvm-22-dev", "/usr/lib/llvm-22/bin/llvm-config"),
    package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    package("zlib1g-dev", "/usr/include/zlib.h"),
    package("libzstd-dev", "/usr/include/zstd.h"),
];
const BROWSER_PACKAGES: [Package; 3] = [
    package("chromium", "/usr/bin/chromium"),
    package("nodejs", "/usr/bin/node"),
    package("npm", "/usr/bin/npm"),
];
const CHECK_PACKAGES: [Package; 3] = [
    package("iproute2", "/usr/sbin/ip"),
    package("ethtool", "/usr/sbin/ethtool"),
    package("tshark", "/usr/bin/tshark"),
];
/// What `lab capture` runs; never part of the default, since it is much and no part of building.
const LAB_PACKAGES: [Package; 73] = [
    package("hydra", "/usr/bin/hydra"),
    package("medusa", "/usr/bin/medusa"),
    package("ncrack", "/usr/bin/ncrack"),
    package("patator", "/usr/bin/patator"),
    package("nmap", "/usr/bin/nmap"),
    package("masscan", "/usr/bin/masscan"),
    package("zmap", "/usr/sbin/zmap"),
    package("hping3", "/usr/sbin/hping3"),
    package("openssh-server", "/usr/sbin/sshd"),
    package("openssh-client", "/usr/bin/ssh"),
    package("sshpass", "/usr/bin/sshpass"),
    package("vsftpd", "/usr/sbin/vsftpd"),
    package("nginx-light", "/usr/sbin/nginx"),
    package("apache2-utils", "/usr/bin/ab"),
    package("wrk", "/usr/bin/wrk"),
    package("siege", "/usr/bin/siege"),
    package("slowhttptest", "/usr/bin/slowhttptest"),
    package("iodine", "/usr/sbin/iodine"),
    package("dns2tcp", "/usr/bin/dns2tcpc"),
    package("dnsmasq-base", "/usr/sbin/dnsmasq"),
    package("unbound", "/usr/sbin/unbound"),
    package("bind9-dnsutils", "/usr/bin/dig"),
    package("dnsperf", "/usr/bin/dnsperf"),
    package("smbclient", "/usr/bin/smbclient"),
    package("samba", "/usr/sbin/smbd"),
    package("swaks", "/usr/bin/swaks"),
    package("python3-aiosmtpd", "/usr/share/doc/python3-aiosmtpd"),
    package("dovecot-imapd", "/usr/sbin/dovecot"),
    package("dovecot-pop3d", "/usr/lib/dovecot/pop3"),
    package("git", "/usr/bin/git"),
    package("rsync", "/usr/bin/rsync"),
    package("lftp", "/usr/bin/lftp"),
    package("curl", "/usr/bin/curl"),
    package("wget", "/usr/bin/wget"),
    package("mosquitto", "/usr/sbin/mosquitto"),
    package("mosquitto-clients", "/usr/bin/mosquitto_pub"),
    package("redis-server", "/usr/bin/redis-server"),
    package("redis-tools", "/usr/bin/redis-cli"),
    package("memcached", "/usr/bin/memcached"),
    package("mariadb-server", "/usr/sbin/mariadbd"),
    package("mariadb-client", "/usr/bin/mariadb"),
    package("postgresql", "/usr/lib/postgresql/15/bin/postgres"),
    package("snmpd", "/usr/sbin/snmpd"),
    package("snmp", "/usr/bin/snmpwalk"),
    package("onesixtyone", "/usr/bin/onesixtyone"),
    package("nbtscan", "/usr/bin/nbtscan"),
    package("chrony", "/usr/sbin/chronyd"),
    package("ngircd", "/usr/sbin/ngircd"),
    package("aria2", "/usr/bin/aria2c"),
    package("transmission-cli", "/usr/bin/transmission-cli"),
    package("iputils-ping", "/usr/bin/ping"),
    package("arping", "/usr/sbin/arping"),
    package("pv", "/usr/bin/pv"),
    package("mtr-tiny", "/usr/bin/mtr"),
    package("python3", "/usr/bin/python3"),
    package("python3-paramiko", "/usr/share/doc/python3-paramiko"),
    package("python3-pycurl", "/usr/share/doc/python3-pycurl"),
    package("mktorrent", "/usr/bin/mktorrent"),
    package("iperf3", "/usr/bin/iperf3"),
    package("xvfb", "/usr/bin/Xvfb"),
    package("x11vnc", "/usr/bin/x11vnc"),
    package("xtightvncviewer", "/usr/bin/xtightvncviewer"),
    package("busybox-static", "/usr/bin/busybox"),
    package("ncat", "/usr/bin/ncat"),
    package("netcat-openbsd", "/usr/bin/nc.openbsd"),
    package("socat", "/usr/bin/socat"),
    package("fping", "/usr/bin/fping"),
    package("tftpd-hpa", "/usr/sbin/in.tftpd"),
    package("tftp-hpa", "/usr/bin/tftp"),
    package("haproxy", "/usr/sbin/haproxy"),
    package("httperf", "/usr/bin/httperf"),
    package("sip-tester", "/usr/bin/sipp"),
    package("squid", "/usr/sbin/squid"),
];
/// Packages and their services that would run by themselves from the machine's next start on.
const LAB_UNITS: [(&str, &str); 18] = [
    ("chrony", "chrony"),
    ("dovecot-imapd", "dovecot"),
    ("haproxy", "haproxy"),
    ("mariadb-server", "mariadb"),
    ("memcached", "memcached"),
    ("mosquitto", "mosquitto"),
    ("nginx-light", "nginx"),
    ("ngircd", "ngircd"),
    ("openssh-server", "ssh"),
    ("postgresql", "postgresql"),
    ("redis-server", "redis-server"),
    ("samba", "nmbd"),
    ("samba", "smbd"),
    ("snmpd", "snmpd"),
    ("squid", "squid"),
    ("tftpd-hpa", "tftpd-hpa"),
    ("unbound", "unbound"),
    ("vsftpd", "vsftpd"),
];
/// Where packages ask whether they may start their services.
const START_POLICY: &str = "/usr/sbin/policy-rc.d";

/// A tool from the crate registry.
struct Tool {
    name: &'static str,
    version: &'static str,
    options: &'static [&'static str],
    llvm: bool,
}

const BPF_TOOLS: [Tool; 1] = [Tool {
    name: "bpf-linker",
    version: "0.13.0",
    options: &["--no-default-features", "--features", "llvm-22"],
    llvm: true,
}];
const CHECK_TOOLS: [Tool; 2] = [
    Tool {
        name: "cargo-deny",
        version: "0.20.2",
        // Unoptimised: it runs once on a small workspace, and is built in half the time so.
        options: &["--debug", "--no-default-features"],
        llvm: false,
    },
    Tool {
        name: "cargo-machete",
        version: "0.9.2",
        options: &["--debug"],
        llvm: false,
    },
];

/// Installs what is missing.
pub(crate) fn run(args: &SetupArgs) -> anyhow::Result<()> {
    let all = !(args.bpf || args.browser || args.checks || args.lab);
    let mut packages: Vec<&Package> = Vec::new();
    let mut tools: Vec<&Tool> = Vec::new();
    if all || args.bpf {
        packages.extend(&BPF_PACKAGES);
        tools.extend(&BPF_TOOLS);
    }
    if all || args.browser {
        packages.extend(&BROWSER_PACKAGES);
    }
    if all || args.checks {
        packages.extend(&CHECK_PACKAGES);
        tools.extend(&CHECK_TOOLS);
    }
    if args.lab {
        packages.extend(&LAB_PACKAGES);
    }
    packages.retain(|package| !Path::new(package.shown_by).exists() && !on_path(package.shown_by));
    tools.retain(|tool| !is_installed(tool));
    if packages.is_empty() && tools.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    let apt = apt_commands(&packages);
    let cargo: Vec<Command> = tools.iter().map(|tool| cargo_command(tool)).collect();
    if args.dry_run || !(packages.is_empty() || may_apt()) {
        println!("run these commands:");
        for command in apt.iter().chain(&cargo) {
            println!("  {}", shown(command));
        }
        if args.dry_run {
            return Ok(());
        }
        bail!("packages are missing, and this is not root on Debian or Ubuntu");
    }
    let quiet = args.lab && !packages.is_empty();
    let _policy = if quiet { StartPolicy::none()? } else { None };
    for mut command in apt.into_iter().chain(cargo) {
        println!("{}", shown(&command));
        let status = command
            .status()
            .with_context(|| format!("starting {}", shown(&command)))?;
        ensure!(status.success(), "this failed: {}", shown(&command));
    }
    if quiet && Path::new("/run/systemd/system").exists() {
        let is_new = |name: &str| packages.iter().any(|package| package.name == name);
        let units: Vec<&str> = LAB_UNITS
            .into_iter()
            .filter_map(|(package, unit)| is_new(package).then_some(unit))
            .collect();
        let disabled = Command::new("systemctl")
            .args(["disable", "--quiet"])
            .args(&units)
            .status()
            .context("cannot run systemctl")?;
        if !disabled.success() {
            println!(
                "some of these run from the next start on: {}",
                units.join(" ")
            );
        }
    }
    Ok(())
}

/// While it lives, packages that are installed start no service: the lab starts its own, in its
/// namespaces.
struct StartPolicy;

impl StartPolicy {
    /// `None` where the machine has a policy of its own.
    fn none() -> anyhow::Result<Option<Self>> {
        use std::os::unix::fs::PermissionsExt;
        let path = Path::new(START_POLICY);
        if path.exists() {
            return Ok(None);
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("cannot write {START_POLICY}"))?;
        Ok(Some(Self))
    }
}

impl Drop for StartPolicy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(START_POLICY) {
            eprintln!("cannot remove {START_POLICY}: {error}; no service starts while it is there");
        }
    }
}

fn apt_commands(packages: &[&Package]) -> Vec<Command> {
    if packages.is_empty() {
        return Vec::new();
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(packages.iter().map(|package| package.name))
        .env("DEBIAN_FRONTEND", "noninteractive");
    vec![update, install]
}

/// `cargo install` by the cargo that runs this, with its own compiler: Debian's rustc-web, should
/// it come first on the path, is for BPF only.
fn cargo_command(tool: &Tool) -> Command {
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let rustc = cargo.with_file_name("rustc");
    let mut command = Command::new(&cargo);
    command
        .args(["install", "--locked", "--quiet"])
        .arg(format!("{}@{}", tool.name, tool.version))
        .args(tool.options);
    if cargo.is_absolute() && rustc.exists() {
        command.env("RUSTC", rustc);
    }
    if tool.llvm {
        command.env("LLVM_PREFIX", LLVM_PREFIX);
    }
    command
}

/// Root, with apt.
fn may_apt() -> bool {
    let root = std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1).map(|uid| uid == "0"))
            .unwrap_or(false)
    });
    root && Path::new("/usr/bin/apt-get").exists()
}

/// True where a program of the same name is elsewhere on the path; a compiler elsewhere does not
/// count, since Debian's is the one with a core for BPF.
fn on_path(shown_by: &str) -> bool {
    let path = Path::new(shown_by);
    let is_program = shown_by.starts_with("/usr/bin/") || shown_by.starts_with("/usr/sbin/");
    let (true, Some(name)) = (
        is_program && !shown_by.ends_with("/rustc"),
        path.file_name(),
    ) else {
        return false;
    };
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).exists()))
}

/// Any version counts: what matters is that it runs.
fn is_installed(tool: &Tool) -> bool {
    Command::new(tool.name)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), value.display()));
        }
    }
    words.push(command.get_program().display().to_string());
    words.extend(command.get_args().map(|word| word.display().to_string()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        let commands = apt_commands(&[&BPF_PACKAGES[0]]);
        assert_eq!(
            shown(&commands[1]),
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet \
             --no-install-recommends rustc-web"
        );
        assert!(apt_commands(&[]).is_empty());
        assert!(shown(&cargo_command(&BPF_TOOLS[0])).contains("LLVM_PREFIX=/usr/lib/llvm-22"));
    }
}
