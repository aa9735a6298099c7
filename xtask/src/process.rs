//! Programs started by xtask: readiness lines, logs passed on, an orderly end by process id.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::sys;

/// Time a program has to end after SIGTERM; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a program that should end.
const POLL: Duration = Duration::from_millis(20);
/// Last lines of its logs kept for an error message.
const TAIL_LINES: usize = 12;

/// How a program is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndBy {
    /// A signal from this process.
    Signal,
    /// The end of its input: it runs as root under [`sudo`], where no signal of this process
    /// arrives and sudo may ask for the password again by then.
    Input,
}

/// Runs a program until it ends or the input does; then it gets SIGTERM. The input ends with
/// whoever holds its other end, however that one ends.
const UNTIL_INPUT_ENDS: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
trap 'kill -TERM "$program" 2>/dev/null' TERM
(read -r _ <&3; kill -TERM "$program") >/dev/null 2>&1 &
reader=$!
wait "$program"; status=$?
while kill -0 "$program" 2>/dev/null; do wait "$program"; status=$?; done
kill "$reader" 2>/dev/null
exit "$status"
"#;

/// A program as root, to be ended by [`EndBy::Input`].
#[must_use]
pub(crate) fn sudo(program: &Path) -> Command {
    let mut command = Command::new("sudo");
    command
        .args(["-n", "sh", "-c", UNTIL_INPUT_ENDS, "sh"])
        .arg(program);
    command
}

/// A running program; ended when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    end_by: EndBy,
    lines: Receiver<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

/// What becomes of a program's log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logs {
    /// Each goes to standard error behind the program's name.
    Shown,
    /// Only the last ones are kept, for an error message.
    Kept,
}

impl Program {
    /// Starts a program with its standard output read for readiness lines.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        end_by: EndBy,
        logs: Logs,
    ) -> anyhow::Result<Self> {
        let input = match end_by {
            EndBy::Signal => Stdio::null(),
            EndBy::Input => Stdio::piped(),
        };
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.env("NO_COLOR", "1");
        sys::tie_to_parent(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.get_program().display()))?;
        let (sender, lines) = mpsc::channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            forward(name, stdout, logs, Some(sender), Arc::clone(&tail))?;
        }
        if let Some(stderr) = child.stderr.take() {
            forward(name, stderr, logs, None, Arc::clone(&tail))?;
        }
        Ok(Self {
            name,
            child,
            end_by,
            lines,
            tail,
        })
    }

    /// Process id.
    #[must_use]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output that begins with `prefix`; gives what follows it.
    ///
    /// # Errors
    /// The program ended or did not print it in time; its last lines are in the message.
    pub(crate) fn wait_for_line(
        &mut self,
        prefix: &str,
        patience: Duration,
    ) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && !sys::stop_requested() {
            match self.lines.recv_timeout(POLL) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("{} ended ({status}): {}", self.name, self.tail());
                }
            }
        }
        if sys::stop_requested() {
            bail!("stopped before {} was ready", self.name);
        }
        bail!(
            "{} did not print \"{prefix}\" in time: {}",
            self.name,
            self.tail()
        )
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Its last lines, in one line.
    #[must_use]
    pub(crate) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect::<Vec<_>>().join(" | ")
    }

    /// Asks it to end and waits; kills it when it does not.
    ///
    /// # Errors
    /// It had to be killed.
    pub(crate) fn end(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        match self.end_by {
            EndBy::Signal => {
                sys::terminate(self.id()).with_context(|| format!("cannot signal {}", self.name))?
            }
            EndBy::Input => drop(self.child.stdin.take()),
        }
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        self.child.kill().with_context(|| {
            format!(
                "{} (pid {}) does not end and cannot be killed",
                self.name,
                self.id()
            )
        })?;
        self.child.wait()?;
        bail!(
            "{} did not end within {} s of SIGTERM and was killed",
            self.name,
            END_PATIENCE.as_secs()
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn forward(
    name: &'static str,
    stream: impl Read + Send + 'static,
    logs: Logs,
    lines: Option<Sender<String>>,
    tail: Arc<Mutex<VecDeque<String>>>,
) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name(format!("log-{name}"))
        .spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                if logs == Logs::Shown && lines.is_none() {
                    eprintln!("{name}: {line}");
                }
                {
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    if tail.len() == TAIL_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(line.clone());
                }
                // Nobody waits for lines once the program is ready.
                if let Some(lines) = &lines
                    && lines.send(line).is_err()
                {
                    return;
                }
            }
        })
        .context("cannot start a thread for logs")?;
    Ok(())
}

/// Root of the workspace.
#[must_use]
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that started xtask.
#[must_use]
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Directory that holds the build output.
#[must_use]
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => workspace().join(directory),
        None => workspace().join("target"),
    }
}

/// Directory of the logs of `xtask test`; made if need be.
///
/// # Errors
/// The disk refuses.
pub(crate) fn log_dir() -> anyhow::Result<PathBuf> {
    let directory = target_dir().join("xtask-test");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// True when a program of this name is in the search path or where cargo installs.
#[must_use]
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    std::env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`sudo`] runs, without sudo.
    fn watched(script: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_INPUT_ENDS, "sh", "sh", "-c", script]);
        Program::start("watched", command, EndBy::Input, Logs::Kept).unwrap()
    }

    #[test]
    fn a_program_ends_in_order_when_its_input_is_closed() {
        let mut program =
            watched("trap 'echo drained; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        program.wait_for_line("ready", END_PATIENCE).unwrap();
        assert_eq!(program.end().unwrap().code(), Some(7));
        program.wait_for_line("drained", END_PATIENCE).unwrap();
    }

    #[test]
    fn a_program_that_ends_by_itself_is_seen_and_its_code_passed_on() {
        let mut program = watched("exit 3");
        let deadline = Instant::now() + END_PATIENCE;
        let status = loop {
            if let Some(status) = program.ended().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "its end is not seen");
            std::thread::sleep(POLL);
        };
        assert_eq!(status.code(), Some(3));
    }
}
