//! Builds the kernel object, or proves the kept one fresh.
//!
//! Two toolchains, tried in this order: rustup's nightly with `rust-src`, and Debian's `rustc-web`
//! with its prebuilt core for BPF; both link with `bpf-linker`. The object goes to
//! `netml-agent/bpf/netml.bpf.o` with its facts beside it, so that a sensor host needs neither.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

const TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler, never the one of rustup in front of it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// An object above this has something in it that does not belong there.
const OBJECT_BYTES_MAX: usize = 400_000;
const SOURCES: [&str; 5] = [
    "netml-ebpf/Cargo.toml",
    "netml-ebpf/Cargo.lock",
    "netml-ebpf/src",
    "netml-common/Cargo.toml",
    "netml-common/src",
];

/// `cargo xtask ebpf`
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct EbpfArgs {
    /// Write nothing: fail where the kept object is not what the sources give
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds the object, or checks the kept one.
pub(crate) fn run(args: &EbpfArgs) -> anyhow::Result<()> {
    let root = root()?;
    let object_path = root.join("netml-agent/bpf/netml.bpf.o");
    let facts_path = root.join("netml-agent/bpf/netml.bpf.json");
    if args.check {
        return check(&root, &object_path, &facts_path);
    }
    let (object, toolchain) = build(&root)?;
    let facts = Facts {
        bytes: object.len() as u64,
        sha256: digest(&object),
        source_sha256: source_digest(&root)?,
        toolchain,
    };
    fs::create_dir_all(root.join("netml-agent/bpf"))?;
    fs::write(&object_path, &object)
        .with_context(|| format!("writing {}", object_path.display()))?;
    fs::write(&facts_path, serde_json::to_string_pretty(&facts)? + "\n")
        .with_context(|| format!("writing {}", facts_path.display()))?;
    println!("{}: {} bytes", object_path.display(), object.len());
    println!("built by {}", facts.toolchain);
    Ok(())
}

/// What is known of the kept object.
#[derive(serde::Serialize, serde::Deserialize, Debug)]
struct Facts {
    /// Size of the object.
    bytes: u64,
    /// Digest of the object.
    sha256: String,
    /// Digest of the sources it was built from.
    source_sha256: String,
    /// Versions of compiler and linker.
    toolchain: String,
}

fn check(root: &Path, object_path: &Path, facts_path: &Path) -> anyhow::Result<()> {
    const REBUILD: &str = "rebuild it with `cargo xtask ebpf` and commit it";
    let kept =
        fs::read(object_path).with_context(|| format!("reading {}", object_path.display()))?;
    let facts = fs::read_to_string(facts_path)
        .with_context(|| format!("reading {}", facts_path.display()))?;
    let facts: Facts = serde_json::from_str(&facts)
        .with_context(|| format!("understanding {}", facts_path.display()))?;
    ensure!(
        facts.sha256 == digest(&kept) && facts.bytes == kept.len() as u64,
        "the kept kernel object is not the one described beside it: {REBUILD}"
    );
    ensure!(
        facts.source_sha256 == source_digest(root)?,
        "the kept kernel object is older than its sources: {REBUILD}"
    );
    if toolchains().is_empty() {
        println!(
            "no BPF toolchain here (`cargo xtask setup --bpf` installs one): the kept object was \
             checked by the digests of object and sources only"
        );
        return Ok(());
    }
    let (built, toolchain) = build(root)?;
    if toolchain == facts.toolchain {
        ensure!(
            built == kept,
            "the kept kernel object differs from what the same toolchain builds: {REBUILD}"
        );
        println!("the kept kernel object is what {toolchain} builds, byte for byte");
    } else {
        println!(
            "the kept kernel object was built by {}, here is {toolchain}: bytes cannot be compared; \
             the sources' digest agrees, and the kernel tests must load and pass it",
            facts.toolchain
        );
    }
    Ok(())
}

/// One way to build.
#[derive(Debug)]
enum Toolchain {
    /// rustup's nightly with the sources of core.
    Nightly,
    /// Debian's rustc-web with core prebuilt.
    Debian,
}

fn toolchains() -> Vec<Toolchain> {
    let mut found = Vec::new();
    if output(Command::new("bpf-linker").arg("--version")).is_none() {
        return found;
    }
    let mut nightly = Command::new("rustup");
    nightly.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    if let Some(sysroot) = output(&mut nightly)
        && Path::new(&sysroot)
            .join("lib/rustlib/src/rust/library/core")
            .exists()
    {
        found.push(Toolchain::Nightly);
    }
    if let Some(sysroot) = output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))
        && Path::new(&sysroot)
            .join("lib/rustlib")
            .join(TARGET)
            .exists()
    {
        found.push(Toolchain::Debian);
    }
    found
}

/// Builds by the first toolchain that can; the stripped object and the versions of its makers.
fn build(root: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let found = toolchains();
    if found.is_empty() {
        bail!(
            "no BPF toolchain: run `cargo xtask setup --bpf` (Debian and Ubuntu), or install rustup's \
             nightly with rust-src and a bpf-linker of the same LLVM; without either the kept object is used"
        );
    }
    let mut failures = Vec::new();
    for toolchain in found {
        match build_by(&toolchain, root) {
            Ok(built) => return Ok(built),
            Err(error) => failures.push(format!("{toolchain:?}: {error:#}")),
        }
    }
    bail!("no toolchain could build it: {}", failures.join("; "))
}

fn build_by(toolchain: &Toolchain, root: &Path) -> anyhow::Result<(Vec<u8>, String)> {
    let kernel = root.join("netml-ebpf");
    let target_dir = kernel.join("target");
    let (mut cargo, mut rustc) = match toolchain {
        Toolchain::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            let mut rustc = Command::new("rustup");
            rustc.args(["run", "nightly", "rustc"]);
            (cargo, rustc)
        }
        Toolchain::Debian => {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            cargo
                .arg("build")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1");
            (cargo, Command::new(DEBIAN_RUSTC))
        }
    };
    cargo
        .args(["--quiet", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .current_dir(&kernel)
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("CARGO_BUILD_RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root)?);
    let status = cargo
        .status()
        .with_context(|| format!("starting {cargo:?}"))?;
    ensure!(status.success(), "building the kernel programs failed");
    let built = target_dir.join(TARGET).join("release/netml");
    let stripped = target_dir.join("netml.bpf.o");
    let mut strip = Command::new(llvm_strip()?);
    strip.arg("-g").arg("-o").arg(&stripped).arg(&built);
    let status = strip
        .status()
        .with_context(|| format!("starting {strip:?}"))?;
    ensure!(status.success(), "stripping the kernel object failed");
    let object = fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))?;
    ensure!(
        object.len() <= OBJECT_BYTES_MAX,
        "the kernel object has {} bytes, above {OBJECT_BYTES_MAX}: debug sections left in it?",
        object.len()
    );
    for path in [root.to_path_buf(), cargo_home()?] {
        let path = path.display().to_string();
        ensure!(
            !contains(&object, path.as_bytes()),
            "the kernel object holds the path {path} of this machine"
        );
    }
    let rustc = output(rustc.arg("--version")).context("asking for the compiler's version")?;
    let linker = output(Command::new("bpf-linker").arg("--version"))
        .context("asking for the linker's version")?;
    Ok((object, format!("{rustc}, {linker}")))
}

/// Flags, separated as cargo wants them: the linker, BTF, and no path of this machine.
fn rustflags(root: &Path) -> anyhow::Result<OsString> {
    let mut flags: Vec<OsString> = ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf"]
        .map(OsString::from)
        .into();
    let registry = cargo_home()?.join("registry/src");
    let mut remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    };
    remap(root, ".");
    // One folder per registry, whose name has a hash in it.
    if let Ok(entries) = fs::read_dir(&registry) {
        for entry in entries {
            remap(&entry?.path(), "crates");
        }
    }
    Ok(flags.join(&OsString::from("\x1f")))
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// LLVM's strip, which knows BPF; binutils' does not.
fn llvm_strip() -> anyhow::Result<PathBuf> {
    let mut candidates = Vec::new();
    if let Some(prefix) = std::env::var_os("LLVM_PREFIX") {
        candidates.push(PathBuf::from(prefix).join("bin/llvm-strip"));
    }
    if let Ok(entries) = fs::read_dir("/usr/lib") {
        let mut llvms: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path().join("bin/llvm-strip"))
            .filter(|path| path.to_string_lossy().contains("/llvm-"))
            .collect();
        llvms.sort();
        candidates.extend(llvms.into_iter().rev());
    }
    candidates.extend(["llvm-strip", "rust-strip"].map(PathBuf::from));
    candidates
        .into_iter()
        .find(|candidate| output(Command::new(candidate).arg("--version")).is_some())
        .context("no llvm-strip: run `cargo xtask setup --bpf`, or set LLVM_PREFIX")
}

/// Trimmed standard output of a command that succeeds, `None` otherwise.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Digest of the names and contents of all sources of the object, tests left out.
fn source_digest(root: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    Ok(hex(&hasher.finalize()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "tests.rs") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn root() -> anyhow::Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask
        .parent()
        .context("xtask has no parent folder")?
        .to_path_buf())
}
