//! Who sent a datagram, by the header at its start.

use std::net::IpAddr;

use mmproxy_codec::{
    Command, DecodeOptions, Family, Header, HeaderError, SPP_LEN, Transport, Version, decode_datagram_with,
    encode,
};

use crate::addr::{ClaimedSource, PeerAddr};
use crate::destination::ClaimedDestination;
use crate::udp::key::{FlowKey, Origin};

/// What a datagram says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcement {
    pub(crate) version: Option<Version>,
    /// `None`: the balancer's own, or a client without address.
    pub(crate) client: Option<ClaimedSource>,
    /// `None` wherever `client` is.
    pub(crate) destination: Option<ClaimedDestination>,
    /// What replies have to begin with.
    pub(crate) reply: Option<[u8; SPP_LEN]>,
}

impl Announcement {
    /// Reads the header of `datagram`; beside it the payload, which may be empty.
    pub(crate) fn read<'a>(
        datagram: &'a [u8],
        options: &DecodeOptions,
    ) -> Result<(Self, &'a [u8]), DatagramRefused> {
        let (header, length) = decode_datagram_with(datagram, options)?;
        Ok((Self::of(&header)?, &datagram[length..]))
    }

    fn of(header: &Header<'_>) -> Result<Self, DatagramRefused> {
        let (family, transport) = (header.family(), header.transport());
        let addressed = match (header.command(), family, transport) {
            (Command::Proxy, Family::Inet | Family::Inet6, Transport::Datagram) => true,
            // §2.2: the real endpoints of the connection apply.
            (Command::Local, _, _)
            | (Command::Proxy, Family::Unspec, _)
            | (Command::Proxy, Family::Inet | Family::Inet6 | Family::Unix, Transport::Unspec) => false,
            (Command::Proxy, Family::Unix, Transport::Datagram | Transport::Stream)
            | (Command::Proxy, Family::Inet | Family::Inet6, Transport::Stream) => {
                return Err(DatagramRefused::Family { family, transport });
            }
        };
        Ok(Self {
            version: Some(header.version()),
            client: header.source().filter(|_| addressed).map(ClaimedSource::new),
            destination: header.destination().filter(|_| addressed).map(ClaimedDestination::new),
            reply: encode::spp_reply(header),
        })
    }

    /// The peer itself is the client.
    pub(crate) fn of_peer(peer: PeerAddr) -> Self {
        Self { version: None, client: Some(ClaimedSource::new(peer.addr())), destination: None, reply: None }
    }

    /// The flow it belongs to, on its way from `peer` to `local`.
    pub(crate) fn key(&self, peer: PeerAddr, local: IpAddr) -> FlowKey {
        let origin = match self.client {
            Some(client) => Origin::Client {
                source: client.addr(),
                destination: self.destination.map(ClaimedDestination::addr),
            },
            None => Origin::Balancer { port: peer.addr().port() },
        };
        FlowKey { local, balancer: peer.ip(), origin }
    }
}

/// A datagram that cannot be handed to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramRefused {
    /// There is no header that the gateway takes.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header is about something else than a datagram between internet addresses.
    #[error("the header announces {family} addresses with {transport} transport, not a UDP datagram")]
    Family {
        /// The announced family.
        family: Family,
        /// The announced transport.
        transport: Transport,
    },
}
