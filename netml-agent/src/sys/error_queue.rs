//! ICMP errors of an unprivileged socket, from its error queue (`ip(7)`, `IP_RECVERR`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use super::set_option;

const CONTROL_BYTES: usize = 512;
const DATA_BYTES: usize = 128;
/// `struct cmsghdr` on 64-bit Linux: length, level, type.
const CMSG_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
/// `struct sock_extended_err`.
const EXTENDED_BYTES: usize = 16;
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// An ICMP error that came back for something this socket sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedError {
    /// Who sent the error.
    pub offender: IpAddr,
    /// Its ICMP type.
    pub icmp_type: u8,
    /// Its ICMP code.
    pub icmp_code: u8,
    /// Destination port of what was sent.
    pub sent_to_port: u16,
    /// As much of the sent payload as was quoted.
    pub quoted: Vec<u8>,
}

/// Asks the kernel to keep ICMP errors for [`take`].
///
/// # Errors
/// Where the kernel refuses.
pub fn enable(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

/// The next kept error, `None` where there is none (or it is not of ICMP).
///
/// # Errors
/// Where the queue cannot be read.
pub fn take(socket: &UdpSocket) -> io::Result<Option<QueuedError>> {
    let mut control = [0_u64; CONTROL_BYTES / 8];
    let mut data = [0_u8; DATA_BYTES];
    let mut name = [0_u64; 16];
    let mut part = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of_val(&name) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: every pointer in `message` is to a buffer above of the length beside it, all of
    // which live through the call.
    let got = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut message,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    let Ok(got) = usize::try_from(got) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock => Ok(None),
            _ => Err(error),
        };
    };
    let control_bytes = (message.msg_controllen as usize).min(CONTROL_BYTES);
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name: Vec<u8> = name.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let sent_to_port = u16::from_be_bytes([name[2], name[3]]);
    Ok(
        parse(&control[..control_bytes]).map(|(offender, icmp_type, icmp_code)| QueuedError {
            offender,
            icmp_type,
            icmp_code,
            sent_to_port,
            quoted: data[..got.min(DATA_BYTES)].to_vec(),
        }),
    )
}

/// Offender, type and code out of control messages.
fn parse(mut control: &[u8]) -> Option<(IpAddr, u8, u8)> {
    while control.len() >= CMSG_HEADER_BYTES {
        let length = usize::from_ne_bytes(array(control, 0)?);
        let level = i32::from_ne_bytes(array(control, 8)?);
        let kind = i32::from_ne_bytes(array(control, 12)?);
        let body = control.get(CMSG_HEADER_BYTES..length)?;
        let is_error = matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        );
        if is_error && matches!(body.get(4), Some(&ORIGIN_ICMP | &ORIGIN_ICMP6)) {
            let offender = address(body.get(EXTENDED_BYTES..)?)?;
            return Some((offender, *body.get(5)?, *body.get(6)?));
        }
        control = control.get(length.next_multiple_of(8)..)?;
    }
    None
}

/// The address of a `sockaddr_in` or `sockaddr_in6`.
fn address(name: &[u8]) -> Option<IpAddr> {
    let family = i32::from(u16::from_ne_bytes(array(name, 0)?));
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(array::<4>(name, 4)?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(array::<16>(name, 8)?).into()),
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_closed_port_on_loopback_gives_port_unreachable_from_there() {
        // A port that was just free: bound, noted, and closed again.
        let closed = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        enable(&socket, false).unwrap();
        assert_eq!(take(&socket).unwrap(), None);
        socket.send_to(b"netml", closed).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket.recv(&mut [0; 16]).unwrap_err();
        let error = take(&socket).unwrap().unwrap();
        assert_eq!(error.offender, IpAddr::from([127, 0, 0, 1]));
        assert_eq!((error.icmp_type, error.icmp_code), (3, 3));
        assert_eq!(error.sent_to_port, closed.port());
        assert_eq!(error.quoted, b"netml");
    }

    #[test]
    fn control_bytes_that_lie_about_their_length_are_refused() {
        let mut control = [0_u8; 64];
        for length in [0_usize, 8, 16, 1_000, usize::MAX] {
            control[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&control), None, "{length}");
        }
    }
}
