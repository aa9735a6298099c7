use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use netml_proto::v1;
use netml_proto::v1::record::Record;

use super::agent;
use super::collector::{Fake, Manner, PATIENCE, Seen, records};

/// A network namespace; gone at drop.
struct Namespace(String);

impl Namespace {
    /// `None` where this user may not make one.
    fn new() -> Option<Self> {
        let name = format!("nmlinks{}", std::process::id());
        let made = Command::new("ip")
            .args(["netns", "add", &name])
            .stderr(Stdio::null())
            .status();
        made.is_ok_and(|made| made.success()).then_some(Self(name))
    }

    fn sh(&self, line: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, "bash", "-c", line]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).status());
    }
}

/// Waits for an event of that kind; the batches up to it join `batches`.
fn until(fake: &Fake, kind: &str, batches: &mut Vec<v1::Batch>) -> Option<v1::Event> {
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        if let Seen::Batch(batch) = fake.next() {
            batches.push(batch);
            let found = records(batches)
                .into_iter()
                .find_map(|record| match record {
                    Record::Event(event) if event.kind == kind => Some(event),
                    _ => None,
                });
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

#[test]
fn interfaces_that_come_and_go_are_told_with_their_last_totals() {
    let Some(namespace) = Namespace::new() else {
        println!("skipped: no privilege to make a network namespace");
        return;
    };
    namespace.sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let fake = Fake::start(Manner::default());
    let mut sensor = agent()
        .args(["run", "--netns", &namespace.0, "--interface", "v*"])
        .args(["--no-model", "--collector", &fake.url])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let Seen::Hello(hello) = fake.next() else {
        panic!("no hello");
    };
    assert!(hello.interfaces.is_empty(), "none yet");
    let mut batches = Vec::new();
    namespace.sh(
        "ip link add v1 type veth peer name w1; ip addr add 10.99.0.1/24 dev v1; \
         ip link set v1 up; ip link set w1 up; \
         ip neigh add 10.99.0.2 lladdr 02:00:00:00:00:09 dev v1 nud permanent",
    );
    let attached = until(&fake, "interface-attached", &mut batches).unwrap();
    assert_eq!(attached.fields["interface"], "v1");
    namespace.sh("for i in 1 2 3; do echo x > /dev/udp/10.99.0.2/9; done; ip link del v1");
    let gone = until(&fake, "interface-gone", &mut batches).unwrap();
    assert_eq!(gone.fields["interface"], "v1");
    namespace.sh("ip link add v1 type veth peer name w1");
    // The same name again, and yet another attachment: told once more.
    let told = |batches: &[v1::Batch]| {
        let events = records(batches).into_iter().filter(
            |record| matches!(record, Record::Event(event) if event.kind == "interface-attached"),
        );
        events.count()
    };
    while told(&batches) < 2 {
        if let Seen::Batch(batch) = fake.next() {
            batches.push(batch);
        }
    }
    let pid = sensor.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(sensor.wait().unwrap().success(), "the books balance");
    batches.extend(fake.until_closed().1);
    let all = records(&batches);
    let sent = |of: &v1::Counters| of.interface == "v1" && of.direction() == v1::Direction::Egress;
    let counters: Vec<_> = all
        .iter()
        .filter_map(|record| match record {
            Record::Counters(counters) if sent(counters) => Some(counters),
            _ => None,
        })
        .collect();
    let first_id = counters[0].attach_id;
    let last = counters.iter().rfind(|of| of.attach_id == first_id);
    assert_eq!(last.unwrap().packets, 3);
    let ids: BTreeSet<_> = counters.iter().map(|of| of.attach_id).collect();
    assert_eq!(ids.len(), 2, "each attachment has its own totals");
    let named: BTreeSet<_> = all
        .iter()
        .filter_map(|record| match record {
            Record::Flow(flow) => Some(flow.interface.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(named, BTreeSet::from(["v1"]), "its flows keep its name");
}
