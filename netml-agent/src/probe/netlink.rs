//! Just enough of the kernel's netlink sockets: dumps of links, routes and filters, single answers
//! of generic families, parsed with bounds.
//!
//! Asked rather than read from `/sys/class/net`, which shows the network namespace in which it was
//! mounted and not that of the calling thread.
#![expect(unsafe_code, reason = "the address of a netlink socket")]

use std::io::{self, Read as _};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// Largest datagram of a dump; the kernel never sends more than 32 KiB.
pub(super) const DATAGRAM_BYTES: usize = 64 * 1024;
/// Most datagrams read for one dump: far above what any host's links or routes take.
const DATAGRAMS_MAX: usize = 100_000;
/// The kernel answers at once; a socket that stays silent is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for a dump of `message_type`, with `body` behind the header, and gives the body of every
/// answer to `take`.
pub(super) fn dump(message_type: u16, body: &[u8], take: impl FnMut(&[u8])) -> io::Result<()> {
    exchange(libc::NETLINK_ROUTE, message_type, NLM_F_DUMP, body, take)
}

/// Sends one message to a generic family and gives the body of its answer to `take`.
pub(super) fn generic(family: u16, body: &[u8], take: impl FnMut(&[u8])) -> io::Result<()> {
    exchange(libc::NETLINK_GENERIC, family, NLM_F_ACK, body, take)
}

fn exchange(
    protocol: libc::c_int,
    message_type: u16,
    flags: u16,
    body: &[u8],
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(protocol)),
    )?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut request = Vec::with_capacity(HEADER_BYTES + body.len());
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    request.extend(length.to_ne_bytes());
    request.extend(message_type.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend(1_u32.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(body);
    socket.send(&request)?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    for _ in 0..DATAGRAMS_MAX {
        let length = (&socket).read(&mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, behind)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.get(..4).and_then(|b| b.try_into().ok());
                    let code = code.map_or(0, i32::from_ne_bytes);
                    if code == 0 {
                        return Ok(());
                    }
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                _ => take(body),
            }
            rest = behind;
        }
    }
    Err(io::Error::other("the answer did not end"))
}

/// Splits one message off: its type, its body, and what follows.
pub(super) fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16_at(bytes, 4)?;
    let body = bytes.get(HEADER_BYTES..length)?;
    let behind = bytes.get(aligned(length)..).unwrap_or_default();
    Some((kind, body, behind))
}

/// Attributes `(type, value)` of a message from `offset` on; nesting flags are taken off the type.
pub(super) fn attributes(body: &[u8], offset: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(offset..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Address of the kernel's multicast groups, a bit each.
pub(super) fn address(groups: u32) -> io::Result<SockAddr> {
    // SAFETY: all zero is a valid sockaddr_nl, and it fits the storage; the length told is its own.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_nl>();
            (*address) = std::mem::zeroed();
            (*address).nl_family = libc::AF_NETLINK as u16;
            (*address).nl_groups = groups;
            *length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            Ok(())
        })
    }?;
    Ok(address)
}

/// Adds an attribute, padded.
pub(super) fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

/// The text of an attribute, up to its zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Two bytes in the host's order.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// Four bytes in the host's order.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic_and_to_an_end(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes, 0).count() <= bytes.len() / 4 + 1);
            let mut rest = &bytes[..];
            while let Some((_, _, behind)) = message(rest) {
                prop_assert!(behind.len() < rest.len());
                rest = behind;
            }
        }
    }

    #[test]
    fn attributes_are_split_at_their_aligned_ends() {
        let mut bytes = vec![9, 9];
        bytes.extend(5_u16.to_ne_bytes());
        bytes.extend(0x8003_u16.to_ne_bytes());
        bytes.extend([7, 0, 0, 0]);
        bytes.extend(8_u16.to_ne_bytes());
        bytes.extend(4_u16.to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        let found: Vec<_> = attributes(&bytes, 2).map(|(k, v)| (k, v.len())).collect();
        assert_eq!(found, [(3, 1), (4, 4)]);
    }
}
