//! Networks, addresses and ports.

use std::net::SocketAddr;

use ipnet::IpNet;
use mmproxy_forwarder::parse_network;
use serde_json::{Value as Json, json};

use super::Scalar;

impl Scalar for IpNet {
    const EXPECTED: &'static str = "a network or an address such as \"192.0.2.0/24\"";

    fn parse(text: &str) -> Result<Self, String> {
        parse_network(text).map_err(|problem| problem.to_string())
    }

    /// An address without the length that it has anyway.
    fn text(&self) -> String {
        if self.prefix_len() == self.max_prefix_len() { self.addr().to_string() } else { self.to_string() }
    }
}

/// An address and a port, or a range of ports: `0.0.0.0:20000-20100`, `[::]:22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) first: SocketAddr,
    /// The last port; the first's where it is one alone.
    pub(crate) last: u16,
}

impl Endpoint {
    /// How many ports.
    pub(crate) const fn len(self) -> u32 {
        self.last as u32 - self.first.port() as u32 + 1
    }

    /// Each address.
    pub(crate) fn addresses(self) -> impl Iterator<Item = SocketAddr> {
        (self.first.port()..=self.last).map(move |port| {
            let mut address = self.first;
            address.set_port(port);
            address
        })
    }

    /// Whether this address is the next one behind it.
    pub(crate) fn precedes(self, next: SocketAddr) -> bool {
        let mut expected = self.first;
        expected.set_port(self.last.saturating_add(1));
        self.last < u16::MAX && next == expected
    }

    /// Whether an address and port is in both; port 0 is a free one each time. `0.0.0.0` is every IPv4 address, `[::]` every
    /// one of IPv6: it leaves IPv4 to listeners of that family.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let (one, two) = (self.first.ip(), other.first.ip());
        one.is_ipv4() == two.is_ipv4()
            && (one == two || one.is_unspecified() || two.is_unspecified())
            && self.first.port() <= other.last
            && other.first.port() <= self.last
            && self.last != 0
    }

    fn parse_as(text: &str, example: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected an IP address and a port or a range of them, such as {example}; names are not looked up"
            )
        };
        let (first, last) = match text.rsplit_once('-') {
            Some((first, last)) => (first, Some(last)),
            None => (text, None),
        };
        let first: SocketAddr = first.parse().map_err(|_| wrong())?;
        let last = match last {
            None => first.port(),
            Some(last) => match last.parse() {
                Ok(last) if first.port() > 0 && last >= first.port() => last,
                Ok(_) => return Err(format!("there are no ports from {} to {last}", first.port())),
                Err(_) => return Err(wrong()),
            },
        };
        Ok(Self { first, last })
    }
}

impl Scalar for Endpoint {
    const EXPECTED: &'static str = "an address and a port or a range of ports, such as \"0.0.0.0:2222\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as(text, "0.0.0.0:2222, [::]:2222 or 0.0.0.0:20000-20100")
    }

    fn text(&self) -> String {
        if self.first.port() == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]+(-[0-9]+)?$" })
    }
}

/// The target of one family's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<const V6: bool>(pub(crate) Endpoint);

impl<const V6: bool> Scalar for Target<V6> {
    const EXPECTED: &'static str = if V6 {
        "an IPv6 address and a port, such as \"[::1]:22\""
    } else {
        "an IPv4 address and a port, such as \"127.0.0.1:22\""
    };

    fn parse(text: &str) -> Result<Self, String> {
        let endpoint = Endpoint::parse_as(text, if V6 { "[::1]:22" } else { "127.0.0.1:22" })?;
        match (V6, endpoint.first) {
            (true, SocketAddr::V4(_)) => Err("this is IPv4, which `target-v4` takes".to_owned()),
            (false, SocketAddr::V6(_)) => Err("this is IPv6, which `target-v6` takes".to_owned()),
            (true, SocketAddr::V6(_)) | (false, SocketAddr::V4(_)) => Ok(Self(endpoint)),
        }
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn schema() -> Json {
        Endpoint::schema()
    }
}
