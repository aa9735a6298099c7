//! A packet socket (`packet(7)`): every frame of one interface, with the kernel's time stamp.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::set_option;

const ETH_P_ALL: u16 = 3;
/// Asked of the kernel as room for frames not read yet.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
const CONTROL_BYTES: usize = 128;

/// One interface's frames, both ways. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
}

/// A frame in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of it in the buffer.
    pub captured_bytes: usize,
    /// Bytes it had.
    pub wire_bytes: u32,
    /// When the kernel took it, in unix nanoseconds.
    pub unix_ns: u64,
    /// Sent by this host.
    pub outgoing: bool,
}

/// What the kernel counted since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames for this socket, lost ones included.
    pub frames: u64,
    /// Frames for which it had no room.
    pub lost: u64,
}

impl PacketSocket {
    /// Opens a socket on an interface; reading times out after `timeout`.
    ///
    /// # Errors
    /// Where the kernel refuses, for want of privilege above all.
    pub fn open(ifindex: u32, timeout: Duration) -> io::Result<Self> {
        // Nothing is taken before it is bound to its interface.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.set_read_timeout(Some(timeout))?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
        // SAFETY: the pointer is to a sockaddr_ll that lives through the call, with its own size.
        let answer = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if answer == 0 {
            Ok(Self { socket })
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The next frame, `None` after the time-out.
    ///
    /// # Errors
    /// Where the socket cannot be read, as when the interface goes.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Frame>> {
        let mut control = [0_u64; CONTROL_BYTES / 8];
        let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = address.as_mut_ptr().cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: every pointer in `message` is to a buffer of the length beside it, all of which
        // live through the call. MSG_TRUNC tells the whole length and writes no more than fits.
        let got =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        // SAFETY: zeroed, which is valid, and then filled by the kernel.
        let address = unsafe { address.assume_init() };
        let control_bytes = (message.msg_controllen as usize).min(CONTROL_BYTES);
        Ok(Some(Frame {
            captured_bytes: got.min(buffer.len()),
            wire_bytes: u32::try_from(got).unwrap_or(u32::MAX),
            unix_ns: time_stamp(&control, control_bytes).unwrap_or_else(super::unix_ns),
            outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        }))
    }

    /// What the kernel counted since the last call.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let mut counts = [0_u32; 2];
        let mut bytes = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the pointer is to two u32 (struct tpacket_stats) that live through the call, and
        // the length is theirs.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        if answer == 0 {
            Ok(Statistics {
                frames: counts[0].into(),
                lost: counts[1].into(),
            })
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// The time stamp among control messages; asked for, it is the only one.
fn time_stamp(control: &[u64], control_bytes: usize) -> Option<u64> {
    let words = control.get(..control_bytes / 8)?;
    // `struct cmsghdr` on 64-bit Linux: length; level and type; then seconds and nanoseconds.
    let halves = words.get(1)?.to_ne_bytes();
    let half = |at: usize| Some(i32::from_ne_bytes(halves.get(at..at + 4)?.try_into().ok()?));
    if half(0)? != libc::SOL_SOCKET || half(4)? != libc::SO_TIMESTAMPNS {
        return None;
    }
    let seconds = words.get(2)?;
    let ns = words.get(3)?;
    Some(seconds.wrapping_mul(1_000_000_000).wrapping_add(*ns))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_datagram_on_loopback_is_seen_both_ways_with_its_time() {
        let lo = 1;
        let socket = match PacketSocket::open(lo, Duration::from_millis(100)) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("skipped: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before_ns = super::super::unix_ns();
        let sent = [0x5a; 777];
        receiver
            .send_to(&sent, receiver.local_addr().unwrap())
            .unwrap();
        let mut buffer = [0; 100];
        let mut ways = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while ways.len() < 2 {
            assert!(Instant::now() < deadline, "not seen: {ways:?}");
            let Some(frame) = socket.receive(&mut buffer).unwrap() else {
                continue;
            };
            // Ethernet, IPv4, UDP.
            if frame.wire_bytes as usize == 14 + 20 + 8 + sent.len() && buffer[42] == 0x5a {
                assert_eq!(frame.captured_bytes, 100);
                assert!(frame.unix_ns >= before_ns.saturating_sub(1_000_000_000));
                ways.push(frame.outgoing);
            }
        }
        ways.sort_unstable();
        assert_eq!(ways, [false, true]);
        assert!(socket.statistics().unwrap().frames >= 2);
    }
}
