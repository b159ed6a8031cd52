//! Targets behind this host, and replies that are marked by nftables.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use mmproxy_routing::check::{Fact, Level, Strangers, Target, examine};
use mmproxy_routing::{Families, Plan, Settings, apply};

use crate::diagnosis::{StandIn, diagnose, diagnose_udp, facts, one};
use crate::namespace::{alone, default_routes, ip, run, sysctl};

/// A machine behind this host with two ways to it: `near`, 10.7.0.1 to 10.7.0.2, over which it answers, and `far`,
/// 10.6.0.1 to 10.6.0.2. A server listens there on every address.
struct Machine {
    server: StandIn,
}

impl Machine {
    fn new() -> Self {
        default_routes();
        // Without a link-local address that is ready, a packet from a foreign address finds no neighbour.
        sysctl("net.ipv6.conf.default.accept_dad", 0);
        let exe = std::env::current_exe().unwrap();
        let mut program = Command::new("unshare");
        let server = StandIn::start(program.args(["--net", "--"]).arg(exe), &format!("[::]:{PORT}"), &[]);
        let machine = Self { server };
        machine.run("sysctl -q -w net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.default.arp_announce=2");
        for (link, net) in [("near", 7), ("far", 6)] {
            ip(&format!("link add {link} type veth peer name {link} netns {}", machine.server.id()));
            ip(&format!("addr add 10.{net}.0.1/24 dev {link}"));
            ip(&format!("addr add fd0{net}::1/64 dev {link} nodad"));
            ip(&format!("link set {link} up"));
            machine.ip(&format!("addr add 10.{net}.0.2/24 dev {link}"));
            machine.ip(&format!("addr add fd0{net}::2/64 dev {link} nodad"));
            machine.ip(&format!("link set {link} up"));
        }
        machine.ip("route add default via 10.7.0.1");
        machine.ip("-6 route add default via fd07::1");
        machine
    }

    fn ip(&self, arguments: &str) {
        self.run(&format!("ip {arguments}"));
    }

    fn udp_server(&self, address: SocketAddr) -> UdpSocket {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.server.id())).unwrap();
        let inside = move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind(address).unwrap()
        };
        std::thread::spawn(inside).join().unwrap()
    }

    fn run(&self, command: &str) {
        run("nsenter", &format!("--net=/proc/{}/ns/net {command}", self.server.id()));
    }
}

fn target(address: &str) -> Target {
    Target::tcp(SocketAddr::new(address.parse().unwrap(), PORT))
}

fn socket() -> Plan {
    Plan::socket(Settings::default(), Families::BOTH)
}

#[test]
fn mode_socket_serves_targets_behind_this_host() {
    alone("elsewhere::mode_socket_serves_targets_behind_this_host", || async {
        let _machine = Machine::new();
        let findings = examine(&socket(), &[target("10.7.0.2")], Strangers::default()).await;
        assert!(facts(&findings, Level::Failed).contains(&Fact::ObjectMissing), "{findings:#?}");
        assert!(facts(&findings, Level::Failed).contains(&Fact::RuleMissing), "{findings:#?}");

        apply(&socket()).await.unwrap();
        for address in ["10.7.0.2", "fd07::2"] {
            let (findings, verdict) = diagnose(&socket(), target(address)).await;
            assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
            assert_eq!(facts(&findings, Level::Warning), [], "{findings:#?}");
            assert!(one(&findings, Fact::TargetReachable).found.contains("routed out by near"));
            one(&findings, Fact::ReplyReturns);
            assert_eq!(verdict.fact, Fact::Connected, "{verdict}");
        }
        let findings = examine(&socket(), &[target("127.0.0.1")], Strangers::default()).await;
        assert!(one(&findings, Fact::ModeUnfit).cure.as_deref().unwrap().contains("--return-path fwmark"));
    });
}

/// wg-quick sets this switch for the whole host.
#[test]
fn replies_that_the_kernel_looks_up_with_our_mark_are_refused_until_the_cure() {
    alone("elsewhere::replies_that_the_kernel_looks_up_with_our_mark_are_refused_until_the_cure", || async {
        let _machine = Machine::new();
        apply(&socket()).await.unwrap();
        sysctl("net.ipv4.conf.all.src_valid_mark", 1);
        let (findings, verdict) = diagnose(&socket(), target("10.7.0.2")).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::SourceRefused, Fact::ReplyFiltered]);
        assert_eq!(verdict.fact, Fact::AnswerFiltered, "{verdict}");
        let cure = one(&findings, Fact::SourceRefused).cure.as_deref().unwrap();
        assert_eq!(cure, "`sysctl -w net.ipv4.conf.near.accept_local=1`");

        sysctl("net.ipv4.conf.near.accept_local", 1);
        let (findings, verdict) = diagnose(&socket(), target("10.7.0.2")).await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        assert_eq!(verdict.fact, Fact::Connected, "the cure cures");

        sysctl("net.ipv4.conf.near.rp_filter", 1);
        let (findings, verdict) = diagnose(&socket(), target("10.7.0.2")).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::SourceRefused, Fact::ReplyFiltered]);
        assert!(one(&findings, Fact::SourceRefused).cure.as_deref().unwrap().contains("near.rp_filter=2"));
        assert_eq!(verdict.fact, Fact::AnswerFiltered, "{verdict}");
    });
}

#[test]
fn replies_that_come_in_another_way_fail_a_strict_reverse_path_filter() {
    alone("elsewhere::replies_that_come_in_another_way_fail_a_strict_reverse_path_filter", || async {
        let machine = Machine::new();
        apply(&socket()).await.unwrap();
        machine.ip("route replace default via 10.6.0.1");
        for device in ["all", "near", "far"] {
            sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 1);
        }
        let (findings, verdict) = diagnose(&socket(), target("10.7.0.2")).await;
        one(&findings, Fact::ReversePathStrict);
        assert_eq!(verdict.fact, Fact::AnswerFiltered, "{verdict}");
        assert!(verdict.found.contains("the reverse-path filter dropped"), "{verdict}");

        for device in ["all", "far"] {
            sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 2);
        }
        assert_eq!(diagnose(&socket(), target("10.7.0.2")).await.1.fact, Fact::Connected, "the cure cures");
    });
}

#[test]
fn a_udp_server_behind_this_host_is_told_from_one_whose_answers_are_filtered() {
    alone("elsewhere::a_udp_server_behind_this_host_is_told_from_one_whose_answers_are_filtered", || async {
        let machine = Machine::new();
        let findings =
            examine(&socket(), &[Target::udp(target("10.7.0.2").address)], Strangers::default()).await;
        assert!(facts(&findings, Level::Failed).contains(&Fact::ObjectMissing), "{findings:#?}");
        apply(&socket()).await.unwrap();
        for address in ["10.7.0.2", "fd07::2"] {
            let target = Target::udp(target(address).address);
            let server = machine.udp_server(target.address);
            let (findings, verdict) = diagnose_udp(&socket(), target, Some(&server)).await;
            assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
            assert_eq!(verdict.fact, Fact::Connected, "{verdict}");
        }

        // The policy of somebody else sends answers back another way than questions go.
        machine.ip("route add default via 10.6.0.1 table 7");
        machine.ip("rule add ipproto udp lookup 7");
        for device in ["all", "near", "far"] {
            sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 1);
        }
        let target = Target::udp(target("10.7.0.2").address);
        let server = machine.udp_server(target.address);
        let (findings, verdict) = diagnose_udp(&socket(), target, Some(&server)).await;
        one(&findings, Fact::ReversePathStrict);
        assert_eq!(verdict.fact, Fact::AnswerFiltered, "{verdict}");
        sysctl("net.ipv4.conf.all.rp_filter", 2);
        sysctl("net.ipv4.conf.far.rp_filter", 2);
        assert_eq!(
            diagnose_udp(&socket(), target, Some(&server)).await.1.fact,
            Fact::Connected,
            "the cure cures"
        );
    });
}

#[test]
fn mode_connmark_is_explained_object_by_object() {
    alone("elsewhere::mode_connmark_is_explained_object_by_object", || async {
        default_routes();
        let plan = Plan::connmark(Settings::default(), Families::BOTH, Some("east".parse().unwrap()));
        apply(&plan).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::tcp(listener.local_addr().unwrap());
        let (findings, verdict) = diagnose(&plan, target).await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        assert_eq!(verdict.fact, Fact::Connected);

        sysctl("net.ipv4.conf.east.route_localnet", 0);
        let (findings, verdict) = diagnose(&plan, target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::SwitchOff, Fact::ReplyAstray]);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
        assert!(verdict.cure.unwrap().contains("`sysctl -w net.ipv4.conf.east.route_localnet=1`"));

        sysctl("net.ipv4.conf.east.route_localnet", 1);
        run("nft", "flush ruleset");
        let (findings, verdict) = diagnose(&plan, target).await;
        assert!(
            facts(&findings, Level::Failed).iter().all(|fact| *fact == Fact::ObjectMissing),
            "{findings:#?}"
        );
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway, "{verdict}");

        ip("route del default");
        let (findings, _) = diagnose(&plan, target).await;
        assert!(one(&findings, Fact::ReplyAstray).cure.as_deref().unwrap().contains("add a default route"));
    });
}

#[test]
fn rules_made_with_iptables_are_told_where_they_do_not_serve_mode_connmark() {
    alone("elsewhere::rules_made_with_iptables_are_told_where_they_do_not_serve_mode_connmark", || async {
        default_routes();
        let plan = Plan::connmark(Settings::default(), Families::V4, Some("east".parse().unwrap()));
        apply(&plan).await.unwrap();
        run("nft", "flush ruleset");
        let restore = "-t mangle -A OUTPUT -m connmark --mark 123 -j CONNMARK --restore-mark";
        run("iptables-nft", restore);
        run("iptables-nft", "-t mangle -A PREROUTING -i east -m mark --mark 123 -j CONNMARK --save-mark");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::tcp(listener.local_addr().unwrap());
        let (findings, verdict) = diagnose(&plan, target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::ObjectMissing], "{findings:#?}");
        assert!(verdict.found.contains("is for other packets (`-i east`)"), "{verdict}");

        run("iptables-nft", "-t mangle -A PREROUTING -i lo -m mark --mark 123 -j CONNMARK --save-mark");
        let (findings, verdict) = diagnose(&plan, target).await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        assert_eq!(verdict.fact, Fact::Connected, "{verdict}");
    });
}

const PORT: u16 = 8443;
