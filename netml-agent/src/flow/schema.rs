//! The feature schema: names, order, units and ranges, and the digest that binds a model to them.

/// Number of features of a row.
pub const FEATURES: usize = 2;

/// Group a feature belongs to, for ablations and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Of the packet at the evaluation point.
    Packet,
    /// Of the flow so far.
    Flow,
    /// Of the initiator's recent behaviour.
    SourceHost,
    /// Of what the responder recently received.
    DestinationHost,
    /// Of the two together.
    Pair,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSpec {
    /// Stable name with its unit.
    pub name: &'static str,
    /// Family.
    pub family: Family,
    /// How it is computed, in one sentence.
    pub formula: &'static str,
    /// True where the feature rests on a port class.
    pub port_based: bool,
}

/// All features, in the order of a row.
pub const FEATURE_SPECS: [FeatureSpec; FEATURES] = [
    FeatureSpec {
        name: "a",
        family: Family::Packet,
        formula: "placeholder",
        port_based: false,
    },
    FeatureSpec {
        name: "b",
        family: Family::Packet,
        formula: "placeholder",
        port_based: false,
    },
];

/// SHA-256 over names, order and formulas, in lower-case hex.
#[must_use]
pub fn digest() -> String {
    String::new()
}
