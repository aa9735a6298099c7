//! What the loader tells the kernel programs: map entries and globals.
//!
//! All of it is written before anything is attached.

/// Value of the kernel map of watched interfaces, keyed by interface index (`u32`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct InterfaceEntry {
    /// Slot in the counter array, below [`crate::INTERFACES_MAX`].
    pub slot: u8,
    /// [`InterfaceEntry::ETHERNET`] or [`InterfaceEntry::RAW_IP`].
    pub link: u8,
    /// [`crate::Marks`] added to every record received there: the aggregated mark or none.
    pub ingress_marks: u8,
    /// Zero.
    pub reserved: u8,
}

const _: () = assert!(size_of::<InterfaceEntry>() == 4);

impl InterfaceEntry {
    /// Frames begin with an Ethernet header.
    pub const ETHERNET: u8 = 0;
    /// Frames begin with an IP header (tun, WireGuard, IP tunnels).
    pub const RAW_IP: u8 = 1;

    /// The bytes of the map value.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 4] {
        [self.slot, self.link, self.ingress_marks, self.reserved]
    }
}

/// Value of the kernel array before the map of watched interfaces, at the interface index modulo
/// [`NEAR_ENTRIES`]: it spares most frames the map's hash. One number, so that it is written and
/// read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearEntry {
    /// Interface index; 0: none here.
    pub ifindex: u32,
    /// As in the map.
    pub entry: InterfaceEntry,
}

/// Entries of that array. Interfaces that share one are found in the map.
pub const NEAR_ENTRIES: u32 = 256;

impl NearEntry {
    /// Nobody's.
    pub const NONE: u64 = 0;

    /// The map value.
    #[must_use]
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.ifindex as u64) << 32 | u32::from_le_bytes(self.entry.to_bytes()) as u64
    }

    /// Decodes a map value; any number is one.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        let [slot, link, ingress_marks, reserved] = (word as u32).to_le_bytes();
        Self {
            ifindex: (word >> 32) as u32,
            entry: InterfaceEntry {
                slot,
                link,
                ingress_marks,
                reserved,
            },
        }
    }

    /// Place of an interface in the array.
    #[must_use]
    #[inline(always)]
    pub const fn index(ifindex: u32) -> u32 {
        ifindex % NEAR_ENTRIES
    }
}

/// Name of the ring buffer map.
pub const RING_MAP: &str = "RING";
/// Name of the per-CPU array of [`crate::InterfaceCounters`].
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Name of the hash map of [`InterfaceEntry`].
pub const INTERFACES_MAP: &str = "INTERFACES";
/// Name of the array of [`NearEntry`].
pub const NEAR_MAP: &str = "NEAR";
/// Name of the global with the fill, in bytes, at which the ring wakes its reader.
pub const WAKE_FILL_GLOBAL: &str = "WAKE_FILL_BYTES";

/// Name of the hash map of flows seen both ways: [`crate::FlowKey`] to [`crate::FlowEntry`].
pub const ESTABLISHED_MAP: &str = "ESTABLISHED";
/// Name of the hash map of flows seen one way only, with the same key and value.
pub const OPENING_MAP: &str = "OPENING";
/// Name of the array of the one [`crate::StepDown`].
pub const STEP_DOWN_MAP: &str = "STEP_DOWN";
/// Name of the global with the fill of the ring, in bytes, from which packets are counted by flow.
pub const HIGH_MARK_GLOBAL: &str = "HIGH_MARK_BYTES";
/// Name of the global with the fill, in bytes, below which every packet is recorded again.
pub const LOW_MARK_GLOBAL: &str = "LOW_MARK_BYTES";
/// Name of the global with the largest fill, in bytes, at which a record can still find room: past
/// it no room is asked for.
pub const LAST_FILL_GLOBAL: &str = "LAST_FILL_BYTES";
/// Name of the global with the records each flow gets before it is sampled.
pub const FIRST_RECORDS_GLOBAL: &str = "FIRST_RECORDS";
/// Name of the global with the mask of a flow's frame count that is zero on sampled frames.
pub const SAMPLE_MASK_GLOBAL: &str = "SAMPLE_MASK";

/// Flows seen both ways where the loader sets no other bound: as many as the sensor's own table.
/// About 13 MB of kernel memory. One more stays among those seen one way, or is sampled and lost.
pub const ESTABLISHED_ENTRIES: u32 = 65_536;
/// Flows seen one way where the loader sets no other bound: about 7 MB of kernel memory. One more
/// goes into the ring, or is lost where that is full.
pub const OPENING_ENTRIES: u32 = 32_768;
/// Records each flow gets before it is sampled, where the loader sets no other number.
pub const FIRST_RECORDS_DEFAULT: u32 = 8;
/// One frame in this many (a power of two) of a known flow becomes a record, where the loader
/// sets no other number.
pub const SAMPLE_ONE_IN_DEFAULT: u32 = 64;

/// Name of the global (`u32`) that says whether tunnels are opened: 0 or 1.
pub const DECAPSULATE_GLOBAL: &str = "DECAPSULATE";

/// Width of the fill window, in bytes, in which a submit wakes the reader: `wake fill ..
/// wake fill + window`. Past it the reader is awake already and a wake-up would only cost.
pub const WAKE_WINDOW_BYTES: u32 = 16 * 1024;

/// Program for what an interface receives, by XDP.
pub const XDP_PROGRAM: &str = "netml_xdp";
/// Program for what an interface receives, by TC.
pub const INGRESS_PROGRAM: &str = "netml_ingress";
/// Program for what an interface sends, by TC.
pub const EGRESS_PROGRAM: &str = "netml_egress";
/// Yardstick of the bench: lets every frame pass.
pub const BARE_PASS_PROGRAM: &str = "netml_bare_pass";
/// Yardstick of the bench: submits an empty record for every frame.
pub const BARE_SUBMIT_PROGRAM: &str = "netml_bare_submit";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_and_its_entry_round_trip_through_one_number() {
        let near = NearEntry {
            ifindex: 0x8000_0101,
            entry: InterfaceEntry {
                slot: 63,
                link: InterfaceEntry::RAW_IP,
                ingress_marks: 0x80,
                reserved: 0,
            },
        };
        assert_eq!(NearEntry::from_word(near.to_word()), near);
        assert_eq!(NearEntry::index(near.ifindex), 1);
        assert_eq!(NearEntry::from_word(NearEntry::NONE).ifindex, 0);
    }
}
