//! Each check in each of its states, over made-up facts.

use super::*;
use crate::probe::features::DriverXdp;
use crate::sys::host::ClockState;

const GIB: u64 = 1 << 30;

/// A host where all is well.
fn healthy() -> Facts {
    Facts {
        kernel: "6.18.0".into(),
        features: Feature::ALL
            .map(|feature| (feature, Support::Present))
            .into(),
        btf: true,
        jit: Some(1),
        capabilities: u64::MAX,
        memlock_bytes: Some(None),
        unprivileged_bpf_disabled: Some(2),
        lockdown: Some("none".into()),
        bpffs: true,
        interfaces: vec![interface()],
        unix_ns: 1_790_000_000_000_000_000,
        clock: Some(ClockState {
            synchronised: true,
            error_max_us: 900,
        }),
        disk: DiskFacts {
            path: "/var/lib/netml".into(),
            free_bytes: Some(50 * GIB),
            writable: true,
        },
        collector: Some(("http://127.0.0.1:8081".into(), Ok(()))),
        processors: 4,
    }
}

fn interface() -> InterfaceFacts {
    InterfaceFacts {
        name: "eth0".into(),
        up: true,
        loopback: false,
        driver: Some("mlx5_core".into()),
        xdp: Some(DriverXdp {
            native: true,
            frames_over_a_page: true,
        }),
        mtu_bytes: 1_500,
        lro: Some(false),
        gro: Some(true),
        receive_queues: Some(4),
        xdp_program: None,
        tc_programs: Vec::new(),
        own_filters: 0,
        held: false,
    }
}

/// The check of that name after a change of the facts, and the worst of all.
fn after(id: &str, change: impl FnOnce(&mut Facts)) -> (Check, State) {
    let mut facts = healthy();
    change(&mut facts);
    let all = checks(&facts);
    let of: Vec<_> = all.iter().filter(|check| check.id == id).collect();
    assert_eq!(of.len(), 1, "{id}");
    let worst = worst(&all);
    let check = of[0].clone();
    assert_eq!(worst, check.state, "nothing else changed: {all:?}");
    (check, worst)
}

/// The state and command of a check after a change.
fn expect(id: &str, state: State, mend: Option<&str>, change: impl FnOnce(&mut Facts)) {
    let (check, _) = after(id, change);
    assert_eq!(check.state, state, "{check:?}");
    match mend {
        None => assert_eq!(check.mend, None),
        Some(part) => assert!(
            check.mend.as_ref().is_some_and(|mend| mend.contains(part)),
            "{check:?}"
        ),
    }
    assert!(!check.why.is_empty());
}

/// The same of the one interface.
fn of_eth0(id: &str, state: State, mend: Option<&str>, change: impl FnOnce(&mut InterfaceFacts)) {
    expect(id, state, mend, |facts| change(&mut facts.interfaces[0]));
}

const OK: State = State::Ok;
const DEGRADED: State = State::Degraded;
const FAILS: State = State::WillNotWork;

#[test]
fn a_healthy_host_has_every_check_once_and_nothing_to_mend() {
    let all = checks(&healthy());
    let ids: Vec<_> = all.iter().map(|check| check.id).collect();
    assert_eq!(
        ids,
        [
            "kernel",
            "ring-buffer",
            "per-cpu-array",
            "tc-programs",
            "xdp-program",
            "xdp-link",
            "tcx-link",
            "btf",
            "jit",
            "capabilities",
            "memlock",
            "unprivileged-bpf",
            "lockdown",
            "bpffs",
            "clock",
            "disk",
            "collector",
            "link",
            "native-xdp",
            "mtu",
            "lro",
            "gro",
            "queues",
            "programs",
            "leftovers"
        ]
    );
    assert_eq!(worst(&all), OK, "{all:?}");
    assert!(all.iter().all(|check| check.mend.is_none()));
}

#[test]
fn a_missing_feature_stops_or_degrades_by_what_depends_on_it() {
    let set = |feature: Feature, support: Support| {
        move |facts: &mut Facts| {
            for (of, known) in &mut facts.features {
                if *of == feature {
                    *known = support.clone();
                }
            }
        }
    };
    for (feature, state, mend) in [
        (Feature::RingBuffer, FAILS, None),
        (Feature::PerCpuArray, FAILS, None),
        (Feature::TcPrograms, FAILS, None),
        (Feature::XdpProgram, DEGRADED, Some("--capture tc")),
        (Feature::XdpLink, DEGRADED, Some("--capture tc")),
        (Feature::TcxLink, DEGRADED, Some("doctor --clean")),
    ] {
        let absent = Support::Absent("Invalid argument".into());
        expect(feature.id(), state, mend, set(feature, absent.clone()));
        let (check, _) = after(feature.id(), set(feature, absent));
        for part in [feature.name(), feature.since(), "Invalid argument"] {
            assert!(check.why.contains(part), "{check:?}");
        }
        let unknown = Support::Unknown("no privilege".into());
        expect(feature.id(), DEGRADED, Some("sudo"), set(feature, unknown));
    }
}

#[test]
fn settings_of_the_kernel_degrade_with_the_command_that_mends_them() {
    expect("btf", DEGRADED, None, |facts| facts.btf = false);
    expect("jit", DEGRADED, Some("bpf_jit_enable=1"), |facts| {
        facts.jit = Some(0)
    });
    expect("jit", OK, None, |facts| facts.jit = Some(2));
    expect("jit", DEGRADED, None, |facts| facts.jit = None);
    let disabled = |value| move |facts: &mut Facts| facts.unprivileged_bpf_disabled = value;
    expect(
        "unprivileged-bpf",
        DEGRADED,
        Some("disabled=2"),
        disabled(Some(0)),
    );
    expect("unprivileged-bpf", OK, None, disabled(Some(1)));
    expect("unprivileged-bpf", OK, None, disabled(None));
    let lockdown = |mode: Option<&str>| {
        let mode = mode.map(str::to_owned);
        move |facts: &mut Facts| facts.lockdown = mode
    };
    expect(
        "lockdown",
        DEGRADED,
        None,
        lockdown(Some("confidentiality")),
    );
    expect("lockdown", OK, None, lockdown(Some("integrity")));
    expect("lockdown", OK, None, lockdown(None));
    expect("bpffs", OK, None, |facts| facts.bpffs = false);
}

#[test]
fn capabilities_are_judged_by_what_needs_them() {
    let without = |lost: &'static [u32]| {
        move |facts: &mut Facts| {
            facts.capabilities = lost.iter().fold(u64::MAX, |held, bit| held & !(1 << bit));
        }
    };
    // CAP_SYS_ADMIN holds CAP_BPF and CAP_PERFMON, but not CAP_NET_ADMIN.
    expect("capabilities", OK, None, without(&[CAP_BPF, CAP_PERFMON]));
    expect(
        "capabilities",
        FAILS,
        Some("sudo"),
        without(&[CAP_NET_ADMIN]),
    );
    expect(
        "capabilities",
        FAILS,
        Some("sudo"),
        without(&[CAP_BPF, CAP_SYS_ADMIN]),
    );
    expect(
        "capabilities",
        DEGRADED,
        Some("sudo"),
        without(&[CAP_NET_RAW]),
    );
    expect(
        "capabilities",
        DEGRADED,
        Some("sudo"),
        without(&[CAP_SYS_ADMIN]),
    );
    expect("capabilities", FAILS, Some("sudo"), |facts| {
        facts.capabilities = 0
    });
}

#[test]
fn a_limit_of_locked_memory_matters_where_it_is_low_and_cannot_be_raised() {
    let limit = |bytes| move |facts: &mut Facts| facts.memlock_bytes = bytes;
    expect("memlock", OK, None, limit(Some(Some(64 << 10))));
    expect("memlock", DEGRADED, None, limit(None));
    let unraisable = |bytes| {
        move |facts: &mut Facts| {
            facts.memlock_bytes = Some(Some(bytes));
            facts.capabilities &= !(1 << CAP_SYS_RESOURCE);
        }
    };
    expect("memlock", DEGRADED, Some("ulimit"), unraisable(8 << 20));
    expect("memlock", OK, None, unraisable(64 << 20));
}

#[test]
fn a_clock_that_was_never_set_will_not_do_and_one_out_of_step_degrades() {
    expect("clock", FAILS, Some("set-ntp"), |facts| facts.unix_ns = 0);
    expect("clock", DEGRADED, Some("set-ntp"), |facts| {
        facts.clock = None
    });
    let kept = |synchronised, error_max_us| {
        move |facts: &mut Facts| {
            facts.clock = Some(ClockState {
                synchronised,
                error_max_us,
            });
        }
    };
    expect("clock", DEGRADED, Some("set-ntp"), kept(false, 0));
    expect("clock", DEGRADED, Some("set-ntp"), kept(true, 1_000_001));
    expect("clock", OK, None, kept(true, 1_000_000));
}

#[test]
fn disk_and_collector_are_told_with_their_place() {
    let free = |bytes| move |facts: &mut Facts| facts.disk.free_bytes = bytes;
    expect("disk", DEGRADED, None, free(None));
    expect("disk", DEGRADED, Some("--data"), free(Some(GIB - 1)));
    expect("disk", FAILS, Some("--data"), free(Some((64 << 20) - 1)));
    expect("disk", FAILS, Some("--data"), |facts| {
        facts.disk.writable = false
    });
    let (check, _) = after("disk", free(Some(2 * GIB)));
    assert_eq!(check.subject.as_deref(), Some("/var/lib/netml"));
    let (check, _) = after("collector", |facts| {
        facts.collector = Some(("http://h:1".into(), Err("refused".into())));
    });
    assert_eq!(check.state, DEGRADED);
    assert_eq!(check.subject.as_deref(), Some("http://h:1"));
    assert!(check.why.contains("refused"));
}

#[test]
fn native_xdp_is_what_the_driver_says_and_large_frames_need_more_of_it() {
    let xdp = |native, frames_over_a_page| {
        Some(DriverXdp {
            native,
            frames_over_a_page,
        })
    };
    of_eth0("native-xdp", DEGRADED, None, |i| i.xdp = xdp(false, false));
    of_eth0("native-xdp", DEGRADED, None, |i| i.xdp = None);
    of_eth0("native-xdp", DEGRADED, None, |i| i.loopback = true);
    of_eth0("mtu", OK, None, |i| i.mtu_bytes = 9_000);
    of_eth0("mtu", DEGRADED, Some("mtu 1500"), |i| {
        i.mtu_bytes = 3_499;
        i.xdp = xdp(true, false);
    });
    of_eth0("mtu", OK, None, |i| {
        i.mtu_bytes = 3_498;
        i.xdp = xdp(true, false);
    });
}

#[test]
fn offloads_queues_and_link_are_told_with_the_command_of_that_interface() {
    of_eth0("link", DEGRADED, Some("eth0 up"), |i| i.up = false);
    of_eth0("lro", DEGRADED, Some("-K eth0 lro off"), |i| {
        i.lro = Some(true)
    });
    of_eth0("lro", OK, None, |i| i.lro = None);
    of_eth0("gro", OK, None, |i| i.gro = Some(false));
    of_eth0("gro", OK, None, |i| i.gro = None);
    of_eth0("queues", DEGRADED, Some("-L eth0"), |i| {
        i.receive_queues = Some(1)
    });
    of_eth0("queues", OK, None, |i| i.receive_queues = None);
    expect("queues", OK, None, |facts| {
        facts.interfaces[0].receive_queues = Some(1);
        facts.processors = 1;
    });
}

#[test]
fn programs_of_others_are_named_and_ours_are_not_taken_for_theirs() {
    of_eth0("programs", DEGRADED, Some("--capture tc"), |i| {
        i.xdp_program = Some("cil_xdp_entry".into());
    });
    of_eth0("programs", OK, None, |i| {
        i.xdp_program = Some("netml_xdp".into())
    });
    let (check, _) = after("programs", |facts| {
        let programs = &mut facts.interfaces[0].tc_programs;
        programs.extend(["netml_egress".to_owned(), "cil_to_netdev".to_owned()]);
    });
    assert_eq!(check.state, OK);
    assert!(check.why.contains("cil_to_netdev") && !check.why.contains("netml_egress"));
}

#[test]
fn filters_with_our_tag_are_leftovers_unless_a_sensor_lives() {
    of_eth0("leftovers", DEGRADED, Some("doctor --clean"), |i| {
        i.own_filters = 2
    });
    of_eth0("leftovers", OK, None, |i| {
        i.own_filters = 2;
        i.held = true;
    });
}

#[test]
fn json_names_states_as_documented_and_leaves_out_what_is_not_there() {
    let check = Check::fails("disk", "full").about("/data");
    assert_eq!(
        serde_json::to_string(&check).unwrap(),
        r#"{"id":"disk","subject":"/data","state":"will-not-work","why":"full"}"#
    );
}
