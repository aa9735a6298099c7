//! One conversation seen on several interfaces: it is a flow on each, and counts once for its hosts.
//!
//! A packet that crosses several watched interfaces is seen once on each of them. Of the flows that
//! share addresses, ports and protocol, the first to see a packet of one direction feeds the windows
//! of hosts with that direction; when it ends, another one goes on. So a router's two legs count a
//! packet once, and two legs of which each carries one direction count both. With one interface
//! nothing is kept and nothing is asked. With more, a table of conversations is looked into where a
//! flow begins or ends; it has no more entries than there are flows.
//!
//! A copy in a tunnel that is opened, as a host sees it on its card, and one outside, as it sees it
//! on the tunnel's own device, are of one conversation though one has a network and the other has
//! none. Where several networks use the same ends the last of them that began is taken for that.
//!
//! What this cannot see: copies behind address translation or in a tunnel left closed, which are
//! other flows; those in two networks; and one direction spread packet by packet over several
//! interfaces, of which one leg counts.

use netml_common::Network;

use super::Engine;
use crate::flow::key::FlowKey;
use crate::flow::lru::Place;
use crate::flow::state::Flow;

/// A flow this close to its active time-out is about to begin anew itself: it is not asked.
const RENEWAL_NS: u64 = 1_000_000_000;

/// What a flow knows of the others of its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Slots on which it was seen too, a bit each.
    pub also_on: u64,
    /// No other flow of the conversation lived when this one began.
    pub(super) is_first: bool,
    /// Packets of the key's lower end, and of the higher one, feed the windows.
    feeds: [bool; 2],
}

impl Default for Path {
    fn default() -> Self {
        Self {
            also_on: 0,
            is_first: true,
            feeds: [true; 2],
        }
    }
}

/// The flows of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    /// Slots that have one, a bit each.
    slots: u64,
    /// The network of the latest that has one.
    network: Network,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            slots: 0,
            network: Network::NONE,
        }
    }
}

/// The key of a flow's conversation.
fn conversation(key: &FlowKey) -> FlowKey {
    FlowKey {
        slot: 0,
        network: Network::NONE,
        ..*key
    }
}

const fn bit(slot: u8) -> u64 {
    1 << (slot & 63)
}

/// The slots of a set.
fn slots(mut set: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let slot = (set != 0).then(|| set.trailing_zeros() as u8)?;
        set &= set - 1;
        Some(slot)
    })
}

/// Packets of a direction in a flow so far.
const fn packets(flow: &Flow, from_low: bool) -> u64 {
    if from_low == flow.initiator_is_low {
        flow.fwd.packets
    } else {
        flow.rev.packets
    }
}

impl Engine {
    /// Which end began a conversation that another interface knows already. To be asked before a
    /// flow begins.
    pub(super) fn initiator_elsewhere(&mut self, key: &FlowKey) -> Option<bool> {
        let seen = self.slots_seen | bit(key.slot);
        if seen != self.slots_seen {
            self.slots_seen = seen;
            if seen.count_ones() == 2 {
                self.index_conversations();
            }
        }
        let place = slots(self.others(key)).find_map(|slot| self.peer_now(key, slot))?;
        Some(self.flows.at(place).initiator_is_low)
    }

    /// Makes a new flow and those of its conversation know of each other.
    pub(super) fn meet(&mut self, place: Place) {
        if self.slots_seen.count_ones() < 2 {
            return;
        }
        let key = *self.flows.key_at(place);
        for slot in slots(self.others(&key)) {
            if let Some(other) = self.peer_now(&key, slot) {
                self.flows.at_mut(other).path.also_on |= bit(key.slot);
                let path = &mut self.flows.at_mut(place).path;
                path.also_on |= bit(slot);
                path.is_first = false;
            }
        }
        self.note(&key);
    }

    /// Every conversation of the flows so far, once a second interface is seen.
    fn index_conversations(&mut self) {
        let places: Vec<Place> = self.flows.places().collect();
        for place in places {
            let key = *self.flows.key_at(place);
            self.note(&key);
        }
    }

    fn note(&mut self, key: &FlowKey) {
        let mut evicted = 0;
        let at = self
            .conversations
            .touch_or_insert(Place::MAX, conversation(key), &mut evicted);
        // There are never more conversations than flows, and as much room.
        debug_assert_eq!(evicted, 0);
        let conversation = self.conversations.at_mut(at);
        conversation.slots |= bit(key.slot);
        if key.network != Network::NONE {
            conversation.network = key.network;
        }
    }

    /// Other slots on which the conversation has a flow.
    fn others(&self, key: &FlowKey) -> u64 {
        self.conversation_of(key)
            .map_or(0, |found| found.slots & !bit(key.slot))
    }

    fn conversation_of(&self, key: &FlowKey) -> Option<Conversation> {
        let at = self.conversations.find(&conversation(key))?;
        Some(*self.conversations.at(at))
    }

    /// True where a packet of this direction is to be counted for the hosts. To be asked before it
    /// is added to the flow.
    pub(super) fn feeds(&mut self, place: Place, from_low: bool) -> bool {
        let flow = self.flows.at(place);
        let path = flow.path;
        if path.also_on == 0 {
            return true;
        }
        let way = usize::from(from_low);
        if packets(flow, from_low) > 0 {
            return path.feeds[way];
        }
        let feeds = self.feeder(place, from_low, true).is_none();
        self.flows.at_mut(place).path.feeds[way] = feeds;
        feeds
    }

    /// Leaves what a flow that ends has fed to another one of its conversation.
    pub(super) fn hand_over(&mut self, place: Place) {
        if self.slots_seen.count_ones() < 2 {
            return;
        }
        let key = *self.flows.key_at(place);
        if let Some(at) = self.conversations.find(&conversation(&key)) {
            let latest = self.conversations.at(at).network;
            let is_last = ![Network::NONE, latest].into_iter().any(|network| {
                network != key.network && self.flows.find(&FlowKey { network, ..key }).is_some()
            });
            let conversation = self.conversations.at_mut(at);
            if is_last {
                conversation.slots &= !bit(key.slot);
            }
            if conversation.slots == 0 {
                self.conversations.remove(at);
            }
        }
        let path = self.flows.at(place).path;
        if path.also_on == 0 {
            return;
        }
        for from_low in [false, true] {
            let way = usize::from(from_low);
            let flow = self.flows.at(place);
            if path.feeds[way]
                && packets(flow, from_low) > 0
                && let Some(heir) = self.feeder(place, from_low, false)
            {
                self.flows.at_mut(heir).path.feeds[way] = true;
            }
        }
    }

    /// Another flow of the conversation that has packets of this direction and feeds them, or does
    /// not.
    fn feeder(&self, place: Place, from_low: bool, feeding: bool) -> Option<Place> {
        let key = self.flows.key_at(place);
        slots(self.flows.at(place).path.also_on)
            .filter_map(|slot| self.peer(key, slot))
            .find(|&other| {
                let other = self.flows.at(other);
                packets(other, from_low) > 0 && other.path.feeds[usize::from(from_low)] == feeding
            })
    }

    /// The flow of the same conversation on another slot.
    fn peer(&self, key: &FlowKey, slot: u8) -> Option<Place> {
        self.flows
            .find(&FlowKey { slot, ..*key })
            .or_else(|| self.in_other_network(key, slot))
    }

    /// The flow of the same ends on a slot that is outside the network of the key; of a key in none,
    /// that in the latest.
    fn in_other_network(&self, key: &FlowKey, slot: u8) -> Option<Place> {
        let network = if key.network == Network::NONE {
            self.conversation_of(key)?.network
        } else {
            Network::NONE
        };
        (network != key.network)
            .then(|| {
                self.flows.find(&FlowKey {
                    slot,
                    network,
                    ..*key
                })
            })
            .flatten()
    }

    /// The same, where it is the same occurrence of the conversation that begins here now.
    fn peer_now(&self, key: &FlowKey, slot: u8) -> Option<Place> {
        let place = self.peer(key, slot)?;
        let flow = self.flows.at(place);
        let age_ns = self.now_ns.saturating_sub(flow.first_ns);
        let stays = age_ns.saturating_add(RENEWAL_NS) < self.settings.active_timeout_ns;
        (flow.closed.is_none() && stays).then_some(place)
    }
}
