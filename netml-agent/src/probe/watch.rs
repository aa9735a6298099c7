//! Interfaces that come, go and are renamed while programs run: what the kernel tells, what is to
//! be done about it, and which slot is given to whom.
#![expect(unsafe_code, reason = "a descriptor registered with the runtime")]

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, RawFd};

use netml_common::INTERFACES_MAX;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::interfaces::{Interface, is_default_route};
use super::netlink::{DATAGRAM_BYTES, message, u32_at};
use super::selection::Selection;
use super::{AttachedInterface, ProbeError};

const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

/// Datagrams read at one time: more than the socket has room for. What came meanwhile and is left
/// is read with the next.
const DATAGRAMS_MAX: usize = 10_000;

/// Time a slot rests after its interface went: longer than any of its flows lives on, so that no
/// flow of the old interface is told under the name of a new one.
pub(super) const SLOT_REST_NS: u64 = 70_000_000_000;

/// A socket that becomes readable when a link of its network namespace changes, or where asked for
/// a default route.
#[derive(Debug)]
pub struct LinkListener {
    socket: Socket,
}

impl LinkListener {
    /// Listens in the network namespace of the calling thread; with `routes`, to routes as well.
    pub(super) fn open(routes: bool) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(libc::AF_NETLINK),
            Type::RAW.nonblocking(),
            Some(Protocol::from(libc::NETLINK_ROUTE)),
        )?;
        socket.bind(&groups(routes)?)?;
        Ok(Self { socket })
    }

    /// Reads what waits; the indices of links that went, `None` where nothing waited but routes to
    /// somewhere. What else changed is not told: links and default routes are listed anew after every
    /// call, which also makes good what an overrun lost.
    ///
    /// # Errors
    /// Where the socket cannot be read.
    pub fn drain(&self) -> io::Result<Option<Vec<u32>>> {
        let mut gone = None;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        for _ in 0..DATAGRAMS_MAX {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    take_news(datagram, &mut gone);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More changes than the socket had room for: the list tells them all.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    gone.get_or_insert_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }
}

/// A [`LinkListener`] that a runtime waits for.
#[derive(Debug)]
pub struct LinkNews(AsyncFd<Listening>);

/// Its descriptor is that of the socket it owns, for as long as it lives.
#[derive(Debug)]
struct Listening(LinkListener);

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        self.0.socket.as_raw_fd()
    }
}

impl LinkNews {
    /// Hands the listener to the runtime of the calling task.
    ///
    /// # Errors
    /// Where the runtime cannot wait for one more descriptor.
    pub fn of(listener: LinkListener) -> io::Result<Self> {
        // SAFETY: the descriptor belongs to the socket inside, which is neither replaced nor closed
        // before the registration ends with it.
        unsafe { AsyncFd::register(Listening(listener)) }
            .map(Self)
            .map_err(io::Error::from)
    }

    /// Waits for news; the indices of links that went. May be dropped and called again.
    ///
    /// # Errors
    /// Where the socket cannot be read.
    pub async fn next(&self) -> io::Result<Vec<u32>> {
        loop {
            let mut ready = self.0.readable().await?;
            ready.clear_ready();
            if let Some(gone) = self.0.get_ref().0.drain()? {
                return Ok(gone);
            }
        }
    }
}

/// The address of the kernel's groups for links and routes.
fn groups(routes: bool) -> io::Result<SockAddr> {
    let mut groups = libc::RTMGRP_LINK;
    if routes {
        groups |= libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE;
    }
    super::netlink::address(groups.cast_unsigned())
}

/// Makes `gone` something where a datagram has news of links or default routes, and adds the indices
/// of links that are gone.
fn take_news(mut datagram: &[u8], gone: &mut Option<Vec<u32>>) {
    while let Some((kind, body, behind)) = message(datagram) {
        datagram = behind;
        // A router's table may change all the time.
        if matches!(kind, RTM_NEWROUTE | RTM_DELROUTE) && !is_default_route(body) {
            continue;
        }
        let gone = gone.get_or_insert_default();
        // Bridges tell of ports that leave them in the same words, under a family of their own.
        if kind == RTM_DELLINK && body.first() == Some(&(libc::AF_UNSPEC as u8)) {
            gone.extend(u32_at(body, 4));
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The interface of this slot is gone.
    Gone(u32),
    /// That of this slot has another name.
    Renamed(u32, String),
    /// This one is asked for and not watched.
    New(Interface),
}

/// Compares what is watched with what there is. `gone` went meanwhile, even where an interface of
/// the same index is there now.
pub(super) fn changes(
    selection: &Selection,
    watched: &[AttachedInterface],
    existing: &[Interface],
    gone: &[u32],
) -> Vec<Change> {
    let mut all = Vec::new();
    let mut kept = Vec::new();
    for interface in watched {
        let now = existing
            .iter()
            .find(|now| now.ifindex == interface.ifindex)
            .filter(|_| !gone.contains(&interface.ifindex));
        match now {
            None => all.push(Change::Gone(interface.slot)),
            Some(now) => {
                kept.push(now.ifindex);
                if now.name != interface.name {
                    all.push(Change::Renamed(interface.slot, now.name.clone()));
                }
            }
        }
    }
    let new = selection.of(existing).into_iter();
    all.extend(
        new.filter(|interface| !kept.contains(&interface.ifindex))
            .map(Change::New),
    );
    all
}

/// Slots not in use.
#[derive(Debug)]
pub(super) struct Slots {
    /// Slots below it were in use at some time.
    unused: u32,
    /// Slots given back, with the time, oldest first.
    resting: VecDeque<(u32, u64)>,
    rest_ns: u64,
}

/// A slot to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) slot: u32,
    /// Its totals are those of an earlier interface.
    pub(super) used_before: bool,
}

impl Slots {
    /// All unused; one that is given back rests for so long.
    pub(super) const fn new(rest_ns: u64) -> Self {
        Self {
            unused: 0,
            resting: VecDeque::new(),
            rest_ns,
        }
    }

    /// Takes one that was never used, else the one that has rested longest, and long enough.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<Free> {
        if self.unused < INTERFACES_MAX {
            self.unused += 1;
            return Some(Free {
                slot: self.unused - 1,
                used_before: false,
            });
        }
        let (slot, since_ns) = *self.resting.front()?;
        if now_ns.saturating_sub(since_ns) < self.rest_ns {
            return None;
        }
        self.resting.pop_front();
        Some(Free {
            slot,
            used_before: true,
        })
    }

    /// Gives one back.
    pub(super) fn give(&mut self, slot: u32, now_ns: u64) {
        self.resting.push_back((slot, now_ns));
    }

    /// Slots that rest: their totals still count.
    pub(super) fn resting(&self) -> impl Iterator<Item = u32> + '_ {
        self.resting.iter().map(|(slot, _)| *slot)
    }
}

/// What became of an interface.
#[derive(Debug)]
pub enum LinkEvent {
    /// It came and is watched.
    Attached(AttachedInterface),
    /// It went; its slot keeps its totals for a while.
    Gone(AttachedInterface),
    /// The default route leads elsewhere, and it is not watched any more.
    Left(AttachedInterface),
    /// It has another name, which it is watched under.
    Renamed {
        /// As it is now.
        interface: AttachedInterface,
        /// Its earlier name.
        from: String,
    },
    /// It is asked for and not watched.
    Refused {
        /// Its name.
        name: String,
        /// Why.
        error: ProbeError,
    },
}

#[cfg(test)]
mod tests {
    use netml_common::Link;

    use super::*;

    fn interface(ifindex: u32, name: &str) -> Interface {
        Interface {
            ifindex,
            name: name.to_owned(),
            link: Link::Ethernet,
            up: true,
            loopback: false,
            mtu_bytes: 1_500,
            xdp_program_id: None,
        }
    }

    fn watched(slot: u32, ifindex: u32, name: &str) -> AttachedInterface {
        AttachedInterface {
            slot,
            ifindex,
            name: name.to_owned(),
            link: Link::Ethernet,
            ingress_mode: super::super::MODE_TCX,
            egress_mode: super::super::MODE_TCX,
            aggregated: false,
            attach_id: 1,
        }
    }

    fn veths() -> Selection {
        Selection::new(&["veth*".to_owned()], false)
    }

    #[test]
    fn what_came_went_and_was_renamed_is_found_and_the_rest_left_alone() {
        let watching = [
            watched(0, 5, "veth1"),
            watched(1, 6, "veth2"),
            watched(2, 7, "veth3"),
        ];
        let existing = [
            interface(2, "eth0"),
            interface(5, "veth1"),
            interface(7, "other"),
            interface(9, "veth9"),
        ];
        assert_eq!(
            changes(&veths(), &watching, &existing, &[]),
            [
                Change::Gone(1),
                Change::Renamed(2, "other".into()),
                Change::New(interface(9, "veth9"))
            ]
        );
    }

    #[test]
    fn an_index_that_was_given_anew_is_another_interface() {
        let watching = [watched(0, 5, "veth1")];
        let existing = [interface(5, "veth1")];
        assert_eq!(
            changes(&veths(), &watching, &existing, &[5]),
            [Change::Gone(0), Change::New(interface(5, "veth1"))]
        );
        assert_eq!(changes(&veths(), &watching, &existing, &[]), []);
    }

    #[test]
    fn slots_are_used_once_each_and_then_anew_after_their_rest() {
        let mut slots = Slots::new(SLOT_REST_NS);
        for expected in 0..INTERFACES_MAX {
            let free = slots.take(0).unwrap();
            assert_eq!((free.slot, free.used_before), (expected, false));
        }
        assert_eq!(slots.take(0), None);
        slots.give(9, 1_000);
        slots.give(4, 2_000);
        assert_eq!(slots.resting().collect::<Vec<_>>(), [9, 4]);
        assert_eq!(slots.take(999 + SLOT_REST_NS), None);
        let free = slots.take(1_000 + SLOT_REST_NS).unwrap();
        assert_eq!((free.slot, free.used_before), (9, true));
        assert_eq!(slots.take(1_000 + SLOT_REST_NS), None);
    }

    /// A message with a body of 16 bytes.
    fn told(kind: u16, body: [u8; 16]) -> Vec<u8> {
        let mut message = 32_u32.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend(body);
        message
    }

    #[test]
    fn only_links_that_go_are_taken_as_gone() {
        let link = |kind, family, ifindex| {
            told(
                kind,
                [family, 0, 0, 0, ifindex, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            )
        };
        let mut gone = None;
        take_news(
            &[link(16, 0, 3), link(17, 0, 4), link(17, 7, 5)].concat(),
            &mut gone,
        );
        assert_eq!(gone, Some(vec![4]));
    }

    #[test]
    fn of_routes_only_default_ones_are_news() {
        let route = |kind, dst_bits, table| {
            told(
                kind,
                [2, dst_bits, 0, 0, table, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            )
        };
        let mut gone = None;
        take_news(
            &[route(24, 24, 254), route(25, 0, 7), route(25, 32, 255)].concat(),
            &mut gone,
        );
        assert_eq!(gone, None);
        for kind in [24, 25] {
            let mut gone = None;
            take_news(
                &[route(24, 8, 254), route(kind, 0, 254)].concat(),
                &mut gone,
            );
            assert_eq!(gone, Some(vec![]));
        }
    }
}
