//! Flags and keys that nothing else shows at work.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use harness::{
    Balancer, Family, Gateway, Program, Target, Topology, Version, addr, isolated, mmproxy, run, scratch,
};
use nix::sys::signal::Signal;

use crate::support::{client, header, talk};
use Family::V4;

#[test]
fn the_backlog_is_the_one_asked_for() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target).with(["--backlog", "77", "--workers", "1"]).start();
        let filter = format!("sport = :{}", gateway.listening().port());
        let listed =
            run(&net.gateway, Command::new("ss").args(["-Hltn", &filter]), b"").expect_code(0).stdout;
        // Of a listener, ss shows the backlog as what may be sent.
        assert_eq!(listed.split_whitespace().nth(2), Some("77"), "{listed}");
        gateway.stop();
    });
}

#[test]
fn the_originals_flag_leaves_workers_without_a_sandbox_and_that_is_told() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        for flag in ["-N", "--do-not-sandbox"] {
            let gateway = Gateway::before(&net, &target).with([flag]).start();
            gateway.expect_log(&["workers are confined", "seccomp off, Landlock off"]);
            gateway.expect_log(&["WARN", "the worker is not sandboxed"]);
            let status = fs::read_to_string(format!("/proc/{}/status", gateway.worker())).expect("it lives");
            assert!(status.contains("\nSeccomp:\t0\n"), "{status}");
            gateway.stop();
        }
    });
}

#[test]
fn ports_are_handed_over_by_the_mark_and_table_asked_for() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags = ["--tproxy-ports", "20000-20010", "--tproxy-mark", "0x55", "--tproxy-table", "77"];
        let gateway = Gateway::before(&net, &target).listen(addr("0.0.0.0:0")).with(flags).start();
        let rules = run(&net.gateway, Command::new("ip").args(["rule"]), b"").expect_code(0).stdout;
        assert!(rules.contains("fwmark 0x55") && rules.contains("lookup 77"), "{rules}");
        let at = SocketAddr::new(V4.gateway(), 20005);
        let downstream = Balancer::of(&net).announce(at, &header(Version::V2, V4), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(V4));
        talk(&downstream, &upstream);
        gateway.stop();
    });
}

#[test]
fn setup_can_be_kept_to_one_family() {
    isolated(|| {
        let net = Topology::new();
        let commands = |family: &str| {
            let words = ["setup", "--dry-run", "--return-path", "fwmark", "--family", family];
            run(&net.gateway, &mut mmproxy(words), b"").expect_code(0).stdout
        };
        let (v4, v6, both) = (commands("ipv4"), commands("ipv6"), commands("available"));
        assert!(v4.contains("ip rule add") && !v4.contains("ip -6"), "{v4}");
        assert!(v6.contains("ip -6 rule add") && !v6.contains("ip rule add"), "{v6}");
        assert!(both.contains("ip rule add") && both.contains("ip -6 rule add"), "{both}");
    });
}

#[test]
fn a_header_is_written_with_the_tlvs_and_the_checksum_asked_for() {
    isolated(|| {
        let net = Topology::new();
        let words = "encode --source 192.0.2.7:1 --destination 192.0.2.1:22 --tlv 02=6578 --crc32c --hex";
        let hex = run(&net.gateway, &mut mmproxy(words.split(' ')), b"").expect_code(0).stdout;
        let told = run(&net.gateway, &mut mmproxy(["decode", "--hex"]), hex.as_bytes()).expect_code(0).stdout;
        assert!(told.contains("{\"type\":2,\"hex\":\"6578\"},{\"type\":3,"), "{told}");
        // Another byte, and the checksum is another's.
        let broken = hex.replacen("6578", "6579", 1);
        assert_ne!(hex, broken);
        run(&net.gateway, &mut mmproxy(["decode", "--hex"]), broken.as_bytes())
            .expect_code(3)
            .expect_text(&["v2_bad_crc32c"]);
    });
}

#[test]
fn a_file_says_how_much_is_logged_in_which_form_and_where_it_can_be_asked() {
    isolated(|| {
        let net = Topology::new();
        let _target = Target::listen(&net.gateway, addr("127.0.0.1:22"));
        let (path, socket) = (scratch().join("mmproxy.toml"), scratch().join("control.sock"));
        let socket = socket.to_str().expect("UTF-8");
        let text = format!(
            "[global]\nverbosity = \"quiet\"\nlog-format = \"json\"\ncontrol = \"{socket}\"\nadmin = \"127.0.0.1:9100\"\n\
             [[service]]\nname = \"ssh\"\nlisten = \"0.0.0.0:2222\"\nallow = \"10.0.0.0/24\"\ntarget-v4 = \"127.0.0.1:22\"\n"
        );
        fs::write(&path, &text).expect("the test's own directory");
        let words = ["run", "--config", path.to_str().expect("UTF-8")];
        let program = Program::start(&net.gateway, &mut mmproxy(words));
        program.expect_line(&["[+] Listening on 0.0.0.0:2222"]);
        program.expect_listener(&net.gateway, 9100);
        let status = run(&net.gateway, &mut mmproxy(["status", "--control", socket]), b"").expect_code(0);
        status.expect_text(&["ssh", "return path (host): intact"]);
        // What is wrong is said, as an object.
        fs::write(&path, text.replace("2222", "nowhere")).expect("the test's own directory");
        program.signal(Signal::SIGHUP);
        program.expect_line(&["{\"timestamp\"", "not reloaded"]);
        assert_eq!(program.count_lines(&["\"level\":\"INFO\""]), 0, "{}", program.output());
        program.stop().expect_code(0);
    });
}
