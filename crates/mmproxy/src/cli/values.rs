//! What may stand behind a flag: words from a list, times, TLVs.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use clap::ValueEnum;
use mmproxy_codec::TlvType;
use mmproxy_forwarder::Keepalive;
use serde::{Deserialize, Serialize};

use crate::spec::KeepaliveSpec;

/// What targets speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProtocolArg {
    /// Connections
    Tcp,
    /// Datagrams
    Udp,
}

/// What to do about the return path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Routing {
    /// Install what is missing, remove what this run added when it stops
    Auto,
    /// Look, say what is missing, change nothing
    Check,
    /// Neither look nor touch
    Off,
}

/// Where the client's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceArg {
    /// The PROXY header in front of each connection
    Header,
    /// The connection: whoever connects is the client, and every byte is payload
    Peer,
}

/// Which source port a spoofed connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourcePortArg {
    /// The client's, or the connection is refused
    Keep,
    /// The client's where it is free, else another
    Prefer,
    /// Any free one
    Ephemeral,
}

/// Client addresses that no header may claim unless the operator says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceKind {
    /// 127.0.0.0/8 and ::1
    Loopback,
    /// 0.0.0.0/8 and ::; the kernel turns 0.0.0.0 and :: into a loopback address, which is refused all the same
    Unspecified,
    /// 224.0.0.0/4 and ff00::/8; the kernel connects from none, so such a session then ends as source_unusable
    Multicast,
    /// 255.255.255.255 and broadcast addresses of this host's networks; the same
    Broadcast,
    /// 169.254.0.0/16 and fe80::/10
    LinkLocal,
    /// Addresses of this host
    Own,
}

/// How replies of the target come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ReturnPathMode {
    /// What serves the targets best: fwmark for TCP and port for UDP to an address of this host, socket to any other
    Auto,
    /// Replies inherit the mark of the connection; TCP to every address of this host
    Fwmark,
    /// What loopback addresses send to others comes back; no mark, no sysctl, loopback targets only
    Source,
    /// What the targets' ports send comes back, to clients that came directly too; needs -4 or -6
    Port,
    /// The connection tracker brings the mark to replies, as the original mmproxy has it; needs a default route and nft
    Connmark,
    /// What comes in for a spoofed connection is delivered to it; targets behind this host, needs nft
    Socket,
}

/// Address families of a return path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyArg {
    /// Those that this host has enabled
    Available,
    /// IPv4 alone
    Ipv4,
    /// IPv6 alone
    Ipv6,
}

/// What carries a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// A TCP connection
    Stream,
    /// A UDP datagram
    Datagram,
}

/// Accepts an address of either family with its port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 0.0.0.0:2222 or '[::]:2222'; names are not looked up"
            .to_owned()
    })
}

/// Accepts the target of IPv4 clients.
pub(super) fn target_v4(text: &str) -> Result<SocketAddrV4, String> {
    match text.parse() {
        Ok(SocketAddr::V4(target)) => Ok(target),
        Ok(SocketAddr::V6(target)) => Err(format!("this is IPv6, which -6 takes: -6 '{target}'")),
        Err(_) => {
            Err("expected an IPv4 address and a port, such as 127.0.0.1:22; names are not looked up"
                .to_owned())
        }
    }
}

/// Accepts the target of IPv6 clients.
pub(super) fn target_v6(text: &str) -> Result<SocketAddrV6, String> {
    match text.parse() {
        Ok(SocketAddr::V6(target)) => Ok(target),
        Ok(SocketAddr::V4(target)) => Err(format!("this is IPv4, which -4 takes: -4 {target}")),
        Err(_) => Err(
            "expected an IPv6 address in brackets and a port, such as '[::1]:22'; names are not looked up"
                .to_owned(),
        ),
    }
}

/// Accepts `5s`, `500ms`, `2min`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a time such as 5s, 500ms or 2min"))
}

/// A time, or none: an `Option` would mean to clap that the flag may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

/// Accepts what [`duration`] does, and `off`.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    if text == OFF {
        return Ok(Limit(None));
    }
    duration(text).map(|time| Limit(Some(time))).map_err(|error| format!("{error}, or off"))
}

/// Keepalive, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probing(pub(crate) Option<KeepaliveSpec>);

/// Accepts `60s`, `60s,15s`, `60s,15s,4` and `off`; what is left out is as by default.
pub(crate) fn keepalive(text: &str) -> Result<Probing, String> {
    if text == OFF {
        return Ok(Probing(None));
    }
    let expected =
        |error: String| format!("{error}; expected IDLE[,INTERVAL[,PROBES]], such as 60s,15s,4, or off");
    let mut parts = text.split(',');
    let idle = duration(parts.next().unwrap_or_default()).map_err(expected)?;
    let interval = parts.next().map_or(Ok(INTERVAL), duration).map_err(expected)?;
    let probes = parts.next().map_or(Ok(PROBES), |probes| {
        probes.parse().map_err(|_| expected(format!("`{probes}` is no number of probes")))
    })?;
    if parts.next().is_some() {
        return Err(expected("too many parts".to_owned()));
    }
    Keepalive::with(idle, interval, probes)
        .map(|_| Probing(Some(KeepaliveSpec { idle, interval, probes })))
        .map_err(|error| expected(error.to_string()))
}

pub(super) const OFF: &str = "off";

/// As [`Keepalive::new`] has them.
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

/// Accepts a type and a value in hexadecimal.
pub(super) fn tlv(text: &str) -> Result<(TlvType, Vec<u8>), String> {
    const EXPECTED: &str = "expected TYPE=HEX, such as 02=6578616d706c65";
    let (kind, value) = text.split_once('=').ok_or(EXPECTED)?;
    let kind = u8::from_str_radix(kind.trim_start_matches("0x"), 16).map_err(|_| EXPECTED)?;
    let value = crate::hex::parse(value).map_err(|error| format!("{error}; {EXPECTED}"))?;
    Ok((TlvType(kind), value))
}
