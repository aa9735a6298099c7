//! Asks the host for the facts. Reads only; programs are tried where no traffic of the host goes.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::facts::{DiskFacts, Facts, InterfaceFacts};
use crate::probe::{self, Interface, features, filters};
use crate::sys::{self, ethtool, host};

/// Longest wait for the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// `statfs` type of a BPF file system (`linux/magic.h`), as `/proc/mounts` names it.
const BPFFS_TYPE: &str = "bpf";

/// What to look at.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Interfaces, already looked at where they are.
    pub interfaces: Vec<InterfaceFacts>,
    /// The collector: its URL, host and port.
    pub collector: Option<(String, String, u16)>,
    /// Where data will go.
    pub data: PathBuf,
}

/// Gathers everything.
#[must_use]
pub fn facts(questions: &Questions) -> Facts {
    Facts {
        kernel: first_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "?".into()),
        features: features::probe(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        capabilities: capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        memlock_bytes: host::memlock_bytes().ok(),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        lockdown: first_line("/sys/kernel/security/lockdown").and_then(|line| in_force(&line)),
        bpffs: fs::read_to_string("/proc/mounts").is_ok_and(|mounts| has_bpffs(&mounts)),
        interfaces: questions.interfaces.clone(),
        unix_ns: sys::unix_ns(),
        clock: host::clock_state().ok(),
        disk: disk(&questions.data),
        collector: questions
            .collector
            .as_ref()
            .map(|(url, host, port)| (url.clone(), connect(host, *port))),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Looks at an interface of this thread's network namespace.
#[must_use]
pub fn interface(of: &Interface) -> InterfaceFacts {
    let driver = ethtool::ask(&of.name).unwrap_or_default();
    let clsact: Vec<_> = filters::clsact_filters(of.ifindex).unwrap_or_default();
    let own_filters = clsact
        .iter()
        .filter(|(_, name)| filters::is_ours(name))
        .count();
    let tcx = filters::tcx_programs(&of.name).unwrap_or_default();
    InterfaceFacts {
        name: of.name.clone(),
        up: of.up,
        loopback: of.loopback,
        driver: driver.driver,
        xdp: features::driver_xdp(of.ifindex).ok(),
        mtu_bytes: of.mtu_bytes,
        lro: driver.lro,
        gro: driver.gro,
        receive_queues: driver.receive_queues,
        xdp_program: of
            .xdp_program_id
            .map(|id| filters::program_name(id).unwrap_or_else(|| format!("id {id}"))),
        tc_programs: clsact
            .into_iter()
            .chain(tcx)
            .map(|(_, name)| name)
            .collect(),
        own_filters,
        held: own_filters > 0 && probe::is_held(of.ifindex),
    }
}

fn disk(data: &Path) -> DiskFacts {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let path = absolute
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(&absolute)
        .to_owned();
    DiskFacts {
        free_bytes: host::disk_free_bytes(&path).ok(),
        writable: host::is_writable(&path),
        path,
    }
}

fn connect(host: &str, port: u16) -> Result<(), String> {
    let addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

fn number(path: &str) -> Option<u32> {
    first_line(path)?.parse().ok()
}

/// The effective set out of `/proc/self/status`.
fn capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or_default()
}

/// The word in brackets: `none [integrity] confidentiality`.
fn in_force(line: &str) -> Option<String> {
    let (_, behind) = line.split_once('[')?;
    let (word, _) = behind.split_once(']')?;
    Some(word.to_owned())
}

fn has_bpffs(mounts: &str) -> bool {
    mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(BPFFS_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read_as_it_writes_them() {
        assert_eq!(
            capabilities("Name:\tx\nCapEff:\t000000c000003000\n"),
            0xc0_0000_3000
        );
        assert_eq!(capabilities(""), 0);
        let lockdown = in_force("none [integrity] confidentiality");
        assert_eq!(lockdown.as_deref(), Some("integrity"));
        assert!(has_bpffs("bpf /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!has_bpffs("proc /proc proc rw 0 0\n"));
    }

    #[test]
    fn a_directory_that_is_not_there_is_judged_by_the_one_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let found = disk(&folder.path().join("a/b"));
        assert_eq!(found.path, folder.path());
        assert!(found.writable && found.free_bytes.is_some());
    }
}
