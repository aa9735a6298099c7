//! Readable rules beside the forest: a second opinion with its values, learnt from nothing.
//!
//! A rule compares a few counts of the windows with fixed limits and says by how much they were
//! passed. The limits are what a person would call too much; none was fitted to a capture. Data
//! in: a [`Moment`]. Data out: the strongest [`Finding`], if any. How findings and the forest make
//! one verdict is [`crate::engine`]'s business.

use crate::flow::features::Moment;
use crate::flow::host::Tries;
use crate::flow::key::is_multicast;
use crate::flow::state::{Handshake, PROTO_TCP};

const PROTO_ICMP: u8 = 1;
const PROTO_UDP: u8 = 17;
const PROTO_ICMPV6: u8 = 58;

/// Responder ports one host tries on another within 15 to 30 s before it is a scan.
pub const SCAN_PORTS: f32 = 20.0;

/// The same tried within 5 to 10 minutes, most of them in vain, before it is a slow scan.
pub const SLOW_SCAN_PORTS: f32 = 20.0;

/// Responders a host tries within 15 to 30 s, most of them in vain and on few ports, before it is
/// a scan.
pub const SCAN_HOSTS: f32 = 40.0;

/// The same within 5 to 10 minutes, before it is a slow scan. Twice as many: a device that has lost its
/// way out tries some dozens in vain.
pub const SLOW_SCAN_HOSTS: f32 = 80.0;

/// Hosts tried for each port, at least, where services are sought everywhere. File sharing calls on
/// many dead hosts too, on as many ports.
const SCAN_HOSTS_PER_PORT: f32 = 8.0;

/// Decayed connections that brought nothing back before they are a flood.
pub const FLOOD_FLOWS: f32 = 500.0;

/// The same of datagrams, whose senders often expect no answer.
pub const FLOOD_DATAGRAM_FLOWS: f32 = 3_000.0;

/// ICMP packets of one flow before it is a flood, and how many a second.
pub const FLOOD_ICMP_PACKETS: f32 = 1_000.0;
const FLOOD_ICMP_PACKETS_PER_S: f32 = 200.0;

/// Decayed answers nobody asked for, of services that may amplify, before they are an attack.
pub const REFLECTED_FLOWS: f32 = 100.0;

/// Distinct senders of these.
const REFLECTORS: f32 = 30.0;

/// Connections of one client to a web server that are open at once and have brought nothing back.
pub const SLOW_HTTP_FLOWS: f32 = 50.0;

/// How long at least, so that a crowd of requests that are about to be answered is none.
const SLOW_HTTP_SECONDS: f32 = 1.0;

/// Logins of one host at another that ended alike, decayed with a half-life of five minutes.
pub const LOGINS: f32 = 10.0;

/// The same where programs fetch mail all day.
pub const MAIL_LOGINS: f32 = 40.0;

/// Largest mean payload of a failed login, both ways.
const LOGIN_BYTES_MAX: f32 = 16_384.0;

/// Largest deviation of that payload, as a part of its mean.
const LOGIN_VARIATION_MAX: f32 = 0.3;

/// Longest mean duration of one.
const LOGIN_SECONDS_MAX: f32 = 60.0;

/// Questions of one host to one name server that carry data, decayed with a half-life of five
/// minutes.
pub const DNS_QUESTIONS: f32 = 20.0;

/// Mean length of their names, over the last about eight. Ordinary names are of 15 to 35 bytes.
const DNS_NAME_BYTES: f32 = 60.0;

/// Mail servers one host hands mail to within 15 to 30 s.
pub const MAIL_SERVERS: f32 = 40.0;

/// Share of a host's flows that a rule on failures calls "most".
const MOST: f32 = 0.8;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Many ports of one host.
    PortScan,
    /// One service of many hosts.
    HostScan,
    /// Connections that are never used, to one host.
    ConnectionFlood,
    /// Datagrams of ever new flows without an answer, to one host.
    DatagramFlood,
    /// Echo requests or other ICMP without end.
    IcmpFlood,
    /// Answers of services, of many senders, that nobody asked for.
    Reflection,
    /// Many ports of one host, over minutes.
    SlowPortScan,
    /// One service of many hosts, over minutes.
    SlowHostScan,
    /// Connections held open at a web server.
    SlowHttp,
    /// Logins that fail alike.
    BruteForce,
    /// Data in the names or in rare types of DNS questions.
    DnsTunnel,
    /// Mail to very many servers.
    MailBurst,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 12] = [
        Self::PortScan,
        Self::HostScan,
        Self::SlowPortScan,
        Self::SlowHostScan,
        Self::ConnectionFlood,
        Self::DatagramFlood,
        Self::IcmpFlood,
        Self::Reflection,
        Self::SlowHttp,
        Self::BruteForce,
        Self::DnsTunnel,
        Self::MailBurst,
    ];

    /// Stable name, as on the wire and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PortScan => "port-scan",
            Self::HostScan => "host-scan",
            Self::ConnectionFlood => "connection-flood",
            Self::DatagramFlood => "datagram-flood",
            Self::IcmpFlood => "icmp-flood",
            Self::Reflection => "reflection",
            Self::SlowPortScan => "slow-port-scan",
            Self::SlowHostScan => "slow-host-scan",
            Self::SlowHttp => "slow-http",
            Self::BruteForce => "brute-force",
            Self::DnsTunnel => "dns-tunnel",
            Self::MailBurst => "mail-burst",
        }
    }

    /// The rule of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }

    /// True where it says that nothing came back: withdrawn from a flow to which something does.
    /// A web server that is held open does answer in the end, with a time-out.
    #[must_use]
    pub const fn rests_on_silence(self) -> bool {
        matches!(
            self,
            Self::ConnectionFlood | Self::DatagramFlood | Self::Reflection
        )
    }

    /// Kind it tells, a class of the model.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::PortScan | Self::HostScan | Self::SlowPortScan | Self::SlowHostScan => "scan",
            Self::ConnectionFlood => "syn_flood",
            Self::DatagramFlood | Self::IcmpFlood | Self::Reflection => "flood",
            Self::SlowHttp => "http_dos",
            Self::BruteForce => "brute_force",
            Self::DnsTunnel => "dns_tunnel",
            Self::MailBurst => "botnet",
        }
    }
}

/// What a rule found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The count it looks at.
    pub value: f32,
    /// Its limit; `value` reaches it.
    pub limit: f32,
}

impl Finding {
    /// How often the limit goes into the value, at least 1.
    #[must_use]
    pub fn excess(&self) -> f32 {
        self.value / self.limit
    }
}

/// The finding that passes its limit by most.
#[must_use]
pub fn find(m: &Moment<'_>) -> Option<Finding> {
    let findings = [
        port_scan(m),
        host_scan(m),
        slow_port_scan(m),
        slow_host_scan(m),
        flood(m),
        icmp_flood(m),
        reflection(m),
        slow_http(m),
        brute_force(m),
        dns_tunnel(m),
        mail_burst(m),
    ];
    findings
        .into_iter()
        .flatten()
        .max_by(|a, b| a.excess().total_cmp(&b.excess()))
}

fn when(holds: bool, rule: Rule, value: f32, limit: f32) -> Option<Finding> {
    (holds && value >= limit).then_some(Finding { rule, value, limit })
}

fn is_tcp(m: &Moment<'_>) -> bool {
    m.flow.ends().ip_protocol == PROTO_TCP
}

/// Ports tried on one host, of which most gave nothing.
fn port_scan(m: &Moment<'_>) -> Option<Finding> {
    let flows = m.pair.flows;
    // Counting a sketch costs more than all the rest: only where enough flows were begun.
    if flows < SCAN_PORTS / 8.0 || flows - m.pair.fed < 0.5 * flows || is_no_try(m) {
        return None;
    }
    let ports = m.pair.ports.count(m.now_ns);
    when(true, Rule::PortScan, ports, SCAN_PORTS)
}

/// Ports that traceroute counts up through, one for each probe (RFC 2151 §3.4): 30 hops of 3 probes,
/// and as many again where it is told to go further.
const TRACEROUTE_PORTS: std::ops::Range<u16> = 33_434..33_614;

/// True of a flow that tries no port: traceroute's probe, which nobody is to answer; a datagram from a
/// service to a port nobody serves, whose question was forgotten or not seen; payload of a connection
/// whose begin was not seen.
fn is_no_try(m: &Moment<'_>) -> bool {
    let ends = m.flow.ends();
    match ends.ip_protocol {
        PROTO_TCP => m.flow.handshake == Handshake::Unknown && m.flow.fwd.payload_bytes > 0,
        PROTO_UDP => {
            let late_answer = is_service(ends.src_port) && ends.dst_port >= 1024;
            late_answer || TRACEROUTE_PORTS.contains(&ends.dst_port)
        }
        _ => false,
    }
}

/// Hosts tried on few ports, of which most were not there or refused.
fn host_scan(m: &Moment<'_>) -> Option<Finding> {
    let (flows, src) = (m.src.flows, m.src);
    let failed = (flows - src.answered).max(0.0) + src.refused;
    if !is_tcp(m) || flows < SCAN_HOSTS / 8.0 || failed < MOST * flows {
        return None;
    }
    let hosts = src.destinations.count(m.now_ns);
    let few_ports = src.ports.count(m.now_ns) * SCAN_HOSTS_PER_PORT <= hosts;
    when(few_ports, Rule::HostScan, hosts, SCAN_HOSTS)
}

/// Ports tried on one host over minutes, of which most refused or did not answer. Barren flows are not
/// enough here: passive FTP opens a port for each file that is sent.
fn slow_port_scan(m: &Moment<'_>) -> Option<Finding> {
    let tries = &m.pair.tries;
    if tries.flows < SLOW_SCAN_PORTS / 4.0 || !mostly_fails(tries) || is_no_try(m) {
        return None;
    }
    let ports = m.pair.slow_ports.count(m.now_ns);
    when(true, Rule::SlowPortScan, ports, SLOW_SCAN_PORTS)
}

/// Hosts tried on few ports over minutes, of which most were not there or refused.
fn slow_host_scan(m: &Moment<'_>) -> Option<Finding> {
    let (tries, src) = (&m.src.tries, m.src);
    if !is_tcp(m) || tries.flows < SLOW_SCAN_HOSTS / 4.0 || !mostly_fails(tries) {
        return None;
    }
    let hosts = src.slow_destinations.count(m.now_ns);
    let few_ports = src.slow_ports.count(m.now_ns) * SCAN_HOSTS_PER_PORT <= hosts;
    when(few_ports, Rule::SlowHostScan, hosts, SLOW_SCAN_HOSTS)
}

fn mostly_fails(tries: &Tries) -> bool {
    tries.failed() >= MOST * tries.flows
}

/// Flows to one host that it gave nothing, of one sender or of many.
fn flood(m: &Moment<'_>) -> Option<Finding> {
    let ends = m.flow.ends();
    let flows = m.dst.asked_flows;
    let barren = (flows - m.dst.asked_fed).max(0.0);
    let most = barren >= 0.9 * flows && !is_multicast(&ends.dst) && !is_served(m);
    if is_tcp(m) {
        let unused = m.flow.rev.payload_bytes == 0;
        return when(most && unused, Rule::ConnectionFlood, barren, FLOOD_FLOWS);
    }
    let unanswered = m.flow.rev.packets == 0;
    when(
        most && unanswered && ends.ip_protocol == PROTO_UDP,
        Rule::DatagramFlood,
        barren,
        FLOOD_DATAGRAM_FLOWS,
    )
}

/// True of a sender whose other flows with this host do bring something back: in the midst of a
/// flood its new flow looks like all the others.
fn is_served(m: &Moment<'_>) -> bool {
    let others = (m.pair.flows - m.own).max(0.0);
    others > 0.0 && m.pair.fed >= 0.5 * others && m.pair.fed > 0.01
}

fn icmp_flood(m: &Moment<'_>) -> Option<Finding> {
    let is_icmp = matches!(m.flow.ends().ip_protocol, PROTO_ICMP | PROTO_ICMPV6);
    let packets = m.flow.packets as f32;
    when(
        is_icmp && packets >= FLOOD_ICMP_PACKETS_PER_S * m.seconds(),
        Rule::IcmpFlood,
        packets,
        FLOOD_ICMP_PACKETS,
    )
}

/// Answers from ports that amplify, to a host that asked nothing there.
fn reflection(m: &Moment<'_>) -> Option<Finding> {
    let ends = m.flow.ends();
    let unasked = m.dst.asked_flows - m.dst.asked_answered;
    let holds = ends.ip_protocol == PROTO_UDP
        && (is_service(ends.src_port) || amplifies(ends.src_port))
        && m.flow.rev.packets == 0
        && !is_multicast(&ends.dst)
        && unasked >= MOST * m.dst.asked_flows
        && m.dst.sources.count(m.now_ns) >= REFLECTORS;
    when(holds, Rule::Reflection, unasked, REFLECTED_FLOWS)
}

/// Well-known ports, which need rights to send from (RFC 6335 §6).
const fn is_service(port: u16) -> bool {
    matches!(port, 1..1024)
}

/// UDP services above these known to answer with more than they are asked (US-CERT TA14-017A, of
/// IKE behind address translation CERT VU#419128).
const fn amplifies(port: u16) -> bool {
    matches!(
        port,
        1434 | 1900
            | 3283
            | 3478
            | 3702
            | 4500
            | 5093
            | 5353
            | 5683
            | 10001
            | 11211
            | 27015
            | 37810
    )
}

/// Connections of one client held open at a web server on which nothing comes back.
fn slow_http(m: &Moment<'_>) -> Option<Finding> {
    let ends = m.flow.ends();
    let web = matches!(
        ends.dst_port,
        80 | 81 | 443 | 8000 | 8008 | 8080 | 8081 | 8443 | 8888
    );
    let held = m.flow.is_waiting() && m.seconds_since_begin() >= SLOW_HTTP_SECONDS;
    when(
        is_tcp(m) && web && held,
        Rule::SlowHttp,
        m.pair.waiting as f32,
        SLOW_HTTP_FLOWS,
    )
}

/// Logins that end after about the same few bytes.
fn brute_force(m: &Moment<'_>) -> Option<Finding> {
    let limit = match m.flow.ends().dst_port {
        21 | 22 | 23 | 512 | 513 | 514 | 2222 | 2323 | 3389 | 5900 | 5901 | 5985 | 5986 => LOGINS,
        110 | 143 | 587 | 993 | 995 => MAIL_LOGINS,
        _ => return None,
    };
    let pair = m.pair;
    let alike = (0.0..=LOGIN_VARIATION_MAX).contains(&pair.ended_bytes.variation())
        && (1.0..=LOGIN_BYTES_MAX).contains(&pair.ended_bytes.mean())
        && pair.ended_s.mean() <= LOGIN_SECONDS_MAX;
    when(is_tcp(m) && alike, Rule::BruteForce, pair.logins, limit)
}

/// Questions whose names are far longer than names are, or whose types nobody asks for.
fn dns_tunnel(m: &Moment<'_>) -> Option<Finding> {
    let pair = m.pair;
    let carries = pair.dns_name_bytes.mean() >= DNS_NAME_BYTES || pair.dns_rare_types.mean() >= 0.5;
    // Of a flow that goes on after its active time-out the answer may be seen first.
    let ends = m.flow.ends();
    let asks = ends.dst_port == 53 || ends.src_port == 53;
    when(
        asks && carries,
        Rule::DnsTunnel,
        pair.dns_questions,
        DNS_QUESTIONS,
    )
}

fn mail_burst(m: &Moment<'_>) -> Option<Finding> {
    if !is_tcp(m) || m.flow.ends().dst_port != 25 {
        return None;
    }
    let servers = m.src.destinations.count(m.now_ns);
    when(true, Rule::MailBurst, servers, MAIL_SERVERS)
}

#[cfg(test)]
mod tests;
