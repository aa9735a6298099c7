//! `xtask test`: everything that must hold before a change is taken. CI runs exactly this.
//!
//! Steps run in order, each is printed with its time and a last line counts them. A step that
//! cannot run says why; run as root, such a step counts as failed, for root is what CI has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::e2e;
use crate::process::{cargo, is_installed, log_dir, workspace};
use crate::{documents, sys};

/// Lines of a failed command's output that are printed; all of it is in the log beside.
const TAIL_LINES: usize = 60;
/// Lines that belong to one failed browser test: its name, the message and the first of the stack.
const FAILURE_LINES: usize = 20;

/// Options of `xtask test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Adds the long checks
    #[arg(long)]
    all: bool,
    /// Only steps whose name holds this
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Installs nothing, even if something is missing
    #[arg(long)]
    no_setup: bool,
    /// Only lists the steps
    #[arg(long)]
    list: bool,
}

/// How a step ended, unless it failed.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It holds; what was found, or empty.
    Passed(String),
    /// A tool or right is missing. Counts as failed when run as root.
    Skipped(String),
    /// Something that not every machine has (captures, the network) is not here.
    NotHere(String),
}

/// What steps are told.
struct Context {
    all: bool,
    data: Option<PathBuf>,
    root: bool,
}

type Run = Box<dyn Fn(&Context) -> anyhow::Result<Outcome>>;

struct Step {
    name: String,
    run: Run,
}

/// Runs `xtask test`.
///
/// # Errors
/// A step failed.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<()> {
    let steps: Vec<Step> = steps(args.no_setup)
        .into_iter()
        .filter(|step| {
            args.only
                .as_ref()
                .is_none_or(|part| step.name.contains(part.as_str()))
        })
        .collect();
    ensure!(
        !steps.is_empty(),
        "no step is called so: see cargo xtask test --list"
    );
    if args.list {
        for step in &steps {
            println!("{}", step.name);
        }
        return Ok(());
    }
    sys::catch_stop_signals()?;
    let context = Context {
        all: args.all,
        data: std::env::var_os("NETML_DATA").map(PathBuf::from),
        root: sys::is_root(),
    };
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    let start = Instant::now();
    for step in &steps {
        if sys::stop_requested() {
            bail!("stopped");
        }
        let begin = Instant::now();
        let ended = (step.run)(&context);
        let seconds = begin.elapsed().as_secs_f64();
        let (mark, said) = match ended {
            Ok(Outcome::Passed(said)) => {
                passed += 1;
                ("ok", said)
            }
            Ok(Outcome::Skipped(why)) if context.root => {
                failed.push(step.name.clone());
                ("FAILED", format!("skipped as root: {why}"))
            }
            Ok(Outcome::Skipped(why) | Outcome::NotHere(why)) => {
                skipped += 1;
                ("skipped", why)
            }
            Err(error) => {
                failed.push(step.name.clone());
                ("FAILED", format!("{error:#}"))
            }
        };
        println!(
            "{mark:<8}{seconds:>7.1} s  {}{}",
            step.name,
            indented(&said)
        );
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    println!(
        "{passed} passed, {} failed, {skipped} skipped in {minutes:.1} min",
        failed.len()
    );
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}

fn indented(said: &str) -> String {
    if said.is_empty() {
        return String::new();
    }
    format!(
        "\n{:20}{}",
        "",
        said.trim_end().replace('\n', &format!("\n{:20}", ""))
    )
}

fn steps(no_setup: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |name: &str, run: fn(&Context) -> anyhow::Result<Outcome>| {
        steps.push(Step {
            name: name.to_owned(),
            run: Box::new(run),
        });
    };
    if !no_setup {
        add("set-up", |context| set_up(context.root));
    }
    add("format", |_| {
        done(
            cargo().args(["fmt", "--all", "--check", "--", "--color", "never"]),
            "format",
        )?;
        let kernel = workspace().join("netml-ebpf/Cargo.toml");
        let mut command = cargo();
        command
            .args(["fmt", "--check", "--manifest-path"])
            .arg(kernel);
        done(&mut command, "format-ebpf")
    });
    add("clippy", |_| {
        done(
            cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked"])
                .args(["--", "-D", "warnings"]),
            "clippy",
        )
    });
    add("docs", |_| {
        done(
            cargo().env("RUSTDOCFLAGS", "-D warnings").args([
                "doc",
                "--workspace",
                "--no-deps",
                "--locked",
            ]),
            "docs",
        )
    });
    add("kernel object is fresh", |_| kernel_object());
    add("build", |_| {
        done(cargo().args(["build", "--workspace", "--locked"]), "build")
    });
    add("tests", tests);
    add("doc tests", |_| {
        done(
            cargo().args(["test", "--workspace", "--locked", "--doc"]),
            "doc-tests",
        )
    });
    add("licences, bans, sources", |_| {
        tool(
            "cargo-deny",
            &["deny", "--locked", "check", "licenses", "bans", "sources"],
        )
    });
    add("advisories", |_| advisories());
    add("unused dependencies", |_| {
        // The kernel crate's one optional dependency stands behind a feature, which the search
        // takes for unused.
        const CRATES: [&str; 5] = [
            "netml-agent",
            "netml-collector",
            "netml-common",
            "proto",
            "xtask",
        ];
        if !is_installed("cargo-machete") {
            return Ok(Outcome::Skipped(
                "cargo-machete is missing: cargo xtask setup".to_owned(),
            ));
        }
        let mut command = Command::new("cargo-machete");
        // By itself and not as a subcommand: it tells the two apart by cargo's variables, which
        // are those of xtask here.
        command.env_remove("CARGO").arg("--skip-target-dir");
        done(command.args(CRATES), "cargo-machete")
    });
    add("dashboard: types and vendored files", |_| {
        dashboard("check")
    });
    add("dashboard: browser tests", |_| dashboard("test"));
    add("documents: links", |_| documents::links());
    add("documents: commands of the README", |_| {
        documents::commands()
    });
    for check in e2e::CHECKS {
        steps.push(Step {
            name: check.name.to_owned(),
            run: Box::new(|context| {
                if check.needs_root && !context.root {
                    return Ok(Outcome::Skipped("needs root".to_owned()));
                }
                check.run(&e2e::Settings {
                    data: context.data.as_deref(),
                    all: context.all,
                })
            }),
        });
    }
    steps
}

/// Runs a command with its output in a log; the end of it becomes the error.
fn done(command: &mut Command, log: &str) -> anyhow::Result<Outcome> {
    let path = log_dir()?.join(format!("{log}.log"));
    let file =
        std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let status = command
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if status.success() {
        return Ok(Outcome::Passed(not_run(&text)));
    }
    bail!(
        "{status}; all of it is in {}\n{}",
        path.display(),
        told(&text)
    )
}

/// What a failed command's output has to say: the failed tests where it is TAP (the browser tests,
/// which go on after a failure), else its end.
fn told(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let failures: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("not ok "))
        .flat_map(|(at, _)| &lines[at..(at + FAILURE_LINES).min(lines.len())])
        .copied()
        .take(TAIL_LINES)
        .collect();
    if failures.is_empty() {
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    } else {
        failures.join("\n")
    }
}

/// Lines by which tests say that a part of them did not run.
fn not_run(log: &str) -> String {
    let mut lines: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("skipped:"))
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.join("\n")
}

fn tests(context: &Context) -> anyhow::Result<Outcome> {
    let mut command = cargo();
    if is_installed("cargo-nextest") {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]);
        command.args(["--success-output", "final"]);
    } else {
        command.args([
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ]);
    }
    if context.root {
        // Tests of the kernel programs fail instead of skipping.
        command.env("NETML_REQUIRE_ALL", "1");
    }
    // Two minutes: that the committed table gives the committed model, byte for byte.
    command.env("NETML_LONG", "1");
    if context.all {
        // Every capture is compared with tshark, not a chosen part.
        command.env("NETML_EVERY", "1");
        if context.data.is_some() {
            // The long checks do not pass without the comparison they name.
            command.env("NETML_PYTHON", reference_python()?);
        }
    }
    done(&mut command, "tests")
}

/// A Python with scikit-learn and NFStream, in the user's cache: made once, kept out of the repository.
fn reference_python() -> anyhow::Result<PathBuf> {
    const REFERENCES: [&str; 2] = ["scikit-learn==1.7.2", "nfstream==6.5.4"];
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join("netml/reference");
    let python = folder.join("bin/python");
    let has_it = Command::new(&python)
        .args(["-c", "import nfstream, sklearn"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_it {
        let mut venv = Command::new("python3");
        done(venv.args(["-m", "venv"]).arg(&folder), "reference-venv")?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet"])
            .args(REFERENCES);
        done(&mut pip, "reference-pip")?;
    }
    Ok(python)
}

fn tool(program: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    if !is_installed(program) {
        return Ok(Outcome::Skipped(format!(
            "{program} is missing: cargo xtask setup"
        )));
    }
    done(cargo().args(arguments), program)
}

/// The advisory data base comes from the network, which not every machine has.
fn advisories() -> anyhow::Result<Outcome> {
    if !is_installed("cargo-deny") {
        return Ok(Outcome::NotHere("cargo-deny is missing".to_owned()));
    }
    let mut command = cargo();
    command.args(["deny", "--locked", "check", "advisories"]);
    match done(&mut command, "advisories") {
        Err(error) if error.to_string().contains("failed to fetch") => Ok(Outcome::NotHere(
            "the advisory data base cannot be fetched".to_owned(),
        )),
        ended => ended,
    }
}

fn dashboard(script: &str) -> anyhow::Result<Outcome> {
    for program in ["node", "npm", "chromium"] {
        if !is_installed(program) {
            return Ok(Outcome::Skipped(format!(
                "{program} is missing: cargo xtask setup"
            )));
        }
    }
    let web = workspace().join("web");
    if !web.join("node_modules").is_dir() {
        npm(&web, &["ci", "--no-audit", "--no-fund"], "npm-ci")?;
    }
    npm(&web, &["run", script], &format!("dashboard-{script}"))
}

fn npm(web: &Path, arguments: &[&str], log: &str) -> anyhow::Result<Outcome> {
    let mut command = Command::new("npm");
    command.current_dir(web).args(arguments);
    done(&mut command, log)
}

/// Installs what is missing; without root, steps that miss something say so themselves.
fn set_up(root: bool) -> anyhow::Result<Outcome> {
    if !root {
        return Ok(Outcome::NotHere("installing needs root".to_owned()));
    }
    crate::setup::run(&crate::setup::SetupArgs::default())?;
    Ok(Outcome::Passed(String::new()))
}

/// The object in the repository is what its sources give.
fn kernel_object() -> anyhow::Result<Outcome> {
    crate::ebpf::run(&crate::ebpf::EbpfArgs { check: true })?;
    Ok(Outcome::Passed(String::new()))
}

/// Runs a step's command for a span of time at most; used where a program would go on for ever.
pub(crate) fn finish_within(command: &mut Command, patience: Duration) -> anyhow::Result<bool> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    bail!("{} did not end in time", command.get_program().display())
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_failed_browser_test_is_told_wherever_it_stands() {
        let rest: String = (0..200).map(|n| format!("ok {n} - fine\n")).collect();
        let log = format!("    not ok 1 - a view\n      error: 'gone'\n{rest}");
        let told = told(&log);
        assert!(
            told.starts_with("    not ok 1 - a view\n      error: 'gone'"),
            "{told}"
        );
    }

    #[test]
    fn without_such_a_test_the_end_is_told() {
        let log: String = (0..200).map(|n| format!("line {n}\n")).collect();
        assert!(told(&log).ends_with("line 199"));
        assert!(!told(&log).contains("line 100\n"));
    }
}
