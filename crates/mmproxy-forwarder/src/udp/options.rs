//! What a UDP gateway is told beside what every gateway is told.

use std::num::NonZeroUsize;
use std::time::Duration;

use mmproxy_codec::{DecodeOptions, Formats};

use crate::config::TimeoutTooShort;
use crate::udp::table::Rules;

/// Everything about datagrams that a [`UdpGateway`](crate::UdpGateway) is told.
///
/// Starts with the defaults named at each setter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    pub(crate) format: DatagramFormat,
    pub(crate) header: HeaderRule,
    pub(crate) idle: Duration,
    pub(crate) flows: FlowLimits,
    pub(crate) ipv6_alone: bool,
}

impl UdpOptions {
    /// The defaults named at each setter, with limits for `flows`.
    pub const fn new(flows: FlowLimits) -> Self {
        Self {
            format: DatagramFormat::V2,
            header: HeaderRule::EveryDatagram,
            idle: Duration::from_secs(60),
            flows,
            ipv6_alone: false,
        }
    }

    /// Which header datagrams begin with. Default: [`DatagramFormat::V2`].
    ///
    /// One or the other, never both: what a datagram may begin with is not for its sender to choose.
    #[must_use]
    pub const fn format(mut self, format: DatagramFormat) -> Self {
        self.format = format;
        self
    }

    /// Which datagrams begin with one. Default: [`HeaderRule::EveryDatagram`].
    #[must_use]
    pub const fn header(mut self, rule: HeaderRule) -> Self {
        self.header = rule;
        self
    }

    /// How long a flow may be without a datagram, either way, before it ends. Default 60 s.
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 1 s: many servers take longer to answer.
    pub fn idle(mut self, idle: Duration) -> Result<Self, TimeoutTooShort> {
        let least = Duration::from_secs(1);
        if idle < least {
            return Err(TimeoutTooShort { asked: idle, least });
        }
        self.idle = idle;
        Ok(self)
    }

    /// Whether `[::]` leaves IPv4 to others, for a listener of that family on the same port (`IPV6_V6ONLY`, ipv6(7)).
    /// Default: no, it takes both.
    #[must_use]
    pub const fn ipv6_alone(mut self, ipv6_alone: bool) -> Self {
        self.ipv6_alone = ipv6_alone;
        self
    }

    /// The header that datagrams begin with.
    pub const fn datagram_format(&self) -> DatagramFormat {
        self.format
    }

    /// Which of them do.
    pub const fn header_rule(&self) -> HeaderRule {
        self.header
    }

    /// What the codec is asked for.
    pub(crate) fn decode(&self) -> DecodeOptions {
        DecodeOptions::new().formats(match self.format {
            DatagramFormat::V2 => Formats::V2,
            DatagramFormat::Spp => Formats::SPP,
        })
    }

    /// What the table of one of `workers` keeps to.
    pub(crate) fn rules(&self, workers: NonZeroUsize) -> Rules {
        let share = |limit: NonZeroUsize| limit.get().div_ceil(workers.get());
        Rules {
            idle: self.idle,
            protected: self.idle / 4,
            flows: share(self.flows.total),
            per_balancer: share(self.flows.per_balancer),
            per_network: share(self.flows.per_network),
        }
    }
}

/// The header that datagrams begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DatagramFormat {
    /// PROXY protocol version 2. Replies carry no header.
    #[default]
    V2,
    /// Cloudflare's Simple Proxy Protocol, in every datagram. Replies carry the header of what they answer.
    Spp,
}

/// Which datagrams begin with a version 2 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HeaderRule {
    /// Every one, as the specification asks for; others are dropped.
    #[default]
    EveryDatagram,
    /// The first one that a balancer sends from a port of its own, as Cloudflare Spectrum does it; those behind it
    /// belong to the same client.
    ///
    /// Weaker: if the first one is lost or overtaken, those before the next header are dropped; and a payload that looks
    /// like a header is taken for one.
    FirstDatagram,
}

/// How many flows may live at a time on one listener; each has a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    total: NonZeroUsize,
    per_balancer: NonZeroUsize,
    per_network: NonZeroUsize,
}

impl FlowLimits {
    /// `total` flows; one balancer may have them all, and one network of clients (IPv4: /24, IPv6: /56) a quarter.
    pub const fn new(total: NonZeroUsize) -> Self {
        let quarter = match NonZeroUsize::new(total.get().div_ceil(4)) {
            Some(quarter) => quarter,
            None => NonZeroUsize::MIN,
        };
        Self { total, per_balancer: total, per_network: quarter }
    }

    /// Flows of one balancer's address.
    #[must_use]
    pub const fn per_balancer(mut self, flows: NonZeroUsize) -> Self {
        self.per_balancer = flows;
        self
    }

    /// Flows of clients in one network: IPv4 /24, IPv6 /56.
    #[must_use]
    pub const fn per_network(mut self, flows: NonZeroUsize) -> Self {
        self.per_network = flows;
        self
    }

    /// Flows altogether.
    pub const fn total(&self) -> NonZeroUsize {
        self.total
    }
}

/// How many flows each of `listeners` may have within a limit of `descriptors` (`RLIMIT_NOFILE`): one descriptor
/// each, with 256 kept for listeners, workers, logs and the runtime; at least one.
pub const fn flows_within(descriptors: u64, listeners: NonZeroUsize) -> NonZeroUsize {
    let flows = descriptors.saturating_sub(256) / listeners.get() as u64;
    // A flow's number in its table has 32 bits.
    let flows = if flows > u32::MAX as u64 / 2 { u32::MAX as u64 / 2 } else { flows };
    match NonZeroUsize::new(flows as usize) {
        Some(flows) => flows,
        None => NonZeroUsize::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("not zero")
    }

    #[test]
    fn the_limit_on_flows_follows_the_limit_on_descriptors() {
        assert_eq!(flows_within(1024, number(1)).get(), 768);
        assert_eq!(flows_within(1024, number(2)).get(), 384);
        assert_eq!(flows_within(3, number(1)).get(), 1);
        assert_eq!(flows_within(u64::MAX, number(1)).get(), u32::MAX as usize / 2);
    }

    #[test]
    fn workers_share_the_limits_evenly() {
        let options = UdpOptions::new(FlowLimits::new(number(1000)).per_network(number(3)));
        let rules = options.rules(number(2));
        assert_eq!((rules.flows, rules.per_balancer, rules.per_network), (500, 500, 2));
        assert_eq!((rules.idle.as_secs(), rules.protected.as_secs()), (60, 15));
    }

    #[test]
    fn one_network_has_a_quarter_by_default() {
        let rules = UdpOptions::new(FlowLimits::new(number(10))).rules(number(1));
        assert_eq!((rules.flows, rules.per_balancer, rules.per_network), (10, 10, 3));
    }

    #[test]
    fn an_idle_time_that_no_server_could_meet_is_refused() {
        let options = UdpOptions::new(FlowLimits::new(number(1)));
        assert!(options.idle(Duration::from_millis(999)).is_err());
        assert!(options.idle(Duration::from_secs(1)).is_ok());
    }
}
