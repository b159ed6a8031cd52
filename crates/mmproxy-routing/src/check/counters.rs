//! The network namespace's counters that tell where a connection died.

use std::fs;
use std::io;

/// Counters of the calling thread's network namespace, at one moment.
///
/// They count everything that happens in the namespace: that one did not move is proof, that it moved is a hint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// TCP segments that came in (`Tcp InSegs`).
    pub segments_in: u64,
    /// TCP resets that were sent (`Tcp OutRsts`).
    pub resets_out: u64,
    /// Connections that TCP servers here accepted (`Tcp PassiveOpens`).
    pub accepted: u64,
    /// Connections that failed before they were there (`Tcp AttemptFails`).
    pub failed_attempts: u64,
    /// SYNs and SYN-ACKs that were sent again (`TcpExt TCPSynRetrans`).
    pub syns_again: u64,
    /// SYNs that a listener did not take (`TcpExt ListenDrops`).
    pub listen_drops: u64,
    /// Those among them for which its queue was full (`TcpExt ListenOverflows`).
    pub listen_overflows: u64,
    /// Packets that the reverse-path filter dropped (`TcpExt IPReversePathFilter`).
    pub reverse_path_drops: u64,
    /// Packets for which there was no route (`Ip OutNoRoutes`, `Ip6OutNoRoutes`).
    pub no_routes: u64,
    /// ICMP errors "destination unreachable" that came in (`Icmp InDestUnreachs`, `Icmp6InDestUnreachs`).
    pub unreachables_in: u64,
}

impl Counters {
    /// Reads them, for the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// What reading `/proc/thread-self/net` says. A counter that a kernel does not have is 0.
    pub fn read() -> io::Result<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        // Without IPv6 there is no snmp6.
        let snmp6 = file("snmp6").unwrap_or_default();
        Ok(Self::parse(&file("snmp")?, &file("netstat")?, &snmp6))
    }

    /// What came since an earlier moment.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            segments_in: self.segments_in.saturating_sub(before.segments_in),
            resets_out: self.resets_out.saturating_sub(before.resets_out),
            accepted: self.accepted.saturating_sub(before.accepted),
            failed_attempts: self.failed_attempts.saturating_sub(before.failed_attempts),
            syns_again: self.syns_again.saturating_sub(before.syns_again),
            listen_drops: self.listen_drops.saturating_sub(before.listen_drops),
            listen_overflows: self.listen_overflows.saturating_sub(before.listen_overflows),
            reverse_path_drops: self.reverse_path_drops.saturating_sub(before.reverse_path_drops),
            no_routes: self.no_routes.saturating_sub(before.no_routes),
            unreachables_in: self.unreachables_in.saturating_sub(before.unreachables_in),
        }
    }

    fn parse(snmp: &str, netstat: &str, snmp6: &str) -> Self {
        let tcp = |name| paired(snmp, "Tcp:", name);
        let extra = |name| paired(netstat, "TcpExt:", name);
        Self {
            segments_in: tcp("InSegs"),
            resets_out: tcp("OutRsts"),
            accepted: tcp("PassiveOpens"),
            failed_attempts: tcp("AttemptFails"),
            syns_again: extra("TCPSynRetrans"),
            listen_drops: extra("ListenDrops"),
            listen_overflows: extra("ListenOverflows"),
            reverse_path_drops: extra("IPReversePathFilter"),
            no_routes: paired(snmp, "Ip:", "OutNoRoutes") + single(snmp6, "Ip6OutNoRoutes"),
            unreachables_in: paired(snmp, "Icmp:", "InDestUnreachs") + single(snmp6, "Icmp6InDestUnreachs"),
        }
    }
}

/// A value in a file of pairs of lines, names above and values below, both behind the same word.
fn paired(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.split_whitespace().next() == Some(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// A value in a file of one name and value a line.
fn single(text: &str, name: &str) -> u64 {
    let mut pairs = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name_wherever_they_stand() {
        let snmp = "Ip: Forwarding OutNoRoutes\nIp: 2 5\nIcmp: InMsgs InDestUnreachs\nIcmp: 9 1\n\
                    Tcp: MaxConn PassiveOpens AttemptFails InSegs OutRsts\nTcp: -1 3 4 100 6\n";
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops IPReversePathFilter TCPSynRetrans\n\
                       TcpExt: 0 1 2 3 4\nIpExt: InNoRoutes\nIpExt: 7\n";
        let snmp6 = "Ip6InReceives   \t40\nIp6OutNoRoutes   \t7\nIcmp6InDestUnreachs   \t2\n";
        let found = Counters::parse(snmp, netstat, snmp6);
        let expected = Counters {
            segments_in: 100,
            resets_out: 6,
            accepted: 3,
            failed_attempts: 4,
            syns_again: 4,
            listen_drops: 2,
            listen_overflows: 1,
            reverse_path_drops: 3,
            no_routes: 12,
            unreachables_in: 3,
        };
        assert_eq!(found, expected);
        assert_eq!(found.since(&Counters::default()), expected);
        assert_eq!(found.since(&found), Counters::default());
        assert_eq!(Counters::parse("", "", ""), Counters::default());
    }

    #[test]
    fn a_connection_moves_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let before = Counters::read().unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
        let moved = Counters::read().unwrap().since(&before);
        assert!(moved.segments_in >= 3 && moved.accepted >= 1, "{moved:?}");
    }
}
