//! `setup`, `teardown` and `--routing`: what is installed when asked, and what is nobody's business but the operator's.

use harness::{
    Balancer, Family, Gateway, State, Target, Topology, Version, addr, isolated, mmproxy, run, shell,
};

use crate::host::Host;
use crate::support::{header, talk};
use Family::V4;

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
