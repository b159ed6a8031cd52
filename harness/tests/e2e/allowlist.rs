//! Files that say who may connect.

use std::fs;
use std::path::PathBuf;

use harness::{Balancer, Family, Flags, Gateway, Target, Topology, Version, addr, isolated, scratch};

use crate::support::{header, talk};
use Family::{V4, V6};

/// A file of networks with `text` in it.
fn ranges(text: &str) -> PathBuf {
    let path = scratch().join("ranges.txt");
    fs::write(&path, text).expect("the test's own directory");
    path
}

/// A network with a target, and a gateway's flags that name the file.
fn with_file(text: &str) -> (Topology, Target, Flags) {
    let net = Topology::new();
    let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
    let path = ranges(text);
    let flags = Gateway::before(&net, &target).allowed_subnets(path.to_str().expect("ASCII"));
    (net, target, flags)
}

/// Expects that a gateway with `text` as its file turns the balancer of `family` away.
#[track_caller]
fn expect_not_allowed(text: &str, family: Family) {
    let (net, target, flags) = with_file(text);
    let gateway = flags.start();
    Balancer::of(&net).expect_turned_away(gateway.address(family), &header(Version::V2, V4));
    gateway.expect_log(&["session closed", "reason=peer_not_allowed"]);
    target.expect_untouched();
}

#[test]
fn comments_blank_lines_bare_addresses_and_host_bits_are_understood() {
    isolated(|| {
        let text =
            "# balancers\n\n; of the first site\n  10.0.0.5/24  ; host bits and blanks\n\tfd00::2 # bare\r\n";
        let (net, target, flags) = with_file(text);
        let gateway = flags.start();
        gateway.expect_log(&["10.0.0.0/24"]);
        gateway.expect_log(&["fd00::2"]);
        for family in [V4, V6] {
            let downstream =
                Balancer::of(&net).announce(gateway.address(family), &header(Version::V2, V4), b"");
            talk(&downstream, &target.accept());
        }
    });
}

#[test]
fn who_is_not_in_the_file_is_not_allowed() {
    isolated(|| {
        expect_not_allowed("10.0.0.3\nfd00::/64\n", V4);
        expect_not_allowed("10.0.0.0/24\nfd00::3\n", V6);
    });
}

#[test]
fn an_empty_file_allows_nobody_and_the_gateway_says_so() {
    isolated(|| {
        for text in ["", "\n# nobody yet\n"] {
            let (_net, _target, flags) = with_file(text);
            flags.start().expect_log(&["nobody may connect"]);
            expect_not_allowed(text, V4);
        }
    });
}

#[test]
fn a_malformed_file_stops_the_start_with_each_mistakes_line() {
    isolated(|| {
        let (_net, target, flags) = with_file("10.0.0.0/24\n# fine\n10.0.0.0/33\n\nbalancer.example\n");
        let finished = flags.run().expect_code(78);
        for part in ["ranges.txt:3", "10.0.0.0/33", "ranges.txt:5", "balancer.example"] {
            assert!(finished.stderr.contains(part), "{part} is not in {finished}");
        }
        target.expect_untouched();
    });
}

#[test]
fn a_missing_or_unreadable_file_stops_the_start_with_its_name() {
    isolated(|| {
        let (net, target, _) = with_file("");
        let missing = Gateway::before(&net, &target).allowed_subnets("/nonexistent/ranges.txt").run();
        missing.expect_code(78).expect_text(&["/nonexistent/ranges.txt", "No such file"]);
        let directory = Gateway::before(&net, &target).allowed_subnets("/run").run();
        directory.expect_code(78).expect_text(&["/run"]);
    });
}

#[test]
fn files_and_flags_add_up() {
    isolated(|| {
        let (net, target, flags) = with_file("fd00::/64\n");
        let gateway = flags.allow("10.0.0.2").start();
        for family in [V4, V6] {
            let downstream =
                Balancer::of(&net).announce(gateway.address(family), &header(Version::V2, V4), b"");
            talk(&downstream, &target.accept());
        }
    });
}
