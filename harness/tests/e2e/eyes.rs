//! What an operator sees: metrics, readiness, logs in each form.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use harness::expect::{DEADLINE, eventually};
use harness::{
    Connection, Datagrams, Echo, Family, Gateway, Namespace, Target, Topology, V2, Version, addr, isolated,
    run,
};

use nix::sys::signal::Signal;

use crate::support::{Scene, client, frontend, header, talk};
use Family::V4;

/// Nobody else is in the gateway's namespace.
const ADMIN: &str = "127.0.0.1:9100";

fn watched() -> Scene {
    Scene::with(V4, |flags| flags.with(["--admin", ADMIN]))
}

/// The whole answer to a request, as it came.
#[track_caller]
fn get(gateway: &Namespace, path: &str) -> String {
    let connection = Connection::open(gateway, addr(ADMIN));
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n").as_bytes());
    String::from_utf8(connection.receive_all().0).expect("the answer is text")
}

/// Every sample by its name and labels.
#[track_caller]
fn samples(gateway: &Namespace) -> BTreeMap<String, f64> {
    let answer = get(gateway, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    lines.map(sample).collect()
}

/// The sum of all samples of a metric whose labels have this part.
fn sum(samples: &BTreeMap<String, f64>, metric: &str, label: &str) -> f64 {
    let of_it =
        samples.iter().filter(|(name, _)| name.split('{').next() == Some(metric) && name.contains(label));
    of_it.map(|(_, value)| value).sum()
}

/// The target's end of a session; the gateway's own looks at the target are not meant.
#[track_caller]
fn upstream(scene: &Scene) -> Connection {
    loop {
        let connection = scene.target.accept();
        if connection.peer() == client(V4) {
            return connection;
        }
    }
}

#[test]
fn metrics_say_what_happened_and_sessions_always_add_up() {
    isolated(|| {
        let scene = watched();
        let balanced = || {
            let samples = samples(&scene.net.gateway);
            let closed = sum(&samples, "mmproxy_sessions_closed_total", "");
            let active = sum(&samples, "mmproxy_sessions_active", "");
            assert_eq!(closed + active, sum(&samples, "mmproxy_sessions_opened_total", ""));
            samples
        };
        assert_eq!(sum(&balanced(), "mmproxy_sessions_closed_total", "reason=\"finished\""), 0.0);

        let downstream = scene.open(&header(Version::V2, V4));
        talk(&downstream, &upstream(&scene));
        scene.open(b"GET / HTTP/1.0\r\n\r\n").expect_closed();
        let stays = scene.open(&header(Version::V1, V4));
        let there = upstream(&scene);
        stays.send(b"question");
        there.expect(b"question");

        let samples = eventually("three sessions to be counted", || {
            let samples = balanced();
            let done = sum(&samples, "mmproxy_sessions_closed_total", "") == 2.0;
            (done && sum(&samples, "mmproxy_bytes_total", "direction=\"up\"") == 16.0).then_some(samples)
        });
        for (metric, label, value) in [
            ("mmproxy_sessions_opened_total", "service=\"default\"", 3.0),
            ("mmproxy_sessions_active", "", 1.0),
            ("mmproxy_sessions_closed_total", "reason=\"finished\",blame=\"nobody\"", 1.0),
            ("mmproxy_sessions_refused_total", "reason=\"header_missing\",blame=\"peer\"", 1.0),
            ("mmproxy_sessions_refused_total", "", 1.0),
            ("mmproxy_headers_total", "version=\"v1\"", 1.0),
            ("mmproxy_headers_total", "version=\"v2\"", 1.0),
            ("mmproxy_header_duration_seconds_count", "", 2.0),
            ("mmproxy_dial_duration_seconds_count", "", 2.0),
            ("mmproxy_first_byte_duration_seconds_count", "", 1.0),
            ("mmproxy_bytes_total", "direction=\"down\",path=\"copy\"", 6.0),
            ("mmproxy_build_info", "", 1.0),
        ] {
            assert_eq!(sum(&samples, metric, label), value, "{metric}{{{label}}}");
        }
        let used = sum(&samples, "mmproxy_open_descriptors", "");
        assert!(used > 5.0 && used < sum(&samples, "mmproxy_descriptor_limit", ""));
        drop((stays, there));
        scene.gateway.stop().expect_code(0);
    });
}

#[test]
fn ready_means_that_the_target_answers_and_the_return_path_is_there() {
    isolated(|| {
        let scene = watched();
        let ready = |wanted: &str, because: &str| {
            eventually(because, || {
                let answer = get(&scene.net.gateway, "/readyz");
                (answer.starts_with(wanted) && answer.contains(because)).then_some(())
            });
        };
        ready("HTTP/1.1 200 ", "ok: the return path is intact");
        ready("HTTP/1.1 200 ", "ok: target 127.0.0.1");
        run(&scene.net.gateway, Command::new("ip").args(["route", "flush", "table", "100"]), b"")
            .expect_code(0);
        ready("HTTP/1.1 503 ", "not so: the return path is intact");
        assert!(get(&scene.net.gateway, "/healthz").starts_with("HTTP/1.1 200 "));
        let Scene { target, net, gateway, balancer, .. } = scene;
        drop(target);
        eventually("the target to be missed", || {
            let connection = Connection::open(&net.gateway, addr(ADMIN));
            connection.send(b"GET /readyz HTTP/1.0\r\n\r\n");
            let answer = String::from_utf8(connection.receive_all().0).expect("text");
            (answer.starts_with("HTTP/1.0 503 ") && answer.contains("not so: target 127.0.0.1")).then_some(())
        });
        drop((gateway, balancer));
    });
}

#[test]
fn the_admin_address_answers_across_a_reload_no_counter_falls_and_the_page_lists_sessions_of_all_workers() {
    isolated(|| {
        let scene = watched();
        let downstream = scene.open(&header(Version::V2, V4));
        let there = upstream(&scene);
        downstream.send(b"question");
        there.expect(b"question");
        let mut last = samples(&scene.net.gateway);
        let first = scene.gateway.worker();
        for reloads in 1..=2 {
            scene.open(b"no header at all, but long enough to be sure\r\n").expect_closed();
            scene.gateway.program().signal(Signal::SIGHUP);
            eventually("the reload to be counted", || {
                // Each of these is answered: the address is listened on all the time.
                let now = samples(&scene.net.gateway);
                for (name, value) in &now {
                    let counts =
                        name.contains("_total") || name.contains("_count") || name.contains("_bucket");
                    let before = last.get(name).copied().unwrap_or_default();
                    assert!(!counts || *value >= before, "{name} fell from {before} to {value}");
                }
                let fallen: Vec<_> = last.keys().filter(|name| !now.contains_key(*name)).collect();
                let lost: Vec<_> = fallen.iter().filter(|name| name.contains("_total")).collect();
                assert!(lost.is_empty(), "{lost:?} are missing");
                last = now;
                (sum(&last, "mmproxy_reloads_total", "applied") == f64::from(reloads)).then_some(())
            });
        }
        assert_eq!(sum(&last, "mmproxy_sessions_refused_total", ""), 2.0);
        assert_ne!(scene.gateway.worker(), first);
        // The session is the first worker's, the page another one's.
        let page = get(&scene.net.gateway, "/");
        assert!(page.contains(&client(V4).to_string()), "{page}");
        assert_eq!(sum(&last, "mmproxy_sessions_active", ""), 1.0);
        talk(&downstream, &there);
        scene.gateway.stop().expect_code(0);
    });
}

#[test]
fn the_return_path_in_another_network_namespace_is_watched_too() {
    isolated(|| {
        let net = Topology::new();
        let elsewhere = Namespace::new("web");
        elsewhere.publish();
        let target = Target::listen(&elsewhere, addr("127.0.0.1:8080"));
        let gateway =
            Gateway::before(&net, &target).with(["--target-netns", "web", "--admin", ADMIN]).start();
        let intact = |wanted: f64| {
            let name = "mmproxy_return_path_intact{place=\"web\"}";
            eventually(name, || (samples(&net.gateway).get(name) == Some(&wanted)).then_some(()));
        };
        intact(1.0);
        run(&elsewhere, Command::new("ip").args(["route", "flush", "table", "100"]), b"").expect_code(0);
        intact(0.0);
        let answer = get(&net.gateway, "/readyz");
        assert!(answer.contains("not so: the return path is intact (web)"), "{answer}");
        gateway.stop().expect_code(0);
    });
}

#[test]
fn an_admin_address_that_is_taken_is_told_before_anything_is_changed() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let _taken = Target::listen(&net.gateway, addr(ADMIN));
        let finished = Gateway::before(&net, &target).with(["--admin", ADMIN]).run();
        finished.expect_code(69).expect_text(&["--admin: cannot listen on 127.0.0.1:9100"]);
    });
}

/// A header of [`client`] with what a balancer may tell beside it.
fn telling() -> Vec<u8> {
    let ssl = [&[7, 0, 0, 0, 0][..], b"\x21\0\x07TLSv1.3", b"\x22\0\x05alice"].concat();
    V2::proxy(client(V4), frontend(V4)).tlv(0x02, b"ssh.example.org").tlv(0x20, &ssl).to_bytes()
}

#[test]
fn a_record_in_json_has_everything_that_is_known_of_a_session() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--log-format", "json"]));
        let downstream = scene.open(&telling());
        talk(&downstream, &scene.target.accept());
        let line = scene.gateway.expect_log(&["\"message\":\"session closed\""]);
        let record: serde_json::Value = serde_json::from_str(&line).expect("a line is an object");
        let bound = client(V4).to_string();
        for (field, value) in [
            ("level", "INFO"),
            ("service", "default"),
            ("client", &bound),
            ("bound", &bound),
            ("client_port", "kept"),
            ("header", "v2"),
            ("authority", "ssh.example.org"),
            ("tls_version", "TLSv1.3"),
            ("tls_client_cn", "alice"),
            ("reason", "finished"),
        ] {
            assert_eq!(record[field], value, "{field} of {line}");
        }
        assert_eq!((record["bytes_up"].as_u64(), record["bytes_down"].as_u64()), (Some(8), Some(6)));
        assert_eq!(record["target"], scene.target.address().to_string());
        assert_eq!(record["header_bytes"].as_u64(), Some(telling().len() as u64));
        for time in ["header_ms", "dial_ms", "first_byte_ms"] {
            assert!(record[time].as_f64().is_some_and(|millis| millis >= 0.0), "{time} of {line}");
        }
    });
}

#[test]
fn the_journal_gets_fields_and_a_missing_header_is_told_with_what_came_instead() {
    isolated(|| {
        // In a mount namespace of the test's own.
        fs::create_dir_all("/run/systemd/journal").expect("the test's own /run, or one with a journal");
        fs::remove_file("/run/systemd/journal/socket").ok();
        let journal = UnixDatagram::bind("/run/systemd/journal/socket").expect("nobody else has it");
        // As the real one: whoever logs may write to it.
        fs::set_permissions("/run/systemd/journal/socket", fs::Permissions::from_mode(0o666))
            .expect("it is there");
        journal.set_read_timeout(Some(DEADLINE)).expect("not zero");
        let scene = Scene::with(V4, |flags| flags.with(["--log-format", "journald"]));
        scene.open(b"SSH-2.0-OpenSSH_9.2\r\n").expect_closed();
        let mut room = [0; 16 * 1024];
        let entry = eventually("the session's entry", || {
            let length = journal.recv(&mut room).expect("an entry before the deadline");
            let entry = String::from_utf8_lossy(&room[..length]).into_owned();
            entry.contains("session closed").then_some(entry)
        });
        for field in
            ["MMPROXY_REASON", "MMPROXY_PEER", "MMPROXY_HINT", "MMPROXY_BEGAN_WITH", "PRIORITY", "MESSAGE"]
        {
            assert!(entry.contains(field), "{field} in {entry}");
        }
        assert!(entry.contains("header_missing") && entry.contains("looks like an SSH banner"), "{entry}");
    });
}

#[test]
fn the_page_shows_a_live_session() {
    isolated(|| {
        let scene = watched();
        let downstream = scene.open(&header(Version::V2, V4));
        let there = upstream(&scene);
        let seen: SocketAddr = there.peer();
        let page = eventually("the session on the page", || {
            let page = get(&scene.net.gateway, "/");
            page.contains(&seen.to_string()).then_some(page)
        });
        assert!(page.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{page}");
        assert!(!page.contains("<script") && page.contains("<td>relay</td>"), "{page}");
        talk(&downstream, &there);
    });
}

#[test]
fn datagrams_are_counted_and_a_balancers_own_are_dropped_where_policy_says_so() {
    isolated(|| {
        let net = Topology::new();
        let echo = Echo::start(&net.gateway, SocketAddr::new(V4.loopback(), 0));
        let flags = ["-p", "udp", "--admin", ADMIN, "--health-checks", "refuse"];
        let gateway = Gateway::to(&net, echo.address()).with(flags).start();
        let balancer = Datagrams::of(&net, V4.balancer());
        balancer.send(gateway.address(V4), &V2::local().to_bytes(), b"health");
        let header = V2::datagram(client(V4), frontend(V4)).to_bytes();
        let answer = Echo::answer(client(V4), b"question");
        balancer.ask(gateway.address(V4), &header, b"question", &answer);
        let samples = eventually("both datagrams to be counted", || {
            let samples = samples(&net.gateway);
            let dropped = sum(&samples, "mmproxy_datagrams_dropped_total", "reason=\"health_check_refused\"");
            let down = sum(&samples, "mmproxy_datagrams_total", "direction=\"down\"");
            ((dropped, down) == (1.0, 1.0)).then_some(samples)
        });
        for (metric, label, value) in [
            ("mmproxy_flows_opened_total", "service=\"default\"", 1.0),
            ("mmproxy_flows_active", "", 1.0),
            ("mmproxy_datagrams_total", "direction=\"up\"", 1.0),
            ("mmproxy_bytes_total", "direction=\"up\",path=\"datagram\"", 8.0),
            ("mmproxy_bytes_total", "direction=\"down\",path=\"datagram\"", answer.len() as f64),
            ("mmproxy_datagrams_dropped_total", "", 1.0),
        ] {
            assert_eq!(sum(&samples, metric, label), value, "{metric}{{{label}}}");
        }
        assert_eq!(echo.seen(), 1);
        let page = get(&net.gateway, "/");
        assert!(page.contains(&format!("<td>{}</td>", client(V4))), "{page}");
        assert!(get(&net.gateway, "/readyz").starts_with("HTTP/1.1 200 "));
        gateway.stop().expect_code(0);
    });
}
