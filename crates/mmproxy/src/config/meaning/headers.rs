//! Which headers are accepted.

use super::{Meaning, values};
use crate::cli::{HeaderArg, ProtocolArg, SourceArg, UdpHeaderArg};
use crate::config::keys::ServiceKeys;
use crate::config::mistake::Mistake;
use crate::config::scalar::Scalar as _;
use crate::config::slot::AnySlot as _;

/// Formats that a service accepts, each once: both of connections and version 2 of datagrams, unless it says so.
pub(super) fn accepted(keys: &ServiceKeys) -> Vec<HeaderArg> {
    let mut formats = Vec::new();
    for format in values(&keys.header) {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    match (formats.is_empty(), keys.protocol.value()) {
        (false, _) => formats,
        (true, ProtocolArg::Tcp) => vec![HeaderArg::V1, HeaderArg::V2],
        (true, ProtocolArg::Udp) => vec![HeaderArg::V2],
    }
}

impl Meaning<'_> {
    /// A format that the protocol does not have, more than one in front of datagrams, and headers where there are none.
    pub(super) fn headers(&mut self, keys: &ServiceKeys) {
        let formats = accepted(keys);
        let first = formats.iter().find(|format| **format != HeaderArg::V1);
        if let Some(none) = keys.header.given().filter(|given| given.value.is_empty()) {
            let mistake = Mistake::new("no header is accepted", none.spot.clone(), "an empty list");
            self.mistakes
                .push(mistake.help("name a format, or say `source = \"peer\"` where there are no headers"));
        }
        for setting in keys.header.given().map_or(&[][..], |given| given.value.as_slice()) {
            let flag = self.called("header");
            let (title, label, help) = match (keys.protocol.value(), setting.value) {
                (ProtocolArg::Tcp, HeaderArg::Spp) => (
                    format!("{flag} spp is about datagrams, and connections are served"),
                    "connections are served",
                    if self.flags {
                        "add -p udp, or leave it out"
                    } else {
                        "add `protocol = \"udp\"`, or leave it out"
                    },
                ),
                (ProtocolArg::Udp, HeaderArg::V1) => (
                    format!("{flag} v1 is about connections, and datagrams are served"),
                    "datagrams are served",
                    "datagrams begin with v2 or spp",
                ),
                (ProtocolArg::Udp, format) if first != Some(&format) => (
                    format!("{flag} {} is one format too many: datagrams have one", format.text()),
                    "a second format",
                    "make a service, with an address of its own, for each format",
                ),
                (ProtocolArg::Tcp, HeaderArg::V1 | HeaderArg::V2)
                | (ProtocolArg::Udp, HeaderArg::V2 | HeaderArg::Spp) => continue,
            };
            self.mistakes.push(Mistake::new(title, setting.spot.clone(), label).help(help));
        }
        if keys.udp_header.value() == UdpHeaderArg::FirstDatagram && formats.contains(&HeaderArg::Spp) {
            let title = format!(
                "{} first-datagram is for version 2: with SPP every datagram has a header",
                self.called("udp-header")
            );
            let mistake = Mistake::new(title, keys.udp_header.spot(), "every datagram has a header")
                .beside(keys.header.spot(), "the header is SPP's");
            self.mistakes.push(mistake.help(format!("leave {} out", self.called("udp-header"))));
        }
        if keys.source.value() == SourceArg::Peer {
            for (key, place) in [("header", keys.header.place()), ("udp-header", keys.udp_header.place())] {
                let Some(place) = place else { continue };
                let title = format!(
                    "{} means nothing with {} peer, which asks for none",
                    self.called(key),
                    self.called("source")
                );
                let mistake = Mistake::new(title, place, "there is no header")
                    .beside(keys.source.spot(), "the client is who sends");
                self.mistakes.push(mistake.help("leave out one or the other"));
            }
        }
    }
}
