//! Labels of the lab's captures: the rule by which packets are told, and `labels.csv`.
//!
//! The rule is that of the reader in netml-agent (`train/labels.rs`), which reads what is written
//! here; `xtask/fixtures/lab-labels.csv` is compared with both.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Columns of `labels.csv`, in order.
pub(super) const HEADER: &str = "file,label,kind,attacker_ips,victim_ips,source_repo,source_path,\
licence,notes,attack_ports,rest,quality,group,year,linktype,packets,ip_packets,attack_packets,\
attack_share,seconds,pcap_bytes,sha256";

/// The whole lab is one origin: no split may put a part of it on either side.
pub(super) const GROUP: &str = "lab";
/// Labelled by construction, in a lab.
const QUALITY: &str = "L";

/// What the rule looks at in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Source and destination.
    pub(super) addresses: [IpAddr; 2],
    /// Source and destination port; zero where there are none.
    pub(super) ports: [u16; 2],
    /// Transport protocol (IANA).
    pub(super) ip_protocol: u8,
}

impl Ends {
    /// Of an Ethernet frame; `None` where it is no IP packet. Later fragments have no ports, nor
    /// has what stands behind extension headers of IPv6, which no tool of the lab sends.
    pub(super) fn of_frame(frame: &[u8]) -> Option<Self> {
        let kind = u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]);
        let packet = frame.get(14..)?;
        let (addresses, ip_protocol, transport): ([IpAddr; 2], u8, usize) = match kind {
            0x0800 => {
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                    Some(Ipv4Addr::from(bytes).into())
                };
                let header = usize::from(packet.first()? & 15) * 4;
                ([address(12)?, address(16)?], *packet.get(9)?, header)
            }
            0x86dd => {
                let address = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                    Some(Ipv6Addr::from(bytes).into())
                };
                ([address(8)?, address(24)?], *packet.get(6)?, 40)
            }
            _ => return None,
        };
        let port = |at: usize| {
            let bytes = packet.get(transport + at..transport + at + 2);
            bytes.map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        // A later fragment has its offset in bytes 6 and 7 of the IPv4 header.
        let is_later = kind == 0x0800 && (packet.get(6)? & 0x1f != 0 || *packet.get(7)? != 0);
        let has_ports = [6, 17].contains(&ip_protocol) && !is_later;
        Some(Self {
            addresses,
            ports: if has_ports {
                [port(0), port(2)]
            } else {
                [0, 0]
            },
            ip_protocol,
        })
    }
}

/// Which packets of a capture are the attack: all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// One end is in this list.
    pub(super) attackers: Vec<IpAddr>,
    /// One end is in this list (the other one, where both are given).
    pub(super) victims: Vec<IpAddr>,
    /// One port is in this list, as protocol (IANA) and port.
    pub(super) ports: Vec<(u8, u16)>,
}

impl Rule {
    /// True for a packet of the attack.
    pub(super) fn attack(&self, ends: &Ends) -> bool {
        let [a, b] = &ends.addresses;
        let one_in = |list: &[IpAddr]| list.contains(a) || list.contains(b);
        let addresses = match (self.attackers.is_empty(), self.victims.is_empty()) {
            (true, true) => true,
            (false, true) => one_in(&self.attackers),
            (true, false) => one_in(&self.victims),
            (false, false) => {
                (self.attackers.contains(a) && self.victims.contains(b))
                    || (self.attackers.contains(b) && self.victims.contains(a))
            }
        };
        let port = |(protocol, port): &(u8, u16)| {
            *protocol == ends.ip_protocol && ends.ports.contains(port)
        };
        addresses && (self.ports.is_empty() || self.ports.iter().any(port))
    }
}

/// One line of `labels.csv`.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Name of the capture in its directory.
    pub(super) file: String,
    /// Kind of attack or traffic.
    pub(super) kind: &'static str,
    /// The attack's packets; `None` for a benign capture.
    pub(super) rule: Option<Rule>,
    /// Scenario it was made by.
    pub(super) scenario: String,
    /// What runs, and over which path.
    pub(super) notes: String,
    /// Packets of the capture.
    pub(super) counts: super::wire::Counts,
    /// Year it was made.
    pub(super) year: u64,
    /// Size before compression.
    pub(super) pcap_bytes: u64,
    /// Of the compressed file.
    pub(super) sha256: String,
}

impl Line {
    /// The line as it stands in the file, without its end.
    pub(super) fn text(&self) -> String {
        let list = |addresses: &[IpAddr]| {
            let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            texts.join(";")
        };
        let empty = Rule::default();
        let rule = self.rule.as_ref().unwrap_or(&empty);
        let ports: Vec<String> = rule
            .ports
            .iter()
            .map(|(protocol, port)| {
                let protocol = if *protocol == 6 { "tcp" } else { "udp" };
                format!("{protocol}/{port}")
            })
            .collect();
        let counts = &self.counts;
        let share = counts.attack_packets as f64 / counts.packets.max(1) as f64;
        [
            self.file.clone(),
            if self.rule.is_some() {
                "malicious".to_owned()
            } else {
                "benign".to_owned()
            },
            self.kind.to_owned(),
            list(&rule.attackers),
            list(&rule.victims),
            "netml lab".to_owned(),
            self.scenario.clone(),
            "Apache-2.0 OR MIT".to_owned(),
            self.notes.clone(),
            ports.join(";"),
            if self.rule.is_some() { "benign" } else { "" }.to_owned(),
            QUALITY.to_owned(),
            GROUP.to_owned(),
            self.year.to_string(),
            "1".to_owned(),
            counts.packets.to_string(),
            counts.ip_packets.to_string(),
            counts.attack_packets.to_string(),
            format!("{share:.3}"),
            format!("{:.1}", counts.span.as_secs_f64()),
            self.pcap_bytes.to_string(),
            self.sha256.clone(),
        ]
        .map(|field| quoted(&field))
        .join(",")
    }
}

/// A field of RFC 4180, on one line.
fn quoted(field: &str) -> String {
    let field = field.replace(['\n', '\r'], " ");
    if field.contains(['"', ',']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field
    }
}

/// Adds a line to a labels file, in place of the one of the same capture; lines are kept sorted
/// and the file is replaced at once.
///
/// # Errors
/// The file is another one's, or the disk is full.
pub(super) fn add(path: &Path, line: &Line) -> anyhow::Result<()> {
    // Another lab may write into the same directory.
    let directory = path.parent().context("labels stand in no directory")?;
    let locked =
        File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    locked.lock().context("cannot lock the directory")?;
    let mut lines = BTreeMap::new();
    if path.exists() {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut old = text.lines();
        ensure!(
            old.next() == Some(HEADER),
            "{} has other columns than the lab writes: choose another directory",
            path.display()
        );
        for text in old {
            let file = text.split(',').next().unwrap_or_default();
            lines.insert(file.to_owned(), text.to_owned());
        }
    }
    lines.insert(line.file.clone(), line.text());
    let mut text = format!("{HEADER}\n");
    for line in lines.values() {
        text += line;
        text.push('\n');
    }
    let draft = path.with_extension("csv.new");
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::capture::wire::Counts;

    /// The same file is read by the tests of netml-agent's labels.
    const FIXTURE: &str = include_str!("../../../fixtures/lab-labels.csv");

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn line(file: &str, kind: &'static str, rule: Option<Rule>) -> Line {
        Line {
            file: file.to_owned(),
            kind,
            rule,
            scenario: "a-scenario".to_owned(),
            notes: "two tools, \"quoted\"\nlan".to_owned(),
            counts: Counts {
                packets: 10,
                ip_packets: 8,
                attack_packets: 5,
                span: Duration::from_millis(1_500),
            },
            year: 2_026,
            pcap_bytes: 1_234,
            sha256: "00".to_owned(),
        }
    }

    #[test]
    fn lines_are_those_the_reader_of_labels_is_tested_with() {
        let directory = std::env::temp_dir().join(format!("netml-labels-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("labels.csv");
        let guess = Rule {
            attackers: vec![address("198.18.66.1"), address("fd00::1")],
            victims: vec![address("198.18.1.1")],
            ports: vec![(6, 22)],
        };
        let flood = Rule {
            victims: vec![address("198.18.1.1")],
            ports: vec![(17, 53)],
            ..Rule::default()
        };
        for line in [
            line("web.pcap.gz", "web", None),
            line("guess.pcap.gz", "port_scan", None),
            line("flood.pcap.gz", "udp_flood", Some(flood)),
            line("guess.pcap.gz", "brute_force", Some(guess)),
        ] {
            add(&path, &line).expect("written");
        }
        let written = std::fs::read_to_string(&path).expect("is there");
        std::fs::remove_dir_all(&directory).expect("removed");
        assert_eq!(written, FIXTURE);
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let rule = Rule {
            attackers: vec![address("198.18.66.1")],
            victims: vec![address("198.18.1.1")],
            ports: vec![(6, 22)],
        };
        let ends = |a, b, ports, ip_protocol| Ends {
            addresses: [address(a), address(b)],
            ports,
            ip_protocol,
        };
        assert!(rule.attack(&ends("198.18.66.1", "198.18.1.1", [4_000, 22], 6)));
        assert!(rule.attack(&ends("198.18.1.1", "198.18.66.1", [22, 4_000], 6)));
        assert!(!rule.attack(&ends("198.18.1.1", "198.18.66.1", [22, 4_000], 17)));
        assert!(!rule.attack(&ends("198.18.1.1", "198.18.66.2", [22, 4_000], 6)));
        assert!(!rule.attack(&ends("198.18.1.1", "198.18.66.1", [80, 4_000], 6)));
    }

    #[test]
    fn ends_are_read_off_frames_of_both_families() {
        let mut frame = vec![0_u8; 14 + 20 + 8];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[14 + 9] = 17;
        frame[14 + 12..14 + 20].copy_from_slice(&[198, 18, 1, 1, 198, 18, 10, 2]);
        frame[34..38].copy_from_slice(&[0, 53, 4, 0]);
        let ends = Ends::of_frame(&frame).expect("IPv4");
        assert_eq!(
            ends.addresses,
            [address("198.18.1.1"), address("198.18.10.2")]
        );
        assert_eq!((ends.ports, ends.ip_protocol), ([53, 1_024], 17));
        frame[14 + 7] = 185;
        let later = Ends::of_frame(&frame).expect("a fragment");
        assert_eq!((later.ports, later.ip_protocol), ([0, 0], 17));
        let mut frame = vec![0_u8; 14 + 40 + 4];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame[14 + 6] = 6;
        frame[14 + 39] = 1;
        frame[54..58].copy_from_slice(&[0, 80, 4, 0]);
        let ends = Ends::of_frame(&frame).expect("IPv6");
        assert_eq!(ends.addresses, [address("::"), address("::1")]);
        assert_eq!((ends.ports, ends.ip_protocol), ([80, 1_024], 6));
        for cut in 0..34 {
            assert!(Ends::of_frame(&frame[..cut]).is_none());
        }
    }
}
