//! Hand-made frames, one behaviour each, and any bytes at all.

extern crate std;

use super::*;
use crate::extras::{DnsRecord, TunnelKind};
use proptest::prelude::*;
use std::vec::Vec;

const UDP_DATAGRAM: [u8; 12] = [0x04, 0xd2, 0x00, 0x35, 0, 12, 0, 0, 1, 2, 3, 4];

fn eth(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = std::vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

fn ip4(protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut p = std::vec![0x40 | (header / 4) as u8, 0];
    p.extend(((header + payload.len()) as u16).to_be_bytes());
    p.extend([0, 0]);
    p.extend(fragment.to_be_bytes());
    p.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    p.extend(options);
    p.extend(payload);
    p
}

fn ip6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut p = std::vec![0x60, 0, 0, 0];
    p.extend((rest.len() as u16).to_be_bytes());
    p.extend([next, 64]);
    p.extend([0xfd; 16]);
    p.extend([0xfe; 16]);
    p.extend(rest);
    p
}

fn walk_eth(frame: &[u8]) -> Result<Walked, LossReason> {
    walk(frame, frame.len() as u32, Link::Ethernet)
}

#[test]
fn udp_over_ipv4_gives_ports_and_payload() {
    let walked = walk_eth(&eth(0x0800, &ip4(17, &[], 0, &UDP_DATAGRAM))).unwrap();
    assert_eq!((walked.src_port, walked.dst_port), (1234, 53));
    assert_eq!(walked.payload_bytes, 4);
    assert_eq!(walked.header_bytes, 14 + 20 + 8);
    assert_eq!(walked.src, mapped([10, 0, 0, 1]));
    assert_eq!(walked.marks, 0);
}

#[test]
fn ipv4_options_are_skipped() {
    let walked = walk_eth(&eth(0x0800, &ip4(17, &[1; 8], 0, &UDP_DATAGRAM))).unwrap();
    assert_eq!((walked.src_port, walked.payload_bytes), (1234, 4));
}

#[test]
fn tcp_gives_flags_and_window_and_skips_its_options() {
    let mut tcp = std::vec![
        0, 80, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0x12, 0x12, 0x34, 0, 0, 0, 0
    ];
    tcp.extend([1, 1, 1, 1, 9]);
    let walked = walk_eth(&eth(0x0800, &ip4(6, &[], 0, &tcp))).unwrap();
    assert_eq!((walked.src_port, walked.dst_port), (80, 4096));
    assert_eq!(
        (walked.tcp_flags, walked.tcp_window, walked.payload_bytes),
        (0x12, 0x1234, 1)
    );
}

#[test]
fn ethernet_padding_is_not_payload() {
    let mut frame = eth(0x0800, &ip4(17, &[], 0, &UDP_DATAGRAM));
    frame.resize(60, 0);
    assert_eq!(walk_eth(&frame).unwrap().payload_bytes, 4);
}

#[test]
fn a_zero_ip_length_takes_the_frame_length() {
    let mut packet = ip4(17, &[], 0, &UDP_DATAGRAM);
    packet[2..4].fill(0);
    assert_eq!(walk_eth(&eth(0x0800, &packet)).unwrap().payload_bytes, 4);
}

#[test]
fn fragments_are_marked_and_only_the_first_has_ports() {
    let first = walk_eth(&eth(0x0800, &ip4(17, &[], 0x2000, &UDP_DATAGRAM))).unwrap();
    assert_eq!((first.marks, first.src_port), (Marks::FRAGMENT_FIRST, 1234));
    let later = walk_eth(&eth(0x0800, &ip4(17, &[], 0x2001, &UDP_DATAGRAM))).unwrap();
    assert_eq!((later.marks, later.src_port), (Marks::FRAGMENT_LATER, 0));
    assert_eq!(later.payload_bytes, 12);
}

#[test]
fn three_vlan_tags_are_walked_and_a_fourth_is_counted() {
    let packet = ip4(17, &[], 0, &UDP_DATAGRAM);
    let tagged = |tags: usize| {
        let mut rest = Vec::new();
        for _ in 1..tags {
            rest.extend([0, 7, 0x81, 0]);
        }
        rest.extend([0, 7, 8, 0]);
        rest.extend(&packet);
        eth(0x8100, &rest)
    };
    assert_eq!(walk_eth(&tagged(1)).unwrap().marks, Marks::VLAN);
    assert_eq!(walk_eth(&tagged(3)).unwrap().src_port, 1234);
    assert_eq!(walk_eth(&tagged(4)), Err(LossReason::VlanDepth));
}

/// A stack of `labels` labels before `payload`.
fn mpls(labels: usize, payload: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    for i in 1..=labels {
        rest.extend([0, 1, u8::from(i == labels), 64]);
    }
    rest.extend(payload);
    eth(0x8847, &rest)
}

#[test]
fn mpls_labels_are_walked_to_the_ip_header_and_a_deeper_stack_is_counted() {
    let v4 = ip4(17, &[], 0, &UDP_DATAGRAM);
    for labels in 1..=MPLS_LABELS_MAX {
        assert_eq!(walk_eth(&mpls(labels, &v4)).unwrap().dst_port, 53);
    }
    let v6 = ip6(17, &UDP_DATAGRAM);
    assert_eq!(walk_eth(&mpls(2, &v6)).unwrap().marks, Marks::IPV6);
    let deep = walk_eth(&mpls(MPLS_LABELS_MAX + 1, &v4));
    assert_eq!(deep, Err(LossReason::MplsDepth));
    // A pseudowire's control word.
    assert_eq!(walk_eth(&mpls(1, &[0; 40])), Err(LossReason::MplsPayload));
    assert_eq!(walk_eth(&mpls(1, &[])), Err(LossReason::TruncatedLink));
}

#[test]
fn a_pppoe_session_is_walked_and_its_link_control_named() {
    let session = |protocol: u16, packet: &[u8]| {
        let mut rest = std::vec![0x11, 0, 0, 1, 0, 0];
        rest.extend(protocol.to_be_bytes());
        rest.extend(packet);
        eth(0x8864, &rest)
    };
    let v4 = walk_eth(&session(0x0021, &ip4(17, &[], 0, &UDP_DATAGRAM))).unwrap();
    assert_eq!((v4.src_port, v4.payload_bytes), (1234, 4));
    let v6 = walk_eth(&session(0x0057, &ip6(17, &UDP_DATAGRAM))).unwrap();
    assert_eq!((v6.src_port, v6.marks), (1234, Marks::IPV6));
    let control = walk_eth(&session(0xc021, &[1, 1, 0, 4]));
    assert_eq!(control, Err(LossReason::PppControl));
}

#[test]
fn an_ipv4_authentication_header_is_stepped_over() {
    let mut rest = std::vec![17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    rest.extend([0xee; 12]);
    rest.extend(UDP_DATAGRAM);
    let walked = walk_eth(&eth(0x0800, &ip4(51, &[], 0, &rest))).unwrap();
    assert_eq!((walked.ip_protocol, walked.dst_port), (17, 53));
    assert_eq!(walked.payload_bytes, 4);
    let cut = walk_eth(&eth(0x0800, &ip4(51, &[], 0, &[17]))).unwrap();
    assert_eq!((cut.ip_protocol, cut.marks), (51, Marks::L4_CUT));
}

#[test]
fn sctp_gives_ports() {
    let sctp = [0x0b, 0x59, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 4];
    let walked = walk_eth(&eth(0x0800, &ip4(132, &[], 0, &sctp))).unwrap();
    assert_eq!((walked.src_port, walked.dst_port), (2905, 80));
    assert_eq!(walked.payload_bytes, 4);
}

#[test]
fn ipv6_extension_chain_is_walked() {
    let mut rest = std::vec![60, 0, 0, 0, 0, 0, 0, 0];
    rest.extend([43, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    rest.extend([17, 0, 0, 0, 0, 0, 0, 0]);
    rest.extend(UDP_DATAGRAM);
    let walked = walk_eth(&eth(0x86dd, &ip6(0, &rest))).unwrap();
    assert_eq!((walked.ip_protocol, walked.src_port), (17, 1234));
    assert_eq!((walked.payload_bytes, walked.marks), (4, Marks::IPV6));
}

#[test]
fn a_chain_of_eight_extensions_is_walked_and_of_nine_counted() {
    let chain = |count: usize| {
        let mut rest = Vec::new();
        for i in 0..count {
            rest.extend([if i + 1 == count { 17 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        rest.extend(UDP_DATAGRAM);
        eth(0x86dd, &ip6(60, &rest))
    };
    assert_eq!(walk_eth(&chain(8)).unwrap().src_port, 1234);
    assert_eq!(walk_eth(&chain(9)), Err(LossReason::Ipv6ExtensionDepth));
}

#[test]
fn ipv6_later_fragment_has_no_ports() {
    let mut rest = std::vec![60, 0, 0, 8, 0, 0, 0, 1];
    rest.extend([17, 255, 9, 9]);
    let walked = walk_eth(&eth(0x86dd, &ip6(44, &rest))).unwrap();
    assert_eq!(walked.ip_protocol, 60);
    assert_eq!(
        (walked.src_port, walked.marks),
        (0, Marks::IPV6 | Marks::FRAGMENT_LATER)
    );
}

#[test]
fn a_cut_transport_header_is_marked() {
    let walked = walk_eth(&eth(0x0800, &ip4(6, &[], 0, &[0, 80, 0, 81, 0]))).unwrap();
    assert_eq!((walked.marks, walked.src_port), (Marks::L4_CUT, 0));
}

#[test]
fn what_is_no_ip_packet_has_exactly_one_reason() {
    assert_eq!(walk_eth(&[0; 13]), Err(LossReason::TruncatedLink));
    assert_eq!(walk_eth(&eth(0x0806, &[0; 28])), Err(LossReason::Arp));
    for (ethertype, reason) in [
        (0x88cc, LossReason::Lldp),
        (38, LossReason::Llc),
        (0x05ff, LossReason::Llc),
        (0x888e, LossReason::Eapol),
        (0x8863, LossReason::PppoeDiscovery),
        (0x88f7, LossReason::Ptp),
        (0x88e5, LossReason::Macsec),
        (0x9000, LossReason::EthernetLoopback),
        (0x8809, LossReason::SlowProtocol),
        (0x0600, LossReason::OtherEthertype),
        (0xffff, LossReason::OtherEthertype),
    ] {
        assert_eq!(walk_eth(&eth(ethertype, &[0; 28])), Err(reason));
        assert!(reason.is_not_ip());
    }
    assert_eq!(
        walk_eth(&eth(0x0800, &[0x44; 28])),
        Err(LossReason::BadIpv4Header)
    );
    assert_eq!(
        walk_eth(&eth(0x86dd, &[0x50; 48])),
        Err(LossReason::BadIpv6Header)
    );
    assert_eq!(
        walk_eth(&eth(0x86dd, &ip6(0, &[17]))),
        Err(LossReason::BadIpv6Extension)
    );
}

#[test]
fn raw_ip_is_told_by_its_version() {
    let packet = ip4(17, &[], 0, &UDP_DATAGRAM);
    assert_eq!(
        walk(&packet[..], packet.len() as u32, Link::RawIp)
            .unwrap()
            .src_port,
        1234
    );
    assert_eq!(
        walk(&[0u8][..], 1, Link::RawIp),
        Err(LossReason::OtherEthertype)
    );
}

/// Headers and extras of a frame, tunnels opened or not.
fn walk_all(frame: &[u8], decapsulate: bool) -> (Walked, Extras) {
    walk_with_extras(frame, frame.len() as u32, Link::Ethernet, decapsulate).unwrap()
}

fn udp(dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = std::vec![0x04, 0xd2];
    datagram.extend(dst_port.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// Addresses inside the tunnels of these tests, 10.9.9.1 to 10.9.9.2.
fn inner4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = ip4(protocol, &[], 0, payload);
    packet[12..20].copy_from_slice(&[10, 9, 9, 1, 10, 9, 9, 2]);
    packet
}

fn gre(flags: u16, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut payload = flags.to_be_bytes().to_vec();
    payload.extend(ethertype.to_be_bytes());
    for (flag, value) in [(0x8000, 7), (0x2000, 8), (0x1000, 9)] {
        if flags & flag != 0 {
            payload.extend([0, 0, 0, value]);
        }
    }
    payload.extend(inner);
    payload
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut payload = std::vec![8, 0, 0, 0, 1, 2, 3, 0];
    payload.extend(inner);
    eth(0x0800, &ip4(17, &[], 0, &udp(4789, &payload)))
}

#[test]
fn the_flow_of_a_tunnel_is_the_inner_one_and_its_ends_are_kept() {
    let inner = inner4(17, &UDP_DATAGRAM);
    let mut geneve = std::vec![2, 0, 8, 0, 0, 0, 5, 0];
    geneve.extend([0; 8]);
    geneve.extend(&inner);
    let over4 = |protocol, payload: &[u8]| eth(0x0800, &ip4(protocol, &[], 0, payload));
    let over6 = |protocol, payload: &[u8]| eth(0x86dd, &ip6(protocol, payload));
    for (kind, network_id, frame) in [
        (
            TunnelKind::Vxlan,
            Some(0x01_0203),
            vxlan(&eth(0x0800, &inner)),
        ),
        (TunnelKind::Geneve, Some(5), over4(17, &udp(6081, &geneve))),
        (TunnelKind::Gre, None, over4(47, &gre(0, 0x0800, &inner))),
        (
            TunnelKind::Gre,
            Some(8),
            over6(47, &gre(0xb000, 0x6558, &eth(0x0800, &inner))),
        ),
        (TunnelKind::Ipip, None, over4(4, &inner)),
        (TunnelKind::FourInSix, None, over6(4, &inner)),
    ] {
        let (walked, extras) = walk_all(&frame, true);
        assert_eq!(walked.src, mapped([10, 9, 9, 1]), "{kind:?}");
        assert_eq!((walked.src_port, walked.dst_port), (1234, 53));
        assert_eq!(walked.payload_bytes, 4);
        assert_eq!(walked.marks, Marks::TUNNEL);
        assert_eq!(walked.header_bytes as usize + 4, frame.len());
        let tunnel = extras.tunnel.unwrap();
        assert_eq!(tunnel.tunnel_kind(), Some(kind));
        let has_id = tunnel.tunnel & TunnelRecord::HAS_NETWORK_ID != 0;
        assert_eq!(has_id.then_some(tunnel.network_id), network_id, "{kind:?}");
        let (outer, closed) = walk_all(&frame, false);
        assert_eq!((tunnel.src, tunnel.dst), (outer.src, outer.dst));
        assert_eq!(outer.marks & Marks::TUNNEL, 0);
        assert_eq!(closed.tunnel, None);
    }
    for (kind, frame) in [
        (TunnelKind::SixInFour, over4(41, &ip6(17, &UDP_DATAGRAM))),
        (TunnelKind::SixInSix, over6(41, &ip6(17, &UDP_DATAGRAM))),
    ] {
        let (walked, extras) = walk_all(&frame, true);
        assert_eq!(walked.marks, Marks::TUNNEL | Marks::IPV6);
        assert_eq!(extras.tunnel.unwrap().tunnel_kind(), Some(kind));
    }
}

#[test]
fn a_tunnel_inside_a_tunnel_is_marked_and_left_closed() {
    let innermost = vxlan(&eth(0x0800, &inner4(17, &UDP_DATAGRAM)));
    let (walked, extras) = walk_all(&vxlan(&innermost), true);
    assert_eq!(walked.dst_port, 4789);
    let tunnel = extras.tunnel.unwrap();
    assert_ne!(tunnel.tunnel & TunnelRecord::DEEPER, 0);
    assert_eq!(tunnel.tunnel_kind(), Some(TunnelKind::Vxlan));
}

#[test]
fn what_is_inside_a_tunnel_but_no_whole_ip_packet_leaves_the_outer_flow() {
    let inner = inner4(17, &UDP_DATAGRAM);
    let mut too_long = inner.clone();
    too_long[2..4].copy_from_slice(&999_u16.to_be_bytes());
    let over4 = |fragment, payload: &[u8]| eth(0x0800, &ip4(4, &[], fragment, payload));
    for frame in [
        // No header, half a header, half a transport header, more than the outer packet holds.
        over4(0, &[]),
        over4(0, &inner[..15]),
        over4(0, &inner[..22]),
        over4(0, &too_long),
        // IPv6 where IPv4 is announced, ARP, no valid identifier, GRE with routing or of PPTP.
        over4(0, &ip6(17, &UDP_DATAGRAM)),
        vxlan(&eth(0x0806, &[0; 28])),
        eth(0x0800, &ip4(17, &[], 0, &udp(4789, &[0; 60]))),
        eth(0x0800, &ip4(47, &[], 0, &gre(0x4000, 0x0800, &inner))),
        eth(0x0800, &ip4(47, &[], 0, &gre(0x0001, 0x0800, &inner))),
        // Fragments, first and later.
        over4(0x2000, &inner),
        over4(0x0001, &inner),
    ] {
        let opened = walk_all(&frame, true);
        assert_eq!(opened, walk_all(&frame, false), "{frame:02x?}");
        assert_eq!(opened.1.tunnel, None);
    }
}

#[test]
fn an_icmp_error_quotes_the_flow_it_is_about() {
    let error = |kind: u8, quote: &[u8]| {
        let mut message = std::vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(quote);
        message
    };
    let quote = inner4(17, &UDP_DATAGRAM);
    let (walked, extras) = walk_all(&eth(0x0800, &ip4(1, &[], 0, &error(3, &quote))), true);
    assert_eq!((walked.ip_protocol, walked.src_port), (1, 3));
    let quoted = extras.quoted.unwrap();
    assert_eq!(quoted.ip_protocol, 17);
    assert_eq!((quoted.src_port, quoted.dst_port), (1234, 53));
    assert_eq!(
        (quoted.src, quoted.dst),
        (mapped([10, 9, 9, 1]), mapped([10, 9, 9, 2]))
    );
    let v6 = error(1, &ip6(6, &[0, 80, 0, 81, 0, 0, 0, 0]));
    let (_, extras) = walk_all(&eth(0x86dd, &ip6(58, &v6)), true);
    let quoted = extras.quoted.unwrap();
    assert_eq!((quoted.ip_protocol, quoted.src_port), (6, 80));
    assert_eq!((quoted.src, quoted.dst), ([0xfd; 16], [0xfe; 16]));
    // Behind extension headers, as far as they are there and no more than the walk takes.
    let quoted = |next: u8, rest: &[u8]| {
        let message = error(1, &ip6(next, rest));
        let (_, extras) = walk_all(&eth(0x86dd, &ip6(58, &message)), true);
        let quoted = extras.quoted.unwrap();
        (quoted.ip_protocol, quoted.src_port, quoted.dst_port)
    };
    let ports = [0, 80, 0, 81, 0, 0, 0, 0];
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let authentication = [60, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let whole = [
        &options(44)[..],
        &[51, 0, 0, 1, 0, 0, 0, 9],
        &authentication,
        &options(6),
        &ports,
    ]
    .concat();
    assert_eq!(quoted(0, &whole), (6, 80, 81));
    assert_eq!(quoted(0, &whole[..whole.len() - 8]), (6, 0, 0));
    assert_eq!(quoted(0, &whole[..17]), (51, 0, 0));
    let later = [&[17, 0, 0, 8, 0, 0, 0, 9][..], &ports].concat();
    assert_eq!(quoted(44, &later), (17, 0, 0));
    let chain = |headers: usize| {
        let mut rest = options(60).repeat(headers - 1);
        rest.extend(options(17));
        rest.extend(ports);
        quoted(60, &rest)
    };
    assert_eq!(chain(IPV6_EXTENSIONS_MAX), (17, 80, 81));
    assert_eq!(chain(IPV6_EXTENSIONS_MAX + 1), (60, 0, 0));
    // An echo quotes nothing, and a quote that is cut is none.
    for message in [error(8, &quote), error(3, &quote[..10])] {
        let (_, extras) = walk_all(&eth(0x0800, &ip4(1, &[], 0, &message)), true);
        assert_eq!(extras, Extras::NONE);
    }
}

fn dns_message(flags: u16, name: &[u8]) -> Vec<u8> {
    let mut message = std::vec![0, 7];
    message.extend(flags.to_be_bytes());
    message.extend([0, 1, 0, 2, 0, 0, 0, 0]);
    message.extend(name);
    message.extend([0, 16, 0, 1]);
    message
}

fn dns_of(message: &[u8]) -> Option<DnsRecord> {
    let frame = eth(0x0800, &ip4(17, &[], 0, &udp(53, message)));
    walk_all(&frame, true).1.dns
}

#[test]
fn of_a_dns_message_numbers_are_taken() {
    let name = b"\x04a1b2\x07example\x03org\x00";
    let answer = dns_of(&dns_message(0x8583, name)).unwrap();
    let expected = DnsRecord {
        kind: crate::extras::KIND_DNS,
        flags: DnsRecord::RESPONSE | DnsRecord::NAMED,
        name_bytes: "a1b2.example.org".len() as u8,
        labels: 3,
        digits: 2,
        response_code: 3,
        query_type: 16,
        answers: 2,
        ..DnsRecord::NONE
    };
    assert_eq!(answer, expected);
    let question = dns_of(&dns_message(0x0100, &[0])).unwrap();
    assert_eq!((question.flags, question.name_bytes), (DnsRecord::NAMED, 0));
}

#[test]
fn a_dns_name_that_cannot_be_read_leaves_its_numbers_zero() {
    let too_long = [&[63_u8][..], &[b'x'; 63]].concat().repeat(4);
    let mut longest = too_long[..254].to_vec();
    longest[192] = 61;
    longest.push(0);
    assert_eq!(dns_of(&dns_message(0, &longest)).unwrap().name_bytes, 253);
    let whole = dns_message(0, b"\x03www\x00");
    for message in [
        dns_message(0, &[0xc0, 12]),
        dns_message(0, &[0x40, 1, 1]),
        dns_message(0, &too_long),
        whole[..15].to_vec(),
        whole[..12].to_vec(),
    ] {
        let dns = dns_of(&message).unwrap();
        assert_eq!((dns.flags, dns.labels, dns.name_bytes), (0, 0, 0));
        assert_eq!(dns.answers, 2);
    }
    // Too short for a header, and an operation code that does not exist.
    assert_eq!(dns_of(&whole[..11]), None);
    assert_eq!(dns_of(&dns_message(0x7800, &[0])), None);
}

#[test]
fn dns_over_tcp_is_read_where_a_message_fills_its_segment() {
    let message = dns_message(0x0100, b"\x03www\x00");
    let segment = |length: usize| {
        let mut tcp = std::vec![
            0, 53, 0xc0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0
        ];
        tcp.extend((length as u16).to_be_bytes());
        tcp.extend(&message);
        walk_all(&eth(0x0800, &ip4(6, &[], 0, &tcp)), true).1.dns
    };
    assert_eq!(segment(message.len()).unwrap().labels, 1);
    assert_eq!(segment(message.len() + 1), None);
}

proptest! {
    #[test]
    fn any_bytes_give_headers_inside_the_frame_or_a_reason(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
        ethertype in prop_oneof![
            Just(0x0800u16), Just(0x86dd), Just(0x8100), Just(0x8847), Just(0x8864), any::<u16>(),
        ],
    ) {
        let frame = eth(ethertype, &bytes);
        if let Ok(walked) = walk_eth(&frame)
            && walked.marks & (Marks::L4_CUT | Marks::FRAGMENT_LATER) == 0
            && matches!(walked.ip_protocol, 17)
        {
            // Two port numbers were read, and four bytes stand behind them in the header.
            prop_assert!(walked.header_bytes as usize - 4 <= frame.len());
        }
    }
}
