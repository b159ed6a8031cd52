//! Configuration files: found right or wrong as a whole, shown, made from command lines, and served.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use harness::expect::eventually;
use harness::{
    Balancer, Connection, Datagrams, Echo, Family, Finished, Namespace, Program, Target, Topology, V2,
    Version, addr, installed, isolated, mmproxy, run, scratch,
};

use nix::sys::signal::Signal;

use crate::support::{client, frontend, header, header_from, talk};
use Family::{V4, V6};

/// Runs `mmproxy config` in the gateway's namespace of a fresh network.
#[track_caller]
fn config(words: &[&str]) -> Finished {
    let net = Topology::new();
    run(&net.gateway, &mut mmproxy(["config"].into_iter().chain(words.iter().copied())), b"")
}

/// A file with `text` in it.
fn file(name: &str, text: &str) -> PathBuf {
    let path = scratch().join(name);
    fs::create_dir_all(path.parent().expect("a file's")).expect("the test's own directory");
    fs::write(&path, text).expect("the test's own directory");
    path
}

const SSH: &str = "\
[[service]]
name = \"ssh\"
listen = \"0.0.0.0:2222\"
allow = \"10.0.0.0/24\"
target-v4 = \"127.0.0.1:22\"
";

#[test]
fn a_right_file_is_0_and_says_so() {
    isolated(|| {
        let path = file("mmproxy.toml", SSH);
        let path = path.to_str().expect("ASCII");
        config(&["check", "--config", path]).expect_code(0).expect_text(&["[+] OK.", path, "1 service"]);
    });
}

#[test]
fn a_wrong_file_is_78_and_every_mistake_is_told_with_its_line_and_column() {
    isolated(|| {
        let text = SSH.replace("listen", "lisen").replace("10.0.0.0/24", "10.0.0.0/33");
        let path = file("mmproxy.toml", &text);
        file(
            "conf.d/more.toml",
            "[[service]]\nname = \"ssh\"\nlisten = \"0.0.0.0:0\"\nallow = []\ntarget-v4 = 7\n",
        );
        let path = path.to_str().expect("ASCII");
        for command in [
            &["config", "check", "--config", path][..],
            &["config", "show", "-c", path],
            &["run", "-c", path],
        ] {
            let net = Topology::new();
            let finished = run(&net.gateway, &mut mmproxy(command.iter().copied()), b"").expect_code(78);
            let drop_in = path.replace("mmproxy.toml", "conf.d/more.toml");
            finished.expect_text(&[
                "error: unknown key `lisen`",
                &format!("{path}:3:1"),
                "did you mean `listen`?",
                &format!("{path}:4:9"),
                "the prefix length has to be a number from 0 to 32",
                "two services have the name `ssh`",
                &format!("{drop_in}:5:13"),
                "found an integer",
                &format!("5 mistakes in {path}"),
            ]);
        }
    });
}

#[test]
fn a_missing_file_is_78_and_is_named_with_its_cure() {
    isolated(|| {
        let cure = "help: `mmproxy config example` prints one";
        for command in [&["config", "check"][..], &["run"], &["check"]] {
            let words = [command, &["--config", "/nonexistent/mmproxy.toml"]].concat();
            run(&Namespace::new("here"), &mut mmproxy(words), b"").expect_code(78).expect_text(&[
                "cannot read /nonexistent/mmproxy.toml",
                "No such file",
                cure,
            ]);
        }
        // Of another reason it is no cure.
        let unreadable = config(&["check", "--config", "/etc"]).expect_code(78);
        assert!(!unreadable.stderr.contains(cure), "{unreadable}");
        config(&["check", "--help"]).expect_code(0).expect_text(&["/etc/mmproxy/mmproxy.toml]"]);
    });
}

#[test]
fn the_example_is_a_file_that_a_gateway_starts_from() {
    isolated(|| {
        let net = Topology::new();
        let path = file("mmproxy.toml", &config(&["example"]).expect_code(0).stdout);
        let gateway = serve(&net, &path);
        gateway.expect_line(&["Listening on [::]:2222"]);
        gateway.stop().expect_code(0);
    });
}

#[test]
fn the_example_is_right_and_what_is_shown_of_it_means_the_same() {
    isolated(|| {
        let example = config(&["example"]).expect_code(0);
        let path = file("mmproxy.toml", &example.stdout);
        let shown = config(&["show", "--config", path.to_str().expect("ASCII")]).expect_code(0);
        assert!(shown.stdout.contains("header-timeout = \"5s\""), "{shown}");
        let path = file("shown.toml", &shown.stdout);
        let again = config(&["show", "--config", path.to_str().expect("ASCII")]).expect_code(0);
        assert_eq!(again.stdout, shown.stdout);
    });
}

#[test]
fn the_schema_takes_what_the_program_takes_and_refuses_an_unknown_key() {
    isolated(|| {
        let schema = file("schema.json", &config(&["schema"]).expect_code(0).stdout);
        let validate = |name: &str, text: &str| {
            let file = file(name, text);
            let mut python = std::process::Command::new(installed("python3", "python3-jsonschema"));
            python.args(["-c", VALIDATE]).args([&schema, &file]);
            run(&Topology::new().gateway, &mut python, b"")
        };
        let example = config(&["example"]).expect_code(0).stdout;
        // Every key: those that are left out stand behind a `#` without a blank.
        let letters = |line: &str| line.starts_with(|first: char| first.is_ascii_lowercase());
        let all: String = example
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix('#').filter(|rest| letters(rest)).unwrap_or(line)))
            .collect();
        for text in [example.as_str(), &all, SSH] {
            validate("right.toml", text).expect_code(0);
        }
        for wrong in ["heder-timeout = \"5s\"\n", "routing = \"on\"\n", "backlog = 0\n", "table = \"x\"\n"] {
            validate("wrong.toml", &format!("{SSH}{wrong}")).expect_code(1).expect_text(&["ValidationError"]);
        }
    });
}

const VALIDATE: &str = "\
import json, sys, tomllib
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
Draft202012Validator(schema).validate(tomllib.load(open(sys.argv[2], 'rb')))
";

#[test]
fn a_file_made_from_flags_is_served_as_the_flags_are() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:22"));
        let ranges = file("ranges.txt", "10.0.0.0/24\n");
        let flags = ["-a", ranges.to_str().expect("ASCII"), "-l", "0.0.0.0:2222", "-4", "127.0.0.1:22"];
        let made = config(&[&["from-flags", "--"], &flags[..]].concat()).expect_code(0);
        let path = file("mmproxy.toml", &made.stdout);
        let program = serve(&net, &path);
        program.expect_line(&["[+] Listening on 0.0.0.0:2222"]);
        reaches(&net, 2222, &target);
        program.stop().expect_code(0);
    });
}

#[test]
fn connections_datagrams_and_ranges_of_ports_are_services_of_one_file() {
    isolated(|| {
        let net = Topology::new();
        let targets = ["127.0.0.1:22", "127.0.0.1:30000", "127.0.0.1:30001"]
            .map(|address| Target::listen(&net.gateway, addr(address)));
        let _echo = Echo::start(&net.gateway, addr("127.0.0.1:53"));
        let path = file(
            "mmproxy.toml",
            &format!(
                "{SSH}{}{}",
                SSH.replace("ssh", "game").replace("2222", "20000-20001").replace(":22\"", ":30000-30001\""),
                SSH.replace("ssh", "dns")
                    .replace("2222", "5300")
                    .replace(":22\"", ":53\"\nprotocol = \"udp\"\ntable = 102"),
            ),
        );
        let program = serve(&net, &path);
        for port in [2222, 20000, 20001, 5300] {
            program.expect_line(&[&format!("[+] Listening on 0.0.0.0:{port}")]);
        }
        for (port, target) in [2222, 20000, 20001].into_iter().zip(&targets) {
            reaches(&net, port, target);
        }
        let header = V2::datagram(client(V4), frontend(V4)).to_bytes();
        let balancer = Datagrams::of(&net, V4.balancer());
        balancer.ask(addr("10.0.0.1:5300"), &header, b"who?", &Echo::answer(client(V4), b"who?"));
        program.stop().expect_code(0);
    });
}

#[test]
fn both_families_may_have_services_of_their_own_on_one_port() {
    isolated(|| {
        let net = Topology::new();
        let services = [("v4", "0.0.0.0", V4), ("v6", "[::]", V6)].map(|(name, wildcard, family)| {
            let target = Target::listen(&net.gateway, addr(if family == V4 { "127.0.0.1:22" } else { "127.0.0.1:23" }));
            let echo = Echo::start(&net.gateway, target.address());
            let text = format!(
                "[[service]]\nname = \"{name}\"\nlisten = \"{wildcard}:2222\"\nallow = [\"10.0.0.0/24\", \"fd00::/64\"]\n\
                 target-v4 = \"{address}\"\n[[service]]\nname = \"{name}-udp\"\nlisten = \"{wildcard}:2222\"\n\
                 allow = [\"10.0.0.0/24\", \"fd00::/64\"]\ntarget-v4 = \"{address}\"\nprotocol = \"udp\"\ntable = 102\n",
                address = target.address(),
            );
            (family, target, echo, text)
        });
        let text: String = services.iter().map(|(.., text)| text.as_str()).collect();
        let path = file("mmproxy.toml", &text);
        let words = ["check", "--config", path.to_str().expect("ASCII")];
        config(&words).expect_code(0).expect_text(&["[+] OK."]);
        let program = serve(&net, &path);
        program.expect_line(&["[+] Listening on [::]:2222"]);
        // The client is the same: which service it reaches is decided by how its balancer connects.
        for (family, target, ..) in &services {
            while target.try_accept().is_some() {}
            let to = SocketAddr::new(family.gateway(), 2222);
            let downstream = Balancer::of(&net).announce(to, &header(Version::V2, V4), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(V4));
            talk(&downstream, &upstream);
            let datagram = V2::datagram(client(V4), frontend(V4)).to_bytes();
            let balancer = Datagrams::of(&net, family.balancer());
            balancer.ask(to, &datagram, b"who?", &Echo::answer(client(V4), b"who?"));
        }
        let seen = services.map(|(_, _, echo, _)| echo.seen());
        assert_eq!(seen, [1, 1]);
        program.stop().expect_code(0);
    });
}

#[test]
fn a_reload_reads_the_file_and_its_drop_ins_again_and_mistakes_change_nothing() {
    isolated(|| {
        let net = Topology::new();
        let targets =
            ["127.0.0.1:22", "127.0.0.1:23"].map(|address| Target::listen(&net.gateway, addr(address)));
        let path = file("mmproxy.toml", SSH);
        let program = serve(&net, &path);
        program.expect_line(&["[+] Listening on 0.0.0.0:2222"]);
        let more = SSH.replace("ssh", "more").replace(":22\"", ":23\"");
        file("conf.d/more.toml", &more);
        program.signal(Signal::SIGHUP);
        program.expect_line(&["error: 0.0.0.0:2222 is listened on twice"]);
        program.expect_line(&["1 mistake in"]);
        program.expect_line(&["not reloaded"]);
        reaches(&net, 2222, &targets[0]);
        file("conf.d/more.toml", &more.replace("2222", "2223"));
        program.signal(Signal::SIGHUP);
        program.expect_line(&["INFO", "reloaded"]);
        reaches(&net, 2223, &targets[1]);
        reaches(&net, 2222, &targets[0]);
        program.stop().expect_code(0);
    });
}

#[test]
fn a_service_that_a_reload_takes_away_refuses_at_once_and_can_be_had_again_while_its_sessions_end() {
    isolated(|| {
        let net = Topology::new();
        let targets =
            ["127.0.0.1:22", "127.0.0.1:23"].map(|address| Target::listen(&net.gateway, addr(address)));
        let _echo = Echo::start(&net.gateway, addr("127.0.0.1:23"));
        let path = file("mmproxy.toml", &format!("[global]\ndrain = \"5m\"\n{SSH}"));
        let more = SSH.replace("ssh", "more").replace("2222", "2223").replace(":22\"", ":23\"");
        let both = format!("{more}{}protocol = \"udp\"\ntable = 102\n", more.replace("more", "dns"));
        let drop_in = file("conf.d/more.toml", &both);
        let program = serve(&net, &path);
        program.expect_line(&["[+] Listening on 0.0.0.0:2223"]);
        let (balancer, datagrams) = (Balancer::of(&net), Datagrams::of(&net, V4.balancer()));
        let place = addr("10.0.0.1:2223");
        let who = || {
            let header = V2::datagram(client(V4), frontend(V4)).to_bytes();
            datagrams.ask(place, &header, b"who?", &Echo::answer(client(V4), b"who?"));
        };
        let downstream = balancer.announce(place, &header(Version::V2, V4), b"");
        // `talk` ends both: until then they say something now and then.
        let upstream = seen_as(&targets[1], client(V4));
        let go_on = |turn: &[u8]| {
            downstream.send(turn);
            upstream.expect(turn);
        };
        go_on(b"one");
        who();
        let reload = |round| {
            program.signal(Signal::SIGHUP);
            eventually("the reload", || (program.count_lines(&["INFO", "reloaded"]) == round).then_some(()));
        };

        fs::remove_file(&drop_in).expect("it is there");
        reload(1);
        eventually("nobody to listen any more", || balancer.try_connect(place).err());
        go_on(b"two");

        file("conf.d/more.toml", &both);
        reload(2);
        let next = balancer.announce(place, &header_from(Version::V2, "192.0.2.8:4711"), b"");
        talk(&next, &seen_as(&targets[1], addr("192.0.2.8:4711")));
        who();
        go_on(b"three");
        talk(&downstream, &upstream);
        reaches(&net, 2222, &targets[0]);
        program.stop().expect_code(0);
    });
}

/// Starts a gateway from a file.
fn serve(net: &Topology, path: &Path) -> Program {
    let words = ["run", "--config", path.to_str().expect("ASCII")];
    Program::start(&net.gateway, &mut mmproxy(words))
}

/// A client that is announced at `port` is seen by `target`, behind the connections of self-checks.
#[track_caller]
fn reaches(net: &Topology, port: u16, target: &Target) {
    let gateway = SocketAddr::new(V4.gateway(), port);
    let downstream = Balancer::of(net).announce(gateway, &header(Version::V2, V4), b"");
    talk(&downstream, &seen_as(target, client(V4)));
}

/// The next connection from `client`; the gateway makes some of its own, to see whether the target is there.
fn seen_as(target: &Target, client: SocketAddr) -> Connection {
    loop {
        let upstream = target.accept();
        if upstream.peer() == client {
            return upstream;
        }
    }
}

#[test]
fn a_command_line_of_go_mmproxy_becomes_a_file_once_it_says_who_may_connect() {
    isolated(|| {
        let flags =
            "-l 0.0.0.0:2222 -4 127.0.0.1:22 -6 [::1]:22 -p tcp -mark 123 -listeners 2 -close-after 60 -v 1";
        let words: Vec<&str> = ["from-go-mmproxy", "--"].into_iter().chain(flags.split(' ')).collect();
        let made = config(&words).expect_code(0);
        let open = file("open.toml", &made.stdout);
        config(&["check", "-c", open.to_str().expect("ASCII")])
            .expect_code(78)
            .expect_text(&["nobody may connect"]);
        assert!(made.stdout.contains("# DANGER: without -allowed-subnets"), "{made}");
        let filled = file("filled.toml", &made.stdout.replace("#allow = ", "allow = "));
        config(&["check", "-c", filled.to_str().expect("ASCII")]).expect_code(0);
        config(&["from-go-mmproxy", "--", "-listen", "x"]).expect_code(64).expect_text(&["-listen", "hint:"]);
    });
}

#[test]
fn flags_that_mean_nothing_make_no_file() {
    isolated(|| {
        config(&["from-flags", "--", "-l", "nowhere"]).expect_code(64).expect_text(&["nowhere"]);
        config(&[
            "from-flags",
            "--",
            "-l",
            "0.0.0.0:1",
            "-4",
            "127.0.0.1:22",
            "--allow",
            "::/0",
            "--header-timeout",
            "1s",
        ])
        .expect_code(64)
        .expect_text(&["--header-timeout", "at least 3s"]);
    });
}
