//! What holds for every configuration, and for every text.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, AllowedTarget, ClientNetworks, Pace};
use mmproxy_routing::{Mark, Ports, Priority, Table};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::cli::{
    Ceiling, HeaderArg, HealthCheckArg, LogFormat, Prefixes, ProtocolArg, Rate, SourceArg, UdpHeaderArg,
};
use crate::config::fuzzing::text_holds;
use crate::jail::{MayLack, Sandbox};
use crate::spec::{
    ClientsSpec, Global, JailSpec, KeepaliveSpec, LimitsSpec, ReturnPathSpec, ServiceSpec, TargetsSpec,
    Timeouts, TproxySpec, UdpSpec,
};
use crate::target_netns::NamespaceName;

proptest! {
    #[test]
    fn what_is_shown_means_the_same(spec in spec()) {
        let text = show(&spec);
        prop_assert_eq!(valid(&text), spec, "{}", text);
    }

    #[test]
    fn any_text_is_understood_or_refused_with_a_mistake(text in any::<String>()) {
        text_holds(&text);
    }

    #[test]
    fn any_key_with_any_value_is_understood_or_refused_with_a_mistake(
        lines in proptest::collection::vec((0..every_key().count() + 3, select(VALUES), any::<bool>()), 0..12),
    ) {
        let mut text = String::new();
        for (key, value, header) in lines {
            let key = every_key().nth(key).map_or("[[service]]\nname", |key| key.name);
            text.push_str(if header { "[global]\n" } else { "" });
            text.push_str(&format!("{key} = {value}\n"));
        }
        text_holds(&text);
    }

    #[test]
    fn a_valid_file_with_a_hole_is_understood_or_refused_with_a_mistake(spec in spec(), cut in any::<(prop::sample::Index, u8)>()) {
        let mut text = show(&spec).into_bytes();
        let start = cut.0.index(text.len());
        let end = text.len().min(start + usize::from(cut.1));
        text.drain(start..end);
        text_holds(&String::from_utf8(text).unwrap());
    }
}

const VALUES: &[&str] = &[
    "0",
    "-1",
    "123",
    "0x7b",
    "99999999999999999999",
    "1e3",
    "nan",
    "true",
    "\"\"",
    "\"off\"",
    "\"auto\"",
    "\"udp\"",
    "\"5s\"",
    "\"0s\"",
    "\"18446744073709551615s\"",
    "\"0.0.0.0:2222\"",
    "\"[::]:0\"",
    "\"0.0.0.0:1-65535\"",
    "\"127.0.0.1:20-30\"",
    "[\"10.0.0.0/8\", \"::/0\"]",
    "\"10.0.0.5:22\"",
    "\"docker:web\"",
    "\"0x1/0xff\"",
    "[]",
    "[[]]",
    "{ a = 1 }",
    "1979-05-27",
    "\"\\u0000\"",
    "'''\nä\n'''",
    "",
];

fn spec() -> impl Strategy<Value = Spec> {
    let global = (1..=1024usize, millis(0), word()).prop_map(|(workers, drain, verbosity)| Global {
        workers: NonZeroUsize::new(workers).unwrap(),
        max_sessions: NonZeroUsize::new(workers * 1000),
        drain,
        verbosity,
        log_format: Some(LogFormat::Json),
        admin: Some(([127, 0, 0, 1], 9100).into()),
        deny_state: Some("/var/lib/mmproxy/denied.txt".into()),
        control: Some("/run/mmproxy/control.sock".into()),
        jail: JailSpec {
            user: None,
            sandbox: Sandbox::Log,
            may_lack: MayLack::Nothing,
            keep_net_admin: drain > Duration::from_secs(9),
        },
    });
    // Marks and tables of services do not collide.
    let numbers = (any::<bool>(), select(&[100u32, 7, 4711][..]), 1..=32765u32);
    (global, numbers, proptest::collection::vec(service(), 1..4)).prop_map(
        |(global, numbers, mut services)| {
            for (index, service) in services.iter_mut().enumerate() {
                service.name = format!("{index}{}", service.name);
                for address in &mut service.listen {
                    address.set_port(address.port() + 100 * u16::try_from(index).unwrap());
                }
                let mark =
                    if numbers.0 { format!("0x{}00/0xff00", index + 1) } else { (101 + index).to_string() };
                service.return_path.mark = mark.parse().unwrap();
                service.return_path.table = Table::new(numbers.1 + u32::try_from(index).unwrap()).unwrap();
                service.return_path.priority = Priority::new(numbers.2).unwrap();
            }
            // It is a mistake where there are no sessions.
            let max_sessions = global.max_sessions.filter(|_| services.iter().any(ServiceSpec::is_tcp));
            Spec { global: Global { max_sessions, ..global }, services }
        },
    )
}

fn service() -> impl Strategy<Value = ServiceSpec> {
    let basics = ("[A-Za-z0-9_.:-]{0,10}", word::<ProtocolArg>(), listen(), 1..=65535u32, 0..3);
    let who = (
        networks(),
        subsequence(values().to_vec(), 0..=values::<crate::cli::SourceKind>().len()),
        word::<SourceArg>(),
        (proptest::option::of(networks()), networks()),
    );
    let path = (word(), word(), proptest::option::of(namespace()), word());
    let way_in = (any::<bool>(), proptest::collection::vec(ports(), 0..3));
    (basics, who, targets(), path, way_in, timeouts(), limits(), udp()).prop_map(
        |(
            (name, protocol, listen, backlog, versions),
            (allowed, allow_source, source, (clients, denied)),
            targets,
            path,
            way_in,
            timeouts,
            limits,
            udp,
        )| {
            let tcp = protocol == ProtocolArg::Tcp;
            let source = if targets.from_header.is_some() { SourceArg::Header } else { source };
            let (v1, v2, spp) = (HeaderArg::V1, HeaderArg::V2, HeaderArg::Spp);
            let headers = match (tcp, source, versions) {
                (true, SourceArg::Peer, _) | (true, _, 0) => vec![v1, v2],
                (true, _, 1) => vec![v2],
                (true, ..) => vec![v2, v1],
                (false, SourceArg::Header, 0) => vec![spp],
                (false, ..) => vec![v2],
            };
            let plain = UdpSpec { which: UdpHeaderArg::Every, ..udp };
            let (mode, routing, target_netns, source_port) = path;
            ServiceSpec {
                name,
                protocol,
                listen,
                backlog,
                listen_transparent: tcp && way_in.0,
                tproxy: TproxySpec {
                    ports: if tcp { way_in.1 } else { Vec::new() },
                    mark: "0x400/0xff00".parse().unwrap(),
                    table: Table::new(300).unwrap(),
                },
                headers: headers.clone(),
                source,
                allowed,
                clients: ClientsSpec { allowed: clients, denied },
                allow_source,
                source_port,
                targets,
                target_netns,
                return_path: ReturnPathSpec {
                    mode,
                    routing,
                    mark: Mark::default(),
                    table: Table::default(),
                    priority: Priority::default(),
                },
                health_checks: if tcp { HealthCheckArg::Answer } else { HealthCheckArg::Refuse },
                timeouts,
                limits: if tcp { limits } else { valid(ONE).services[0].limits.clone() },
                udp: match (tcp, source) {
                    (true, _) => UdpSpec::default(),
                    (false, SourceArg::Peer) => plain,
                    (false, SourceArg::Header) if headers == [spp] => plain,
                    (false, SourceArg::Header) => udp,
                },
            }
        },
    )
}

fn listen() -> impl Strategy<Value = Vec<SocketAddr>> {
    let ips: [IpAddr; 3] =
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::new(10, 1, 2, 3).into()];
    proptest::collection::btree_set((select(ips.to_vec()), 2000..2099u16), 1..20).prop_map(
        |addresses: BTreeSet<(IpAddr, u16)>| {
            // Beside 0.0.0.0 there is no room for another IPv4 address.
            let everybody = |port| addresses.contains(&(Ipv4Addr::UNSPECIFIED.into(), port));
            let fits = |(ip, port): &(IpAddr, u16)| ip.is_ipv6() || ip.is_unspecified() || !everybody(*port);
            addresses.iter().filter(|address| fits(address)).copied().map(SocketAddr::from).collect()
        },
    )
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let network = (any::<IpAddr>(), 0..=128u8).prop_map(|(ip, bits)| {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        IpNet::new(ip, bits.min(most)).unwrap()
    });
    // As lists of networks are kept: in order, none within another.
    proptest::collection::vec(network, 0..8)
        .prop_map(|networks| networks.into_iter().collect::<AllowList>().iter().collect())
}

fn targets() -> impl Strategy<Value = TargetsSpec> {
    let v4 = (1..=254u8, 1..=65535u16)
        .prop_map(|(host, port)| SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), port));
    let v6 = (1..=254u16, 1..=65535u16).prop_map(|(host, port)| {
        SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host), port, 0, 0)
    });
    let allowed =
        select(&["10.0.0.0/8", "10.0.0.5:22", "10.0.0.0/24:20-30", "[2001:db8::5]:22", "2001:db8::/32"][..])
            .prop_map(|text| text.parse::<AllowedTarget>().unwrap());
    let from_header = proptest::option::of(proptest::collection::vec(allowed, 1..3));
    (proptest::option::of(v4.clone()), proptest::option::of(v6), from_header, v4).prop_map(
        |(v4, v6, from_header, other)| {
            let none = v4.is_none() && v6.is_none() && from_header.is_none();
            TargetsSpec { v4: v4.or_else(|| none.then_some(other)), v6, from_header }
        },
    )
}

fn namespace() -> impl Strategy<Value = NamespaceName> {
    select(&["docker:web", "4711", "web", "/run/netns/web"][..]).prop_map(|text| text.parse().unwrap())
}

fn ports() -> impl Strategy<Value = Ports> {
    (1..=1000u16, 0..=1000u16).prop_map(|(first, more)| Ports::new(first, first + more).unwrap())
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let keepalive = (1..=32_767u64, 1..=32_767u64, 1..=127u32).prop_map(|(idle, interval, probes)| {
        KeepaliveSpec { idle: Duration::from_secs(idle), interval: Duration::from_secs(interval), probes }
    });
    let off_or = || proptest::option::of(millis(100));
    (millis(3000), millis(1), off_or(), off_or(), off_or(), proptest::option::of(keepalive)).prop_map(
        |(header, connect, idle, half_closed, tcp_user, keepalive)| Timeouts {
            header,
            connect,
            idle,
            half_closed,
            tcp_user,
            keepalive,
        },
    )
}

fn limits() -> impl Strategy<Value = LimitsSpec> {
    let number = || (1..usize::MAX).prop_map(|number| NonZeroUsize::new(number).unwrap());
    let ceiling = move || proptest::option::of(proptest::option::of(number()).prop_map(Ceiling));
    let some = || proptest::option::of(number());
    let prefixes = (0..=32u8, 0..=128u8).prop_map(|(v4, v6)| Prefixes(ClientNetworks::new(v4, v6).unwrap()));
    let rate = (1..=1_000_000_000u32, 1..u32::MAX).prop_map(|(per_second, burst)| {
        Pace::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    });
    let rate = proptest::option::of(rate).prop_map(Rate);
    (some(), some(), ceiling(), ceiling(), prefixes, rate, 4096..=65551usize).prop_map(
        |(per_listener, per_balancer, per_client, per_client_network, client_networks, rate, size)| {
            LimitsSpec {
                per_listener,
                per_balancer,
                per_client,
                per_client_network,
                client_networks,
                new_sessions_per_second: rate,
                max_header_size: size,
            }
        },
    )
}

fn udp() -> impl Strategy<Value = UdpSpec> {
    let flows = || proptest::option::of((1..usize::MAX).prop_map(|flows| NonZeroUsize::new(flows).unwrap()));
    (word(), millis(1000), flows(), flows(), flows(), word()).prop_map(
        |(which, idle, max_flows, max_flows_per_balancer, max_flows_per_network, io_uring)| UdpSpec {
            which,
            idle,
            max_flows,
            max_flows_per_balancer,
            max_flows_per_network,
            io_uring,
        },
    )
}

fn millis(least: u64) -> impl Strategy<Value = Duration> {
    (least..1_000_000_000).prop_map(Duration::from_millis)
}

fn values<T: ValueEnum + 'static>() -> &'static [T] {
    T::value_variants()
}

fn word<T: ValueEnum + std::fmt::Debug + 'static>() -> impl Strategy<Value = T> {
    select(T::value_variants())
}
