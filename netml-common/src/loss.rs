//! Why a packet that was seen is not in the stage that follows: one list for all stages.
//!
//! At every stage `in == out + Σ lost[reason]`. The first [`KERNEL_LOSS_REASONS`] are counted by
//! the kernel programs, the rest by the agent. A reason's number is its index in every counter
//! array and never changes; new ones go to the end of their part.

/// Room for the reasons the kernel programs count; the length of their counter array.
pub const KERNEL_LOSS_REASONS: usize = 24;

/// Room for all reasons.
pub const LOSS_REASONS: usize = 32;

/// Why a frame, packet or record went no further. It was still counted in the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LossReason {
    /// The ring had no room for the record.
    RingFull = 0,
    /// The frame ends inside its link-layer header.
    TruncatedLink = 1,
    /// Address resolution (EtherType 0x0806), which has no IP header.
    Arp = 2,
    /// An EtherType that is neither walked nor named by a reason of its own.
    OtherEthertype = 3,
    /// More than [`crate::walk::VLAN_TAGS_MAX`] VLAN tags.
    VlanDepth = 4,
    /// IPv4 header truncated, of another version, or with a length below 20 bytes.
    BadIpv4Header = 5,
    /// IPv6 header truncated or of another version.
    BadIpv6Header = 6,
    /// IPv6 extension chain truncated.
    BadIpv6Extension = 7,
    /// More than [`crate::walk::IPV6_EXTENSIONS_MAX`] IPv6 extension headers.
    Ipv6ExtensionDepth = 8,
    /// The packet came from an interface the loader gave no slot.
    UnknownInterface = 9,
    /// Link layer discovery (EtherType 0x88cc).
    Lldp = 10,
    /// An 802.3 length instead of an EtherType: LLC, as spanning tree uses it.
    Llc = 11,
    /// Port authentication, 802.1X (EtherType 0x888e).
    Eapol = 12,
    /// PPPoE discovery stage (EtherType 0x8863).
    PppoeDiscovery = 13,
    /// A PPPoE session frame of another PPP protocol than IPv4 and IPv6: link control and the
    /// like.
    PppControl = 14,
    /// Precision time protocol over Ethernet (EtherType 0x88f7).
    Ptp = 15,
    /// Encrypted by MACsec (EtherType 0x88e5): the headers behind cannot be read.
    Macsec = 16,
    /// Ethernet configuration test (EtherType 0x9000).
    EthernetLoopback = 17,
    /// Slow protocols (EtherType 0x8809): link aggregation, OAM.
    SlowProtocol = 18,
    /// More than [`crate::walk::MPLS_LABELS_MAX`] MPLS labels.
    MplsDepth = 19,
    /// MPLS labels before something other than IPv4 and IPv6: a pseudowire.
    MplsPayload = 20,
    // The numbers between are kept free, so that a new kernel reason moves no other.
    /// Stepped down, neither the ring nor the kernel's flow map had room.
    FlowMapFull = 23,
    /// The record was of an unknown kind or version, or contradicted itself.
    RecordRefused = 24,
    /// A packet sample above the budget of its second; its flow still has it.
    SampleBudget = 25,
    /// A record for the collector above the bound of the backlog.
    BacklogFull = 26,
    /// A capture file's packet was cut before its headers ended, or its link type is not known.
    CaptureRefused = 27,
}

impl LossReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 26] = [
        Self::RingFull,
        Self::TruncatedLink,
        Self::Arp,
        Self::OtherEthertype,
        Self::VlanDepth,
        Self::BadIpv4Header,
        Self::BadIpv6Header,
        Self::BadIpv6Extension,
        Self::Ipv6ExtensionDepth,
        Self::UnknownInterface,
        Self::Lldp,
        Self::Llc,
        Self::Eapol,
        Self::PppoeDiscovery,
        Self::PppControl,
        Self::Ptp,
        Self::Macsec,
        Self::EthernetLoopback,
        Self::SlowProtocol,
        Self::MplsDepth,
        Self::MplsPayload,
        Self::FlowMapFull,
        Self::RecordRefused,
        Self::SampleBudget,
        Self::BacklogFull,
        Self::CaptureRefused,
    ];

    /// Index of this reason in a counter array.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Stable name, used in metrics, on the wire and on the dashboard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring-full",
            Self::TruncatedLink => "truncated-link",
            Self::Arp => "arp",
            Self::OtherEthertype => "other-ethertype",
            Self::VlanDepth => "vlan-depth",
            Self::BadIpv4Header => "bad-ipv4-header",
            Self::BadIpv6Header => "bad-ipv6-header",
            Self::BadIpv6Extension => "bad-ipv6-extension",
            Self::Ipv6ExtensionDepth => "ipv6-extension-depth",
            Self::UnknownInterface => "unknown-interface",
            Self::Lldp => "lldp",
            Self::Llc => "llc",
            Self::Eapol => "eapol",
            Self::PppoeDiscovery => "pppoe-discovery",
            Self::PppControl => "ppp-control",
            Self::Ptp => "ptp",
            Self::Macsec => "macsec",
            Self::EthernetLoopback => "ethernet-loopback",
            Self::SlowProtocol => "slow-protocol",
            Self::MplsDepth => "mpls-depth",
            Self::MplsPayload => "mpls-payload",
            Self::FlowMapFull => "flow-map-full",
            Self::RecordRefused => "record-refused",
            Self::SampleBudget => "sample-budget",
            Self::BacklogFull => "backlog-full",
            Self::CaptureRefused => "capture-refused",
        }
    }

    /// True where the frame simply has no IP packet inside: nothing was lost, only not analysed.
    #[must_use]
    pub const fn is_not_ip(self) -> bool {
        matches!(
            self,
            Self::Arp
                | Self::OtherEthertype
                | Self::Lldp
                | Self::Llc
                | Self::Eapol
                | Self::PppoeDiscovery
                | Self::PppControl
                | Self::Ptp
                | Self::Macsec
                | Self::EthernetLoopback
                | Self::SlowProtocol
                | Self::MplsPayload
        )
    }
}
