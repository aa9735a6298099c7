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
    let mut rest = vec![0x11, 0, 0, 1, 0, 0];
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
    frames
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
