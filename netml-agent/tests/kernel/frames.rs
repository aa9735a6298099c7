//! Hand-made Ethernet frames, one shape each.

const UDP: [u8; 12] = [0x04, 0xd2, 0x00, 0x35, 0, 12, 0, 0, 1, 2, 3, 4];

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

fn ipv4(protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((rest.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0xfd; 16]);
    packet.extend([0xfe; 16]);
    packet.extend(rest);
    packet
}

fn tcp_segment(payload: usize) -> Vec<u8> {
    let mut segment = vec![
        0x1f, 0x90, 0xc0, 0x01, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0x12, 0x34, 0, 0, 0, 0,
    ];
    segment.extend(vec![0xab; payload]);
    segment
}

/// TCP over IPv4: 54 bytes of headers before `payload` bytes.
pub(crate) fn tcp(payload: usize) -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &[], 0, &tcp_segment(payload)))
}

/// UDP behind `count` destination option headers of `8 + 8 * units` bytes.
pub(crate) fn ipv6_udp_behind(count: usize, units: u8) -> Vec<u8> {
    let mut rest = Vec::new();
    for i in 0..count {
        rest.push(if i + 1 < count { 60 } else { 17 });
        rest.push(units);
        rest.extend(vec![0; 6 + 8 * usize::from(units)]);
    }
    rest.extend(UDP);
    ethernet(0x86dd, &ipv6(if count == 0 { 17 } else { 60 }, &rest))
}

fn tagged(tags: &[u16], rest: &[u8], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

fn mpls(labels: usize, packet: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    for i in 1..=labels {
        rest.extend([0, 1, u8::from(i == labels), 64]);
    }
    rest.extend(packet);
    ethernet(0x8847, &rest)
}

fn pppoe(protocol: u16, packet: &[u8]) -> Vec<u8> {
    let mut rest = vec![0x11, 0, 0, 1];
    rest.extend((packet.len() as u16 + 2).to_be_bytes());
    rest.extend(protocol.to_be_bytes());
    rest.extend(packet);
    ethernet(0x8864, &rest)
}

/// One frame of every shape the walk knows.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let udp4 = ipv4(17, &[], 0, &UDP);
    let mut frames = vec![
        ethernet(0x0800, &udp4),
        ethernet(0x0800, &ipv4(17, &[1; 40], 0, &UDP)),
        tcp(0),
        tcp(200),
        ethernet(0x0800, &ipv4(1, &[], 0, &[8, 0, 0, 0, 0, 1, 0, 1])),
        ethernet(0x0800, &ipv4(17, &[], 0x2000, &UDP)),
        ethernet(0x0800, &ipv4(17, &[], 0x2010, &UDP)),
        ethernet(0x0800, &ipv4(47, &[], 0, &UDP)),
        // Headers that end too early.
        ethernet(0x0800, &ipv4(6, &[], 0, &[0; 13])),
        ethernet(0x0800, &udp4[..18]),
        ethernet(0x0800, &[]),
        tagged(&[0x8100], &udp4, 0x0800),
        tagged(&[0x88a8, 0x8100], &udp4, 0x0800),
        tagged(&[0x88a8, 0x88a8, 0x8100], &udp4, 0x0800),
        tagged(&[0x8100; 4], &udp4, 0x0800),
        mpls(1, &udp4),
        mpls(6, &ipv6(17, &UDP)),
        mpls(7, &udp4),
        mpls(1, &[0; 40]),
        pppoe(0x0021, &udp4),
        pppoe(0x0057, &ipv6(6, &tcp_segment(5))),
        pppoe(0xc021, &[1, 1, 0, 4]),
        ethernet(
            0x0800,
            &ipv4(51, &[], 0, &{
                let mut rest = vec![6, 4];
                rest.extend([0; 22]);
                rest.extend(tcp_segment(9));
                rest
            }),
        ),
        ethernet(0x0800, &ipv4(51, &[], 0, &[6])),
        ethernet(
            0x0800,
            &ipv4(
                132,
                &[],
                0,
                &[0x0b, 0x59, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 4],
            ),
        ),
        ethernet(0x0806, &[0; 28]),
        ethernet(0x88cc, &[0; 46]),
        ethernet(0x888e, &[0; 46]),
        ethernet(0x8863, &[0; 46]),
        ethernet(0x88f7, &[0; 46]),
        ethernet(0x88e5, &[0; 46]),
        ethernet(0x9000, &[0; 46]),
        ethernet(0x8809, &[0; 46]),
        ethernet(0x8999, &[0; 46]),
        ethernet(40, &[0x42; 40]),
        ethernet(0x86dd, &ipv6(6, &tcp_segment(20))),
        ethernet(0x86dd, &ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0])),
        ethernet(0x86dd, &ipv6(17, &UDP)[..39]),
        // A chain of all kinds of extension headers, the fragment header first of many.
        ethernet(0x86dd, &{
            let mut rest = vec![43, 0, 0, 0, 0, 0, 0, 0];
            rest.extend([60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            rest.extend([51, 0, 0, 0, 0, 0, 0, 0]);
            rest.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            rest.extend([135, 0, 0, 1, 0, 0, 0, 9]);
            rest.extend([17, 0, 0, 0, 0, 0, 0, 0]);
            rest.extend(UDP);
            ipv6(0, &rest)
        }),
        // A later fragment whose data looks like an extension header.
        ethernet(0x86dd, &{
            let mut rest = vec![60, 0, 0, 0xb9, 0, 0, 0, 9];
            rest.extend([17, 0, 0, 0, 0, 0, 0, 0]);
            rest.extend(UDP);
            ipv6(44, &rest)
        }),
    ];
    frames.extend([1, 8, 9, 12].map(|count| ipv6_udp_behind(count, 0)));
    frames.push(ipv6_udp_behind(2, 90));
    frames.extend(tunnels());
    frames.extend(icmp_errors());
    frames.extend(dns_messages());
    frames
}

fn udp(dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x04, 0xd2];
    datagram.extend(dst_port.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// VXLAN network 0x010203 around a frame.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 1, 2, 3, 0];
    payload.extend(inner);
    ethernet(0x0800, &ipv4(17, &[], 0, &udp(4789, &payload)))
}

/// TCP over IPv4 in VXLAN.
pub(crate) fn vxlan_tcp(payload: usize) -> Vec<u8> {
    vxlan(&tcp(payload))
}

/// Geneve with `options` of four bytes each.
fn geneve(options: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let payload = geneve_of(options, ethertype, inner);
    ethernet(0x86dd, &ipv6(17, &udp(6081, &payload)))
}

fn geneve_of(options: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![options, 0];
    payload.extend(ethertype.to_be_bytes());
    payload.extend([1, 2, 3, 0]);
    payload.extend(vec![0; usize::from(options) * 4]);
    payload.extend(inner);
    payload
}

/// GRE with a header of these flags.
fn gre(flags: u16, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut payload = flags.to_be_bytes().to_vec();
    payload.extend(ethertype.to_be_bytes());
    for flag in [0x8000, 0x2000, 0x1000] {
        if flags & flag != 0 {
            payload.extend([0, 9, 8, 7]);
        }
    }
    payload.extend(inner);
    payload
}

/// Packets inside packets, whole, cut and contradicting themselves.
pub(crate) fn tunnels() -> Vec<Vec<u8>> {
    let v4 = ipv4(6, &[], 0, &tcp_segment(30));
    let v6 = ipv6(17, &UDP);
    let over4 = |protocol, payload: &[u8]| ethernet(0x0800, &ipv4(protocol, &[], 0, payload));
    let over6 = |protocol, payload: &[u8]| ethernet(0x86dd, &ipv6(protocol, payload));
    let dns = ethernet(
        0x0800,
        &ipv4(17, &[], 0, &udp(53, &question(b"\x03www\x00", 0x0100))),
    );
    let error = icmp_errors().remove(0);
    vec![
        vxlan_tcp(40),
        vxlan(&tagged(&[0x8100], &v6, 0x86dd)),
        vxlan(&mpls(2, &v4)),
        vxlan(&dns),
        vxlan(&error),
        // Another tunnel inside, an inner ARP, an inner header that is cut.
        vxlan(&vxlan_tcp(10)),
        vxlan(&ethernet(0x0806, &[0; 28])),
        vxlan(&tcp(0)[..40]),
        vxlan(&[]),
        geneve(0, 0x6558, &tcp(7)),
        geneve(3, 0x0800, &v4),
        geneve(63, 0x86dd, &v6),
        over4(47, &gre(0, 0x0800, &v4)),
        over4(47, &gre(0xb000, 0x0800, &v4)),
        over4(47, &gre(0x2000, 0x6558, &tcp(3))),
        over6(47, &gre(0x1000, 0x86dd, &v6)),
        // Routing, version 1 (PPTP), something else inside.
        over4(47, &gre(0x4000, 0x0800, &v4)),
        over4(47, &gre(0x3001, 0x880b, &v4)),
        over4(47, &gre(0, 0x88be, &v4)),
        over4(4, &v4),
        over4(41, &v6),
        over6(41, &v6),
        over6(4, &v4),
        over4(4, &v6),
        // A fragment is not opened.
        ethernet(0x0800, &ipv4(4, &[], 0x2000, &v4)),
        ethernet(0x0800, &ipv4(4, &[], 0x0010, &v4)),
    ]
}

/// Four segments of a TCP conversation (SYN, SYN-ACK, data, FIN) between 10.9.9.1 and 10.9.9.2, or
/// fd00::9:1 and fd00::9:2, port `port`; true with those the second end sent.
fn conversation(is_v6: bool, port: u16) -> Vec<(bool, Vec<u8>)> {
    [
        (false, 2, 0),
        (true, 0x12, 0),
        (false, 0x18, 70),
        (true, 0x11, 9),
    ]
    .map(|(back, flags, payload)| {
        let mut segment = tcp_segment(payload);
        let (src, dst) = if back { (443, port) } else { (port, 443) };
        segment[..2].copy_from_slice(&src.to_be_bytes());
        segment[2..4].copy_from_slice(&dst.to_be_bytes());
        segment[13] = flags;
        let packet = if is_v6 {
            let mut packet = ipv6(6, &segment);
            turn(&mut packet[8..40], back, 16);
            packet
        } else {
            let mut packet = ipv4(6, &[], 0, &segment);
            packet[12..20].copy_from_slice(&[10, 9, 9, 1, 10, 9, 9, 2]);
            turn(&mut packet[12..20], back, 4);
            packet
        };
        (back, packet)
    })
    .to_vec()
}

/// Exchanges two addresses of `bytes` each.
fn turn(addresses: &mut [u8], back: bool, bytes: usize) {
    if back {
        let (first, second) = addresses.split_at_mut(bytes);
        first.swap_with_slice(second);
    }
}

/// A conversation in each kind of tunnel, in each form its packets can be carried, both ways, and
/// that with the same ends in another network, where the tunnel names one.
pub(crate) fn tunnelled_conversations() -> Vec<Vec<u8>> {
    type Carry = fn(&[u8], u16, u8) -> Vec<u8>;
    const IP4: u16 = 0x0800;
    fn in_vxlan(id: u8, frame: &[u8]) -> Vec<u8> {
        udp(4789, &[&[8, 0, 0, 0, 0, 0, id, 0], frame].concat())
    }
    fn in_geneve(id: u8, options: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
        let mut payload = geneve_of(options, ethertype, inner);
        payload[4..7].copy_from_slice(&[0, 0, id]);
        udp(6081, &payload)
    }
    fn in_gre(id: u8, flags: u16, ethertype: u16, inner: &[u8]) -> Vec<u8> {
        let mut payload = gre(flags, ethertype, inner);
        let key_at = if flags & 0x8000 != 0 { 8 } else { 4 };
        payload[key_at] = id;
        payload
    }
    // What carries an IP packet of an EtherType in a network: the payload of the outer packet, and
    // its protocol.
    let carriers: [(u8, Carry); 14] = [
        (17, |packet, kind, id| in_vxlan(id, &ethernet(kind, packet))),
        (17, |packet, kind, id| {
            in_vxlan(id, &tagged(&[0x88a8, 0x8100], packet, kind))
        }),
        (17, |packet, _, id| in_vxlan(id, &mpls(2, packet))),
        (17, |packet, kind, id| {
            let session = if kind == IP4 { 0x0021 } else { 0x0057 };
            in_vxlan(id, &pppoe(session, packet))
        }),
        (17, |packet, kind, id| {
            in_geneve(id, 0, 0x6558, &ethernet(kind, packet))
        }),
        (17, |packet, kind, id| in_geneve(id, 2, kind, packet)),
        (47, |packet, kind, _| gre(0, kind, packet)),
        (47, |packet, kind, _| gre(0x8000, kind, packet)),
        (47, |packet, kind, id| in_gre(id, 0x2000, kind, packet)),
        (47, |packet, kind, id| {
            in_gre(id, 0xb000, 0x6558, &ethernet(kind, packet))
        }),
        (47, |packet, _, _| {
            gre(0x1000, 0x8847, &mpls(1, packet)[14..])
        }),
        // Behind a destination option header where the outer packet is IPv6.
        (60, |packet, kind, _| {
            let next = if kind == IP4 { 4 } else { 41 };
            [&[next, 0, 1, 4, 0, 0, 0, 0][..], packet].concat()
        }),
        (4, |packet, _, _| packet.to_vec()),
        (41, |packet, _, _| packet.to_vec()),
    ];
    let mut all = Vec::new();
    for (port, (protocol, carry)) in (1024..).zip(carriers) {
        for (outer_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
            let fits = match protocol {
                4 => !inner_v6,
                41 => inner_v6,
                60 => outer_v6,
                _ => true,
            };
            if !fits {
                continue;
            }
            let kind = if inner_v6 { 0x86dd } else { IP4 };
            let port = port + 100 * u16::from(outer_v6);
            for (id, (back, packet)) in [7, 8].into_iter().flat_map(|id| {
                conversation(inner_v6, port)
                    .into_iter()
                    .map(move |p| (id, p))
            }) {
                let payload = carry(&packet, kind, id);
                all.push(if outer_v6 {
                    let mut outer = ipv6(protocol, &payload);
                    turn(&mut outer[8..40], back, 16);
                    ethernet(0x86dd, &outer)
                } else {
                    let mut outer = ipv4(protocol, &[], 0, &payload);
                    turn(&mut outer[12..20], back, 4);
                    ethernet(0x0800, &outer)
                });
            }
        }
    }
    all
}

/// ICMP and ICMPv6 errors with the packet they are about.
fn icmp_errors() -> Vec<Vec<u8>> {
    let quote4 = ipv4(17, &[1; 4], 0, &UDP);
    let quote6 = ipv6(6, &tcp_segment(0));
    let error = |kind: u8, code: u8, quote: &[u8]| {
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend(quote);
        message
    };
    let over4 = |message: &[u8]| ethernet(0x0800, &ipv4(1, &[], 0, message));
    let over6 = |message: &[u8]| ethernet(0x86dd, &ipv6(58, message));
    // Of a frame its packet: quotes behind extension headers.
    let behind = |count, units| ipv6_udp_behind(count, units)[14..].to_vec();
    let later = ipv6(44, &[&[17, 0, 0, 8, 0, 0, 0, 9][..], &UDP].concat());
    vec![
        over4(&error(3, 3, &quote4)),
        over4(&error(11, 0, &ipv4(1, &[], 0, &[8, 0, 0, 0, 0, 1, 0, 1]))),
        over4(&error(3, 4, &ipv4(6, &[], 0x0010, &[0; 8]))),
        over4(&error(3, 1, &quote4[..19])),
        over4(&error(3, 1, &quote4[..26])),
        over4(&error(3, 1, &[0x60; 40])),
        over6(&error(1, 4, &quote6)),
        over6(&error(2, 0, &quote6[..41])),
        over6(&error(3, 0, &ipv4(6, &[], 0, &[0; 8]))),
        over6(&error(1, 4, &behind(1, 0))),
        over6(&error(1, 4, &behind(8, 3))),
        over6(&error(1, 4, &behind(9, 0))),
        over6(&error(2, 0, &behind(3, 1)[..60])),
        over6(&error(4, 1, &later)),
    ]
}

/// A DNS message whose question has this name, on the wire.
fn question(name: &[u8], flags: u16) -> Vec<u8> {
    let mut message = vec![0, 7];
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, 2, 0, 0, 0, 0]);
    message.extend(name);
    message.extend([0, 16, 0, 1]);
    message
}

/// A question for a name of `bytes` bytes in one label.
pub(crate) fn dns_question(bytes: u8) -> Vec<u8> {
    let mut name = vec![bytes];
    name.extend(vec![b'7'; usize::from(bytes)]);
    name.push(0);
    ethernet(
        0x0800,
        &ipv4(17, &[], 0, &udp(53, &question(&name, 0x0100))),
    )
}

fn dns_messages() -> Vec<Vec<u8>> {
    let over_udp = |port, message: &[u8]| ethernet(0x86dd, &ipv6(17, &udp(port, message)));
    let name = b"\x04a1b2\x07example\x03org\x00";
    let plain = question(name, 0x0100);
    let mut over_tcp = tcp_segment(0);
    over_tcp[..2].copy_from_slice(&53_u16.to_be_bytes());
    over_tcp.extend((plain.len() as u16).to_be_bytes());
    over_tcp.extend(&plain);
    let longest: Vec<u8> = [&[63][..], &[b'x'; 63]].concat().repeat(4);
    let mut whole = longest[..253].to_vec();
    whole[192] = 60;
    whole.push(0);
    vec![
        over_udp(53, &plain),
        over_udp(5353, &question(name, 0x8583)),
        ethernet(0x0800, &ipv4(6, &[], 0, &over_tcp)),
        // A compressed name, a reserved label, no name, a cut one, one too long, the longest.
        over_udp(53, &question(&[0xc0, 12], 0)),
        over_udp(53, &question(&[0x40, 1, 0], 0)),
        over_udp(53, &question(&[0], 0)),
        over_udp(53, &plain[..20]),
        over_udp(53, &question(&longest, 0)),
        over_udp(53, &question(&whole, 0)),
        // Not DNS by its operation code; too short.
        over_udp(53, &question(name, 0x7900)),
        over_udp(53, &plain[..11]),
    ]
}

/// The frame with some bytes replaced and perhaps cut, never below `min` bytes.
pub(crate) fn mutate(frame: &[u8], random: &mut u64, min: usize) -> Vec<u8> {
    let mut next = || {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        *random as usize
    };
    let mut mutant = frame.to_vec();
    for _ in 0..next() % 4 {
        // Header bytes rather than payload.
        let at = next() % mutant.len().min(100);
        mutant[at] = next() as u8;
    }
    if next().is_multiple_of(3) {
        mutant.truncate(min + next() % (mutant.len() - min + 1));
    }
    mutant
}
