//! What a scenario is: who serves, who calls, over which path, for how long, and what of it is an
//! attack. Adding one is a few lines in `attacks.rs` or `benign.rs`.
//!
//! Hosts are named by a letter, which says where they are, and a number:
//!
//! | letter | side | what |
//! |---|---|---|
//! | `s` | inside | a server |
//! | `i` | inside | a client |
//! | `x` | inside | an infected client: an attacker |
//! | `c` | outside | a client |
//! | `w` | outside | a server |
//! | `a` | outside | an attacker |
//!
//! The attack is what has an end at an `a` or `x` host, narrowed by victims and ports, unless the
//! sources are spoofed: then the victims alone tell. The rest is benign.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, ensure};

use super::labels::Rule;
use super::servers::Server;
pub(super) use super::wire::Course;

/// Longest a scenario may record, seconds.
pub(super) const SECONDS_MAX: u64 = 90;
/// Most frames of a capture.
pub(super) const FRAMES_MAX: u64 = 20_000;
/// Hosts of a scenario.
pub(super) const HOSTS_MAX: usize = 24;

/// Kinds of attacks, as in the model's classes.
pub(super) const ATTACK_KINDS: &[&str] = &[
    "brute_force",
    "c2_botnet",
    "c2_framework",
    "dns_tunnel",
    "http_flood",
    "icmp_flood",
    "iot_malware_scan",
    "lateral_movement",
    "port_scan",
    "reflection_amp",
    "slow_http_dos",
    "spam_bot",
    "syn_flood",
    "udp_flood",
    "vuln_scan",
];
/// Kinds of ordinary traffic.
pub(super) const BENIGN_KINDS: &[&str] = &[
    "bulk",
    "chat",
    "database",
    "ftp",
    "mail",
    "monitoring",
    "normal_dns",
    "normal_iot",
    "p2p",
    "rdp",
    "retry",
    "smb",
    "ssh",
    "time",
    "voip",
    "vpn",
    "web",
];

/// One switch away.
pub(super) const LAN: Course = Course {
    name: "lan",
    delay_us: 150,
    jitter_us: 100,
    loss_per_10k: 0,
    rate_kbit: 1_000_000,
};
/// Wireless at home.
pub(super) const WLAN: Course = Course {
    name: "wlan",
    delay_us: 1_500,
    jitter_us: 4_000,
    loss_per_10k: 20,
    rate_kbit: 60_000,
};
/// Another town.
pub(super) const WAN: Course = Course {
    name: "wan",
    delay_us: 12_000,
    jitter_us: 2_000,
    loss_per_10k: 5,
    rate_kbit: 100_000,
};
/// Another continent.
pub(super) const FAR: Course = Course {
    name: "far",
    delay_us: 85_000,
    jitter_us: 12_000,
    loss_per_10k: 50,
    rate_kbit: 20_000,
};

/// A command that calls.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Where it runs.
    pub(super) host: String,
    /// Lines of sh. `$s1` and `$s1_6` are addresses of host s1, `s1` its name; `words` is a file
    /// of passwords, none of which is right.
    pub(super) script: String,
    /// The scenario does not wait for it.
    pub(super) beside: bool,
}

/// One capture.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Name of its capture.
    pub(super) name: String,
    /// Kind of attack or traffic.
    pub(super) kind: &'static str,
    /// True where a part of it is an attack.
    pub(super) malicious: bool,
    /// Who serves what.
    pub(super) servers: Vec<(String, &'static Server)>,
    /// Who calls.
    pub(super) clients: Vec<Client>,
    /// Further hosts, which run nothing.
    pub(super) idle: Vec<String>,
    /// Between outside and inside.
    pub(super) course: Course,
    /// Longest it records, seconds.
    pub(super) seconds: u64,
    /// Most frames it records.
    pub(super) frames_max: u64,
    victims: Vec<String>,
    ports: Vec<(u8, u16)>,
    spoofed: bool,
}

fn new(name: impl Into<String>, kind: &'static str, malicious: bool) -> Scenario {
    Scenario {
        name: name.into(),
        kind,
        malicious,
        servers: Vec::new(),
        clients: Vec::new(),
        idle: Vec::new(),
        course: LAN,
        seconds: 40,
        frames_max: FRAMES_MAX,
        victims: Vec::new(),
        ports: Vec::new(),
        spoofed: false,
    }
}

/// Begins a scenario with an attack.
pub(super) fn attack(name: impl Into<String>, kind: &'static str) -> Scenario {
    new(name, kind, true)
}

/// Begins a scenario of ordinary traffic.
pub(super) fn benign(name: impl Into<String>, kind: &'static str) -> Scenario {
    new(name, kind, false)
}

fn names(hosts: &str) -> Vec<String> {
    hosts.split_whitespace().map(str::to_owned).collect()
}

impl Scenario {
    /// The same server at each of these hosts.
    pub(super) fn serve(mut self, hosts: &str, server: &'static Server) -> Self {
        self.servers
            .extend(names(hosts).into_iter().map(|host| (host, server)));
        self
    }

    fn clients(mut self, hosts: &str, script: &str, beside: bool) -> Self {
        self.clients
            .extend(names(hosts).into_iter().map(|host| Client {
                host,
                script: script.to_owned(),
                beside,
            }));
        self
    }

    /// The same command at each of these hosts; the scenario ends with the last.
    pub(super) fn run(self, hosts: &str, script: &str) -> Self {
        self.clients(hosts, script, false)
    }

    /// The same, for as long as the others run.
    pub(super) fn beside(self, hosts: &str, script: &str) -> Self {
        self.clients(hosts, script, true)
    }

    /// Hosts that are there and run nothing.
    pub(super) fn idle(mut self, hosts: &str) -> Self {
        self.idle.extend(names(hosts));
        self
    }

    /// Another path than [`LAN`].
    pub(super) fn over(mut self, course: Course) -> Self {
        self.course = course;
        self
    }

    /// Another length than 40 s.
    pub(super) fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Fewer frames than [`FRAMES_MAX`].
    pub(super) fn frames(mut self, frames: u64) -> Self {
        self.frames_max = frames;
        self
    }

    /// Only what has an end here is the attack.
    pub(super) fn victims(mut self, hosts: &str) -> Self {
        self.victims.extend(names(hosts));
        self
    }

    /// Only TCP with one of these ports is the attack.
    pub(super) fn tcp(mut self, ports: &[u16]) -> Self {
        self.ports.extend(ports.iter().map(|port| (6, *port)));
        self
    }

    /// Only UDP with one of these ports is the attack.
    pub(super) fn udp(mut self, ports: &[u16]) -> Self {
        self.ports.extend(ports.iter().map(|port| (17, *port)));
        self
    }

    /// Sources of the attack are invented: the victims tell it.
    pub(super) fn spoofed(mut self) -> Self {
        self.spoofed = true;
        self
    }

    /// All hosts, sorted.
    pub(super) fn hosts(&self) -> BTreeSet<String> {
        let servers = self.servers.iter().map(|(host, _)| host);
        let clients = self.clients.iter().map(|client| &client.host);
        servers
            .chain(clients)
            .chain(&self.idle)
            .chain(&self.victims)
            .cloned()
            .collect()
    }

    /// Which packets are the attack; `None` where there is none.
    ///
    /// # Errors
    /// A host's name is wrong.
    pub(super) fn rule(&self) -> anyhow::Result<Option<Rule>> {
        if !self.malicious {
            return Ok(None);
        }
        let both = |hosts: &[String]| -> anyhow::Result<Vec<IpAddr>> {
            let mut addresses = Vec::new();
            for name in hosts {
                let host = Host::named(name)?;
                addresses.extend([IpAddr::from(host.v4()), host.v6().into()]);
            }
            Ok(addresses)
        };
        let attackers: Vec<String> = if self.spoofed {
            Vec::new()
        } else {
            let hosts = self.hosts().into_iter();
            hosts.filter(|name| name.starts_with(['a', 'x'])).collect()
        };
        Ok(Some(Rule {
            attackers: both(&attackers)?,
            victims: both(&self.victims)?,
            ports: self.ports.clone(),
        }))
    }

    /// One line about it.
    pub(super) fn notes(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for client in &self.clients {
            let script: Vec<&str> = client.script.split_whitespace().collect();
            let part = script.join(" ");
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        format!("{}; {}", self.course.name, parts.join(" | "))
    }

    /// Checks that it is bounded and whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(
            !name.is_empty() && name.bytes().all(plain),
            "{name}: not of a-z, 0-9 and -"
        );
        let kinds = if self.malicious {
            ATTACK_KINDS
        } else {
            BENIGN_KINDS
        };
        ensure!(
            kinds.contains(&self.kind),
            "{name}: kind {} is not known",
            self.kind
        );
        ensure!(
            (5..=SECONDS_MAX).contains(&self.seconds),
            "{name}: {} s are not 5 to {SECONDS_MAX}",
            self.seconds
        );
        ensure!(
            (100..=FRAMES_MAX).contains(&self.frames_max),
            "{name}: {} frames are not 100 to {FRAMES_MAX}",
            self.frames_max
        );
        ensure!(
            self.clients.iter().any(|client| !client.beside),
            "{name}: nothing that it waits for"
        );
        let hosts = self.hosts();
        ensure!(
            hosts.len() <= HOSTS_MAX,
            "{name}: more than {HOSTS_MAX} hosts"
        );
        for host in &hosts {
            Host::named(host).with_context(|| name.clone())?;
        }
        let rule = self.rule()?;
        ensure!(
            rule.is_none_or(|rule| !(rule.attackers.is_empty() && rule.victims.is_empty())),
            "{name}: no host tells the attack"
        );
        Ok(())
    }
}

/// A host of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Letter and number.
    pub(super) name: String,
    block: u8,
    number: u8,
}

impl Host {
    /// # Errors
    /// The letter is not known, or the number not of 1 to 9.
    pub(super) fn named(name: &str) -> anyhow::Result<Self> {
        let block = match name.get(..1) {
            Some("s") => 1,
            Some("i") => 2,
            Some("x") => 3,
            Some("c") => 10,
            Some("w") => 11,
            Some("a") => 66,
            _ => 0,
        };
        let number = name.get(1..).and_then(|number| number.parse().ok());
        let number = number.unwrap_or(0);
        ensure!(
            block != 0 && (1..=9).contains(&number) && name.len() == 2,
            "{name} is no host: a letter of s i x c w a and a digit of 1 to 9"
        );
        Ok(Self {
            name: name.to_owned(),
            block,
            number,
        })
    }

    /// True on the servers' side.
    pub(super) fn is_inside(&self) -> bool {
        self.block < 8
    }

    /// Its address.
    pub(super) fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.block, self.number)
    }

    /// Its IPv6 address.
    pub(super) fn v6(&self) -> Ipv6Addr {
        let (block, number) = (u16::from(self.block), u16::from(self.number));
        Ipv6Addr::new(0xfd00, 0x6e6d, 0x6c, 0, 0, 0, block, number)
    }

    /// Sixteen further addresses that a server answers at, in a net of mostly dead ones.
    pub(super) fn crowd(&self) -> Option<String> {
        match self.block {
            1 => Some(format!("198.19.{}.0/28", self.number)),
            11 => Some(format!("198.19.{}.0/28", 100 + self.number)),
            _ => None,
        }
    }

    /// Locally administered MAC address.
    pub(super) fn mac(&self) -> [u8; 6] {
        [0x02, 0x6e, 0x6d, 0x6d, self.block, self.number]
    }
}
