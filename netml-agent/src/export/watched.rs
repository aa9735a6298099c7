//! The interfaces watched, shared by those who name them: they come, go and change their names
//! while the sensor runs.

use std::sync::{Arc, PoisonError, RwLock};

use netml_proto::v1;

/// Interfaces watched now, and the names of all slots ever used. Clones share.
#[derive(Clone, Debug, Default)]
pub struct Watched(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    interfaces: Vec<v1::Interface>,
    names: Vec<String>,
}

impl Watched {
    /// Names by slot only, of a source without interfaces.
    #[must_use]
    pub fn of_names(names: Vec<String>) -> Self {
        Self(Arc::new(RwLock::new(Inner {
            interfaces: Vec::new(),
            names,
        })))
    }

    /// Replaces the interfaces. The name of a slot that none has any more stays: its flows are told
    /// for a while.
    pub fn set(&self, interfaces: Vec<v1::Interface>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for interface in &interfaces {
            let slot = interface.slot as usize;
            if inner.names.len() <= slot {
                inner.names.resize(slot + 1, String::new());
            }
            inner.names[slot].clone_from(&interface.name);
        }
        inner.interfaces = interfaces;
    }

    /// The interfaces now.
    #[must_use]
    pub fn interfaces(&self) -> Vec<v1::Interface> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.interfaces.clone()
    }

    /// Name of a slot's interface; empty for a slot never used.
    #[must_use]
    pub fn name(&self, slot: u8) -> String {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner
            .names
            .get(usize::from(slot))
            .cloned()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_its_name_until_another_interface_has_it() {
        let interface = |slot, name: &str| v1::Interface {
            slot,
            name: name.into(),
            ..v1::Interface::default()
        };
        let watched = Watched::default();
        let shared = watched.clone();
        watched.set(vec![interface(0, "eth0"), interface(2, "veth1")]);
        assert_eq!((shared.name(0), shared.name(1)), ("eth0".into(), "".into()));
        watched.set(vec![interface(0, "lan0")]);
        assert_eq!(shared.name(0), "lan0");
        assert_eq!(shared.name(2), "veth1");
        assert_eq!(shared.interfaces().len(), 1);
        assert_eq!(shared.name(255), "");
    }
}
