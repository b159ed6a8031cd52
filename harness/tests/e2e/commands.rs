//! The commands that do not run a gateway: check, probe, decode, encode.

use std::fs;

use harness::{
    Family, Finished, Gateway, Namespace, Program, State, Target, Topology, V2, Version, addr, isolated,
    mmproxy, run, shell,
};
use serde_json::{Value, json};

use crate::support::{client, frontend, header};
use Family::V4;

/// Runs the program in `namespace` with `input`.
#[track_caller]
fn mmproxy_in(namespace: &Namespace, words: &str, input: &[u8]) -> Finished {
    run(namespace, &mut mmproxy(words.split_whitespace()), input)
}

/// A network whose gateway's namespace is set up, and a target for each family.
fn set_up() -> (Topology, [Target; 2]) {
    let net = Topology::new();
    let targets = ["127.0.0.1:22", "[::1]:22"].map(|address| Target::listen(&net.gateway, addr(address)));
    mmproxy_in(&net.gateway, "setup", b"").expect_code(0);
    (net, targets)
}

const CHECK: &str = "check -4 127.0.0.1:22 -6 [::1]:22";

#[test]
fn check_is_0_where_a_spoofed_connection_works_and_changes_nothing() {
    isolated(|| {
        let (net, _targets) = set_up();
        let before = State::of(&net.gateway);
        let finished = mmproxy_in(&net.gateway, CHECK, b"").expect_code(0);
        for target in ["127.0.0.1:22", "[::1]:22"] {
            let line =
                format!("[+] OK. Target server {target} is up and reachable using spoofed connection.");
            assert!(finished.stdout.contains(&line), "{finished}");
        }
        assert!(!finished.stdout.contains("[!]"), "{finished}");
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn check_is_78_and_names_the_cure_where_the_return_path_is_missing() {
    isolated(|| {
        let net = Topology::new();
        let _targets =
            ["127.0.0.1:22", "[::1]:22"].map(|address| Target::listen(&net.gateway, addr(address)));
        let before = State::of(&net.gateway);
        let finished = mmproxy_in(&net.gateway, CHECK, b"").expect_code(78);
        let parts = [
            "[!] MISSING",
            "[!] FAILED: Target server 127.0.0.1:22 using spoofed connection",
            "mmproxy setup",
        ];
        finished.expect_text(&parts);
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn check_is_not_0_when_any_one_object_is_missing_and_names_that_one() {
    isolated(|| {
        let (net, _targets) = set_up();
        let breaks = [
            ("ip rule del fwmark 0x7b lookup 100", "ip rule add fwmark 0x7b"),
            ("ip -6 rule del fwmark 0x7b lookup 100", "ip -6 rule add fwmark 0x7b"),
            ("ip route del local default dev lo table 100", "ip route add local default dev lo table 100"),
            (
                "ip -6 route del local default dev lo table 100",
                "ip -6 route add local default dev lo table 100",
            ),
            ("sysctl -q -w net.ipv4.tcp_fwmark_accept=0", "net.ipv4.tcp_fwmark_accept=1"),
        ];
        for (command, missing) in breaks {
            shell(&net.gateway, command);
            let finished = mmproxy_in(&net.gateway, CHECK, b"").expect_code(78);
            let named =
                finished.stdout.lines().any(|line| line.contains(missing) && line.contains("[!] MISSING"));
            assert!(named, "after `{command}`: {finished}");
            mmproxy_in(&net.gateway, "setup", b"").expect_code(0);
            mmproxy_in(&net.gateway, CHECK, b"").expect_code(0);
        }
    });
}

#[test]
fn check_is_69_where_the_target_is_down() {
    isolated(|| {
        let (net, [_v4, v6]) = set_up();
        drop(v6);
        let finished = mmproxy_in(&net.gateway, CHECK, b"").expect_code(69);
        let parts = [
            "[+] OK. Target server 127.0.0.1:22",
            "[!] FAILED: Target server [::1]:22",
            "Connection refused",
        ];
        finished.expect_text(&parts);
    });
}

#[test]
fn check_says_what_workers_can_be_confined_with_on_this_kernel() {
    isolated(|| {
        let net = Topology::new();
        let _target = Target::listen(&net.gateway, addr("127.0.0.1:22"));
        mmproxy_in(&net.gateway, "setup", b"").expect_code(0);
        let check = "check -4 127.0.0.1:22";
        // What the kernel says of itself.
        let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
        let line =
            if actions.contains("kill_process") { "[+] OK. Sandbox: " } else { "[!] WARNING: Sandbox: " };
        mmproxy_in(&net.gateway, check, b"").expect_code(0).expect_text(&[line, "seccomp", "Landlock"]);
        let told = mmproxy_in(&net.gateway, &format!("{check} --json"), b"").expect_code(0).stdout;
        let told: Value = serde_json::from_str(&told).expect("one object");
        let facts: Vec<_> =
            told["sandbox"].as_array().expect("a list").iter().map(|part| &part["fact"]).collect();
        let seccomp = if actions.contains("kill_process") { "seccomp_available" } else { "seccomp_missing" };
        assert_eq!(facts[0], seccomp);
        // A worker that is started says the same.
        let target = Target::listen(&net.gateway, addr("127.0.0.1:23"));
        let gateway = Gateway::before(&net, &target).start();
        let confined = gateway.expect_log(&["workers are confined"]);
        assert_eq!(facts[1] == "landlock_missing", confined.contains("Landlock off"), "{told} {confined}");
        gateway.stop();
        mmproxy_in(&net.gateway, "teardown", b"").expect_code(0);
    });
}

#[test]
fn version_is_the_version_and_the_long_form_says_what_it_was_built_from() {
    isolated(|| {
        let net = Topology::new();
        let short = mmproxy_in(&net.gateway, "-V", b"").expect_code(0).stdout;
        assert_eq!(short, concat!("mmproxy ", env!("CARGO_PKG_VERSION"), "\n"));
        let long = mmproxy_in(&net.gateway, "--version", b"").expect_code(0).stdout;
        let lines: Vec<&str> = long.lines().collect();
        assert_eq!(lines[0], short.trim_end());
        let commit = lines[1].strip_prefix("commit ").expect("the commit");
        let hexadecimal = commit.len() >= 7 && commit.bytes().all(|digit| digit.is_ascii_hexdigit());
        assert!(
            hexadecimal
                || commit == "unknown: not built from git"
                || std::env::var_os("MMPROXY_BIN").is_some(),
            "{long}"
        );
        assert!(lines[2].starts_with("target ") && lines[2].contains("linux"), "{long}");
        assert!(lines[3].starts_with("features: "), "{long}");
    });
}

#[test]
fn check_says_the_same_to_programs() {
    isolated(|| {
        let (net, targets) = set_up();
        let check = format!("{CHECK} --json");
        let parse = |finished: &Finished| -> Value {
            serde_json::from_str(&finished.stdout).expect("one JSON object")
        };

        let good = parse(&mmproxy_in(&net.gateway, &check, b"").expect_code(0));
        assert_eq!((&good["ok"], &good["exit"]), (&json!(true), &json!(0)));
        let present = |object: &Value| object["state"] == "present";
        assert!(
            good["return_path"].as_array().is_some_and(|objects| objects.iter().all(present)),
            "{good:#}"
        );

        drop(targets);
        let bad = parse(&mmproxy_in(&net.gateway, &check, b"").expect_code(69));
        assert_eq!((&bad["ok"], &bad["exit"]), (&json!(false), &json!(69)));
        let refused =
            |finding: &Value| finding["cause"].as_str().is_some_and(|cause| cause.contains("refused"));
        assert!(bad["targets"].as_array().is_some_and(|findings| findings.iter().any(refused)), "{bad:#}");
    });
}

#[test]
fn probe_plays_the_balancer_and_shows_what_the_target_answers() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target).start();
        let probe =
            format!("probe --via {} --source {} --send ping\\n --wait 60s", gateway.address(V4), client(V4));
        for version in ["--v1", "--v2", ""] {
            let probing =
                Program::start(&net.balancer, &mut mmproxy(format!("{probe} {version}").split_whitespace()));
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(V4));
            upstream.expect(b"ping\n");
            upstream.send(b"pong\n");
            probing.expect_line(&["Received 5 bytes", "pong\\n"]);
            // It ends when the target does, however long it would have waited for more.
            drop(upstream);
            probing.wait().expect_code(0).expect_text(&["ended after 5 bytes"]);
        }
    });
}

#[test]
fn probe_fails_where_the_gateway_refuses() {
    isolated(|| {
        let net = Topology::new();
        let gateway = Gateway::to(&net, addr("127.0.0.1:22")).start();
        let address = gateway.address(V4);
        let probe = |source: &str| format!("probe --via {address} --source {source}");
        mmproxy_in(&net.balancer, &probe("127.0.0.1:4711"), b"").expect_code(69);
        gateway.expect_log(&["reason=source_refused"]);
        gateway.stop();
        mmproxy_in(&net.balancer, &probe("192.0.2.7:4711"), b"")
            .expect_code(69)
            .expect_text(&["cannot connect"]);
    });
}

/// What `decode` has to say about some bytes.
struct Row {
    bytes: Vec<u8>,
    code: i32,
    verdict: Value,
}

fn rows() -> Vec<Row> {
    let row = |bytes: &[u8], code, verdict| Row { bytes: bytes.to_vec(), code, verdict };
    let v1 = header(Version::V1, V4);
    let v2 = V2::proxy(client(Family::V6), frontend(Family::V6)).tlv(0x02, b"example.com").to_bytes();
    vec![
        row(
            &[v1.as_slice(), b"payload"].concat(),
            0,
            json!({
                "expect": "ok", "version": 1, "command": "PROXY", "family": "inet", "protocol": "stream",
                "src": "192.0.2.7:4711", "dst": "192.0.2.1:22", "header_len": v1.len(), "tlvs": [],
            }),
        ),
        row(
            &v2,
            0,
            json!({
                "expect": "ok", "version": 2, "command": "PROXY", "family": "inet6", "protocol": "stream",
                "src": "[2001:db8::7]:4711", "dst": "[2001:db8::1]:22", "header_len": v2.len(),
                "tlvs": [{ "type": 2, "hex": "6578616d706c652e636f6d" }],
            }),
        ),
        row(
            &Version::V2.local(),
            0,
            json!({
                "expect": "ok", "version": 2, "command": "LOCAL", "family": "unspec", "protocol": "unspec",
                "src": null, "dst": null, "header_len": 16, "tlvs": [],
            }),
        ),
        row(
            &Version::V1.local(),
            0,
            json!({
                "expect": "ok", "version": 1, "command": "PROXY", "family": "unspec", "protocol": "unspec",
                "src": null, "dst": null, "header_len": 15, "tlvs": [],
            }),
        ),
        row(b"", 2, json!({ "expect": "incomplete" })),
        row(&v1[..20], 2, json!({ "expect": "incomplete" })),
        row(&v2[..v2.len() - 1], 2, json!({ "expect": "incomplete" })),
        row(
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 65536\r\n",
            3,
            json!({ "expect": "error", "error": "v1_bad_port" }),
        ),
        row(
            &V2 { command: 7, ..V2::local() }.to_bytes(),
            3,
            json!({ "expect": "error", "error": "v2_bad_command" }),
        ),
        row(b"GET / HTTP/1.1\r\n\r\n", 4, json!({ "expect": "not_proxy" })),
    ]
}

#[test]
fn decode_tells_what_bytes_are_in_json_and_in_its_status() {
    isolated(|| {
        let here = Namespace::new("here");
        for Row { bytes, code, verdict } in rows() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for (words, input) in [("decode", bytes.as_slice()), ("decode --hex", hex.as_bytes())] {
                let finished = mmproxy_in(&here, words, input).expect_code(code);
                let printed: Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
                // More fields than these are welcome, other values are not.
                for (field, value) in verdict.as_object().expect("an object") {
                    assert_eq!(&printed[field], value, "{field} of {}: {printed}", bytes.escape_ascii());
                }
            }
        }
    });
}

#[test]
fn decode_knows_that_a_datagram_is_never_incomplete() {
    isolated(|| {
        let here = Namespace::new("here");
        let header = header(Version::V2, V4);
        let cut = mmproxy_in(&here, "decode --transport datagram", &header[..20]).expect_code(3);
        cut.expect_text(&["\"error\":\"truncated\""]);
        let text = mmproxy_in(&here, "decode --transport datagram", b"PROXY UNKNOWN\r\n").expect_code(3);
        text.expect_text(&["\"error\":\"v1_on_datagram\""]);
    });
}

#[test]
fn encode_writes_what_another_hand_writes() {
    isolated(|| {
        let here = Namespace::new("here");
        for family in Family::BOTH {
            let (source, destination) = (client(family), frontend(family));
            for (flag, version) in [("--v1", Version::V1), ("--v2", Version::V2)] {
                let words = format!("encode {flag} --source {source} --destination {destination} --hex");
                let finished = mmproxy_in(&here, &words, b"").expect_code(0);
                let expected: String =
                    header(version, family).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(finished.stdout.trim_end(), expected);
            }
        }
        let local = mmproxy_in(&here, "encode --v2 --local --hex", b"").expect_code(0);
        assert_eq!(local.stdout.trim_end(), "0d0a0d0a000d0a515549540a20000000");
        let line = mmproxy_in(&here, "encode --v1 --source 192.0.2.7:4711 --destination 192.0.2.1:22", b"")
            .expect_code(0);
        assert_eq!(line.stdout, "PROXY TCP4 192.0.2.7 192.0.2.1 4711 22\r\n");
    });
}
