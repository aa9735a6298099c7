//! Kinds of attack to the model's classes.
//!
//! A forest with a class per kind spends its splits on telling rare kinds apart. Kinds that look
//! alike at the level of flows share a class; a kind not named here is a class of its own.

/// The class of all benign kinds.
pub const NORMAL: &str = "normal";

/// Class of the kinds that are too rare for one of their own.
pub const OTHER: &str = "other_attack";

/// Rows below which a class of a table goes to [`OTHER`].
pub const CLASS_ROWS_MIN: usize = 50;

/// Most attack classes; the rarest beyond go to [`OTHER`].
pub const ATTACK_CLASSES_MAX: usize = 20;

/// Kind of benign packets in a capture that also holds an attack.
pub const BACKGROUND: &str = "background";

/// Class of a kind of attack.
#[must_use]
pub fn class_of(kind: &str) -> &str {
    match kind {
        "port_scan" | "vuln_scan" | "iot_malware_scan" | "host_scan" => "scan",
        "syn_flood" => "syn_flood",
        "udp_flood" | "icmp_flood" | "reflection_amp" => "flood",
        "http_flood" | "slow_http_dos" => "http_dos",
        "brute_force" => "brute_force",
        "c2_botnet" | "c2_framework" | "spam_bot" => "botnet",
        "dns_tunnel" => "dns_tunnel",
        "exploit_kit" | "exploit_zerologon" | "lateral_movement" => "intrusion",
        other => other,
    }
}

/// Part of a class in the attack rows a tree is grown on, against the others. Scans and floods
/// behave alike in every network and lead; kinds that look like ordinary traffic at the level of
/// flows would otherwise teach the forest that ordinary traffic is an attack. Without the lab's
/// benign captures among the rows they had to weigh a tenth of this.
#[must_use]
pub fn sampling_weight(class: &str) -> f64 {
    match class {
        "scan" | "syn_flood" | "flood" => 4.0,
        "http_dos" | "brute_force" => 2.0,
        "botnet" | "intrusion" => 0.5,
        _ => 1.0,
    }
}
