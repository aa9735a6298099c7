//! Hand-made captures.

use std::path::{Path, PathBuf};

const CLIENT: [u8; 4] = [192, 0, 2, 1];
const SERVER: [u8; 4] = [198, 51, 100, 2];

/// A little-endian microsecond pcap of one link type, a packet every 10 ms.
pub(crate) fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    for value in [0, 0, 65_535, link_type] {
        file.extend(value.to_le_bytes());
    }
    for (index, frame) in (0_u32..).zip(frames) {
        for value in [
            1_600_000_000 + index / 100,
            index % 100 * 10_000,
            frame.len() as u32,
            frame.len() as u32,
        ] {
            file.extend(value.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// A little-endian pcapng of Ethernet interfaces, each packet on all of them. An empty name is left
/// out.
pub(crate) fn pcapng(names: &[&str], frames: &[Vec<u8>]) -> Vec<u8> {
    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
    let block = |kind: u32, body: &[u8]| {
        let body = padded(body);
        let bytes = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes(), &bytes[..], &body, &bytes].concat()
    };
    let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut file = block(0x0a0d_0d0a, &section);
    for name in names {
        let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0];
        if !name.is_empty() {
            interface.extend([2, 0]);
            interface.extend((name.len() as u16).to_le_bytes());
            interface.extend(padded(name.as_bytes()));
        }
        file.extend(block(1, &interface));
    }
    for (ticks, frame) in (0_u32..).zip(frames) {
        for interface in 0..names.len() as u32 {
            let length = frame.len() as u32;
            let head = [interface, 0, ticks * 10_000, length, length];
            let mut packet: Vec<u8> = head.into_iter().flat_map(u32::to_le_bytes).collect();
            packet.extend(frame);
            file.extend(block(6, &packet));
        }
    }
    file
}

/// One web connection (7 packets), one DNS question with its answer, one ARP.
pub(crate) fn conversation() -> Vec<Vec<u8>> {
    let tcp = |out: bool, flags: u8, payload: u16| {
        let (src, dst, ports) = if out {
            (CLIENT, SERVER, (40_000, 80))
        } else {
            (SERVER, CLIENT, (80, 40_000))
        };
        let mut segment = transport_ports(ports);
        segment.extend([0; 8]);
        segment.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
        segment.extend(vec![0; usize::from(payload)]);
        ipv4(src, dst, 6, &segment)
    };
    let udp = |out: bool| {
        let (src, dst, ports) = if out {
            (CLIENT, SERVER, (50_000, 53))
        } else {
            (SERVER, CLIENT, (53, 50_000))
        };
        let mut datagram = transport_ports(ports);
        datagram.extend([0, 40, 0, 0]);
        datagram.extend([0; 32]);
        ipv4(src, dst, 17, &datagram)
    };
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.extend([0; 28]);
    vec![
        arp,
        udp(true),
        udp(false),
        tcp(true, 0x02, 0),
        tcp(false, 0x12, 0),
        tcp(true, 0x18, 100),
        tcp(false, 0x18, 1_000),
        tcp(true, 0x11, 0),
        tcp(false, 0x11, 0),
        tcp(true, 0x10, 0),
    ]
}

fn transport_ports((src, dst): (u16, u16)) -> Vec<u8> {
    let mut header = src.to_be_bytes().to_vec();
    header.extend(dst.to_be_bytes());
    header
}

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + payload.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend(payload);
    frame
}

/// Writes a file into a folder and gives its path.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The conversation as a file.
pub(crate) fn conversation_file(folder: &Path) -> PathBuf {
    write(folder, "conversation.pcap", &pcap(1, &conversation()))
}
