//! Marks, tables, priorities and names that somebody else has: refused, by the name of whoever has them.

use std::io::Write;
use std::process::{Command, Stdio};

use harness::{Family, Gateway, State, Target, Topology, addr, installed, isolated, mmproxy, run, shell};

use Family::V4;

/// With `script` run before, `setup` and a gateway with these flags are refused with `words`, change nothing, and `check`
/// says the same.
#[track_caller]
fn refused(script: &str, flags: &[&str], words: &[&str]) {
    let net = Topology::new();
    net.default_routes();
    let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
    shell(&net.gateway, script).expect_code(0);
    expect_refusal(&net, &target, flags, words);
}

#[track_caller]
fn expect_refusal(net: &Topology, target: &Target, flags: &[&str], words: &[&str]) {
    let before = State::of(&net.gateway);
    let address = target.address().to_string();
    let command = |word: &str| {
        let arguments = [word, "-4", &address].into_iter().chain(flags.iter().copied());
        run(&net.gateway, &mut mmproxy(arguments), b"").expect_code(78)
    };
    for finished in [command("setup"), command("check")] {
        finished.expect_text(words);
    }
    Gateway::before(net, target).with(flags.iter().copied()).run().expect_code(78).expect_text(words);
    State::of(&net.gateway).expect_unchanged_since(&before);
}

#[test]
fn a_rule_of_a_routing_daemon_for_the_same_mark_is_named_with_its_maker() {
    isolated(|| {
        refused(
            "ip rule add fwmark 0x7b lookup 200 priority 50 proto bird",
            &[],
            &["50: from all fwmark 0x7b lookup 200 proto bird", "of BIRD", "--mark", "--priority"],
        );
    });
}

#[test]
fn a_masked_rule_by_hand_for_the_same_bits_is_named() {
    isolated(|| {
        refused(
            "ip rule add fwmark 0x500/0xf00 lookup 200 priority 50",
            &["--mark", "0x501/0xfff"],
            &["fwmark 0x500/0xf00 lookup 200", "made by hand or by a script"],
        );
    });
}

#[test]
fn a_table_with_routes_of_a_dhcp_client_is_named() {
    isolated(|| {
        refused(
            "ip route add 198.51.100.0/24 dev lb0 table 100 proto dhcp",
            &[],
            &["table 100 leads elsewhere already", "198.51.100.0/24", "of a DHCP client", "--table"],
        );
    });
}

#[test]
fn a_table_that_a_numbered_stranger_looks_into_is_named() {
    isolated(|| {
        refused(
            "ip rule add from 203.0.113.0/24 lookup 100 priority 7 proto 251",
            &[],
            &["from 203.0.113.0/24 lookup 100", "protocol number 251", "--table"],
        );
    });
}

#[test]
fn a_foreign_nftables_table_of_our_name_is_not_replaced() {
    isolated(|| {
        refused(
            "nft 'table ip mmproxy_connmark_7b_100 { chain c { type filter hook input priority 0; tcp dport 7 drop; }; }'",
            &["--return-path", "connmark"],
            &["table `ip mmproxy_connmark_7b_100` already", "--mark"],
        );
    });
}

#[test]
fn the_program_that_keeps_a_table_for_itself_is_named() {
    isolated(|| {
        let net = Topology::new();
        net.default_routes();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        // Its table lives as long as its connection to the kernel.
        let nft = installed("nft", "nftables");
        let mut owner = net
            .gateway
            .spawn(Command::new(nft).arg("--interactive").stdin(Stdio::piped()).stdout(Stdio::null()))
            .expect("it is installed");
        let mut input = owner.stdin.take().expect("piped");
        writeln!(input, "add table ip mmproxy_connmark_7b_100 {{ flags owner; }}").expect("it reads");
        harness::expect::eventually("nft to make its table", || {
            let listed = shell(&net.gateway, "nft list tables").expect_code(0).stdout;
            listed.contains("mmproxy_connmark_7b_100").then_some(())
        });
        expect_refusal(&net, &target, &["--return-path", "connmark"], &["belongs to nft"]);
        drop(input);
        owner.wait().expect("it ends with its input");
    });
}

#[test]
fn numbers_that_mean_something_else_are_refused_before_anything_happens() {
    isolated(|| {
        let net = Topology::new();
        for (flags, words) in [
            (["--mark", "0"], ["mark 0", "choose another"]),
            (["--mark", "0x17b/0xff"], ["mark 0x17b", "mask 0xff"]),
            (["--mark", "1/0"], ["mask 0", "leave the mask out"]),
            (["--table", "0"], ["table 0", "reserved"]),
            (["--table", "253"], ["default", "reserved"]),
            (["--table", "254"], ["main", "reserved"]),
            (["--table", "255"], ["local", "reserved"]),
            (["--priority", "0"], ["priority 0", "1 to 32765"]),
            (["--priority", "32766"], ["32766", "1 to 32765"]),
            (["--priority", "32767"], ["32767", "1 to 32765"]),
        ] {
            for command in ["setup", "teardown"] {
                run(&net.gateway, &mut mmproxy([command].into_iter().chain(flags)), b"")
                    .expect_code(64)
                    .expect_text(&words);
            }
            Gateway::to(&net, std::net::SocketAddr::new(V4.loopback(), 22))
                .with(flags)
                .run()
                .expect_code(64)
                .expect_text(&words);
        }
    });
}
