//! What a driver says of an interface by `ioctl(SIOCETHTOOL)` (`linux/ethtool.h`): read only.

use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

const SIOCETHTOOL: u64 = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_LRO: u32 = 1 << 15;
/// `struct ethtool_drvinfo`, the largest that is asked for.
const ANSWER_BYTES: usize = 196;
const DRIVER_NAME_BYTES: usize = 32;

/// Answers about one interface of the calling thread's network namespace. What a driver does not
/// answer is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ethtool {
    /// Name of the driver.
    pub driver: Option<String>,
    /// Large receive offload is on: the device joins packets before anything sees them.
    pub lro: Option<bool>,
    /// Generic receive offload is on.
    pub gro: Option<bool>,
    /// Queues in use for receiving.
    pub receive_queues: Option<u32>,
}

/// Asks the driver of an interface.
///
/// # Errors
/// Where no socket is to be had.
pub fn ask(interface: &str) -> io::Result<Ethtool> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let value = |command| {
        let answer = command_of(&socket, interface, command).ok()?;
        word(&answer, 1)
    };
    let driver = command_of(&socket, interface, ETHTOOL_GDRVINFO).ok();
    let channels = command_of(&socket, interface, ETHTOOL_GCHANNELS).ok();
    Ok(Ethtool {
        driver: driver.and_then(|answer| {
            let name = answer.get(4..4 + DRIVER_NAME_BYTES)?;
            let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
            let name = String::from_utf8_lossy(&name[..end]).into_owned();
            (!name.is_empty()).then_some(name)
        }),
        lro: value(ETHTOOL_GFLAGS).map(|flags| flags & ETH_FLAG_LRO != 0),
        gro: value(ETHTOOL_GGRO).map(|on| on != 0),
        // Words: command, four maxima, then receive, transmit, other and combined counts.
        receive_queues: channels
            .and_then(|answer| Some(word(&answer, 5)?.saturating_add(word(&answer, 8)?)))
            .filter(|count| *count > 0),
    })
}

/// A 32-bit field of an answer.
fn word(answer: &[u8], index: usize) -> Option<u32> {
    let bytes = answer.get(index * 4..index * 4 + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn command_of(socket: &Socket, interface: &str, command: u32) -> io::Result<[u8; ANSWER_BYTES]> {
    let mut answer = [0_u8; ANSWER_BYTES];
    answer[..4].copy_from_slice(&command.to_ne_bytes());
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.is_empty() || interface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_data = answer.as_mut_ptr().cast();
    // SAFETY: `request` and the buffer it points at live through the call; none of the four
    // commands writes more than `ANSWER_BYTES`.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if done == 0 {
        Ok(answer)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_answers_nothing() {
        assert_eq!(ask("no-such0").unwrap(), Ethtool::default());
        assert_eq!(ask(&"x".repeat(100)).unwrap(), Ethtool::default());
    }

    #[test]
    fn loopback_has_no_large_receive_offload() {
        assert_ne!(ask("lo").unwrap().lro, Some(true));
    }
}
