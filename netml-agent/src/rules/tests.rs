//! Each rule against made-up traffic that breaks it, and against its innocent counterpart.

use std::collections::BTreeMap;

use netml_common::{DnsRecord, Extras, Marks, PacketRecord};

use super::Rule;
use crate::engine::{Engine, EvaluationRow, FlowReport, JudgedPacket, Settings, Sink};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const SYN: u8 = 2;
const RST_ACK: u8 = 0x14;
const SYN_ACK: u8 = 0x12;
const PSH_ACK: u8 = 0x18;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;

/// An end: last two bytes of 10.0.0.0/16, and a port.
type End = (u16, u16);

/// How often each rule spoke.
#[derive(Default)]
struct Said(BTreeMap<Rule, usize>);

impl Sink for Said {
    fn flow(&mut self, _: &FlowReport) {}
    fn packet(&mut self, _: &JudgedPacket) {}
    fn row(&mut self, row: &EvaluationRow<'_>) {
        if let Some(finding) = row.finding {
            assert!(finding.value >= finding.limit, "{finding:?}");
            *self.0.entry(finding.rule).or_default() += 1;
        }
    }
}

struct Net {
    engine: Engine,
    said: Said,
    now_ns: u64,
}

impl Net {
    fn new() -> Self {
        Self {
            engine: Engine::new(Settings::default(), None),
            said: Said::default(),
            now_ns: S,
        }
    }

    fn record(
        &self,
        from: End,
        to: End,
        ip_protocol: u8,
        tcp_flags: u8,
        payload_bytes: u32,
    ) -> PacketRecord {
        let address = |end: End| {
            let [high, low] = end.0.to_be_bytes();
            netml_common::walk::mapped([10, 0, high, low])
        };
        PacketRecord {
            kind: netml_common::record::KIND_PACKET,
            version: netml_common::record::RECORD_VERSION,
            length_units: 8,
            ip_protocol,
            marks: Marks(0),
            slot: 0,
            segments: 1,
            mono_ns: self.now_ns,
            src: address(from),
            dst: address(to),
            wire_bytes: 54 + payload_bytes,
            payload_bytes,
            src_port: from.1,
            dst_port: to.1,
            tcp_flags,
            hop_limit: 64,
            tcp_window: 1000,
        }
    }

    fn send(&mut self, from: End, to: End, ip_protocol: u8, tcp_flags: u8, payload_bytes: u32) {
        let record = self.record(from, to, ip_protocol, tcp_flags, payload_bytes);
        self.engine.packet(&record, &mut self.said);
    }

    /// A DNS question and nothing back.
    fn ask(&mut self, from: End, to: End, query_type: u16, name_bytes: u8) {
        let dns = DnsRecord {
            kind: netml_common::extras::KIND_DNS,
            flags: DnsRecord::NAMED,
            name_bytes,
            labels: 3,
            query_type,
            ..DnsRecord::NONE
        };
        let extras = Extras {
            dns: Some(dns),
            ..Extras::NONE
        };
        let record = self.record(from, to, 17, 0, 18 + u32::from(name_bytes));
        self.engine.packet_with(&record, &extras, &mut self.said);
    }

    fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.engine.advance(self.now_ns, &mut self.said);
    }

    /// A whole connection in which both ends say something.
    fn connection(&mut self, from: End, to: End, asked_bytes: u32, answered_bytes: u32) {
        self.opened(from, to);
        self.send(from, to, 6, PSH_ACK, asked_bytes);
        self.pass(MS);
        self.send(to, from, 6, PSH_ACK, answered_bytes);
        self.send(from, to, 6, FIN_ACK, 0);
        self.send(to, from, 6, FIN_ACK, 0);
        self.pass(MS);
    }

    fn opened(&mut self, from: End, to: End) {
        self.send(from, to, 6, SYN, 0);
        self.send(to, from, 6, SYN_ACK, 0);
        self.send(from, to, 6, ACK, 0);
        self.pass(MS);
    }

    /// Rules that spoke, the loudest first.
    fn said(&self) -> Vec<Rule> {
        let mut rules: Vec<_> = self.said.0.iter().map(|(rule, n)| (*n, *rule)).collect();
        rules.sort_by(|a, b| b.cmp(a));
        rules.into_iter().map(|(_, rule)| rule).collect()
    }
}

#[test]
fn many_refused_ports_are_a_port_scan_and_many_connections_are_not() {
    let (mut scan, mut web) = (Net::new(), Net::new());
    for n in 0..60 {
        scan.send((1, 4000), (2, 100 + n), 6, SYN, 0);
        scan.send((2, 100 + n), (1, 4000), 6, RST_ACK, 0);
        scan.pass(20 * MS);
        web.connection((1, 4000 + n), (2, 443), 300, 3000);
    }
    assert_eq!(scan.said(), [Rule::PortScan]);
    assert_eq!(web.said(), []);
}

#[test]
fn one_port_of_many_dead_hosts_is_a_host_scan_and_file_sharing_is_not() {
    let (mut scan, mut sharing) = (Net::new(), Net::new());
    for n in 0..100 {
        scan.send((1, 4000 + n), (100 + n, 23), 6, SYN, 0);
        scan.pass(20 * MS);
        sharing.send((1, 4000 + n), (100 + n, 20_000 + 7 * n), 6, SYN, 0);
        sharing.pass(20 * MS);
    }
    assert_eq!(scan.said(), [Rule::HostScan]);
    assert_eq!(sharing.said(), []);
}

#[test]
fn ports_tried_slowly_are_a_scan_and_sent_files_or_a_route_that_is_traced_are_not() {
    let (mut scan, mut sent, mut trace) = (Net::new(), Net::new(), Net::new());
    for n in 0..60 {
        scan.send((1, 4000), (2, 100 + n), 6, SYN, 0);
        scan.send((2, 100 + n), (1, 4000), 6, RST_ACK, 0);
        scan.pass(10 * S);
        // Passive FTP: a port for each file, and nothing but acknowledgements back.
        sent.connection((1, 4000 + n), (2, 20_000 + 3 * n), 3000, 0);
        sent.pass(10 * S);
        trace.send((1, 50_000), (2, 33_434 + n), 17, 0, 32);
        trace.pass(50 * MS);
    }
    assert_eq!(scan.said(), [Rule::SlowPortScan]);
    assert_eq!(sent.said(), []);
    assert_eq!(trace.said(), []);
}

#[test]
fn hosts_tried_slowly_are_a_scan_and_slow_file_sharing_or_a_dead_monitor_is_not() {
    let (mut scan, mut sharing, mut monitor) = (Net::new(), Net::new(), Net::new());
    for n in 0..200 {
        scan.send((1, 4000 + n), (100 + n, 23), 6, SYN, 0);
        scan.pass(2 * S);
        sharing.send((1, 4000 + n), (100 + n, 20_000 + 7 * n), 6, SYN, 0);
        sharing.pass(2 * S);
        monitor.send((1, 4000 + n), (100 + n % 30, 9100), 6, SYN, 0);
        monitor.pass(2 * S);
    }
    assert_eq!(scan.said(), [Rule::SlowHostScan]);
    assert_eq!(sharing.said(), []);
    assert_eq!(monitor.said(), []);
}

#[test]
fn unused_connections_of_one_or_many_senders_are_a_flood_and_a_busy_server_is_none() {
    let (mut one, mut many, mut busy) = (Net::new(), Net::new(), Net::new());
    for n in 0..2_000 {
        one.send((1, 4000 + n), (2, 80), 6, SYN, 0);
        one.pass(MS);
        many.send((100 + n, 4000), (2, 80), 6, SYN, 0);
        many.pass(MS);
        busy.connection((100 + n, 4000), (2, 80), 300, 3000);
    }
    assert_eq!(one.said(), [Rule::ConnectionFlood]);
    assert_eq!(many.said(), [Rule::ConnectionFlood]);
    assert_eq!(busy.said(), []);
}

#[test]
fn a_client_that_was_served_before_is_no_part_of_the_flood_around_it() {
    let mut net = Net::new();
    net.connection((1, 3000), (2, 80), 300, 3000);
    for n in 0..2_000 {
        net.send((100 + n, 4000), (2, 80), 6, SYN, 0);
        net.pass(MS);
    }
    let before = net.said.0.clone();
    net.connection((1, 3001), (2, 80), 300, 3000);
    assert_eq!(net.said.0, before);
    assert_eq!(net.said(), [Rule::ConnectionFlood]);
}

#[test]
fn datagrams_nobody_answers_are_a_flood_and_those_of_one_flow_are_not() {
    let (mut flood, mut stream) = (Net::new(), Net::new());
    for n in 0..6_000_u16 {
        flood.send((1, 2000 + n), (2, 9000), 17, 0, 100);
        flood.pass(MS);
        stream.send((1, 5004), (2, 5004), 17, 0, 1316);
        stream.pass(MS);
    }
    assert_eq!(flood.said(), [Rule::DatagramFlood]);
    assert_eq!(stream.said(), []);
}

#[test]
fn echo_requests_without_end_are_a_flood_and_a_ping_a_second_is_not() {
    let (mut flood, mut ping) = (Net::new(), Net::new());
    for _ in 0..3_000 {
        flood.send((1, 8), (2, 0), 1, 0, 56);
        flood.pass(MS);
        ping.send((1, 8), (2, 0), 1, 0, 56);
        ping.send((2, 0), (1, 0), 1, 0, 56);
        ping.pass(S);
    }
    assert_eq!(flood.said(), [Rule::IcmpFlood]);
    assert_eq!(ping.said(), []);
}

#[test]
fn answers_nobody_asked_for_are_reflection_and_those_asked_for_are_not() {
    let (mut attack, mut resolver) = (Net::new(), Net::new());
    for n in 0..400 {
        attack.send((100 + n, 53), (2, 40_000), 17, 0, 3000);
        attack.pass(5 * MS);
        resolver.send((2, 40_000 + n), (100 + n, 53), 17, 0, 40);
        resolver.send((100 + n, 53), (2, 40_000 + n), 17, 0, 3000);
        resolver.pass(5 * MS);
    }
    assert_eq!(attack.said(), [Rule::Reflection]);
    assert_eq!(resolver.said(), []);
}

#[test]
fn answers_that_come_after_their_flow_was_forgotten_are_no_scan() {
    let mut late = Net::new();
    for n in 0..200 {
        late.send((1, 53), (2, 40_000 + n), 17, 0, 100);
        late.pass(20 * MS);
    }
    late.send((1, 53), (2, 40_000), 6, PSH_ACK, 100);
    late.pass(20 * MS);
    assert_eq!(late.said(), []);
}

#[test]
fn connections_held_open_at_a_web_server_are_slow_http_and_slow_answers_are_not() {
    let (mut slow, mut late) = (Net::new(), Net::new());
    for n in 0..200 {
        slow.opened((1, 4000 + n), (2, 80));
        slow.send((1, 4000 + n), (2, 80), 6, PSH_ACK, 20);
        slow.pass(20 * MS);
        late.opened((1, 4000 + n), (2, 80));
        late.send((1, 4000 + n), (2, 80), 6, PSH_ACK, 200);
        late.pass(20 * MS);
        late.send((2, 80), (1, 4000 + n), 6, PSH_ACK, 2000);
    }
    // A crowd of requests at once, answered within half a second.
    let mut crowd = Net::new();
    for n in 0..200 {
        crowd.opened((1, 4000 + n), (2, 80));
        crowd.send((1, 4000 + n), (2, 80), 6, PSH_ACK, 200);
    }
    crowd.pass(300 * MS);
    for n in 0..200 {
        crowd.send((2, 80), (1, 4000 + n), 6, PSH_ACK, 2000);
    }
    crowd.pass(5 * S);
    assert_eq!(slow.said(), [Rule::SlowHttp]);
    assert_eq!(late.said(), []);
    assert_eq!(crowd.said(), []);
}

#[test]
fn connections_that_closed_or_were_forgotten_are_not_held_open() {
    let (mut closed, mut forgotten) = (Net::new(), Net::new());
    for n in 0..120 {
        closed.opened((1, 4000 + n), (2, 80));
        closed.send((1, 4000 + n), (2, 80), 6, PSH_ACK, 20);
        closed.pass(2 * S);
        closed.send((1, 4000 + n), (2, 80), 6, FIN_ACK, 0);
        closed.send((2, 80), (1, 4000 + n), 6, FIN_ACK, 0);
    }
    for round in 0..3 {
        for n in 0..40 {
            forgotten.opened((1, 4000 + 40 * round + n), (2, 80));
            forgotten.send((1, 4000 + 40 * round + n), (2, 80), 6, PSH_ACK, 20);
        }
        forgotten.pass(2 * S);
        forgotten.pass(2 * Settings::default().idle_timeout_ns);
    }
    assert_eq!(closed.said(), []);
    assert_eq!(forgotten.said(), []);
}

#[test]
fn logins_that_end_alike_are_brute_force_and_work_on_a_host_is_not() {
    let (mut guess, mut work, mut check) = (Net::new(), Net::new(), Net::new());
    for n in 0..40 {
        guess.connection((1, 4000 + n), (2, 22), 1200, 1500 + u32::from(n % 3) * 10);
        guess.pass(10 * S);
        work.connection(
            (1, 4000 + n),
            (2, 22),
            2000,
            2000 + u32::from(n) * u32::from(n) * 200,
        );
        work.pass(10 * S);
        check.connection((1, 4000 + n), (2, 22), 20, 40);
        check.pass(60 * S);
    }
    assert_eq!(guess.said(), [Rule::BruteForce]);
    assert_eq!(work.said(), []);
    assert_eq!(check.said(), []);
}

#[test]
fn long_names_and_rare_types_are_a_tunnel_and_ordinary_or_reverse_names_are_not() {
    const A: u16 = 1;
    const PTR: u16 = 12;
    const KEY: u16 = 25;
    for (query_type, name_bytes, expected) in [
        (A, 120, vec![Rule::DnsTunnel]),
        (KEY, 20, vec![Rule::DnsTunnel]),
        (A, 30, vec![]),
        (PTR, 72, vec![]),
    ] {
        let mut net = Net::new();
        for n in 0..60 {
            net.ask((1, 4000 + n % 3), (2, 53), query_type, name_bytes);
            net.pass(S);
        }
        assert_eq!(net.said(), expected, "{query_type} {name_bytes}");
    }
    // Names of services on the link (mDNS) are long by nature.
    let mut link = Net::new();
    for _ in 0..60 {
        link.ask((1, 5353), (2, 5353), A, 120);
        link.pass(S);
    }
    assert_eq!(link.said(), []);
}

#[test]
fn mail_to_very_many_servers_is_a_burst_and_mail_to_one_is_not() {
    let (mut bot, mut client) = (Net::new(), Net::new());
    for n in 0..100 {
        bot.connection((1, 4000 + n), (100 + n, 25), 900, 300);
        bot.pass(50 * MS);
        client.connection((1, 4000 + n), (2, 25), 900, 300);
        client.pass(50 * MS);
    }
    assert_eq!(bot.said(), [Rule::MailBurst]);
    assert_eq!(client.said(), []);
}

#[test]
fn names_lead_back_to_their_rules() {
    for rule in Rule::ALL {
        assert_eq!(Rule::of_name(rule.name()), Some(rule));
    }
    assert_eq!(Rule::of_name("no such rule"), None);
}
