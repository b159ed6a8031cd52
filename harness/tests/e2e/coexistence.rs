//! Hosts that others have furnished: everything works among their rules, and they find them as they left them.

use std::net::SocketAddr;

use harness::{Family, State, UdpTarget, isolated, mmproxy, run, shell};

use crate::host::Host;
use crate::support::client;
use Family::V4;

/// Among what `script` makes, `setup`, `check`, traffic of both families with `setup`'s rules and with the gateway's own,
/// and `teardown`; in the end the host is as the script left it.
#[track_caller]
fn lives_beside(script: &str) {
    let mut host = Host::new();
    host.net.default_routes();
    let untouched = State::of(&host.net.gateway);
    shell(&host.net.gateway, script);
    host.before = host.state();
    assert_ne!(host.before, untouched, "the script has to leave something");

    // The gateway's own way back, over TCP.
    let gateway = host.start();
    host.expect_served(&gateway);
    gateway.stop();
    host.expect_as_before();

    // And the operator's.
    let targets = [&host.v4, &host.v6].map(|target| target.address().to_string());
    host.command("setup");
    host.expect_changed();
    host.command("setup");
    let check = host.command(&format!("check -4 {} -6 {}", targets[0], targets[1]));
    for target in &targets {
        assert!(check.contains(&format!("{target} is up and reachable using spoofed connection")), "{check}");
    }
    let gateway = host.start_with(&["--routing", "check"]);
    host.expect_served(&gateway);
    gateway.stop();
    host.command("teardown");
    host.expect_as_before();

    // Datagrams.
    for family in Family::BOTH {
        let target = UdpTarget::listen(&host.net.gateway, SocketAddr::new(family.loopback(), 0));
        let flag = if family == V4 { "-4" } else { "-6" };
        let address = target.address().to_string();
        for word in ["setup", "check"] {
            run(&host.net.gateway, &mut mmproxy([word, "-p", "udp", flag, &address]), b"").expect_code(0);
        }
        target.expect_answers(&host.net.gateway, client(family));
        run(&host.net.gateway, &mut mmproxy(["teardown", "-p", "udp", flag, &address]), b"").expect_code(0);
        host.expect_as_before();
    }
}

/// Docker's bridge, its masquerading and its forward chain with a policy to drop, in its own words.
#[test]
fn a_host_with_dockers_bridge_and_its_nat_rules() {
    isolated(|| {
        lives_beside(
            "ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up
             sysctl -qw net.ipv4.ip_forward=1
             iptables-nft -t nat -N DOCKER
             iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
             iptables-nft -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
             iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
             iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
             iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
             iptables-nft -N DOCKER-USER
             iptables-nft -P FORWARD DROP
             iptables-nft -A FORWARD -j DOCKER-USER
             iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        );
    });
}

/// firewalld's chains, shortened: conntrack, a drop for what is invalid, an open port, and a reject for the rest; its
/// reverse path filter for IPv6 too.
#[test]
fn a_host_with_a_firewall_that_lets_in_what_it_knows() {
    isolated(|| {
        lives_beside(
            "nft -f - <<'END'
table inet firewalld {
    chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain filter_INPUT { type filter hook input priority filter + 10; policy drop;
        ct state { established, related } accept
        ct status dnat accept
        iifname lo accept
        ct state invalid drop
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        iifname lb0 meta l4proto { tcp, udp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD { type filter hook forward priority filter + 10; policy drop;
        ct state { established, related } accept
    }
    chain filter_OUTPUT { type filter hook output priority filter + 10; policy accept;
        ct state { established, related } accept
        oifname lo accept
    }
}
END",
        );
    });
}

/// wg-quick's: everything that it has not marked itself goes by its table, and a rule that hides main's default route. A
/// bridge stands in for the tunnel, of which no packet is looked at here.
#[test]
fn a_host_whose_every_packet_goes_by_wireguard() {
    isolated(|| {
        lives_beside(
            "ip link add wg0 type bridge; ip address add 10.66.0.2/32 dev wg0; ip link set wg0 up
             ip route add default dev wg0 table 51820
             ip rule add not fwmark 0xca6c table 51820
             ip rule add table main suppress_prefixlength 0
             ip -6 address add fd66::2/128 dev wg0 nodad
             ip -6 route add default dev wg0 table 51820
             ip -6 rule add not fwmark 0xca6c table 51820
             ip -6 rule add table main suppress_prefixlength 0
             sysctl -qw net.ipv4.conf.all.src_valid_mark=1
             nft 'table ip wg-quick-wg0 {
                 chain preraw { type filter hook prerouting priority -300; iifname != wg0 ip daddr 10.66.0.2 fib saddr type != local drop; }
                 chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }
                 chain postmangle { type filter hook postrouting priority -150; meta l4proto udp meta mark 0xca6c ct mark set mark; }
             }'",
        );
    });
}

#[test]
fn a_host_with_a_strict_reverse_path_filter_everywhere() {
    isolated(|| {
        lives_beside("for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $file; done");
    });
}

/// What systemd-networkd makes of RoutingPolicyRule= and a [Route] with a table, marked as its own (protocol static).
#[test]
fn a_host_whose_rules_systemd_networkd_keeps() {
    isolated(|| {
        lives_beside(
            "ip rule add from 203.0.113.0/24 lookup 200 priority 99 protocol static
             ip rule add to 198.51.100.0/24 iif lo lookup 200 priority 101 protocol static
             ip rule add fwmark 0x200/0xf00 lookup 200 priority 100 protocol static
             ip route add 198.51.100.0/24 via 10.0.0.2 dev lb0 table 200 proto static
             ip -6 rule add from 2001:db8:5::/48 lookup 200 priority 99 protocol static
             ip -6 route add 2001:db8:5::/48 via fd00::2 dev lb0 table 200 proto static
             ip route add blackhole 192.168.0.0/16 proto static",
        );
    });
}
