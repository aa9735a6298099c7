//! Ordinary traffic: users of the server, and what the server itself does.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::random::Random;
use super::report::{Exact, FlowSent, Label};
use super::services::dns;
use super::space::{SERVER, SERVER6, Space, client, client6};
use super::talk::{Worker, datagram_socket, exchange, get, read_away};
use super::{Part, Scenario};

/// Resolver the server asks.
pub(super) const RESOLVER: u8 = 40;
/// Time server the server asks.
pub(super) const TIME_SERVER: u8 = 39;
/// First and last of the "internet" hosts the server fetches from.
const INTERNET: (u64, u64) = (20, 30);
/// Length of the SSH banner of the lab's server.
pub(super) const SSH_BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";

/// All benign scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "web",
        label: Label::Benign,
        kind: "web",
        parts: &[
            Part {
                space: Space::Client,
                run: web,
            },
            Part {
                space: Space::Client,
                run: web,
            },
            Part {
                space: Space::Client,
                run: web,
            },
        ],
    },
    Scenario {
        name: "tls",
        label: Label::Benign,
        kind: "web",
        parts: &[
            Part {
                space: Space::Client,
                run: tls,
            },
            Part {
                space: Space::Client,
                run: tls,
            },
        ],
    },
    Scenario {
        name: "dns",
        label: Label::Benign,
        kind: "dns",
        parts: &[
            Part {
                space: Space::Client,
                run: names,
            },
            Part {
                space: Space::Client,
                run: names,
            },
        ],
    },
    Scenario {
        name: "bulk",
        label: Label::Benign,
        kind: "bulk",
        parts: &[Part {
            space: Space::Client,
            run: bulk,
        }],
    },
    Scenario {
        name: "ssh",
        label: Label::Benign,
        kind: "interactive",
        parts: &[Part {
            space: Space::Client,
            run: ssh,
        }],
    },
    Scenario {
        name: "keepalive",
        label: Label::Benign,
        kind: "idle",
        parts: &[
            Part {
                space: Space::Client,
                run: keepalive,
            },
            Part {
                space: Space::Client,
                run: keepalive,
            },
        ],
    },
    Scenario {
        name: "ping",
        label: Label::Benign,
        kind: "icmp",
        parts: &[Part {
            space: Space::Client,
            run: ping,
        }],
    },
    Scenario {
        name: "outbound",
        label: Label::Benign,
        kind: "web",
        parts: &[
            Part {
                space: Space::Server,
                run: outbound_web,
            },
            Part {
                space: Space::Server,
                run: outbound_names,
            },
        ],
    },
];

/// The client's n-th address of either family, and the server's of the same.
fn ends(random: &mut Random, hosts: (u64, u64), port: u16) -> (IpAddr, SocketAddr) {
    let host = random.between(hosts.0, hosts.1) as u8;
    if random.chance(30) {
        (client6(host).into(), (SERVER6, port).into())
    } else {
        (client(host).into(), (SERVER, port).into())
    }
}

/// A person reading: a page and its objects on one or two connections, then a pause.
fn web(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let (src, dst) = ends(&mut worker.random, (1, 5), 80);
        browse(worker, src, dst);
    }
    Ok(())
}

fn browse(worker: &mut Worker, src: IpAddr, dst: SocketAddr) {
    let pages = worker.random.between(1, 3);
    let Some(mut stream) = worker.connect(src, dst) else {
        return worker.pause(Duration::from_secs(1));
    };
    for _ in 0..pages {
        let mut wanted = worker.random.long_tail(12_000) as usize;
        for _ in 0..worker.random.between(2, 7) {
            if get(&mut stream, wanted).is_err() {
                worker.report.failures += 1;
                return;
            }
            wanted = worker.random.long_tail(8_000) as usize;
            worker.think(30);
        }
        worker.think(1_500);
        if !worker.goes_on() {
            return;
        }
    }
}

/// The shapes of a TLS session: hello, certificates, then requests.
fn tls(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let (src, dst) = ends(&mut worker.random, (6, 9), 443);
        let Some(mut stream) = worker.connect(src, dst) else {
            continue;
        };
        let hello = worker.random.between(250, 700) as usize;
        let certificates = worker.random.between(2_500, 5_000) as usize;
        let mut ended = exchange(&mut stream, hello, certificates);
        for _ in 0..worker.random.between(1, 6) {
            let request = worker.random.between(120, 900) as usize;
            let answer = worker.random.long_tail(6_000) as usize;
            ended = ended.and_then(|()| exchange(&mut stream, request, answer));
            worker.think(400);
        }
        if ended.is_err() {
            worker.report.failures += 1;
        }
        worker.think(1_200);
    }
    Ok(())
}

/// Questions of a resolver's users: an address of either family, mostly from a new port.
fn names(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let (src, dst) = ends(&mut worker.random, (10, 13), 53);
        let socket = datagram_socket(src)?;
        let name = common_name(&mut worker.random);
        for kind in [dns::A, dns::AAAA] {
            let id = worker.random.next() as u16;
            worker.ask(&socket, dst, &dns::question(id, &name, kind));
        }
        worker.think(700);
    }
    Ok(())
}

fn common_name(random: &mut Random) -> String {
    const HOSTS: [&str; 6] = ["www", "mail", "cdn", "api", "static", "login"];
    const NAMES: [&str; 6] = ["example", "shop", "news", "weather-today", "maps", "office"];
    let host = HOSTS[random.next() as usize % HOSTS.len()];
    let name = NAMES[random.next() as usize % NAMES.len()];
    format!("{host}.{name}.test")
}

/// A backup: some megabytes down, some up.
fn bulk(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let (src, dst) = ends(&mut worker.random, (14, 14), 873);
        if let Some(mut stream) = worker.connect(src, dst) {
            let down = worker.random.between(1_000_000, 5_000_000) as usize;
            let up = worker.random.between(300_000, 2_000_000) as usize;
            let ended =
                exchange(&mut stream, 200, down).and_then(|()| exchange(&mut stream, up, 64));
            if ended.is_err() {
                worker.report.failures += 1;
            }
        }
        worker.think(3_000);
    }
    Ok(())
}

/// Someone typing: one small packet a key, its echo, now and then the output of a command.
fn ssh(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let (src, dst) = ends(&mut worker.random, (15, 16), 22);
        let Some(mut stream) = worker.connect(src, dst) else {
            continue;
        };
        let mut ended = read_away(&mut stream, SSH_BANNER.len())
            .and_then(|()| exchange(&mut stream, 1_500, 1_100))
            .and_then(|()| exchange(&mut stream, 48, 500))
            .and_then(|()| exchange(&mut stream, 64, 64))
            .and_then(|()| exchange(&mut stream, 148, 36));
        for _ in 0..worker.random.between(4, 12) {
            for _ in 0..worker.random.between(4, 15) {
                ended = ended.and_then(|()| exchange(&mut stream, 36, 36));
                worker.think(140);
            }
            let output = worker.random.long_tail(700) as usize;
            ended = ended.and_then(|()| exchange(&mut stream, 36, output));
            worker.think(1_500);
            if !worker.goes_on() {
                break;
            }
        }
        if ended.is_err() {
            worker.report.failures += 1;
        }
    }
    Ok(())
}

/// A device that stays connected and says little.
fn keepalive(worker: &mut Worker) -> anyhow::Result<()> {
    let (src, dst) = ends(&mut worker.random, (17, 18), 1_883);
    let Some(mut stream) = worker.connect(src, dst) else {
        return Ok(());
    };
    let mut ended = exchange(&mut stream, 60, 8);
    while worker.goes_on() {
        worker.think(4_000);
        let length = if worker.random.chance(20) { 90 } else { 8 };
        ended = ended.and_then(|()| exchange(&mut stream, length, 8));
    }
    if ended.is_err() {
        worker.report.failures += 1;
    }
    Ok(())
}

/// Echo requests, one a second, 56 bytes as ping sends them.
fn ping(worker: &mut Worker) -> anyhow::Result<()> {
    const ECHO_FRAME_BYTES: u64 = 14 + 20 + 8 + 56;
    let src = client(19);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.bind(&SocketAddr::from((src, 0)).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let dst = SocketAddr::from((SERVER, 0));
    let mut exact = Exact::default();
    let mut sequence = 0_u16;
    while worker.goes_on() {
        sequence = sequence.wrapping_add(1);
        socket.send_to(&echo_request(sequence), &dst.into())?;
        exact.fwd_packets += 1;
        exact.fwd_bytes += ECHO_FRAME_BYTES;
        let mut buffer = [0_u8; 256];
        // The raw socket gives the IP header too; type 0 behind it is an echo reply.
        match (&socket).read(&mut buffer) {
            Ok(length) if length == 84 && buffer[20] == 0 => {
                exact.rev_packets += 1;
                exact.rev_bytes += ECHO_FRAME_BYTES;
            }
            _ => worker.report.failures += 1,
        }
        worker.pause(Duration::from_secs(1));
    }
    worker.report.flow(FlowSent {
        src: (src, 0).into(),
        dst,
        protocol: "icmp",
        exact: Some(exact),
    });
    Ok(())
}

fn echo_request(sequence: u16) -> [u8; 64] {
    let mut message = [0_u8; 64];
    message[0] = 8;
    message[4..6].copy_from_slice(&0x6e6d_u16.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let mut sum = 0_u32;
    for pair in message.chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

/// The server as a client of the "internet".
fn outbound_web(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let host = worker.random.between(INTERNET.0, INTERNET.1) as u8;
        if worker.random.chance(25) {
            browse(worker, SERVER6.into(), (client6(host), 80).into());
        } else {
            browse(worker, SERVER.into(), (client(host), 80).into());
        }
        worker.think(1_000);
    }
    Ok(())
}

/// The server's own questions: names before it fetches, the time now and then.
fn outbound_names(worker: &mut Worker) -> anyhow::Result<()> {
    while worker.goes_on() {
        let socket = datagram_socket(SERVER.into())?;
        if worker.random.chance(15) {
            let time = SocketAddr::from((client(TIME_SERVER), 123));
            worker.ask(&socket, time, &[0x23; 48]);
        } else {
            let name = common_name(&mut worker.random);
            let id = worker.random.next() as u16;
            let resolver = SocketAddr::from((client(RESOLVER), 53));
            worker.ask(&socket, resolver, &dns::question(id, &name, dns::A));
        }
        worker.think(1_200);
    }
    Ok(())
}
