use super::*;

fn table(job: Job) -> Netfilter {
    Netfilter { family: Family::V4, job, mark: Mark::default(), table: Table::default() }
}

#[test]
fn tables_as_an_operator_would_type_them() {
    assert_eq!(
        table(Job::Connmark).to_string(),
        "table ip mmproxy_connmark_7b_100 { \
         chain prerouting { type filter hook prerouting priority -150; \
         iifname \"lo\" meta mark 0x7b ct mark set meta mark; }; \
         chain output { type route hook output priority -150; ct mark 0x7b meta mark set ct mark; }; }"
    );
    assert_eq!(
        table(Job::Socket).to_string(),
        "table ip mmproxy_socket_7b_100 { \
         chain prerouting { type filter hook prerouting priority -150; \
         iifname != \"lo\" socket transparent 1 meta mark set 0x7b; }; \
         chain input { type filter hook input priority -150; \
         iifname != \"lo\" meta mark 0x7b meta mark set 0x0; }; }"
    );
}

#[test]
fn a_table_is_known_by_its_name() {
    let masked = Netfilter { mark: "0x7b/0xff".parse().unwrap(), ..table(Job::Socket) };
    assert_eq!(masked.bare_name(), "mmproxy_socket_7b.ff_100");
    let ports = "20000-20100".parse().unwrap();
    let redirect = |listener: &str| {
        Job::Tproxy(Redirect::new(Transport::Tcp, ports, listener.parse().unwrap()).unwrap())
    };
    let v6 = Netfilter { family: Family::V6, ..table(redirect("[2001:db8::5]:2222")) };
    let tables = [
        masked,
        table(Job::Connmark),
        table(Job::Socket),
        table(redirect("0.0.0.0:2222")),
        table(redirect("203.0.113.7:2222")),
        v6,
    ];
    for table in tables {
        assert_eq!(Netfilter::of_name(table.family.nft(), &table.bare_name()), Some(table));
    }
    for (family, name) in [
        ("inet", "mmproxy_socket_7b"),
        ("ip", "mmproxy_socket_0"),
        ("ip", "mmproxy_socket_07b"),
        ("ip", "mmproxy"),
    ] {
        assert_eq!(Netfilter::of_name(family, name), None, "{family} {name}");
    }
}

#[test]
fn the_original_speaks_of_the_same_mark() {
    assert_eq!(
        Netfilter { family: Family::V6, ..table(Job::Connmark) }.iptables(),
        [
            "ip6tables -t mangle -I PREROUTING -m mark --mark 123 -m comment --comment mmproxy -j CONNMARK --save-mark",
            "ip6tables -t mangle -I OUTPUT -m connmark --mark 123 -m comment --comment mmproxy -j CONNMARK --restore-mark",
        ]
    );
}

#[test]
fn a_masked_mark_leaves_the_other_bits_alone() {
    let masked = Netfilter { mark: "0x7b/0xff".parse().unwrap(), ..table(Job::Connmark) };
    assert_eq!(
        masked.to_string(),
        "table ip mmproxy_connmark_7b.ff_100 { \
         chain prerouting { type filter hook prerouting priority -150; \
         iifname \"lo\" meta mark and 0xff == 0x7b ct mark set ct mark and 0xffffff00 or 0x7b; }; \
         chain output { type route hook output priority -150; \
         ct mark and 0xff == 0x7b meta mark set meta mark and 0xffffff00 or 0x7b; }; }"
    );
    assert!(masked.iptables().iter().all(|line| line.contains("0x7b/0xff")), "{:?}", masked.iptables());
}

#[test]
fn a_redirect_marks_for_the_routing_decision_alone() {
    let ports = "20000-20100".parse().unwrap();
    let redirect = Redirect::new(Transport::Tcp, ports, "0.0.0.0:2222".parse().unwrap()).unwrap();
    assert_eq!(
        table(Job::Tproxy(redirect)).to_string(),
        "table ip mmproxy_tproxy_7b_100_tcp_20000-20100_2222 { \
         chain prerouting { type filter hook prerouting priority -150; iifname != \"lo\" fib daddr type local \
         tcp dport 20000-20100 tproxy to :2222 meta mark set 0x7b; }; \
         chain input { type filter hook input priority -150; \
         iifname != \"lo\" meta mark 0x7b meta mark set 0x0; }; }"
    );
}
