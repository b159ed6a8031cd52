//! Why it refuses to start, in words and in an exit status that service managers act on.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use harness::{
    Balancer, Family, Finished, Gateway, State, Target, Topology, Version, addr, executable, isolated,
    mmproxy, ordinary_user, run, scratch,
};

use crate::support::{client, header, talk};

/// Runs a command line in the gateway's namespace of a fresh network.
#[track_caller]
fn mmproxy_in_a_network(words: &str) -> Finished {
    let net = Topology::new();
    run(&net.gateway, &mut mmproxy(words.split_whitespace()), b"")
}

#[test]
fn a_wrong_command_line_is_64() {
    isolated(|| {
        let lines = [
            ("", "--listen"),
            ("--no-such-flag", "--no-such-flag"),
            ("no-such-command", "no-such-command"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0", "-4 127.0.0.1:22"),
            ("--allow 10.0.0.2 -l nowhere -4 127.0.0.1:22", "nowhere"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0 -4 [::1]:22", "[::1]:22"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0 -6 127.0.0.1:22", "127.0.0.1:22"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0 -4 127.0.0.1:0", "127.0.0.1:0"),
            ("--allow 10.0.0.0/33 -l 0.0.0.0:0 -4 127.0.0.1:22", "10.0.0.0/33"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0 -4 127.0.0.1:22 --header-timeout 1s", "--header-timeout"),
            ("--allow 10.0.0.2 -l 0.0.0.0:0 -4 127.0.0.1:22 --source-port odd", "odd"),
            ("probe --via 127.0.0.1:2222", "--source"),
            ("check", "-4 127.0.0.1:22"),
        ];
        for (line, part) in lines {
            let finished = mmproxy_in_a_network(line).expect_code(64);
            assert!(finished.stderr.contains(part), "`mmproxy {line}` does not name {part}; {finished}");
        }
    });
}

#[test]
fn without_an_allow_list_it_refuses_and_names_the_flags() {
    isolated(|| {
        let finished = mmproxy_in_a_network("-l 0.0.0.0:0 -4 127.0.0.1:22").expect_code(64);
        finished.expect_text(&["--allowed-subnets", "--allow"]);
    });
}

#[test]
fn help_and_version_are_0() {
    isolated(|| {
        mmproxy_in_a_network("--help").expect_code(0).expect_text(&[
            "--allowed-subnets",
            "demo",
            "Exit status",
        ]);
        mmproxy_in_a_network("--version").expect_code(0).expect_text(&["mmproxy "]);
    });
}

#[test]
fn an_address_that_cannot_be_listened_on_is_69_and_nothing_was_changed() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let taken = Target::listen(&net.gateway, addr("0.0.0.0:2222"));
        let before = State::of(&net.gateway);
        for address in [taken.address(), addr("203.0.113.1:2222")] {
            let finished = Gateway::before(&net, &target).listen(address).run().expect_code(69);
            finished.expect_text(&[&address.to_string()]);
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
        target.expect_untouched();
    });
}

/// Several workers share an address; another gateway must not slip in among them.
#[test]
fn a_second_gateway_on_an_address_is_69_however_many_workers_either_has() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        for (workers, others) in [("1", "1"), ("2", "1"), ("1", "2"), ("3", "3")] {
            let first = Gateway::before(&net, &target).with(["--workers", workers]).start();
            let second = Gateway::before(&net, &target).with(["--workers", others]).listen(first.listening());
            second.run().expect_code(69).expect_text(&["cannot listen on", &first.listening().to_string()]);
            let downstream =
                Balancer::of(&net).announce(first.address(Family::V4), &header(Version::V2, Family::V4), b"");
            talk(&downstream, &target.accept());
            first.stop();
        }
    });
}

/// The program where an ordinary user may run it: cargo's folder may be in somebody's home.
fn public_copy() -> String {
    let copy = scratch().join("mmproxy");
    fs::copy(executable(), &copy).expect("the test's own directory");
    copy.to_str().expect("ASCII").to_owned()
}

#[test]
fn a_missing_capability_is_77_and_comes_with_the_lines_that_grant_it() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let copy = public_copy();
        let mut command = Command::new(&copy);
        command.args(Gateway::before(&net, &target).command().get_args());
        let finished = run(&net.gateway, &mut ordinary_user(&command), b"").expect_code(77);
        let setcap = format!("setcap cap_net_admin,cap_net_raw+ep {copy}");
        finished.expect_text(&[&setcap, "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"]);
        target.expect_untouched();
    });
}

#[test]
fn commands_that_need_a_capability_say_so_too() {
    isolated(|| {
        let net = Topology::new();
        let before = State::of(&net.gateway);
        let copy = public_copy();
        for words in ["setup", "check -4 127.0.0.1:22"] {
            let mut command = Command::new(&copy);
            command.args(words.split_whitespace());
            run(&net.gateway, &mut ordinary_user(&command), b"").expect_code(77).expect_text(&["CAP_NET_"]);
        }
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn where_the_return_path_is_set_up_net_raw_alone_is_enough_to_serve() {
    isolated(|| {
        let net = Topology::new();
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        let set_up = State::of(&net.gateway);
        for family in Family::BOTH {
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let flags = Gateway::before(&net, &target).with(["--routing", "check"]);
            let gateway =
                flags.start_under("setpriv", &["--bounding-set=-all,+net_raw", "--no-new-privs", "--"]);
            let downstream =
                Balancer::of(&net).announce(gateway.address(family), &header(Version::V2, family), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(family));
            talk(&downstream, &upstream);
            gateway.stop();
        }
        State::of(&net.gateway).expect_unchanged_since(&set_up);
    });
}
