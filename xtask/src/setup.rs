//! Installs what building the kernel object and the checks need: by apt and cargo, as root, on
//! Debian and Ubuntu; elsewhere the commands are printed. What is there is left alone, so that a
//! second run is quick.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// `cargo xtask setup`; without a flag: everything.
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
    let all = !(args.bpf || args.browser || args.checks);
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
    for mut command in apt.into_iter().chain(cargo) {
        println!("{}", shown(&command));
        let status = command
            .status()
            .with_context(|| format!("starting {}", shown(&command)))?;
        ensure!(status.success(), "this failed: {}", shown(&command));
    }
    Ok(())
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
