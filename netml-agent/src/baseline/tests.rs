//! Learning, warm-up, pauses and bounds, over made-up rows.

use super::*;

const MINUTE_NS: u64 = 60 * SECOND_NS;
const WARM_UP_NS: u64 = 600 * SECOND_NS;

fn index(name: &str) -> usize {
    FEATURE_SPECS
        .iter()
        .position(|spec| spec.name == name)
        .unwrap()
}

/// A row in which a host called on so many others.
fn row(destinations_log2: f32) -> [f32; FEATURES] {
    let mut row = [0.0; FEATURES];
    row[index("src_destinations_log2")] = destinations_log2;
    row[index("src_ports_log2")] = destinations_log2;
    row[index("src_failed_log2")] = destinations_log2;
    row
}

fn ends(from: u16, to: u16) -> FlowEnds {
    let address = |host: u16| {
        let [high, low] = host.to_be_bytes();
        netml_common::walk::mapped([10, 0, high, low])
    };
    FlowEnds {
        src: address(from),
        dst: address(to),
        src_port: 40_000,
        dst_port: 443,
        ip_protocol: 6,
        slot: 0,
    }
}

fn point<'a>(ends: FlowEnds, mono_ns: u64, row: &'a [f32; FEATURES]) -> Point<'a> {
    Point {
        ends,
        mono_ns,
        is_established: true,
        is_suspicious: false,
        row,
    }
}

/// Looks the hosts up and learns from a point of theirs.
fn learn(baselines: &mut Baselines, point: &Point<'_>) {
    let found = baselines.of(&point.ends).found();
    baselines.learn(found, point);
}

fn none_yet() -> Baselines {
    Baselines::new(16, WarmUp::default())
}

/// Baselines that know host 1 as one that calls on three others (a value of 2), and the time then.
fn known() -> (Baselines, u64) {
    let mut baselines = none_yet();
    let usual = row(2.0);
    let mut now_ns = SECOND_NS;
    while now_ns < WARM_UP_NS + 5 * SECOND_NS {
        learn(&mut baselines, &point(ends(1, 2), now_ns, &usual));
        now_ns += SECOND_NS;
    }
    (baselines, now_ns)
}

fn range(baselines: &Baselines, name: &str) -> Option<UsualRange> {
    baselines.of(&ends(1, 9)).range(index(name))
}

#[test]
fn every_feature_of_a_host_has_a_role_and_a_scale_that_holds_it() {
    let roles = Role::Initiator.count() + Role::Responder.count();
    assert_eq!(roles, 23);
    for role in [Role::Initiator, Role::Responder] {
        for &feature in role.features() {
            let name = FEATURE_SPECS[usize::from(feature)].name;
            let scale = SCALES[usize::from(feature)];
            let is_share = name.ends_with("_share") || name.ends_with("_per_packet");
            assert_eq!(scale == Scale::Share, is_share, "{name}");
            assert_eq!(scale == Scale::Log2, name.ends_with("_log2"), "{name}");
        }
    }
}

#[test]
fn nothing_is_said_before_the_warm_up_is_over() {
    // Often, but not for long enough.
    let mut baselines = none_yet();
    let usual = row(2.0);
    for second in 1..WARM_UP_NS / SECOND_NS {
        learn(
            &mut baselines,
            &point(ends(1, 2), second * SECOND_NS, &usual),
        );
        let opinion = baselines.of(&ends(1, 2)).opinion(&row(12.0), true);
        assert!(!opinion.is_known() && opinion.score == 0.0, "{second}");
    }
    // Long, but not often enough.
    let mut baselines = none_yet();
    for minute in 1..u64::from(WarmUp::default().observations) {
        learn(
            &mut baselines,
            &point(ends(1, 2), minute * MINUTE_NS, &usual),
        );
    }
    assert_eq!(range(&baselines, "src_destinations_log2"), None);
}

#[test]
fn a_known_host_has_a_range_and_what_lies_far_outside_is_unusual() {
    let (baselines, _) = known();
    let usual = UsualRange {
        low: 2.0,
        high: 2.5,
    };
    assert_eq!(range(&baselines, "src_destinations_log2"), Some(usual));
    assert_eq!(range(&baselines, "dst_flows_log2"), None, "host 9 is not");
    assert_eq!(range(&baselines, "pair_flows_log2"), None, "of no host");
    let within = baselines.of(&ends(1, 9)).opinion(&row(2.2), true);
    assert!(within.is_known() && !within.is_unusual());
    assert_eq!(within.farthest(), None);
    // Three features, each six doublings outside.
    let outside = baselines.of(&ends(1, 9)).opinion(&row(8.5), true);
    assert!((outside.score - 6.0).abs() < 1e-4, "{}", outside.score);
    assert!(outside.is_unusual() && outside.initiator_known && !outside.responder_known);
    let farthest = outside.farthest().unwrap();
    assert_eq!((farthest.value, farthest.usual), (8.5, usual));
    // One feature alone, however far, is not enough.
    let mut alone = row(2.0);
    alone[index("src_packets_log2")] = 19.0;
    let alone = baselines.of(&ends(1, 9)).opinion(&alone, true);
    assert!(alone.score > 3.0 && !alone.is_unusual(), "{}", alone.score);
    assert_eq!(alone.farthest().unwrap().feature, "src_packets_log2");
    // The highest so far stands.
    let both = outside.with(within).with(alone);
    assert_eq!(
        (both.score, both.farthest()),
        (outside.score, outside.farthest())
    );
}

#[test]
fn a_second_counts_once_however_much_happens_in_it() {
    let mut baselines = none_yet();
    let (busy, quiet) = (row(9.0), row(2.0));
    for second in 1..700 {
        // In one second of thirty a burst of a thousand points.
        if second % 30 == 0 {
            for burst in 0..1_000 {
                learn(
                    &mut baselines,
                    &point(ends(1, 2), second * SECOND_NS + burst, &busy),
                );
            }
        } else {
            learn(
                &mut baselines,
                &point(ends(1, 2), second * SECOND_NS, &quiet),
            );
        }
    }
    let range = range(&baselines, "src_destinations_log2").unwrap();
    assert!(range.high < 3.0, "{range:?}");
}

#[test]
fn of_the_points_of_a_second_each_is_drawn_alike() {
    let mut baselines = none_yet();
    // Every second the same burst: the count rises from 0 to 10 within it.
    for second in 1..2_000 {
        for step in 0..=100 {
            let rising = row(step as f32 / 10.0);
            learn(
                &mut baselines,
                &point(ends(1, 2), second * SECOND_NS + step, &rising),
            );
        }
    }
    let range = range(&baselines, "src_destinations_log2").unwrap();
    let near = |got: f32, expected: f32| (got - expected).abs() <= 0.8;
    assert!(near(range.low, 0.5) && near(range.high, 9.5), "{range:?}");
}

#[test]
fn an_attack_does_not_become_usual() {
    let (mut baselines, mut now_ns) = known();
    let attack = row(10.0);
    let before = range(&baselines, "src_destinations_log2");
    for _ in 0..2_000 {
        now_ns += SECOND_NS;
        learn(
            &mut baselines,
            &Point {
                is_suspicious: true,
                ..point(ends(1, 3), now_ns, &attack)
            },
        );
        // Nor by what the host does beside it.
        learn(&mut baselines, &point(ends(1, 4), now_ns + 1, &attack));
    }
    assert_eq!(range(&baselines, "src_destinations_log2"), before);
    // Without a SUSPICIOUS flow a change is learned, after a minute.
    for second in 0..2_000 {
        let at = now_ns + second * SECOND_NS;
        learn(&mut baselines, &point(ends(1, 4), at, &attack));
        if second < 50 {
            assert_eq!(range(&baselines, "src_destinations_log2"), before);
        }
    }
    let learned = range(&baselines, "src_destinations_log2").unwrap();
    assert!(learned.high > 10.0, "{learned:?}");
}

#[test]
fn hosts_that_are_not_known_never_take_the_place_of_known_ones() {
    let (mut baselines, now_ns) = known();
    let usual = row(2.0);
    for host in 100..200 {
        // Never established: an invented address takes no room at all.
        learn(
            &mut baselines,
            &Point {
                is_established: false,
                ..point(ends(host, 2), now_ns, &usual)
            },
        );
    }
    assert_eq!(baselines.evicted(), 0);
    for host in 100..200 {
        learn(&mut baselines, &point(ends(host, 2), now_ns, &usual));
    }
    assert_eq!(baselines.evicted(), 100 - 16);
    assert!(
        baselines
            .of(&ends(1, 9))
            .opinion(&usual, true)
            .initiator_known
    );
    assert!(baselines.learning.len() <= 16 && baselines.known.len() <= 16);
}

#[test]
fn the_longest_unseen_known_host_makes_room_for_another() {
    let mut baselines = Baselines::new(2, WarmUp::default());
    let usual = row(2.0);
    for host in 1..=3 {
        let begin_ns = u64::from(host) * 10 * WARM_UP_NS;
        for second in 0..WARM_UP_NS / SECOND_NS + 5 {
            let multicast = FlowEnds {
                dst: netml_common::walk::mapped([224, 0, 0, 251]),
                ..ends(host, 9)
            };
            learn(
                &mut baselines,
                &point(multicast, begin_ns + second * SECOND_NS, &usual),
            );
        }
    }
    let known = |host| {
        baselines
            .of(&ends(host, 9))
            .opinion(&usual, true)
            .initiator_known
    };
    assert_eq!([known(1), known(2), known(3)], [false, true, true]);
    assert_eq!(baselines.evicted(), 1, "a group of hosts is none");
}

#[test]
fn of_more_hosts_than_there_is_room_for_as_many_as_there_is_become_known() {
    let mut baselines = Baselines::new(4, WarmUp::default());
    let usual = row(2.0);
    let multicast = |host| FlowEnds {
        dst: netml_common::walk::mapped([224, 0, 0, 251]),
        ..ends(host, 9)
    };
    for second in 0..WARM_UP_NS / SECOND_NS + 5 {
        for host in 1..=8 {
            let at = second * SECOND_NS + u64::from(host);
            learn(&mut baselines, &point(multicast(host), at, &usual));
        }
    }
    assert_eq!(baselines.known.len(), 4);
    assert!(baselines.evicted() > 0, "who found no room is counted");
    // Who is gone for a minute makes room.
    let later = WARM_UP_NS + 2 * MINUTE_NS;
    learn(&mut baselines, &point(multicast(9), later, &usual));
    assert!(
        baselines
            .learning
            .find(&Key::of(&multicast(9))[0].unwrap())
            .is_some()
    );
}

#[test]
fn a_new_port_and_a_first_contact_are_told_of_known_hosts_and_once() {
    let (mut baselines, mut now_ns) = known();
    let usual = row(2.0);
    let told = |baselines: &Baselines, ends: &FlowEnds, is_established| {
        let opinion = baselines.of(ends).opinion(&usual, is_established);
        (opinion.new_port, opinion.first_contact)
    };
    let old = ends(1, 2);
    let elsewhere = ends(1, 7);
    let other_port = FlowEnds {
        dst_port: 4_444,
        ..old
    };
    assert_eq!(told(&baselines, &old, true), (false, false));
    assert_eq!(told(&baselines, &other_port, true), (true, false));
    assert_eq!(
        told(&baselines, &elsewhere, true),
        (false, true),
        "7 is not known"
    );
    assert_eq!(
        told(&baselines, &other_port, false),
        (false, false),
        "not answered"
    );
    assert_eq!(
        told(&baselines, &ends(8, 7), true),
        (false, false),
        "nor is 8"
    );
    // Neither is learned from what is not answered or is an attack.
    now_ns += SECOND_NS;
    for (is_established, is_suspicious) in [(false, false), (true, true)] {
        learn(
            &mut baselines,
            &Point {
                is_established,
                is_suspicious,
                ..point(other_port, now_ns, &usual)
            },
        );
    }
    assert_eq!(told(&baselines, &other_port, true), (true, false));
    now_ns += PAUSE_NS;
    for met in [other_port, elsewhere] {
        learn(&mut baselines, &point(met, now_ns, &usual));
        assert_eq!(told(&baselines, &met, true), (false, false));
    }
    // Of a host that calls on everybody nothing is new.
    for host in 100..1_000 {
        learn(&mut baselines, &point(ends(1, host), now_ns, &usual));
    }
    let new = (2_000..3_000).filter(|host| told(&baselines, &ends(1, *host), true).1);
    assert_eq!(new.count(), 0);
}
