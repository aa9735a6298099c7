use std::io::{Cursor, Write};

use netml_common::Direction;
use proptest::prelude::*;

use super::*;

/// Ethernet, IPv4, UDP 1000 → 53, `payload_bytes` zeros.
fn udp_frame(payload_bytes: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend(udp_packet(payload_bytes));
    frame
}

fn udp_packet(payload_bytes: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((28 + payload_bytes).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([0x03, 0xe8, 0, 53]);
    packet.extend((8 + payload_bytes).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(vec![0; usize::from(payload_bytes)]);
    packet
}

fn word(big: bool, value: u32) -> [u8; 4] {
    if big {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    }
}

fn half(big: bool, value: u16) -> [u8; 2] {
    if big {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    }
}

fn pcap_header(big: bool, magic: u32, link_type: u32) -> Vec<u8> {
    let mut file = word(big, magic).to_vec();
    file.extend(half(big, 2));
    file.extend(half(big, 4));
    for value in [0, 0, 65_535, link_type] {
        file.extend(word(big, value));
    }
    file
}

fn pcap_packet(big: bool, time: (u32, u32), wire_bytes: u32, bytes: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    for value in [time.0, time.1, bytes.len() as u32, wire_bytes] {
        packet.extend(word(big, value));
    }
    packet.extend(bytes);
    packet
}

/// A little-endian microsecond file of one link type.
fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = pcap_header(false, 0xa1b2_c3d4, link_type);
    for frame in frames {
        file.extend(pcap_packet(false, (7, 5), frame.len() as u32, frame));
    }
    file
}

fn block(big: bool, block_type: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let bytes = padded.len() as u32 + 12;
    let mut block = word(big, block_type).to_vec();
    block.extend(word(big, bytes));
    block.extend(padded);
    block.extend(word(big, bytes));
    block
}

fn section(big: bool) -> Vec<u8> {
    let mut body = word(big, 0x1a2b_3c4d).to_vec();
    body.extend(half(big, 1));
    body.extend(half(big, 0));
    body.extend([0xff; 8]);
    block(big, pcapng::SECTION_HEADER, &body)
}

fn interface(big: bool, link_type: u16, resolution: Option<u8>, offset_s: i64) -> Vec<u8> {
    let mut body = half(big, link_type).to_vec();
    body.extend([0; 2]);
    body.extend(word(big, 0));
    if let Some(resolution) = resolution {
        body.extend(half(big, 9));
        body.extend(half(big, 1));
        body.extend([resolution, 0, 0, 0]);
    }
    body.extend(half(big, 14));
    body.extend(half(big, 8));
    body.extend(if big {
        offset_s.to_be_bytes()
    } else {
        offset_s.to_le_bytes()
    });
    body.extend([0; 4]);
    block(big, 1, &body)
}

fn packet_block(big: bool, interface: u32, ticks: u64, bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let length = bytes.len() as u32;
    for value in [
        interface,
        (ticks >> 32) as u32,
        ticks as u32,
        length,
        length,
    ] {
        body.extend(word(big, value));
    }
    body.extend(bytes);
    block(big, 6, &body)
}

fn read(bytes: Vec<u8>) -> Result<Reader, CaptureError> {
    from_read("test", Box::new(Cursor::new(bytes)))
}

/// All items, or those before the error and the error.
fn items(reader: &mut Reader) -> (Vec<Item>, Option<CaptureError>) {
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

fn records(bytes: Vec<u8>) -> Vec<PacketRecord> {
    let mut reader = read(bytes).unwrap();
    let (items, error) = items(&mut reader);
    assert!(error.is_none(), "{error:?}");
    assert!(reader.books().balanced());
    items
        .into_iter()
        .map(|item| match item {
            Item::Packet(record) => record,
            Item::Lost(reason, _) => panic!("lost: {reason:?}"),
        })
        .collect()
}

#[test]
fn both_byte_orders_and_resolutions_of_pcap_give_the_same_packet() {
    let frame = udp_frame(4);
    for big in [false, true] {
        for (magic, fraction) in [(0xa1b2_c3d4, 5), (0xa1b2_3c4d, 5_000)] {
            let mut file = pcap_header(big, magic, 1);
            file.extend(pcap_packet(big, (7, fraction), 100, &frame));
            let records = records(file);
            assert_eq!(records.len(), 1);
            let record = records[0];
            assert_eq!(record.mono_ns, 7_000_005_000);
            assert_eq!(record.wire_bytes, 100, "the original length counts");
            assert_eq!((record.src_port, record.dst_port), (1_000, 53));
            assert_eq!(record.payload_bytes, 4);
            assert_eq!(record.direction(), Direction::Ingress);
        }
    }
}

#[test]
fn each_interface_of_pcapng_has_its_own_link_type_and_clock() {
    for big in [false, true] {
        let mut file = section(big);
        file.extend(interface(big, 1, None, 0));
        file.extend(interface(big, 101, Some(9), 100));
        file.extend(interface(big, 228, Some(0x80 | 10), -1));
        file.extend(packet_block(big, 0, 2_000_001, &udp_frame(1)));
        file.extend(packet_block(big, 1, 5, &udp_packet(2)));
        file.extend(block(big, 0x0bad, &[1, 2, 3]));
        file.extend(packet_block(big, 2, 3 * 1_024 + 512, &udp_packet(3)));
        file.extend(section(!big));
        file.extend(interface(!big, 1, None, 0));
        file.extend(packet_block(!big, 0, 9, &udp_frame(4)));
        let got: Vec<_> = records(file)
            .iter()
            .map(|record| (record.slot, record.mono_ns, record.payload_bytes))
            .collect();
        assert_eq!(
            got,
            [
                (0, 2_000_001_000, 1),
                (1, 100_000_000_005, 2),
                (2, 2_500_000_000, 3),
                (0, 9_000, 4)
            ]
        );
    }
}

#[test]
fn interfaces_of_pcapng_have_the_names_the_file_tells() {
    let named = |link_type: u16, name: &[u8]| {
        let mut body = half(false, link_type).to_vec();
        body.extend([0; 6]);
        body.extend(half(false, 2));
        body.extend(half(false, name.len() as u16));
        body.extend(name);
        body.resize(body.len().next_multiple_of(4), 0);
        block(false, 1, &body)
    };
    let mut file = section(false);
    file.extend(named(1, b"eth0"));
    file.extend(interface(false, 1, None, 0));
    file.extend(named(1, b"wl\x1b[2J\xff"));
    file.extend(packet_block(false, 0, 1, &udp_frame(1)));
    let mut first = read(file.clone()).unwrap();
    assert_eq!(first.interface_changes(), 0, "nothing was read yet");
    items(&mut first);
    assert_eq!(first.interface_names(), ["eth0", "", "wl[2J\u{fffd}"]);
    assert_eq!(first.interface_changes(), 2);
    // A section begins anew; a name is cut at its bound, and the shared slot has none.
    file.extend(section(false));
    file.extend(named(1, &[b'x'; 200]));
    for _ in 0..100 {
        file.extend(named(1, b"many"));
    }
    file.extend(packet_block(false, 0, 1, &udp_frame(1)));
    let mut both = read(file).unwrap();
    items(&mut both);
    let names = both.interface_names();
    assert_eq!((names[0].len(), &*names[1], names.len()), (64, "many", 63));
    assert!(
        read(pcap(1, &[udp_frame(1)]))
            .unwrap()
            .interface_names()
            .is_empty()
    );
}

#[test]
fn a_simple_packet_block_takes_the_time_before_it_and_an_undeclared_interface_is_refused() {
    let mut file = section(false);
    file.extend(interface(false, 1, None, 0));
    file.extend(packet_block(false, 0, 3, &udp_frame(0)));
    let frame = udp_frame(7);
    let mut body = word(false, frame.len() as u32).to_vec();
    body.extend(&frame);
    file.extend(block(false, 3, &body));
    file.extend(packet_block(false, 9, 3, &frame));
    let mut reader = read(file).unwrap();
    let (items, error) = items(&mut reader);
    assert!(error.is_none());
    assert!(matches!(items[1], Item::Packet(record)
        if record.mono_ns == 3_000 && record.payload_bytes == 7));
    assert_eq!(
        items[2],
        Item::Lost(LossReason::CaptureRefused, frame.len() as u32)
    );
    assert!(reader.books().balanced());
}

#[test]
fn every_link_type_leads_to_the_same_packet() {
    let cooked = |packet_type: u16| {
        let mut frame = packet_type.to_be_bytes().to_vec();
        frame.extend([0; 12]);
        frame.extend([0x08, 0x00]);
        frame.extend(udp_packet(9));
        frame
    };
    let cooked2 = |packet_type: u8| {
        let mut frame = vec![0x08, 0x00, 0, 0, 0, 0, 0, 1, 0, 1, packet_type, 6];
        frame.extend([0; 8]);
        frame.extend(udp_packet(9));
        frame
    };
    let with_family = |family: [u8; 4]| {
        let mut frame = family.to_vec();
        frame.extend(udp_packet(9));
        frame
    };
    let behind = |header: &[u8]| [header, &udp_packet(9)].concat();
    // Session 7, 39 bytes: the protocol and the packet.
    let session = [0x11, 0, 0, 7, 0, 39, 0x00, 0x21];
    let cases = [
        (1, udp_frame(9), Direction::Ingress),
        (12, udp_packet(9), Direction::Ingress),
        (14, udp_packet(9), Direction::Ingress),
        (101, udp_packet(9), Direction::Ingress),
        (228, udp_packet(9), Direction::Ingress),
        (113, cooked(0), Direction::Ingress),
        (113, cooked(4), Direction::Egress),
        (276, cooked2(0), Direction::Ingress),
        (276, cooked2(4), Direction::Egress),
        (0, with_family([2, 0, 0, 0]), Direction::Ingress),
        (0, with_family([0, 0, 0, 2]), Direction::Ingress),
        (108, with_family([0, 0, 0, 2]), Direction::Ingress),
        (9, behind(&[0x00, 0x21]), Direction::Ingress),
        (9, behind(&[0xff, 0x03, 0x00, 0x21]), Direction::Ingress),
        (9, behind(&[0x21]), Direction::Ingress),
        (50, behind(&[0xff, 0x03, 0x00, 0x21]), Direction::Ingress),
        (50, behind(&[0xff, 0x03, 0x21]), Direction::Ingress),
        // An MPLS label, the last of its stack.
        (
            50,
            behind(&[0xff, 0x03, 0x02, 0x81, 0, 0, 0x11, 64]),
            Direction::Ingress,
        ),
        // Cisco's framing.
        (50, behind(&[0x0f, 0, 0x08, 0]), Direction::Ingress),
        (50, behind(&[0x8f, 0, 0x08, 0]), Direction::Ingress),
        (51, behind(&session), Direction::Ingress),
    ];
    for (link_type, frame, direction) in cases {
        let records = records(pcap(link_type, &[frame]));
        assert_eq!(records[0].payload_bytes, 9, "link type {link_type}");
        assert_eq!(records[0].direction(), direction, "link type {link_type}");
    }
}

#[test]
fn what_a_ppp_link_carries_beside_ip_is_counted_by_name() {
    let lost = |link_type, frame: &[u8]| {
        let mut reader = read(pcap(link_type, &[frame.to_vec()])).unwrap();
        match items(&mut reader).0[..] {
            [Item::Lost(reason, _)] => reason,
            ref other => panic!("{other:?}"),
        }
    };
    // Link control with and without framing, an address that is PPP's without its control byte.
    for frame in [
        &[0xff, 0x03, 0xc0, 0x21, 1, 1, 0, 4][..],
        &[0xc0, 0x21, 1, 1, 0, 4],
        &[0xff, 0x04, 0x00, 0x21],
    ] {
        for link_type in [9, 50] {
            assert_eq!(lost(link_type, frame), LossReason::PppControl, "{frame:?}");
        }
    }
    // Cisco's keep-alive, then frames that end inside each header.
    let keep_alive = [0x8f, 0, 0x80, 0x35, 0, 0, 0, 2];
    assert_eq!(lost(50, &keep_alive), LossReason::OtherEthertype);
    for frame in [&[][..], &[0x00], &[0xff, 0x03], &[0x0f, 0, 0x08]] {
        assert_eq!(lost(9, frame), LossReason::TruncatedLink, "{frame:?}");
    }
    assert_eq!(lost(51, &[0x11]), LossReason::TruncatedLink);
    // PADI; a session that carries link control.
    let discovery = [0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0];
    assert_eq!(lost(51, &discovery), LossReason::PppoeDiscovery);
    let control = [0x11, 0, 0, 7, 0, 6, 0xc0, 0x21, 1, 1, 0, 4];
    assert_eq!(lost(51, &control), LossReason::PppControl);
}

#[test]
fn ipv6_over_ppp_is_read() {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend([0x03, 0xe8, 0, 53, 0, 8, 0, 0]);
    for header in [&[0xff, 0x03, 0x00, 0x57][..], &[0x00, 0x57], &[0x57]] {
        let records = records(pcap(9, &[[header, &packet].concat()]));
        assert_eq!((records[0].src_port, records[0].dst_port), (1_000, 53));
    }
}

#[test]
fn an_unknown_link_type_is_named_and_its_packets_are_counted() {
    let mut reader = read(pcap(127, &[udp_frame(1), udp_frame(2)])).unwrap();
    let (items, error) = items(&mut reader);
    assert!(error.is_none());
    assert_eq!(items.len(), 2);
    assert_eq!(reader.books().lost[LossReason::CaptureRefused.index()], 2);
    let warnings = reader.warnings();
    assert_eq!(
        warnings,
        [CaptureWarning::UnknownLinkType {
            number: 127,
            packets: 2
        }]
    );
    assert!(
        warnings[0]
            .to_string()
            .contains("127 (802.11 with radiotap header)")
    );
}

#[test]
fn a_packet_cut_by_the_snap_length_is_refused_but_a_short_frame_is_truncated() {
    let mut file = pcap_header(false, 0xa1b2_c3d4, 1);
    file.extend(pcap_packet(false, (0, 0), 60, &udp_frame(0)[..20]));
    file.extend(pcap_packet(false, (0, 0), 10, &udp_frame(0)[..10]));
    let mut bad = udp_frame(0);
    bad[14] = 0x41;
    file.extend(pcap_packet(false, (0, 0), 1_500, &bad));
    let mut reader = read(file).unwrap();
    assert_eq!(
        items(&mut reader).0,
        [
            Item::Lost(LossReason::CaptureRefused, 60),
            Item::Lost(LossReason::TruncatedLink, 10),
            Item::Lost(LossReason::BadIpv4Header, 1_500),
        ]
    );
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_packets_and_says_so() {
    let frame = udp_frame(3);
    let file = pcap(1, &[frame.clone(), frame.clone(), frame.clone()]);
    let packet_bytes = 16 + frame.len();
    for cut in 0..file.len() {
        let whole = file[..cut].to_vec();
        if cut < 24 {
            assert!(
                matches!(read(whole), Err(CaptureError::Empty { .. })),
                "{cut}"
            );
            continue;
        }
        let mut reader = read(whole).unwrap();
        let (items, error) = items(&mut reader);
        assert!(error.is_none());
        assert_eq!(items.len(), (cut - 24) / packet_bytes);
        let inside = (cut - 24) % packet_bytes != 0;
        let expected = inside.then_some(CaptureWarning::Truncated { offset: cut as u64 });
        assert_eq!(reader.warnings(), Vec::from_iter(expected), "cut at {cut}");
    }
}

#[test]
fn gzip_is_told_by_its_magic_and_a_cut_one_is_a_cut_file() {
    let frames = vec![udp_frame(200); 50];
    let file = pcap(1, &frames);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&file).unwrap();
    let zipped = encoder.finish().unwrap();
    assert_eq!(records(zipped.clone()).len(), 50);
    let mut reader = read(zipped[..zipped.len() / 2].to_vec()).unwrap();
    let (items, error) = items(&mut reader);
    assert!(error.is_none(), "{error:?}");
    assert!((10..50).contains(&items.len()));
    assert!(matches!(
        reader.warnings()[..],
        [CaptureWarning::Truncated { .. }]
    ));
}

#[test]
fn a_wild_time_stamp_is_replaced_counted_and_told_and_no_packet_is_lost_before_an_error() {
    let frame = udp_frame(1);
    let mut file = pcap_header(false, 0xa1b2_c3d4, 1);
    for seconds in [1_600_000_000, 4_000_000_000, 1_600_000_002] {
        file.extend(pcap_packet(false, (seconds, 0), 100, &frame));
    }
    for value in [0, 0, u32::MAX, u32::MAX] {
        file.extend(word(false, value));
    }
    let mut reader = read(file).unwrap();
    let (items, error) = items(&mut reader);
    assert!(matches!(error, Some(CaptureError::Damaged { .. })));
    let seconds: Vec<_> = items
        .iter()
        .map(|item| match item {
            Item::Packet(record) => record.mono_ns / 1_000_000_000,
            Item::Lost(reason, _) => panic!("lost: {reason:?}"),
        })
        .collect();
    assert_eq!(seconds, [1_600_000_000, 1_600_000_000, 1_600_000_002]);
    assert_eq!(
        (reader.books().packets, reader.books().wild_timestamps),
        (3, 1)
    );
    assert_eq!(
        reader.warnings(),
        [CaptureWarning::WildTimestamps { packets: 1 }]
    );
    assert!(
        reader.next_item().unwrap().is_none(),
        "the error comes once"
    );
}

#[test]
fn the_position_in_a_file_ends_at_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.pcap");
    let file = pcap(1, &vec![udp_frame(100); 20]);
    std::fs::write(&path, &file).unwrap();
    let mut reader = open(&path).unwrap();
    assert_eq!(reader.position().total_bytes, Some(file.len() as u64));
    assert!(items(&mut reader).1.is_none());
    assert_eq!(reader.position().read_bytes, file.len() as u64);
}

#[test]
fn zstd_is_told_by_its_magic_and_a_cut_one_is_a_cut_file() {
    let frames: Vec<_> = (0..2_000).map(|i| udp_frame(i % 800)).collect();
    let file = pcap(1, &frames);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zipped = ruzstd::encoding::compress_to_vec(file.as_slice(), level);
    assert!(zipped.len() < file.len() / 2);
    assert_eq!(records(zipped.clone()), records(file));
    let mut reader = read(zipped[..zipped.len() * 3 / 4].to_vec()).unwrap();
    let (items, error) = items(&mut reader);
    assert!(error.is_none(), "{error:?}");
    assert!((200..2_000).contains(&items.len()), "{}", items.len());
    assert!(matches!(
        reader.warnings()[..],
        [CaptureWarning::Truncated { .. }]
    ));
}

#[test]
fn hostile_lengths_end_the_file_with_the_reason() {
    let mut file = pcap(1, &[udp_frame(0)]);
    for value in [0, 0, u32::MAX, u32::MAX] {
        file.extend(word(false, value));
    }
    let mut reader = read(file).unwrap();
    let (given, error) = items(&mut reader);
    assert_eq!(given.len(), 1);
    let message = error.unwrap().to_string();
    assert!(message.contains("damaged at byte"), "{message}");
    assert!(
        reader.next_item().unwrap().is_none(),
        "the error comes once"
    );

    for (bytes, what) in [
        (8_u32, "shorter than its own frame"),
        (13, "no multiple of four"),
    ] {
        let mut file = section(false);
        file.extend(word(false, 0x0bad));
        file.extend(word(false, bytes));
        file.extend([0; 32]);
        let (_, error) = items(&mut read(file).unwrap());
        let message = error.unwrap().to_string();
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn what_is_no_capture_is_refused_with_the_way_out() {
    let message = read(b"hello, world".to_vec()).err().unwrap().to_string();
    assert_eq!(
        message,
        "test is no capture file (it begins with 68656c6c); give a pcap or pcapng file, plain, gzip or zstd"
    );
    let message = open(Path::new("/nowhere.pcap")).err().unwrap().to_string();
    assert!(
        message.starts_with("cannot open capture /nowhere.pcap: "),
        "{message}"
    );
    assert!(matches!(
        open(Path::new("/")),
        Err(CaptureError::Open { .. })
    ));
}

/// Bytes behind a valid beginning, so that the parsers are reached.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let mut pcapng = section(false);
    pcapng.extend(interface(false, 1, Some(9), 0));
    pcapng.extend(packet_block(false, 0, 1, &udp_frame(1)));
    let mut pcapng_big = section(true);
    pcapng_big.extend(interface(true, 113, Some(0xff), i64::MIN));
    prop_oneof![
        Just(Vec::new()),
        Just(pcap_header(false, 0xa1b2_c3d4, 1)),
        Just(pcap_header(true, 0xa1b2_3c4d, 276)),
        Just(pcap(50, &[vec![0xff, 0x03, 0x00, 0x21]])),
        Just(pcap(1, &[udp_frame(1), udp_frame(2)])),
        Just(pcapng),
        Just(pcapng_big),
    ]
}

proptest! {
    #[test]
    fn any_bytes_end_without_a_panic_and_with_balanced_books(
        beginning in beginnings(),
        rest in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..400),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut file = beginning;
        file.extend(rest);
        for (at, value) in flips {
            if !file.is_empty() {
                let at = at.index(file.len());
                file[at] = value;
            }
        }
        if let Ok(mut reader) = read(file) {
            let (items, _) = items(&mut reader);
            prop_assert_eq!(items.len() as u64, reader.books().packets);
            prop_assert!(reader.books().balanced());
        }
    }
}

#[test]
fn every_file_of_the_data_set_accounts_for_every_packet() {
    let Some(data) = std::env::var_os("NETML_DATA") else {
        eprintln!("skipped: NETML_DATA does not name the data set");
        return;
    };
    let data = Path::new(&data);
    let mut files = 0;
    let (mut packets, mut segments) = (0, 0);
    for folder in ["pcap/benign", "pcap/malicious", "odd"] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let mut reader = open(&path).unwrap();
            let (items, error) = items(&mut reader);
            assert!(error.is_none(), "{error:?}");
            assert!(reader.books().balanced(), "{}", path.display());
            assert_eq!(items.len() as u64, reader.books().packets);
            if folder != "odd" {
                let other = reader
                    .warnings()
                    .into_iter()
                    .find(|warning| !matches!(warning, CaptureWarning::Oversized { .. }));
                assert_eq!(other, None, "{}", path.display());
                segments += reader.books().further_segments;
                packets += reader.books().packets;
            }
            files += 1;
        }
    }
    assert_eq!((files, packets), (160, 471_405));
    assert!(segments > 0, "captures taken with offloads on");
}
