//! Exact totals, kept by the kernel programs in a per-CPU array and summed in user space.

use crate::loss::KERNEL_LOSS_REASONS;
use crate::record::Direction;

/// Most interfaces one sensor watches at once; one more is refused at attach.
pub const INTERFACES_MAX: u32 = 64;

/// Slot behind those of the interfaces, for frames of an interface the loader gave no slot.
pub const UNKNOWN_SLOT: u32 = INTERFACES_MAX;

/// Length of the counter array: one entry per slot and direction, [`UNKNOWN_SLOT`] included.
pub const COUNTER_ENTRIES: u32 = (INTERFACES_MAX + 1) * 2;

/// Number of [`ProtocolClass`] values.
pub const PROTOCOL_CLASSES: usize = 7;

/// Coarse protocol of a frame, for exact totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProtocolClass {
    /// IP protocol 6.
    Tcp = 0,
    /// IP protocol 17.
    Udp = 1,
    /// IP protocol 1 over IPv4.
    Icmp = 2,
    /// IP protocol 58 over IPv6.
    Icmpv6 = 3,
    /// Any other IP protocol.
    OtherIp = 4,
    /// ARP.
    Arp = 5,
    /// Everything else, malformed frames included.
    Other = 6,
}

impl ProtocolClass {
    /// All classes, in the order of their numbers.
    pub const ALL: [Self; PROTOCOL_CLASSES] = [
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::Icmpv6,
        Self::OtherIp,
        Self::Arp,
        Self::Other,
    ];

    /// Class of an IP protocol number.
    #[must_use]
    #[inline(always)]
    pub const fn of_ip_protocol(ip_protocol: u8) -> Self {
        match ip_protocol {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 => Self::Icmp,
            58 => Self::Icmpv6,
            _ => Self::OtherIp,
        }
    }

    /// Index in a counter array.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::OtherIp => "other-ip",
            Self::Arp => "arp",
            Self::Other => "other",
        }
    }
}

/// Totals of one interface and direction on one CPU. All fields are cumulative since attach.
///
/// `frames == recorded + mapped + Σ lost`. `packets ≥ frames`: a super-packet is one frame and as many
/// wire packets as it has segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct InterfaceCounters {
    /// Wire packets.
    pub packets: u64,
    /// Wire bytes from the link-layer header on, without frame check sequence.
    pub bytes: u64,
    /// Program runs.
    pub frames: u64,
    /// Records submitted to the ring.
    pub recorded: u64,
    /// Frames counted in the kernel's flow map instead of a record.
    pub mapped: u64,
    /// Frames without a record, by [`crate::LossReason`] index.
    pub lost: [u64; KERNEL_LOSS_REASONS],
    /// Wire packets by [`ProtocolClass`] index.
    pub protocol_packets: [u64; PROTOCOL_CLASSES],
    /// Wire bytes by [`ProtocolClass`] index.
    pub protocol_bytes: [u64; PROTOCOL_CLASSES],
}

const _: () = assert!(size_of::<InterfaceCounters>() == 8 * (5 + KERNEL_LOSS_REASONS + 7 + 7));

impl InterfaceCounters {
    /// All zero.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
        frames: 0,
        recorded: 0,
        mapped: 0,
        lost: [0; KERNEL_LOSS_REASONS],
        protocol_packets: [0; PROTOCOL_CLASSES],
        protocol_bytes: [0; PROTOCOL_CLASSES],
    };

    /// Index in the counter array.
    #[must_use]
    #[inline(always)]
    pub const fn entry(slot: u32, direction: Direction) -> u32 {
        slot * 2 + direction as u32
    }

    /// Adds the totals of another CPU.
    pub fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.frames = self.frames.wrapping_add(other.frames);
        self.recorded = self.recorded.wrapping_add(other.recorded);
        self.mapped = self.mapped.wrapping_add(other.mapped);
        for (sum, value) in self.lost.iter_mut().zip(other.lost) {
            *sum = sum.wrapping_add(value);
        }
        for (sum, value) in self.protocol_packets.iter_mut().zip(other.protocol_packets) {
            *sum = sum.wrapping_add(value);
        }
        for (sum, value) in self.protocol_bytes.iter_mut().zip(other.protocol_bytes) {
            *sum = sum.wrapping_add(value);
        }
    }

    /// Frames that gave neither a record nor a count in the flow map, over all reasons.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost
            .iter()
            .fold(0, |sum, value| sum.wrapping_add(*value))
    }

    /// `frames == recorded + mapped + Σ lost`.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.frames
            == self
                .recorded
                .wrapping_add(self.mapped)
                .wrapping_add(self.lost_total())
    }
}
