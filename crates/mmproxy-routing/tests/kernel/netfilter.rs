//! The modes that need nftables: by connection mark and by socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use mmproxy_routing::{
    Device, Families, InUse, KeptReason, Lease, Mode, Outcome, Owner, Plan, Policy, RoutingError, Settings,
    State as Found, apply, default_device, observe, remove,
};

use crate::instance::Instance;
use crate::namespace::{alone, default_routes, ip, run, sysctl, sysctl_value};
use crate::spoof::{PATIENCE, arrives, connect, udp_through};
use crate::state::{State, assert_same};

/// Listener, address connected to, client.
const WAYS: [(&str, &str, &str); 6] = [
    ("127.0.0.1", "127.0.0.1", "192.0.2.1"),
    ("0.0.0.0", "127.0.0.1", "203.0.113.9"),
    ("10.8.0.1", "10.8.0.1", "198.51.100.1"),
    ("::1", "::1", "2001:db8::1"),
    ("::", "::1", "2001:db8:1::9"),
    ("fd08::1", "fd08::1", "2001:db8:2::1"),
];

const ROUTE_LOCALNET: &str = "net.ipv4.conf.east.route_localnet";

fn east() -> Device {
    "east".parse().unwrap()
}

fn connmark() -> Plan {
    Plan::connmark(Settings::default(), Families::BOTH, Some(east()))
}

fn socket() -> Plan {
    Plan::socket(Settings::default(), Families::BOTH)
}

fn type_all(plan: &Plan) {
    for step in plan.steps() {
        assert!(Command::new("sh").args(["-c", &step.to_string()]).status().unwrap().success(), "{step}");
    }
}

fn type_back(plan: &Plan) {
    for step in plan.steps().iter().rev() {
        let command = step.undo().to_string();
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
    }
}

#[test]
fn by_connmark_a_spoofed_connection_works_exactly_while_the_return_path_is_there() {
    alone(
        "netfilter::by_connmark_a_spoofed_connection_works_exactly_while_the_return_path_is_there",
        || async {
            default_routes();
            assert_eq!(default_device().await.unwrap(), Some(east()));
            let before = State::now();
            for (listen, target, client) in WAYS {
                arrives(listen, target, client, 123).unwrap_err();
            }
            let applied = apply(&connmark()).await.unwrap();
            assert!(applied.iter().all(|applied| applied.outcome == Outcome::Added), "{applied:?}");
            assert_eq!(connmark().mode(), Some(Mode::Connmark));
            assert_eq!(connmark().socket_mark(), Some(Settings::default().mark));
            for (listen, target, client) in WAYS {
                arrives(listen, target, client, 123)
                    .unwrap_or_else(|error| panic!("{listen} {target}: {error}"));
            }
            assert!(
                observe(&connmark())
                    .await
                    .unwrap()
                    .iter()
                    .all(|o| o.state == Found::Present(Owner::Permanent))
            );
            let once = State::now();
            assert!(
                apply(&connmark()).await.unwrap().iter().all(|applied| applied.outcome == Outcome::Verified)
            );
            assert_same(&State::now(), &once, "the second setup");

            let removal = remove(&connmark(), InUse::Keep).await.unwrap();
            assert_eq!(removal.removed.len(), connmark().steps().len(), "{removal:?}");
            assert_same(&State::now(), &before, "teardown");
            arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 123).unwrap_err();
        },
    );
}

#[test]
fn without_a_default_route_there_is_no_device() {
    alone("netfilter::without_a_default_route_there_is_no_device", || async {
        assert_eq!(default_device().await.unwrap(), None);
    });
}

/// The host, its client side `east`, and behind `inner` a machine whose way to anybody leads through the host.
struct Behind {
    /// Holds the namespace of the machine open.
    machine: Child,
}

impl Behind {
    fn new() -> Self {
        default_routes();
        let machine = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = machine.id();
        let elsewhere = || std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let here = std::fs::read_link("/proc/self/ns/net").unwrap();
        let patience = std::time::Instant::now();
        while elsewhere() == here {
            assert!(patience.elapsed().as_secs() < 10, "unshare does not come to its point");
            std::thread::yield_now();
        }
        ip(&format!("link add inner type veth peer name outer netns {pid}"));
        ip("link set inner addrgenmode none");
        ip("addr add 10.7.0.1/24 dev inner");
        ip("addr add fd07::1/64 dev inner nodad");
        // Neighbours are asked for from a link-local address when the packet's own source is spoofed.
        ip("addr add fe80::1/64 dev inner nodad");
        ip("link set inner up");
        let behind = Self { machine };
        for command in [
            "link set lo up",
            "link set outer addrgenmode none",
            "addr add 10.7.0.2/24 dev outer",
            "addr add fd07::2/64 dev outer nodad",
            "addr add fe80::2/64 dev outer nodad",
            "link set outer up",
            "route add default via 10.7.0.1",
            "-6 route add default via fd07::1",
        ] {
            behind.run("ip", command);
        }
        behind
    }

    fn run(&self, program: &str, arguments: &str) {
        run("nsenter", &format!("--net=/proc/{}/ns/net {program} {arguments}", self.machine.id()));
    }

    /// What `make` makes, inside of the machine.
    fn inside<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.machine.id())).unwrap();
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    make()
                })
                .join()
                .unwrap()
        })
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.machine.kill().unwrap();
        self.machine.wait().unwrap();
    }
}

const TARGETS: [(&str, &str); 2] = [("10.7.0.2", "192.0.2.1"), ("fd07::2", "2001:db8::1")];

fn tcp_to(behind: &Behind, target: &str, client: &str) -> io::Result<()> {
    let listener = behind.inside(|| std::net::TcpListener::bind((target, 0)).unwrap());
    let client: IpAddr = client.parse().unwrap();
    connect(client, listener.local_addr().unwrap(), 0, PATIENCE)?;
    assert_eq!(listener.accept()?.1.ip(), client, "the target sees the client");
    Ok(())
}

fn udp_to(behind: &Behind, target: &str, client: &str) -> io::Result<()> {
    let server = behind.inside(|| std::net::UdpSocket::bind((target, 0)).unwrap());
    let target: SocketAddr = server.local_addr().unwrap();
    udp_through(&server, target, client.parse().unwrap(), 0)
}

#[test]
fn by_socket_targets_behind_this_host_are_served_over_tcp_and_udp() {
    alone("netfilter::by_socket_targets_behind_this_host_are_served_over_tcp_and_udp", || async {
        let behind = Behind::new();
        let before = State::now();
        for (target, client) in TARGETS {
            tcp_to(&behind, target, client).unwrap_err();
            udp_to(&behind, target, client).unwrap_err();
        }
        apply(&socket()).await.unwrap();
        assert_eq!(socket().mode(), Some(Mode::Socket));
        assert_eq!(socket().socket_mark(), None, "a marked SYN would never leave this host");
        for rp_filter in [0, 1, 2] {
            for device in ["all", "inner", "east"] {
                sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), rp_filter);
            }
            for (target, client) in TARGETS {
                tcp_to(&behind, target, client)
                    .unwrap_or_else(|error| panic!("tcp {target} {rp_filter}: {error}"));
                udp_to(&behind, target, client)
                    .unwrap_or_else(|error| panic!("udp {target} {rp_filter}: {error}"));
            }
        }
        for device in ["all", "inner", "east"] {
            sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 0);
        }
        remove(&socket(), InUse::Keep).await.unwrap();
        for (target, client) in TARGETS {
            tcp_to(&behind, target, client).unwrap_err();
        }
        let after = State::now();
        drop(behind);
        assert_eq!(after.objects(), before.objects());
    });
}

#[test]
fn what_is_typed_is_verified_and_kept() {
    alone("netfilter::what_is_typed_is_verified_and_kept", || async {
        default_routes();
        for plan in [connmark(), socket()] {
            let clean = State::now();
            type_all(&plan);
            let typed = State::now();
            let applied = apply(&plan).await.unwrap();
            assert!(applied.iter().all(|applied| applied.outcome == Outcome::Verified), "{applied:?}");
            let removal = remove(&plan, InUse::Remove).await.unwrap();
            assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::Foreign), "{removal:?}");
            assert_same(&State::now(), &typed, "setup and teardown");
            type_back(&plan);
            assert_same(&State::now(), &clean, "the undo commands");
        }
    });
}

#[test]
fn rules_in_tables_of_others_count() {
    alone("netfilter::rules_in_tables_of_others_count", || async {
        default_routes();
        let table = |rule: &str, hook: &str| {
            let script = format!(
                "table inet theirs {{ chain c {{ type filter hook {hook} priority mangle; {rule}; }}; }}"
            );
            assert!(Command::new("nft").arg(script).status().unwrap().success());
        };
        for (rule, hook, serves) in [
            ("socket transparent 1 counter meta mark set 0x7b", "prerouting", true),
            ("socket transparent 1 meta mark set 0x7c", "prerouting", false),
            ("socket transparent 1 meta mark set 0x7b", "input", false),
            ("tcp dport 22 socket transparent 1 meta mark set 0x7b", "prerouting", false),
        ] {
            table(rule, hook);
            let found = observe(&socket()).await.unwrap();
            let tables = found.iter().filter(|o| o.step.to_string().starts_with("nft")).map(|o| &o.state);
            assert!(
                tables.into_iter().all(|s| (*s == Found::Present(Owner::Foreign)) == serves),
                "{rule} {hook}"
            );
            run("nft", "delete table inet theirs");
        }
    });
}

#[test]
fn instances_of_these_modes_stop_and_are_killed_in_any_order() {
    alone("netfilter::instances_of_these_modes_stop_and_are_killed_in_any_order", || async {
        default_routes();
        let fwmark = Plan::fwmark(Settings::default(), Families::BOTH);
        let before = State::now();
        for other in [connmark(), socket(), fwmark] {
            for connmark_first in [true, false] {
                let one = Lease::acquire(connmark(), Policy::Install).await.unwrap();
                let two = Lease::acquire(other.clone(), Policy::Install).await.unwrap();
                let (stops, stays) = if connmark_first { (one, two) } else { (two, one) };
                stops.release().await.unwrap();
                let found = observe(stays.plan()).await.unwrap();
                assert!(found.iter().all(|o| o.state == Found::Present(Owner::Leased)), "{found:?}");
                stays.release().await.unwrap();
                assert_same(&State::now(), &before, "both stopped");
            }
        }
        for next in [connmark(), socket()] {
            Instance::start(&connmark(), Policy::Install).kill();
            assert_eq!(sysctl_value(ROUTE_LOCALNET), 1);
            Instance::start(&next, Policy::Install).stop();
            assert_same(&State::now(), &before, "the next one stopped");
        }
        Instance::start(&socket(), Policy::Install).kill();
        remove(&connmark(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

#[test]
fn setup_beside_an_instance_makes_its_table_permanent() {
    alone("netfilter::setup_beside_an_instance_makes_its_table_permanent", || async {
        default_routes();
        let before = State::now();
        for plan in [connmark(), socket()] {
            let lease = Lease::acquire(plan.clone(), Policy::Install).await.unwrap();
            apply(&plan).await.unwrap();
            let set_up = State::now();
            let removal = lease.release().await.unwrap();
            assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::Permanent), "{removal:?}");
            assert_same(&State::now(), &set_up, "the instance stopped");
            remove(&plan, InUse::Keep).await.unwrap();
            assert_same(&State::now(), &before, "teardown");
        }
    });
}

/// Each interface whose switch we turned on gets it back, also when the default route has moved in between.
#[test]
fn the_default_route_may_move_between_two_runs() {
    alone("netfilter::the_default_route_may_move_between_two_runs", || async {
        default_routes();
        let west = Plan::connmark(Settings::default(), Families::BOTH, Some("west".parse().unwrap()));
        let before = State::now();
        Instance::start(&connmark(), Policy::Install).kill();
        let lease = Lease::acquire(west, Policy::Install).await.unwrap();
        assert_eq!(sysctl_value(ROUTE_LOCALNET), 0, "nobody needs it any more");
        assert_eq!(sysctl_value("net.ipv4.conf.west.route_localnet"), 1);
        lease.release().await.unwrap();
        assert_same(&State::now(), &before, "released");
    });
}

#[test]
fn an_interface_that_goes_takes_its_record_along() {
    alone("netfilter::an_interface_that_goes_takes_its_record_along", || async {
        let clean = State::now();
        default_routes();
        let lease = Lease::acquire(connmark(), Policy::Install).await.unwrap();
        ip("link del east");
        lease.release().await.unwrap();
        assert_same(&State::now(), &clean, "released");
    });
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    alone("netfilter::a_missing_program_is_named_with_its_package", || async {
        run("mount", "-t tmpfs tmpfs /usr/sbin");
        let error = apply(&socket()).await.unwrap_err();
        assert!(matches!(error, RoutingError::NftMissing { .. }), "{error}");
        assert!(error.to_string().contains("package nftables"), "{error}");
        // Nobody else needs it.
        let fwmark = Plan::fwmark(Settings::default(), Families::BOTH);
        apply(&fwmark).await.unwrap();
        remove(&fwmark, InUse::Keep).await.unwrap();
    });
}
