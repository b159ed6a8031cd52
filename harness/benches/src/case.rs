//! What is measured.

use harness::{Family, Version};

/// One row of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// For `--only`, and in the CSV.
    pub(crate) name: &'static str,
    /// For tables and charts.
    pub(crate) title: &'static str,
    pub(crate) load: Load,
    pub(crate) family: Family,
    pub(crate) version: Version,
    /// Another header or address family of a case that is measured anyway; left out by `--quick`.
    pub(crate) variant: bool,
}

/// What the generator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// As many bytes as the way carries.
    Bulk { direction: Direction, streams: usize },
    /// Connect, header and hello, one byte back, close; so many at once.
    Connections { at_once: usize },
    /// A message there, the same back, and again.
    PingPong { connections: usize, size: usize },
    /// Ping-pong beside bulk uploads, which take the same way or (for comparison) go to the target directly.
    Mixed { bulk: Way },
    /// Sessions that are there and do nothing, and what stays when they are closed.
    Idle { how_many: HowMany },
    /// A datagram there, the same back; so many flows.
    Exchange { size: usize, flows: usize },
    /// Datagrams one way, as many as the generator can send.
    Flood { size: usize, flows: usize },
}

/// The direction of a bulk stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the target.
    Upload,
    /// From the target to the client.
    Download,
}

/// Which way a load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the gateway.
    Subject,
    /// Past it.
    Direct,
}

/// How many idle sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HowMany {
    /// As many as the pace says, usually 3,000.
    Some,
    /// As many as two descriptors each allow.
    DescriptorLimit,
    /// Flows of datagrams, as many as the pace says, usually 10,000. They have no end to be seen; a gateway forgets them.
    Flows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Load {
    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::Bulk { .. }
            | Self::Connections { .. }
            | Self::PingPong { .. }
            | Self::Mixed { .. }
            | Self::Idle { how_many: HowMany::Some | HowMany::DescriptorLimit } => Protocol::Tcp,
            Self::Exchange { .. } | Self::Flood { .. } | Self::Idle { how_many: HowMany::Flows } => {
                Protocol::Udp
            }
        }
    }

    /// What the main figure is.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Bulk { .. } => "Gbit/s",
            Self::Connections { .. } => "connections/s",
            Self::PingPong { .. } | Self::Mixed { .. } => "round trips/s",
            Self::Idle { .. } => "KiB/session",
            Self::Exchange { .. } => "round trips/s",
            Self::Flood { .. } => "datagrams/s",
        }
    }

    /// What the gateway's CPU seconds are divided by: how many operations (bytes, connections, …), and their name.
    pub(crate) const fn cpu_unit(self) -> (f64, &'static str) {
        match self {
            Self::Bulk { .. } => (1e9, "GB"),
            Self::Connections { .. } => (1e4, "10k connections"),
            Self::PingPong { .. } | Self::Mixed { .. } | Self::Exchange { .. } => (1e6, "1M round trips"),
            Self::Flood { .. } => (1e6, "1M datagrams"),
            Self::Idle { .. } => (1e4, "10k sessions"),
        }
    }
}

/// All cases, in the order in which they are measured and reported.
pub(crate) const CASES: &[Case] = &[
    case("upload-1", "upload, 1 stream", Load::Bulk { direction: Direction::Upload, streams: 1 }),
    case("download-1", "download, 1 stream", Load::Bulk { direction: Direction::Download, streams: 1 }),
    case("upload-64", "upload, 64 streams", Load::Bulk { direction: Direction::Upload, streams: 64 }),
    case("download-64", "download, 64 streams", Load::Bulk { direction: Direction::Download, streams: 64 }),
    case("connections", "new connections, 64 at once", Load::Connections { at_once: 64 }),
    case("ping-pong-64", "100-byte ping-pong, 64 connections", Load::PingPong { connections: 64, size: 100 }),
    case("ping-pong-1", "100-byte ping-pong, 1 connection", Load::PingPong { connections: 1, size: 100 }),
    case(
        "messages-16k",
        "16 KiB messages back and forth, 16 connections",
        Load::PingPong { connections: 16, size: 16 << 10 },
    ),
    case("mixed", "100-byte ping-pong beside 4 uploads", Load::Mixed { bulk: Way::Subject }),
    case(
        "mixed-direct",
        "100-byte ping-pong beside 4 uploads that pass the gateway by",
        Load::Mixed { bulk: Way::Direct },
    ),
    case("idle", "idle sessions", Load::Idle { how_many: HowMany::Some }),
    case(
        "idle-limit",
        "idle sessions at the descriptor limit",
        Load::Idle { how_many: HowMany::DescriptorLimit },
    ),
    variant(
        "connections-v2",
        "new connections, IPv4, v2",
        Load::Connections { at_once: 64 },
        Family::V4,
        Version::V2,
    ),
    variant(
        "connections-ipv6-v1",
        "new connections, IPv6, v1",
        Load::Connections { at_once: 64 },
        Family::V6,
        Version::V1,
    ),
    variant(
        "connections-ipv6-v2",
        "new connections, IPv6, v2",
        Load::Connections { at_once: 64 },
        Family::V6,
        Version::V2,
    ),
    variant(
        "ping-pong-64-ipv6-v2",
        "100-byte ping-pong, 64 connections, IPv6, v2",
        Load::PingPong { connections: 64, size: 100 },
        Family::V6,
        Version::V2,
    ),
    variant(
        "upload-1-ipv6-v2",
        "upload, 1 stream, IPv6, v2",
        Load::Bulk { direction: Direction::Upload, streams: 1 },
        Family::V6,
        Version::V2,
    ),
    udp("udp-64", "UDP 64 bytes and back, 64 flows", Load::Exchange { size: 64, flows: 64 }),
    udp("udp-1200", "UDP 1200 bytes and back, 64 flows", Load::Exchange { size: 1200, flows: 64 }),
    udp("udp-64-10k", "UDP 64 bytes and back, 10,000 flows", Load::Exchange { size: 64, flows: 10_000 }),
    udp(
        "udp-1200-10k",
        "UDP 1200 bytes and back, 10,000 flows",
        Load::Exchange { size: 1200, flows: 10_000 },
    ),
    udp("udp-idle", "idle UDP flows", Load::Idle { how_many: HowMany::Flows }),
    udp("udp-flood", "UDP 64 bytes one way, 64 flows", Load::Flood { size: 64, flows: 64 }),
];

const fn case(name: &'static str, title: &'static str, load: Load) -> Case {
    Case { name, title, load, family: Family::V4, version: Version::V1, variant: false }
}

const fn udp(name: &'static str, title: &'static str, load: Load) -> Case {
    Case { name, title, load, family: Family::V4, version: Version::V2, variant: false }
}

const fn variant(
    name: &'static str,
    title: &'static str,
    load: Load,
    family: Family,
    version: Version,
) -> Case {
    Case { name, title, load, family, version, variant: true }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_comes_twice() {
        let names: HashSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn datagrams_come_with_version_2_because_version_1_has_none() {
        let udp = CASES.iter().filter(|case| case.load.protocol() == Protocol::Udp);
        assert!(udp.clone().count() >= 5);
        assert!(udp.into_iter().all(|case| case.version == Version::V2));
    }
}
