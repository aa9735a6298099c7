//! Labels of captures: `labels.csv` and its rule, which labels every packet.
//!
//! One row per capture. Columns used: `file` (relative to the captures' folder), `label`, `kind`,
//! `attacker_ips`, `victim_ips`, `attack_ports`, `rest`, `group`, and where they are there `quality`,
//! `source_repo`, `year` and `licence`; others are ignored. A packet of a `benign` capture is benign. One of a `malicious` capture is
//! an attack when all that is given holds: an end in each of the address lists, source or
//! destination port in the list of ports; any other packet is what `rest` says.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

/// Largest labels file that is read.
const LABELS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Ordinary traffic.
    Benign,
    /// Part of an attack.
    Attack,
    /// Not known: left out of training and test.
    Unknown,
}

/// The part of a packet or flow the rule looks at; the rule does not ask who is source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Addresses, IPv4 mapped into IPv6.
    pub addresses: [[u8; 16]; 2],
    /// Ports.
    pub ports: [u16; 2],
    /// Transport protocol (IANA).
    pub ip_protocol: u8,
}

/// Why labels cannot be used: each names the line.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// The file cannot be read.
    #[error("cannot read the labels {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no CSV.
    #[error("labels {}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The cause, with its line.
        source: csv::Error,
    },
    /// A column is missing.
    #[error("labels {}: there is no column `{column}`; needed are {COLUMNS:?}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column's name.
        column: &'static str,
    },
    /// A value is not one of those allowed.
    #[error("labels {} line {line}, column `{column}`: {what}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, the header being 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// There is not one capture.
    #[error("labels {}: no capture is listed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Captures beside labelled ones that no line names.
    #[error(
        "labels {}: no line names {}, which {} beside captures that have one; add lines or give --skip-unlabelled",
        path.display(),
        named(files),
        if files.len() == 1 { "lies" } else { "lie" }
    )]
    Unlabelled {
        /// The labels.
        path: PathBuf,
        /// The captures, below the captures' folder.
        files: Vec<PathBuf>,
    },
    /// Two lines label the same bytes otherwise.
    #[error(
        "labels {} line {line}: {} is the same capture as that of line {first}, with another label; keep one",
        path.display(),
        file.display()
    )]
    Contradiction {
        /// The labels.
        path: PathBuf,
        /// Line of the later one.
        line: u64,
        /// Its capture.
        file: PathBuf,
        /// Line of the earlier one.
        first: u64,
    },
    /// Two lines label the same bytes in the same way: its rows would count twice.
    #[error(
        "labels {} line {line}: {} is the same capture as that of line {first}; its rows would count twice: keep one",
        path.display(),
        file.display()
    )]
    Copy {
        /// The labels.
        path: PathBuf,
        /// Line of the later one.
        line: u64,
        /// Its capture.
        file: PathBuf,
        /// Line of the earlier one.
        first: u64,
    },
    /// The captures' folder cannot be looked through.
    #[error("cannot look through the captures at {}: {source}", path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Files that an error names one by one; of more it tells the number.
const NAMED_MAX: usize = 5;

fn named(files: &[PathBuf]) -> String {
    let names: Vec<String> = files
        .iter()
        .take(NAMED_MAX)
        .map(|file| file.display().to_string())
        .collect();
    match files.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Columns that must be there.
const COLUMNS: [&str; 8] = [
    "file",
    "label",
    "kind",
    "attacker_ips",
    "victim_ips",
    "attack_ports",
    "rest",
    "group",
];

/// Columns that are told where they are there.
const TOLD: [&str; 4] = ["quality", "source_repo", "year", "licence"];

/// One capture and how its packets are labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledCapture {
    /// Path relative to the captures' folder.
    pub file: PathBuf,
    /// Line in the labels file.
    pub line: u64,
    /// Kind of its attack or traffic.
    pub kind: String,
    /// Network and lab of origin: the unit of every split.
    pub group: String,
    /// How far the label is to be trusted: A, B or C, L for the lab's own; empty where not told.
    pub quality: String,
    /// Where it was published; empty where not told.
    pub source: String,
    /// When it was taken; empty where not told.
    pub year: String,
    /// Under which licence; empty where not told.
    pub licence: String,
    /// True where the capture holds an attack.
    pub malicious: bool,
    attackers: HashSet<[u8; 16]>,
    victims: HashSet<[u8; 16]>,
    attack_ports: Vec<(u8, u16)>,
    rest: Label,
}

impl LabelledCapture {
    /// The rule.
    #[must_use]
    pub fn label(&self, ends: &Ends) -> Label {
        if !self.malicious {
            return Label::Benign;
        }
        let [a, b] = &ends.addresses;
        let one_in = |set: &HashSet<[u8; 16]>| set.contains(a) || set.contains(b);
        let addresses = match (self.attackers.is_empty(), self.victims.is_empty()) {
            (true, true) => true,
            (false, true) => one_in(&self.attackers),
            (true, false) => one_in(&self.victims),
            (false, false) => {
                (self.attackers.contains(a) && self.victims.contains(b))
                    || (self.attackers.contains(b) && self.victims.contains(a))
            }
        };
        let ports = self.attack_ports.is_empty()
            || self
                .attack_ports
                .iter()
                .any(|(protocol, port)| *protocol == ends.ip_protocol && ends.ports.contains(port));
        if addresses && ports {
            Label::Attack
        } else {
            self.rest
        }
    }

    /// True where another line labels in the same way, whatever file it is about.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let of = |capture: &Self| Self {
            file: PathBuf::new(),
            line: 0,
            quality: String::new(),
            source: String::new(),
            year: String::new(),
            licence: String::new(),
            ..capture.clone()
        };
        of(self) == of(other)
    }
}

/// Reads a labels file.
///
/// # Errors
/// [`LabelsError`] with the line and column.
pub fn read(path: &Path) -> Result<Vec<LabelledCapture>, LabelsError> {
    let unreadable = |source| LabelsError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    parse(std::io::Read::take(file, LABELS_BYTES_MAX), path)
}

/// The same from any bytes; `path` is for messages.
pub(super) fn parse(
    from: impl std::io::Read,
    path: &Path,
) -> Result<Vec<LabelledCapture>, LabelsError> {
    let csv_error = |source| LabelsError::Csv {
        path: path.to_path_buf(),
        source,
    };
    let mut reader = csv::Reader::from_reader(from);
    let header = reader.headers().map_err(csv_error)?.clone();
    let position = |column: &str| header.iter().position(|name| name.trim() == column);
    let mut at = [0; COLUMNS.len()];
    for (index, column) in at.iter_mut().zip(COLUMNS) {
        *index = position(column).ok_or_else(|| LabelsError::Column {
            path: path.to_path_buf(),
            column,
        })?;
    }
    let told_at = TOLD.map(position);
    let mut captures = Vec::new();
    let mut files: HashMap<PathBuf, usize> = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(csv_error)?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row {
            path,
            line,
            record: &record,
            at,
            told_at,
        };
        let capture = row.capture()?;
        // The same path however it is spelt.
        let plain: PathBuf = capture.file.components().collect();
        let plain = plain.strip_prefix(".").map_or(plain.clone(), PathBuf::from);
        match files.entry(plain) {
            Entry::Vacant(free) => {
                free.insert(captures.len());
            }
            Entry::Occupied(first) => {
                let first: &LabelledCapture = &captures[*first.get()];
                let line = first.line;
                let what = if first.says_the_same(&capture) {
                    format!("this capture is listed twice, first in line {line}")
                } else {
                    format!("this capture is listed twice, in line {line} with another label")
                };
                return Err(row.error(0, what));
            }
        }
        captures.push(capture);
    }
    if captures.is_empty() {
        return Err(LabelsError::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(captures)
}

/// One line of the file, with columns by their index into [`COLUMNS`].
struct Row<'a> {
    path: &'a Path,
    line: u64,
    record: &'a csv::StringRecord,
    at: [usize; COLUMNS.len()],
    told_at: [Option<usize>; TOLD.len()],
}

impl Row<'_> {
    /// A column that need not be there.
    fn told(&self, column: usize) -> String {
        let told = self.told_at[column].and_then(|at| self.record.get(at));
        told.unwrap_or("").trim().to_string()
    }

    fn get(&self, column: usize) -> &str {
        self.record.get(self.at[column]).unwrap_or("").trim()
    }

    fn error(&self, column: usize, what: String) -> LabelsError {
        LabelsError::Value {
            path: self.path.to_path_buf(),
            line: self.line,
            column: COLUMNS[column],
            what,
        }
    }

    fn capture(&self) -> Result<LabelledCapture, LabelsError> {
        let file = PathBuf::from(self.get(0));
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if file.as_os_str().is_empty() || !file.components().all(inside) {
            let what = format!(
                "\"{}\" is no path inside the captures' folder",
                file.display()
            );
            return Err(self.error(0, what));
        }
        let malicious = match self.get(1) {
            "malicious" => true,
            "benign" => false,
            other => {
                let what = format!("\"{other}\" is neither malicious nor benign");
                return Err(self.error(1, what));
            }
        };
        let rest = match self.get(6) {
            "benign" => Label::Benign,
            "unknown" | "none" => Label::Unknown,
            "" if !malicious => Label::Benign,
            other => {
                let what = format!("\"{other}\" is neither benign nor unknown nor none");
                return Err(self.error(6, what));
            }
        };
        for column in [2, 7] {
            if self.get(column).is_empty() {
                return Err(self.error(column, "is empty".into()));
            }
        }
        Ok(LabelledCapture {
            file,
            line: self.line,
            kind: self.get(2).to_string(),
            group: self.get(7).to_string(),
            quality: self.told(0),
            source: self.told(1),
            year: self.told(2),
            licence: self.told(3),
            malicious,
            attackers: self.addresses(3)?,
            victims: self.addresses(4)?,
            attack_ports: self.ports(5)?,
            rest,
        })
    }

    fn list(&self, column: usize) -> impl Iterator<Item = &str> {
        self.get(column)
            .split(';')
            .map(str::trim)
            .filter(|item| !item.is_empty())
    }

    fn addresses(&self, column: usize) -> Result<HashSet<[u8; 16]>, LabelsError> {
        self.list(column)
            .map(|item| match item.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) => Ok(v4.to_ipv6_mapped().octets()),
                Ok(IpAddr::V6(v6)) => Ok(v6.octets()),
                Err(_) => Err(self.error(column, format!("\"{item}\" is no IP address"))),
            })
            .collect()
    }

    fn ports(&self, column: usize) -> Result<Vec<(u8, u16)>, LabelsError> {
        self.list(column)
            .map(|item| {
                let parsed = item.split_once('/').and_then(|(protocol, port)| {
                    let protocol = match protocol {
                        "tcp" => 6,
                        "udp" => 17,
                        _ => return None,
                    };
                    Some((protocol, port.parse().ok()?))
                });
                parsed.ok_or_else(|| {
                    self.error(column, format!("\"{item}\" is not like tcp/25 or udp/53"))
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "file,label,kind,attacker_ips,victim_ips,attack_ports,rest,quality,group\n";

    fn parsed(rows: &str) -> Result<Vec<LabelledCapture>, LabelsError> {
        parse(
            format!("{HEADER}{rows}").as_bytes(),
            Path::new("labels.csv"),
        )
    }

    fn ends(a: &str, b: &str, ports: [u16; 2], ip_protocol: u8) -> Ends {
        let mapped = |text: &str| match text.parse().expect("an address") {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Ends {
            addresses: [mapped(a), mapped(b)],
            ports,
            ip_protocol,
        }
    }

    #[test]
    fn all_that_is_given_must_hold_in_either_direction() {
        let rows = "a.pcap,malicious,k,10.0.0.1;::1,10.0.0.2,,benign,A,g\n\
                    b.pcap,malicious,k,10.0.0.1,,tcp/25;udp/53,unknown,B,g\n\
                    c.pcap,malicious,k,,10.0.0.2,,none,A,g\n\
                    d.pcap,malicious,k,,,,none,A,g\n\
                    e.pcap,benign,k,,,,,,g\n";
        let captures = parsed(rows).expect("parses");
        let tcp = |a, b, ports| ends(a, b, ports, 6);
        let between = tcp("10.0.0.2", "10.0.0.1", [1, 2]);
        let labels: Vec<_> = captures.iter().map(|c| c.label(&between)).collect();
        use Label::{Attack, Benign, Unknown};
        assert_eq!(labels, [Attack, Unknown, Attack, Attack, Benign]);
        assert_eq!(
            captures[0].label(&tcp("10.0.0.1", "10.0.0.3", [1, 2])),
            Benign
        );
        assert_eq!(
            captures[1].label(&tcp("9.9.9.9", "10.0.0.1", [25, 2])),
            Attack
        );
        assert_eq!(
            captures[1].label(&tcp("9.9.9.9", "10.0.0.1", [2, 53])),
            Unknown
        );
        let dns = ends("9.9.9.9", "10.0.0.1", [2, 53], 17);
        assert_eq!(captures[1].label(&dns), Attack);
        assert_eq!(
            captures[2].label(&tcp("9.9.9.9", "10.0.0.1", [1, 2])),
            Unknown
        );
    }

    /// Lines as `cargo xtask lab capture` writes them; the tests of xtask compare its own with this file.
    #[test]
    fn labels_of_the_lab_are_read_as_they_were_meant() {
        let text = include_str!("../../../xtask/fixtures/lab-labels.csv");
        let captures = parse(text.as_bytes(), Path::new("labels.csv")).expect("parses");
        let [flood, guess, web] = captures.as_slice() else {
            panic!("three captures");
        };
        use Label::{Attack, Benign};
        let to_dns = |ip_protocol| ends("9.9.9.9", "198.18.1.1", [4_000, 53], ip_protocol);
        assert_eq!(flood.label(&to_dns(17)), Attack);
        assert_eq!(flood.label(&to_dns(6)), Benign);
        let ssh = |from| ends(from, "198.18.1.1", [4_000, 22], 6);
        assert_eq!(guess.label(&ssh("198.18.66.1")), Attack);
        assert_eq!(guess.label(&ssh("198.18.10.1")), Benign);
        assert_eq!(web.label(&ssh("198.18.66.1")), Benign);
        for capture in [flood, guess, web] {
            assert_eq!(
                (capture.group.as_str(), capture.quality.as_str()),
                ("lab", "L")
            );
        }
        assert_eq!(guess.kind, "brute_force");
    }

    #[test]
    fn bad_rows_are_named_by_line_and_column() {
        for (rows, word) in [
            ("a,evil,k,,,,none,A,g\n", "line 2, column `label`"),
            (
                "a,benign,k,,,,,A,g\nb,malicious,k,,,,,A,g\n",
                "line 3, column `rest`",
            ),
            (
                "a,malicious,k,10.0.0,,,none,A,g\n",
                "\"10.0.0\" is no IP address",
            ),
            ("a,malicious,k,,,tcp:25,none,A,g\n", "tcp/25"),
            ("../a,malicious,k,,,,none,A,g\n", "no path inside"),
            ("/a,malicious,k,,,,none,A,g\n", "no path inside"),
            (
                "a,benign,k,,,,,A,g\n./a,benign,k,,,,,A,g\n",
                "line 3, column `file`: this capture is listed twice, first in line 2",
            ),
            (
                "a,benign,k,,,,,A,g\na,malicious,k,,,,none,A,g\n",
                "listed twice, in line 2 with another label",
            ),
            ("a,benign,,,,,,A,g\n", "column `kind`: is empty"),
            ("a,benign,k\n", "line: 2"),
            ("", "no capture is listed"),
        ] {
            let error = parsed(rows).expect_err(rows).to_string();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let missing = parse("file,label\n".as_bytes(), Path::new("l")).expect_err("no kind");
        assert!(missing.to_string().contains("no column `kind`"));
    }
}
