//! Interfaces that come, go, are renamed or refused while the sensor runs: a line in the log and an
//! event for each.

use std::io;

use netml_proto::v1;

use super::printer::shown;
use crate::export::convert::event;
use crate::probe::{AttachedInterface, LinkEvent, LinkNews, Probe};

/// The kernel's news of links.
pub(super) struct Links(Option<LinkNews>);

impl Links {
    /// Takes the probe's listener; where there is none, nothing ever comes.
    pub(super) fn of(probe: &mut Probe) -> io::Result<Self> {
        let listener = probe.take_listener();
        listener.map(LinkNews::of).transpose().map(Self)
    }

    /// Waits for news; the indices of links that went. May be dropped and called again. Where the
    /// kernel tells no more, nothing ever comes.
    pub(super) async fn news(&mut self) -> Vec<u32> {
        if let Some(news) = &self.0 {
            match news.next().await {
                Ok(gone) => return gone,
                Err(error) => tracing::warn!(
                    %error,
                    "the kernel tells no more of interfaces; start anew to follow them"
                ),
            }
        }
        self.0 = None;
        std::future::pending().await
    }
}

/// The interfaces as the wire tells them.
pub(super) fn on_the_wire(probe: &Probe) -> Vec<v1::Interface> {
    probe
        .interfaces()
        .iter()
        .map(|interface| v1::Interface {
            slot: interface.slot,
            ifindex: interface.ifindex,
            name: interface.name.clone(),
            ingress_mode: interface.ingress_mode.into(),
            egress_mode: interface.egress_mode.into(),
            aggregated_totals: interface.aggregated,
        })
        .collect()
}

/// One interface and its modes, for people.
pub(super) fn described(interface: &AttachedInterface) -> String {
    format!(
        "{} ({} in, {} out{})",
        shown(&interface.name),
        interface.ingress_mode,
        interface.egress_mode,
        if interface.aggregated {
            ", totals aggregated"
        } else {
            ""
        }
    )
}

/// Logs an event and gives its record.
pub(super) fn told(unix_ns: u64, link: &LinkEvent) -> v1::Record {
    let (kind, severity, message, fields) = match link {
        LinkEvent::Attached(interface) => (
            "interface-attached",
            "info",
            format!("watching {}", described(interface)),
            vec![("interface", interface.name.clone())],
        ),
        LinkEvent::Gone(interface) => (
            "interface-gone",
            "warning",
            format!("{} is gone", shown(&interface.name)),
            vec![("interface", interface.name.clone())],
        ),
        LinkEvent::Left(interface) => (
            "interface-left",
            "info",
            format!(
                "{} is not watched any more: the default route leads elsewhere",
                shown(&interface.name)
            ),
            vec![("interface", interface.name.clone())],
        ),
        LinkEvent::Renamed { interface, from } => (
            "interface-renamed",
            "info",
            format!("{} is {} now", shown(from), shown(&interface.name)),
            vec![
                ("interface", interface.name.clone()),
                ("from", from.clone()),
            ],
        ),
        LinkEvent::Refused { name, error } => (
            "interface-refused",
            "warning",
            format!("{} is not watched: {error}", shown(name)),
            vec![("interface", name.clone())],
        ),
    };
    if severity == "info" {
        tracing::info!(kind, "{message}");
    } else {
        tracing::warn!(kind, "{message}");
    }
    event(unix_ns, kind, severity, message, &fields)
}
