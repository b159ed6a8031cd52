use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::mode::{Ports, Priority, Table};

#[test]
fn both_families_as_an_operator_would_type_them() {
    assert_eq!(
        Plan::fwmark(Settings::default(), Families::BOTH).to_string(),
        "sysctl -w net.ipv4.tcp_fwmark_accept=1\n\
         sysctl -w net.ipv4.fwmark_reflect=1\n\
         sysctl -w net.ipv6.fwmark_reflect=1\n\
         ip rule add fwmark 0x7b lookup 100 priority 100\n\
         ip route add local default dev lo table 100\n\
         ip -6 rule add fwmark 0x7b lookup 100 priority 100\n\
         ip -6 route add local default dev lo table 100\n"
    );
}

#[test]
fn one_family_needs_nothing_of_the_other_but_the_common_switch() {
    assert_eq!(
        Plan::fwmark(Settings::default(), Families::V6).to_string(),
        "sysctl -w net.ipv4.tcp_fwmark_accept=1\n\
         sysctl -w net.ipv6.fwmark_reflect=1\n\
         ip -6 rule add fwmark 0x7b lookup 100 priority 100\n\
         ip -6 route add local default dev lo table 100\n"
    );
    let v4 = Plan::fwmark(Settings::default(), Families::V4);
    assert!(v4.steps().iter().all(|step| step.family() != Some(Family::V6)));
}

#[test]
fn source_and_port_as_an_operator_would_type_them() {
    assert_eq!(
        Plan::source(Settings::default(), Families::BOTH).to_string(),
        "ip rule add from 127.0.0.0/8 iif lo lookup 100 priority 100\n\
         ip route add local default dev lo table 100\n\
         ip -6 rule add from ::1/128 iif lo lookup 100 priority 100\n\
         ip -6 route add local default dev lo table 100\n"
    );
    let port = Plan::port(
        Settings::default(),
        Transport::Udp,
        Some("10.0.0.1:53".parse().unwrap()),
        Some("[::1]:53".parse().unwrap()),
    );
    assert_eq!(
        port.unwrap().to_string(),
        "ip rule add iif lo ipproto udp sport 53 lookup 100 priority 100\n\
         ip route add local default dev lo src 10.0.0.1 table 100\n\
         ip -6 rule add iif lo ipproto udp sport 53 lookup 100 priority 100\n\
         ip -6 route add local default dev lo src ::1 table 100\n"
    );
}

#[test]
fn connmark_and_socket_as_an_operator_would_type_them() {
    let device = "eth0.7".parse().unwrap();
    assert_eq!(
        Plan::connmark(Settings::default(), Families::V4, Some(device)).to_string(),
        "sysctl -w net.ipv4.conf.eth0/7.route_localnet=1\n\
         nft 'table ip mmproxy_connmark_7b_100 { \
         chain prerouting { type filter hook prerouting priority -150; \
         iifname \"lo\" meta mark 0x7b ct mark set meta mark; }; \
         chain output { type route hook output priority -150; ct mark 0x7b meta mark set ct mark; }; }'\n\
         ip rule add fwmark 0x7b lookup 100 priority 100\n\
         ip route add local default dev lo table 100\n"
    );
    assert_eq!(
        Plan::socket(Settings::default(), Families::V6).to_string(),
        "nft 'table ip6 mmproxy_socket_7b_100 { \
         chain prerouting { type filter hook prerouting priority -150; \
         iifname != \"lo\" socket transparent 1 meta mark set 0x7b; }; \
         chain input { type filter hook input priority -150; \
         iifname != \"lo\" meta mark 0x7b meta mark set 0x0; }; }'\n\
         ip -6 rule add fwmark 0x7b lookup 100 priority 100\n\
         ip -6 route add local default dev lo table 100\n"
    );
    let v6 = Plan::connmark(Settings::default(), Families::V6, Some(device));
    assert_eq!(
        v6,
        Plan::connmark(Settings::default(), Families::V6, None),
        "an interface matters in IPv4 only"
    );
}

#[test]
fn a_port_plan_needs_a_real_target() {
    let plan =
        |target: &str| Plan::port(Settings::default(), Transport::Udp, Some(target.parse().unwrap()), None);
    assert!(matches!(plan("0.0.0.0:53"), Err(SettingError::TargetUnspecified(_))));
    assert!(matches!(plan("127.0.0.1:0"), Err(SettingError::TargetPortZero(_))));
}

#[test]
fn no_family_needs_nothing() {
    assert_eq!(Plan::fwmark(Settings::default(), Families { v4: false, v6: false }).steps(), []);
}

#[test]
fn the_way_back_as_an_operator_would_type_it() {
    let plan = Plan::fwmark(Settings::default(), Families::V6);
    let undo: Vec<String> = plan.steps().iter().rev().map(|step| step.undo().to_string()).collect();
    assert_eq!(
        undo,
        [
            "ip -6 route del local default dev lo table 100",
            "ip -6 rule del fwmark 0x7b lookup 100 priority 100",
            "sysctl -w net.ipv6.fwmark_reflect=0",
            "sysctl -w net.ipv4.tcp_fwmark_accept=0",
        ]
    );
}

proptest! {
    /// Each step is one command, and its way back is the same command with the opposite verb.
    #[test]
    fn each_step_has_its_way_back(plan in plans()) {
        for step in plan.steps() {
            let (there, back) = (step.to_string(), step.undo().to_string());
            prop_assert!(there != back);
            if let Step::Netfilter(table) = step {
                prop_assert_eq!(back, format!("nft delete table {}", table.name()));
            } else {
                prop_assert_eq!(there.replace(" add ", " del ").replace("=1", "=0"), back);
            }
        }
    }
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let mask = prop_oneof![Just(u32::MAX), any::<u32>()];
    let settings =
        (1..=u32::MAX, mask, 256..=u32::MAX, 1..=Priority::LAST).prop_map(|(mark, mask, table, priority)| {
            Settings {
                mark: Mark::masked(mark, mark | mask).unwrap(),
                table: Table::new(table).unwrap(),
                priority: Priority::new(priority).unwrap(),
            }
        });
    let families = any::<(bool, bool)>().prop_map(|(v4, v6)| Families { v4, v6 });
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    let v4 =
        option::of((1..=u32::MAX, 1..=u16::MAX).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port)));
    let v6 = option::of(
        (1..=u128::MAX, 1..=u16::MAX).prop_map(|(ip, port)| SocketAddrV6::new(ip.into(), port, 0, 0)),
    );
    let ports = (1..=u16::MAX, any::<u16>())
        .prop_map(|(first, more)| Ports::new(first, first.saturating_add(more)).unwrap());
    (0..6, settings, families, (transport, v4, v6), ports).prop_map(
        |(kind, settings, families, (transport, v4, v6), ports)| match kind {
            0 => Plan::fwmark(settings, families),
            1 => Plan::source(settings, families),
            2 => Plan::connmark(
                settings,
                families,
                (transport == Transport::Tcp).then(|| "a.longer.name-15".get(..15).unwrap().parse().unwrap()),
            ),
            3 => Plan::socket(settings, families),
            4 => {
                let listener = v6.map(SocketAddr::V6).or_else(|| v4.map(SocketAddr::V4));
                let listener = listener.unwrap_or_else(|| "[::]:2222".parse().unwrap());
                Plan::tproxy(settings, families, Redirect::new(transport, ports, listener).unwrap())
            }
            _ => Plan::port(settings, transport, v4, v6).unwrap(),
        },
    )
}
