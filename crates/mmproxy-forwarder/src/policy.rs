//! Which announced client addresses may be spoofed: decided before a socket exists.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::addr::{ClaimedSource, SpoofSource};
use crate::own::OwnAddresses;

/// Refuses sources that no client on the Internet has.
///
/// Every class of [`SourceClass`] is refused unless [`allow`](Self::allow) lets it through: an announced
/// 127.0.0.1 is an attack on whatever the target trusts, or a mistake.
///
/// Pure: this host's own addresses are a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SourcePolicy {
    /// Bit `1 << class`: the classes that are let through.
    allowed: u8,
}

impl SourcePolicy {
    /// The default: every class of [`SourceClass`] is refused, every other address may be spoofed.
    pub const fn new() -> Self {
        Self { allowed: 0 }
    }

    /// Lets addresses of `class` through as well.
    ///
    /// The kernel has the last word: it connects from 0.0.0.0, ::, multicast and broadcast addresses as from one
    /// of its own, so dial refuses them whatever is allowed here.
    #[must_use]
    pub const fn allow(self, class: SourceClass) -> Self {
        Self { allowed: self.allowed | class.bit() }
    }

    /// Turns what a header claims into what may be spoofed: the one constructor of [`SpoofSource`].
    ///
    /// # Errors
    ///
    /// [`SourceRefused`] with the address and the first class of it that is not allowed.
    pub fn authorise(
        &self,
        claimed: ClaimedSource,
        own: &OwnAddresses,
    ) -> Result<SpoofSource, SourceRefused> {
        let ip = claimed.ip();
        match SourceClass::ALL.into_iter().find(|class| class.contains(ip, own) && !self.allows(*class)) {
            Some(class) => Err(SourceRefused { address: ip, class }),
            None => Ok(SpoofSource::authorised(claimed)),
        }
    }

    /// Whether addresses of `class` are let through.
    pub const fn allows(&self, class: SourceClass) -> bool {
        self.allowed & class.bit() != 0
    }
}

/// Addresses that are no client's, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceClass {
    /// `0.0.0.0/8` ("this network", RFC 1122 §3.2.1.3) and `::`. The kernel turns `0.0.0.0` into 127.0.0.1.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`.
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `255.255.255.255` and the broadcast addresses of this host's networks.
    Broadcast,
    /// An address of this host.
    Own,
}

impl SourceClass {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Unspecified, Self::Loopback, Self::LinkLocal, Self::Multicast, Self::Broadcast, Self::Own];

    /// Name in options and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Own => "own",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// `ip` is unmapped; an address may be in two classes (127.0.0.1 is this host's own, too).
    fn contains(self, ip: IpAddr, own: &OwnAddresses) -> bool {
        match (self, ip) {
            (Self::Unspecified, IpAddr::V4(v4)) => v4.octets()[0] == 0,
            (Self::Unspecified, IpAddr::V6(v6)) => v6.is_unspecified(),
            (Self::Loopback, ip) => ip.is_loopback(),
            (Self::LinkLocal, IpAddr::V4(v4)) => v4.is_link_local(),
            (Self::LinkLocal, IpAddr::V6(v6)) => v6.is_unicast_link_local(),
            (Self::Multicast, ip) => ip.is_multicast(),
            (Self::Broadcast, IpAddr::V4(v4)) => v4.is_broadcast() || own.is_broadcast(v4),
            (Self::Broadcast, IpAddr::V6(_)) => false,
            // Loopback has its own switch; allowing it must not need this one as well.
            (Self::Own, ip) => own.contains(ip) && !ip.is_loopback(),
        }
    }
}

/// A claimed source that policy does not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} may not be a client address: {}", class.meaning())]
pub struct SourceRefused {
    /// The address the header announced, unmapped.
    pub address: IpAddr,
    /// Why no client can have it.
    pub class: SourceClass,
}

impl SourceClass {
    const fn meaning(self) -> &'static str {
        match self {
            Self::Unspecified => "it is unspecified",
            Self::Loopback => "it is a loopback address",
            Self::LinkLocal => "it is a link-local address",
            Self::Multicast => "it is a multicast address",
            Self::Broadcast => "it is a broadcast address",
            Self::Own => "it belongs to this host",
        }
    }
}

impl fmt::Display for SourceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for SourceClass {
    type Err = SourceClassUnknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|class| class.label() == text)
            .ok_or_else(|| SourceClassUnknown(text.to_owned()))
    }
}

/// A word that is not the name of a [`SourceClass`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of unspecified, loopback, link-local, multicast, broadcast, own")]
pub struct SourceClassUnknown(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn claim(text: &str) -> ClaimedSource {
        let ip: IpAddr = text.parse().expect("test address");
        ClaimedSource::new(SocketAddr::new(ip, 4711))
    }

    fn own() -> OwnAddresses {
        OwnAddresses::new(
            ["10.0.0.5", "127.0.0.1", "2001:db8::5", "::1"].map(|ip| ip.parse().expect("test address")),
            [Ipv4Addr::new(10, 0, 0, 255)],
        )
    }

    const CASES: [(&str, SourceClass); 19] = [
        ("0.0.0.0", SourceClass::Unspecified),
        ("0.255.255.255", SourceClass::Unspecified),
        ("::", SourceClass::Unspecified),
        ("::ffff:0.0.0.0", SourceClass::Unspecified),
        ("127.0.0.1", SourceClass::Loopback),
        ("127.255.255.255", SourceClass::Loopback),
        ("::1", SourceClass::Loopback),
        ("::ffff:127.0.0.1", SourceClass::Loopback),
        ("169.254.169.254", SourceClass::LinkLocal),
        ("fe80::1", SourceClass::LinkLocal),
        ("febf::1", SourceClass::LinkLocal),
        ("224.0.0.1", SourceClass::Multicast),
        ("239.255.255.255", SourceClass::Multicast),
        ("ff02::1", SourceClass::Multicast),
        ("255.255.255.255", SourceClass::Broadcast),
        ("10.0.0.255", SourceClass::Broadcast),
        ("10.0.0.5", SourceClass::Own),
        ("::ffff:10.0.0.5", SourceClass::Own),
        ("2001:db8::5", SourceClass::Own),
    ];

    #[test]
    fn each_class_is_refused_by_default_and_let_through_by_its_own_switch_only() {
        for (text, class) in CASES {
            let refused = SourcePolicy::new().authorise(claim(text), &own());
            assert_eq!(refused, Err(SourceRefused { address: claim(text).ip(), class }), "{text}");
            for switch in SourceClass::ALL {
                let allowed = SourcePolicy::new().allow(switch).authorise(claim(text), &own()).is_ok();
                assert_eq!(allowed, switch == class, "{text} with --allow-source {switch}");
            }
        }
    }

    #[test]
    fn an_ordinary_client_may_be_spoofed_port_and_all() {
        for text in
            ["192.0.2.7", "10.0.0.6", "1.0.0.0", "240.0.0.1", "2001:db8::7", "fec0::1", "::ffff:192.0.2.7"]
        {
            let spoof = SourcePolicy::new().authorise(claim(text), &own()).expect(text);
            assert_eq!(spoof.addr(), claim(text).addr());
        }
    }

    #[test]
    fn labels_parse_back() {
        for class in SourceClass::ALL {
            assert_eq!(class.label().parse(), Ok(class));
        }
        assert_eq!("Loopback".parse::<SourceClass>(), Err(SourceClassUnknown("Loopback".to_owned())));
    }

    proptest! {
        /// Writing an IPv4 address as `::ffff:a.b.c.d` never changes the answer.
        #[test]
        fn spelling_does_not_matter(ip: Ipv4Addr, port: u16, allowed in 0u8..64) {
            let policy = SourcePolicy { allowed };
            let plain = ClaimedSource::new(SocketAddr::new(ip.into(), port));
            let mapped = ClaimedSource::new(SocketAddr::new(ip.to_ipv6_mapped().into(), port));
            prop_assert_eq!(policy.authorise(plain, &own()), policy.authorise(mapped, &own()));
        }
    }
}
