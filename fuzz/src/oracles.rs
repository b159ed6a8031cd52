//! Decoders, and what they say in common terms.

use std::net::SocketAddr;

use mmproxy_codec::{DecodeOptions, HeaderError, MAX_V2_LEN, Outcome, decode_with};
use ppp::PartialResult;

/// What a decoder makes of the start of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A header of this many bytes, and the addresses to go by; `None`: the real ones.
    Header(usize, Option<(SocketAddr, SocketAddr)>),
    /// More bytes are needed.
    Incomplete,
    /// Never a header. The reason, if it is ours.
    Refused(Option<HeaderError>),
}

impl Answer {
    /// Whether both say the same; reasons are not compared.
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(_), Self::Refused(_)) => true,
            _ => self == other,
        }
    }

    /// Why we refused.
    pub fn reason(&self) -> Option<HeaderError> {
        match self {
            Self::Refused(reason) => *reason,
            Self::Header(..) | Self::Incomplete => None,
        }
    }
}

/// This project's answer. Without the limit on v2 headers, which the others do not have.
pub fn ours(data: &[u8]) -> Answer {
    let options = DecodeOptions::new().max_v2_len(MAX_V2_LEN).expect("the greatest possible");
    match decode_with(data, &options) {
        Ok(Outcome::Complete { header, consumed }) => {
            Answer::Header(consumed, header.source().zip(header.destination()))
        }
        Ok(Outcome::NeedMore(_)) => Answer::Incomplete,
        Err(error) => Answer::Refused(Some(error)),
    }
}

/// A published crate that decodes the same protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// `ppp` 2.3.0.
    Ppp,
    /// `proxy-header` 0.1.3.
    ProxyHeader,
}

impl Oracle {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ppp, Self::ProxyHeader];

    /// Its answer.
    pub fn answer(self, data: &[u8]) -> Answer {
        match self {
            Self::Ppp if data.first() == Some(&b'\r') => ppp_v2(data),
            Self::Ppp => ppp_v1(data),
            Self::ProxyHeader => proxy_header(data),
        }
    }
}

fn ppp_v1(data: &[u8]) -> Answer {
    use ppp::v1::{Addresses, Header};
    let result = Header::try_from(data);
    if result.is_incomplete() {
        return Answer::Incomplete;
    }
    let Ok(header) = result else { return Answer::Refused(None) };
    let addresses = match header.addresses {
        Addresses::Tcp4(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        Addresses::Tcp6(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        Addresses::Unknown => None,
    };
    Answer::Header(header.header.len(), addresses)
}

fn ppp_v2(data: &[u8]) -> Answer {
    use ppp::v2::{Addresses, Header};
    let result = Header::try_from(data);
    if result.is_incomplete() {
        return Answer::Incomplete;
    }
    let Ok(header) = result else { return Answer::Refused(None) };
    let addresses = match header.addresses {
        Addresses::IPv4(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        Addresses::IPv6(a) => Some((
            SocketAddr::from((a.source_address, a.source_port)),
            SocketAddr::from((a.destination_address, a.destination_port)),
        )),
        Addresses::Unspecified | Addresses::Unix(_) => None,
    };
    Answer::Header(header.header.len(), addresses)
}

fn proxy_header(data: &[u8]) -> Answer {
    use proxy_header::{Error, ParseConfig, ProxyHeader};
    match ProxyHeader::parse(data, ParseConfig::default()) {
        Ok((header, len)) => {
            Answer::Header(len, header.proxied_address().map(|address| (address.source, address.destination)))
        }
        Err(Error::BufferTooShort) => Answer::Incomplete,
        Err(_) => Answer::Refused(None),
    }
}
