//! What starting, stopping and setting up leave in the host: nothing that is not wanted there, nothing of others
//! missing.

use harness::expect::eventually;
use harness::{
    Balancer, Family, Gateway, State, Target, Topology, Version, addr, isolated, mmproxy, run, shell,
};
use nix::sys::signal::Signal;

use crate::support::{Scene, client, header, talk};
use Family::{V4, V6};

/// A network with a target, and the state of the gateway's namespace before anything happened to it.
struct Host {
    net: Topology,
    v4: Target,
    v6: Target,
    before: State,
}

impl Host {
    fn new() -> Self {
        let net = Topology::new();
        let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| Target::listen(&net.gateway, addr(address)));
        let before = State::of(&net.gateway);
        Self { net, v4, v6, before }
    }

    /// A gateway that serves both families.
    fn start(&self) -> Gateway {
        self.start_with(&[])
    }

    fn start_with(&self, flags: &[&str]) -> Gateway {
        Gateway::before(&self.net, &self.v4).and_before(&self.v6).with(flags.iter().copied()).start()
    }

    /// Shows that clients of both families get through `gateway`.
    #[track_caller]
    fn expect_served(&self, gateway: &Gateway) {
        for (family, target) in [(V4, &self.v4), (V6, &self.v6)] {
            let downstream =
                self.balancer().announce(gateway.address(family), &header(Version::V2, family), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer().ip(), family.client());
            talk(&downstream, &upstream);
        }
    }

    /// Runs a command of the program in the gateway's namespace, and expects success.
    #[track_caller]
    fn command(&self, words: &str) -> String {
        run(&self.net.gateway, &mut mmproxy(words.split_whitespace()), b"").expect_code(0).stdout
    }

    #[track_caller]
    fn expect_as_before(&self) {
        self.state().expect_unchanged_since(&self.before);
    }

    #[track_caller]
    fn expect_changed(&self) {
        assert_ne!(self.state(), self.before, "the return path must be visible, or this test shows nothing");
    }

    fn state(&self) -> State {
        State::of(&self.net.gateway)
    }

    fn balancer(&self) -> Balancer {
        Balancer::of(&self.net)
    }
}

#[test]
fn sigterm_and_sigint_leave_nothing_behind() {
    isolated(|| {
        let host = Host::new();
        for stop in [Gateway::stop, Gateway::interrupt] {
            let gateway = host.start();
            host.expect_changed();
            host.expect_served(&gateway);
            stop(gateway);
            host.expect_as_before();
        }
    });
}

#[test]
fn what_a_killed_gateway_left_goes_with_the_next_one() {
    isolated(|| {
        let host = Host::new();
        host.start().kill();
        host.expect_changed();
        let next = host.start();
        host.expect_served(&next);
        next.stop();
        host.expect_as_before();
    });
}

#[test]
fn what_a_killed_gateway_left_goes_with_teardown() {
    isolated(|| {
        let host = Host::new();
        host.start().kill();
        host.expect_changed();
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn of_two_gateways_with_one_mark_each_may_stop_without_hurting_the_other() {
    isolated(|| {
        let host = Host::new();
        for first_stops_first in [true, false] {
            let (first, second) = (host.start(), host.start());
            let (stops, stays) = if first_stops_first { (first, second) } else { (second, first) };
            stops.stop();
            host.expect_changed();
            host.expect_served(&stays);
            stays.stop();
            host.expect_as_before();
        }
    });
}

#[test]
fn a_gateway_that_is_killed_takes_nothing_from_the_other() {
    isolated(|| {
        let host = Host::new();
        let (killed, stays) = (host.start(), host.start());
        killed.kill();
        host.expect_served(&stays);
        stays.stop();
        host.expect_as_before();
    });
}

#[test]
fn gateways_with_marks_of_their_own_do_not_know_each_other() {
    isolated(|| {
        let host = Host::new();
        let one = host.start();
        let alone = host.state();
        let other = host.start_with(&["--mark", "0x77", "--table", "177", "--priority", "77"]);
        host.expect_served(&one);
        host.expect_served(&other);
        other.stop();
        host.state().expect_unchanged_since(&alone);
        host.expect_served(&one);
        one.stop();
        host.expect_as_before();
    });
}

#[test]
fn two_runs_at_once_agree_on_who_cleans_up() {
    isolated(|| {
        let host = Host::new();
        // Started together and stopped together, so that they meet in both.
        let gateways: Vec<Gateway> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| host.start())).collect();
            starting.into_iter().map(|gateway| gateway.join().expect("it has shown why")).collect()
        });
        gateways.iter().for_each(|gateway| host.expect_served(gateway));
        for gateway in &gateways {
            gateway.program().signal(Signal::SIGTERM);
        }
        for gateway in gateways {
            gateway.wait().expect_code(0);
        }
        host.expect_as_before();
    });
}

#[test]
fn setup_twice_is_setup_once_and_teardown_is_its_opposite() {
    isolated(|| {
        let host = Host::new();
        host.command("setup");
        let once = host.state();
        host.expect_changed();
        host.command("setup");
        host.state().expect_unchanged_since(&once);
        host.command("teardown");
        host.expect_as_before();
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn a_gateway_keeps_what_setup_made() {
    isolated(|| {
        let host = Host::new();
        host.command("setup");
        let set_up = host.state();
        let gateway = host.start();
        host.expect_served(&gateway);
        gateway.stop();
        host.state().expect_unchanged_since(&set_up);
        host.start().kill();
        host.state().expect_unchanged_since(&set_up);
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn setup_beside_a_running_gateway_outlives_it() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        host.command("setup");
        let set_up = host.state();
        gateway.stop();
        host.state().expect_unchanged_since(&set_up);
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn teardown_keeps_what_a_running_gateway_uses_unless_forced() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        let running = host.state();
        let mut teardown = mmproxy(["teardown"]);
        run(&host.net.gateway, &mut teardown, b"").expect_code(69).expect_text(&["[!] KEPT", "--force"]);
        host.state().expect_unchanged_since(&running);
        host.expect_served(&gateway);
        host.command("teardown --force");
        host.expect_as_before();
        gateway.stop();
        host.expect_as_before();
    });
}

#[test]
fn what_is_not_ours_stays_untouched() {
    isolated(|| {
        let mut host = Host::new();
        let foreign = [
            "ip rule add from 203.0.113.0/24 lookup 99 priority 50",
            "ip rule add fwmark 0x7b lookup 200 priority 5000",
            "ip -6 rule add from 2001:db8:5::/48 lookup 101 priority 50",
            "ip route add default dev lb0 table 200",
            "ip route add 198.51.100.0/24 dev lb0 table 99",
            "ip -6 route add 2001:db8:5::/48 dev lb0 table 101",
        ];
        shell(&host.net.gateway, &foreign.join("\n"));
        // Somebody else's setting is kept although it is what we would set.
        host.net.gateway.set_sysctl("net.ipv4.fwmark_reflect", "1");
        host.before = host.state();

        let gateway = host.start();
        host.expect_served(&gateway);
        gateway.stop();
        host.expect_as_before();
        host.command("setup");
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn a_table_that_others_use_already_is_not_taken_from_them() {
    isolated(|| {
        // A route of theirs in our table; packets of theirs that our route would swallow.
        let uses = [
            ("ip route", "198.51.100.0/24 dev lb0 table 100"),
            ("ip rule", "from 203.0.113.0/24 lookup 100"),
        ];
        for (object, theirs) in uses {
            let mut host = Host::new();
            shell(&host.net.gateway, &format!("{object} add {theirs}"));
            host.before = host.state();
            let named = theirs.split_whitespace().find(|word| word.contains('/')).expect("a prefix");
            let refused = [
                Gateway::before(&host.net, &host.v4).run(),
                run(&host.net.gateway, &mut mmproxy(["setup"]), b""),
            ];
            for finished in refused {
                finished.expect_code(78).expect_text(&[named, "--table"]);
                host.expect_as_before();
            }
            let beside = host.start_with(&["--table", "101"]);
            host.expect_served(&beside);
            beside.stop();
            host.expect_as_before();
        }
    });
}

#[test]
fn a_host_without_ipv6_is_served_for_ipv4() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        for interface in ["all", "default"] {
            net.gateway.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1");
        }
        let before = State::of(&net.gateway);
        let flags = Gateway::before(&net, &target).and_to(addr("[::1]:22")).listen(addr("0.0.0.0:0"));
        let gateway = flags.start();
        gateway.expect_log(&["[!] No return path for IPv6 clients"]);
        let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(Version::V2, V4), b"");
        talk(&downstream, &target.accept());
        gateway.stop();
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        run(&net.gateway, &mut mmproxy(["teardown"]), b"").expect_code(0);
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn objects_an_operator_made_by_hand_are_used_and_kept() {
    isolated(|| {
        let mut host = Host::new();
        // Exactly what the dry run prints is what an operator would type.
        let script = host.command("setup --dry-run");
        host.expect_as_before();
        shell(&host.net.gateway, &script);
        host.expect_changed();
        host.before = host.state();

        let gateway = host.start();
        gateway.expect_log(&["ip rule add", "[+] VERIFIED"]);
        assert_eq!(gateway.program().count_lines(&["[+] ADDED"]), 0, "{}", gateway.program().output());
        host.expect_served(&gateway);
        gateway.stop();
        host.expect_as_before();
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn the_dry_run_of_teardown_prints_what_undoes_setup() {
    isolated(|| {
        let host = Host::new();
        host.command("setup");
        let set_up = host.state();
        let script = host.command("teardown --dry-run");
        host.state().expect_unchanged_since(&set_up);
        shell(&host.net.gateway, &script);
        host.expect_as_before();
    });
}

#[test]
fn routing_check_and_routing_off_change_nothing() {
    isolated(|| {
        let host = Host::new();
        for routing in ["check", "off"] {
            let gateway = host.start_with(&["--routing", routing]);
            host.expect_as_before();
            gateway.stop();
            host.expect_as_before();
        }
        host.start_with(&["--routing", "check"]).expect_log(&["ip rule add", "[!] MISSING"]);
    });
}

#[test]
fn routing_check_and_routing_off_serve_with_what_setup_made() {
    isolated(|| {
        let host = Host::new();
        host.command("setup");
        let set_up = host.state();
        for routing in ["check", "off"] {
            let gateway = host.start_with(&["--routing", routing]);
            host.expect_served(&gateway);
            gateway.stop();
            host.state().expect_unchanged_since(&set_up);
        }
    });
}

#[test]
fn without_a_return_path_the_self_check_says_what_is_lost_and_what_to_do() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start_with(&["--routing", "off"]);
        let target = host.v4.address().to_string();
        gateway.expect_log(&["[+] OK.", &target, "using conventional connection"]);
        gateway.expect_log(&["[!] FAILED", &target, "using spoofed connection", "mmproxy setup"]);
    });
}

#[test]
fn the_self_check_names_each_target_as_ok_in_the_words_of_the_original() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        for target in [&host.v4, &host.v6] {
            let address = target.address();
            let ip = address.ip();
            for line in [
                format!("[+] OK. Routing to {ip} points to a local machine."),
                format!("[+] OK. Target server {address} is up and reachable using conventional connection."),
                format!("[+] OK. Target server {address} is up and reachable using spoofed connection."),
            ] {
                assert_eq!(gateway.expect_log(&[&line]), line);
            }
        }
        let ready = format!("[+] Listening on {}", gateway.listening());
        let stopped = gateway.stop();
        assert_eq!(
            stopped.stdout.lines().last(),
            Some(ready.as_str()),
            "the last line is the one that means ready"
        );
    });
}

#[test]
fn a_session_may_finish_after_sigterm_while_nobody_new_is_taken() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "300s"]));
        let (downstream, upstream) = scene.session();
        let address = scene.gateway.address(V4);
        scene.gateway.program().signal(Signal::SIGTERM);
        eventually("new connections to be refused", || scene.balancer.try_connect(address).err());
        talk(&downstream, &upstream);
        let finished = scene.gateway.wait().expect_code(0);
        assert!(finished.stderr.contains("reason=finished"), "{finished}");
    });
}

#[test]
fn a_session_that_does_not_finish_is_ended_at_the_drains_deadline() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "1s"]));
        let before = State::of(&scene.net.balancer);
        let (downstream, upstream) = scene.session();
        scene.gateway.program().signal(Signal::SIGTERM);
        downstream.expect_closed();
        upstream.expect_closed();
        let finished = scene.gateway.wait().expect_code(0);
        assert!(finished.stderr.contains("reason=drained"), "{finished}");
        State::of(&scene.net.balancer).expect_unchanged_since(&before);
    });
}

#[test]
fn a_second_signal_does_not_wait_for_the_sessions() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start_with(&["--drain", "300s"]);
        let downstream = host.balancer().announce(gateway.address(V4), &header(Version::V2, V4), b"");
        let upstream = host.v4.accept();
        assert_eq!(upstream.peer(), client(V4));
        gateway.program().signal(Signal::SIGTERM);
        gateway.expect_log(&["stopping", "sessions may finish"]);
        gateway.program().signal(Signal::SIGTERM);
        gateway.wait().expect_code(0);
        downstream.expect_closed();
        upstream.expect_closed();
        host.expect_as_before();
    });
}

#[test]
fn the_port_is_free_again_at_once_after_a_restart() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags = Gateway::before(&net, &target).listen(addr("10.0.0.1:2222"));
        for _ in 0..3 {
            let gateway = flags.start();
            let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(Version::V2, V4), b"");
            let upstream = target.accept();
            // The gateway closes first, so that its end of the connection stays in TIME_WAIT.
            upstream.finish();
            downstream.expect_end();
            downstream.finish();
            upstream.expect_end();
            gateway.stop();
        }
    });
}
