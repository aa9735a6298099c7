//! `doctor`: what of a host helps or hinders the sensor, why, and the command that mends it.
//!
//! Facts in, checks out: [`checks`] is pure, [`gather`] does the asking. Nothing is changed by
//! either.

use serde::Serialize;

use crate::probe::features::{Feature, Support};

pub mod facts;
pub mod gather;

use facts::{DiskFacts, Facts, InterfaceFacts};

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// The sensor works, but not at its best.
    Degraded,
    /// The sensor, or what was asked of it, will not work.
    WillNotWork,
}

impl State {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::WillNotWork => "will not work",
        }
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// The interface, directory or URL it is about; absent: the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How it stands.
    pub state: State,
    /// What was found, and what it means.
    pub why: String,
    /// The command that mends it; absent where nothing is to be mended, or no command can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    fn of(id: &'static str, state: State, why: impl Into<String>) -> Self {
        Self {
            id,
            subject: None,
            state,
            why: why.into(),
            mend: None,
        }
    }

    fn ok(id: &'static str, why: impl Into<String>) -> Self {
        Self::of(id, State::Ok, why)
    }

    fn degraded(id: &'static str, why: impl Into<String>) -> Self {
        Self::of(id, State::Degraded, why)
    }

    fn fails(id: &'static str, why: impl Into<String>) -> Self {
        Self::of(id, State::WillNotWork, why)
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    fn about(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }
}

/// The worst of all.
#[must_use]
pub fn worst(checks: &[Check]) -> State {
    checks
        .iter()
        .map(|check| check.state)
        .max()
        .unwrap_or(State::Ok)
}

/// All checks of these facts, the host's first.
#[must_use]
pub fn checks(facts: &Facts) -> Vec<Check> {
    let mut all = vec![Check::ok(
        "kernel",
        format!(
            "Linux {}; what it can do is tried below, not guessed from its version",
            facts.kernel
        ),
    )];
    all.extend(
        facts
            .features
            .iter()
            .map(|(of, support)| feature(*of, support)),
    );
    all.extend([
        btf(facts.btf),
        jit(facts.jit),
        capabilities(facts.capabilities),
        memlock(facts.memlock_bytes, facts.capabilities),
        unprivileged(facts.unprivileged_bpf_disabled),
        lockdown(facts.lockdown.as_deref()),
        bpffs(facts.bpffs),
        clock(facts),
        disk(&facts.disk),
    ]);
    if let Some((url, reached)) = &facts.collector {
        all.push(collector(url, reached));
    }
    for interface in &facts.interfaces {
        all.extend(
            of_interface(interface, facts.processors)
                .into_iter()
                .map(|check| check.about(&interface.name)),
        );
    }
    all
}

fn feature(feature: Feature, support: &Support) -> Check {
    let (id, name) = (feature.id(), feature.name());
    let since = feature.since();
    match support {
        Support::Present => Check::ok(id, format!("{name}: works here")),
        Support::Unknown(why) => {
            Check::degraded(id, format!("{name}: not tried: {why}")).mend("sudo netml-agent doctor")
        }
        Support::Absent(answer) => {
            let said = format!("{name} (mainline since {since}): {answer}");
            match feature {
                Feature::RingBuffer | Feature::PerCpuArray | Feature::TcPrograms => {
                    Check::fails(id, format!("{said}; the sensor needs it: take a newer kernel"))
                }
                Feature::XdpProgram => Check::degraded(
                    id,
                    format!("{said}; what is received is seen by TC ingress instead, at a higher cost"),
                )
                .mend("netml-agent run --capture tc"),
                Feature::XdpLink => Check::degraded(
                    id,
                    format!("{said}; native XDP would outlive a killed sensor: take TC ingress"),
                )
                .mend("netml-agent run --capture tc"),
                Feature::TcxLink => Check::degraded(
                    id,
                    format!("{said}; clsact filters are taken instead, which outlive a killed sensor until its next start"),
                )
                .mend("netml-agent doctor --clean"),
            }
        }
    }
}

fn btf(present: bool) -> Check {
    let id = "btf";
    if present {
        Check::ok(id, "the kernel describes its types")
    } else {
        Check::degraded(
            id,
            "no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF): the sensor runs without it, tools such as bpftool show less",
        )
    }
}

fn jit(value: Option<u32>) -> Check {
    let id = "jit";
    match value {
        Some(0) => Check::degraded(
            id,
            "the kernel interprets BPF programs: several times the cost for each packet",
        )
        .mend("sysctl -w net.core.bpf_jit_enable=1"),
        Some(_) => Check::ok(id, "BPF programs are compiled"),
        None => Check::degraded(
            id,
            "no net.core.bpf_jit_enable: a kernel without a compiler for BPF, or a container that hides it",
        ),
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

const fn has(capabilities: u64, number: u32) -> bool {
    capabilities & (1 << number) != 0
}

fn capabilities(held: u64) -> Check {
    let id = "capabilities";
    let missing = |wanted: &[(u32, &'static str, bool)]| -> Vec<&'static str> {
        wanted
            .iter()
            .filter(|(number, _, admin_does)| {
                !(has(held, *number) || *admin_does && has(held, CAP_SYS_ADMIN))
            })
            .map(|(_, name, _)| *name)
            .collect()
    };
    let needed = missing(&[
        (CAP_BPF, "CAP_BPF", true),
        (CAP_NET_ADMIN, "CAP_NET_ADMIN", false),
        (CAP_PERFMON, "CAP_PERFMON", true),
    ]);
    if !needed.is_empty() {
        return Check::fails(
            id,
            format!("no {}: nothing can be attached", needed.join(", ")),
        )
        .mend("sudo netml-agent run");
    }
    let useful = missing(&[
        (CAP_NET_RAW, "CAP_NET_RAW", false),
        (CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false),
    ]);
    if useful.is_empty() {
        Check::ok(id, "all that are needed")
    } else {
        Check::degraded(
            id,
            format!(
                "no {}: `run` works; `capture` and traceroutes need CAP_NET_RAW, --netns needs CAP_SYS_ADMIN",
                useful.join(", ")
            ),
        )
        .mend("sudo netml-agent run")
    }
}

/// The default ring, the other maps and some room.
const MEMLOCK_ENOUGH_BYTES: u64 = 64 << 20;

fn memlock(limit: Option<Option<u64>>, held: u64) -> Check {
    let id = "memlock";
    match limit {
        Some(None) => Check::ok(id, "no limit"),
        Some(Some(_)) if has(held, CAP_SYS_RESOURCE) => Check::ok(
            id,
            "limited, and the sensor may raise it (CAP_SYS_RESOURCE)",
        ),
        Some(Some(bytes)) if bytes >= MEMLOCK_ENOUGH_BYTES => {
            Check::ok(id, format!("{} MiB", bytes >> 20))
        }
        Some(Some(bytes)) => Check::degraded(
            id,
            format!(
                "{} KiB: kernels before 5.11 charge maps to it and would refuse the ring",
                bytes >> 10
            ),
        )
        .mend("ulimit -l unlimited"),
        None => Check::degraded(id, "the limit of locked memory could not be read"),
    }
}

fn unprivileged(value: Option<u32>) -> Check {
    let id = "unprivileged-bpf";
    match value {
        Some(0) => Check::degraded(
            id,
            "every user may load BPF programs: the sensor does not need that, and it widens what an attacker can try",
        )
        .mend("sysctl -w kernel.unprivileged_bpf_disabled=2"),
        Some(_) => Check::ok(id, "only the privileged may load BPF programs"),
        None => Check::ok(id, "no such setting: only the privileged may load BPF programs"),
    }
}

fn lockdown(mode: Option<&str>) -> Check {
    let id = "lockdown";
    match mode {
        None => Check::ok(id, "the kernel has no lockdown"),
        Some("confidentiality") => Check::degraded(
            id,
            "confidentiality: BPF programs may not read the kernel's memory. Ours read packets only; what loads is told by tc-programs and xdp-program",
        ),
        Some(mode) => Check::ok(id, format!("{mode}: no hindrance to BPF")),
    }
}

fn bpffs(mounted: bool) -> Check {
    let id = "bpffs";
    if mounted {
        Check::ok(id, "mounted at /sys/fs/bpf; the sensor pins nothing there")
    } else {
        Check::ok(
            id,
            "not mounted at /sys/fs/bpf; the sensor pins nothing and needs none",
        )
    }
}

/// 2020-01-01: no clock that was ever set stands before it.
const UNIX_NS_PLAUSIBLE: u64 = 1_577_836_800_000_000_000;
const CLOCK_ERROR_MAX_US: u64 = 1_000_000;

fn clock(facts: &Facts) -> Check {
    let id = "clock";
    let mend = "timedatectl set-ntp true";
    if facts.unix_ns < UNIX_NS_PLAUSIBLE {
        return Check::fails(
            id,
            "the wall clock stands before 2020: what is seen would be stored under wrong days",
        )
        .mend(mend);
    }
    match facts.clock {
        None => Check::degraded(id, "the kernel does not tell how the clock is kept").mend(mend),
        Some(clock) if !clock.synchronised => Check::degraded(
            id,
            "no time source keeps the clock in step (the kernel's word; some hypervisors do it unseen): times of several sensors may not fit together",
        )
        .mend(mend),
        Some(clock) if clock.error_max_us > CLOCK_ERROR_MAX_US => Check::degraded(
            id,
            format!("in step, but it may be wrong by {} ms", clock.error_max_us / 1_000),
        )
        .mend(mend),
        Some(clock) => Check::ok(
            id,
            format!("in step, wrong by at most {} ms", clock.error_max_us / 1_000),
        ),
    }
}

const DISK_LEAST_BYTES: u64 = 64 << 20;
const DISK_GOOD_BYTES: u64 = 1 << 30;

fn disk(disk: &DiskFacts) -> Check {
    let id = "disk";
    let path = disk.path.display().to_string();
    let free = |bytes: u64| format!("{} MiB free", bytes >> 20);
    let check = if disk.writable {
        match disk.free_bytes {
            None => Check::degraded(id, "free space could not be read"),
            Some(bytes) if bytes < DISK_LEAST_BYTES => Check::fails(
                id,
                format!("{}: not enough for the collector's store", free(bytes)),
            )
            .mend("give another directory with --data DIR, or make room"),
            Some(bytes) if bytes < DISK_GOOD_BYTES => {
                Check::degraded(id, format!("{}: a busy day may need more", free(bytes)))
                    .mend("give another directory with --data DIR, or make room")
            }
            Some(bytes) => Check::ok(id, free(bytes)),
        }
    } else {
        Check::fails(id, "files cannot be made there")
            .mend("give another directory with --data DIR")
    };
    check.about(&path)
}

fn collector(url: &str, reached: &Result<(), String>) -> Check {
    let id = "collector";
    match reached {
        Ok(()) => Check::ok(id, "something listens there"),
        Err(why) => Check::degraded(
            id,
            format!("not reached ({why}): the sensor runs, keeps records in memory up to a bound and tries again"),
        )
        .mend("netml-collector, or another --collector URL"),
    }
    .about(url)
}

/// Largest packet that native XDP takes everywhere where frames must lie in one page.
const NATIVE_MTU_BYTES: u32 = 3_498;

fn of_interface(interface: &InterfaceFacts, processors: usize) -> Vec<Check> {
    let name = &interface.name;
    let mut all = vec![if interface.up {
        Check::ok("link", "up")
    } else {
        Check::degraded("link", "down: nothing is to be seen there")
            .mend(format!("ip link set {name} up"))
    }];
    all.push(native(interface));
    all.push(mtu(interface));
    all.push(match interface.lro {
        Some(true) => Check::degraded(
            "lro",
            "the device joins packets before they can be counted: sizes and counts are not those of the wire, and most drivers refuse native XDP",
        )
        .mend(format!("ethtool -K {name} lro off")),
        Some(false) => Check::ok("lro", "off"),
        None => Check::ok("lro", "the driver has none"),
    });
    all.push(match interface.gro {
        Some(true) => Check::ok(
            "gro",
            "on: native XDP sees packets before it, TC counts the segments of what it joined",
        ),
        Some(false) => Check::ok("gro", "off"),
        None => Check::ok("gro", "the driver does not tell"),
    });
    all.push(match interface.receive_queues {
        Some(1) if processors > 1 => Check::degraded(
            "queues",
            format!("one receive queue for {processors} processors: one of them does all the work"),
        )
        .mend(format!(
            "ethtool -L {name} combined {processors}, where the device has more"
        )),
        Some(count) => Check::ok("queues", format!("{count} for receiving")),
        None => Check::ok("queues", "the driver does not tell"),
    });
    all.push(programs(interface));
    all.push(match interface.own_filters {
        0 => Check::ok("leftovers", "none"),
        count if interface.held => Check::ok(
            "leftovers",
            format!("{count} filters with our tag, held by a living sensor"),
        ),
        count => Check::degraded(
            "leftovers",
            format!("{count} filters of a killed sensor: they cost time and count for nobody"),
        )
        .mend("netml-agent doctor --clean"),
    });
    all
}

fn native(interface: &InterfaceFacts) -> Check {
    let id = "native-xdp";
    let driver = interface.driver.as_deref().unwrap_or("unknown driver");
    let otherwise = "what is received is seen by TC ingress: exact totals, at a higher cost";
    if interface.loopback {
        return Check::degraded(id, format!("the loopback has none; {otherwise}"));
    }
    match interface.xdp {
        Some(xdp) if xdp.native => Check::ok(id, format!("{driver} has it")),
        Some(_) => Check::degraded(
            id,
            format!("{driver} has none, or not with its present settings; {otherwise}"),
        ),
        None => Check::degraded(
            id,
            format!(
                "this kernel cannot be asked what {driver} has (6.3 and newer can); the sensor tries at its start; otherwise {otherwise}"
            ),
        ),
    }
}

fn mtu(interface: &InterfaceFacts) -> Check {
    let (id, bytes) = ("mtu", interface.mtu_bytes);
    let frames = interface.xdp.is_some_and(|xdp| xdp.frames_over_a_page);
    let native = interface.xdp.is_none_or(|xdp| xdp.native) && !interface.loopback;
    if bytes > NATIVE_MTU_BYTES && native && !frames {
        Check::degraded(
            id,
            format!("{bytes} bytes: this driver takes native XDP only up to about {NATIVE_MTU_BYTES}; TC ingress is taken instead"),
        )
        .mend(format!("ip link set {} mtu 1500", interface.name))
    } else {
        Check::ok(id, format!("{bytes} bytes"))
    }
}

fn programs(interface: &InterfaceFacts) -> Check {
    let id = "programs";
    let foreign = |name: &&String| !crate::probe::filters::is_ours(name);
    match interface.xdp_program.as_ref().filter(foreign) {
        Some(program) => Check::degraded(
            id,
            format!("the XDP program {program} of someone else is there and is left alone; TC ingress is taken instead, and does not see what it drops"),
        )
        .mend("netml-agent run --capture tc"),
        None => {
            let others: Vec<_> = interface
                .tc_programs
                .iter()
                .filter(foreign)
                .map(String::as_str)
                .collect();
            if others.is_empty() {
                Check::ok(id, "none of others")
            } else {
                Check::ok(
                    id,
                    format!("TC programs of others are left alone: {}", others.join(", ")),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
