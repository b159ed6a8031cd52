//! What an operator asks a running gateway, and what it does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use harness::expect::eventually;
use harness::{Family, Finished, Program, Target, Version, addr, isolated, mmproxy, run, scratch};

use crate::support::{Scene, client, header, talk};
use Family::V4;

/// A gateway that can be asked, and how to.
pub(crate) struct Asked {
    pub(crate) scene: Scene,
    socket: String,
}

impl Asked {
    fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(flags: &[&str]) -> Self {
        let socket = scratch().join("control.sock").to_str().expect("UTF-8").to_owned();
        let scene =
            Scene::with(V4, |gateway| gateway.with(["--control", &socket]).with(flags.iter().copied()));
        Self { scene, socket }
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = mmproxy(arguments.iter().copied());
        command.args(["--control", &self.socket]);
        run(&self.scene.net.gateway, &mut command, b"")
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let finished = self.run(&[arguments, &["--json"]].concat()).expect_code(0);
        finished.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect()
    }
}

#[test]
fn status_tells_services_workers_and_what_was_counted_also_of_workers_that_are_gone() {
    isolated(|| {
        let asked = Asked::new();
        asked.scene.expect_alive();
        asked.run(&["reload"]).expect_code(0).expect_text(&["Reloaded"]);
        let (downstream, upstream) = asked.scene.session();
        let status = &asked.json(&["status"])[0];
        assert_eq!(status["services"][0]["name"], "default");
        assert_eq!(status["services"][0]["protocol"], "tcp");
        assert_eq!(status["services"][0]["targets"][0], asked.scene.target.address().to_string());
        let counted = &status["counted"]["services"]["default"];
        // One of them was another worker's, which has ended since.
        assert_eq!(counted["opened"], 2, "{status}");
        assert_eq!(status["counted"]["reloads"]["applied"], 1);
        let serving = status["workers"].as_array().expect("a list");
        assert!(
            serving
                .iter()
                .any(|worker| worker["state"] == "serving" && worker["pid"] == asked.scene.gateway.worker())
        );
        asked.run(&["status"]).expect_code(0).expect_text(&["SERVICE", "PER S", "default", "1 applied"]);
        talk(&downstream, &upstream);
        asked.scene.gateway.stop();
    });
}

#[test]
fn sessions_are_listed_with_what_the_kernel_knows_and_can_be_killed_one_or_all_of_a_client() {
    isolated(|| {
        let asked = Asked::new();
        let sessions: Vec<_> = ["192.0.2.7:1", "192.0.2.8:2", "198.51.100.9:3"]
            .into_iter()
            .map(|client| {
                let header = Version::V2.header(addr(client), addr("192.0.2.1:22"));
                let downstream = asked.scene.open(&header);
                let upstream = asked.scene.target.accept();
                downstream.send(b"question");
                upstream.expect(b"question");
                (downstream, upstream)
            })
            .collect();
        let listed = eventually("all sessions to relay", || {
            let listed = asked.json(&["sessions"]);
            (listed.len() == 3 && listed.iter().all(|row| row["state"] == "relay" && row["bytes_up"] == 8))
                .then_some(listed)
        });
        assert!(listed.iter().all(|row| row["peer_tcp"]["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0)));
        let name = listed[0]["session"].as_str().expect("a name").to_owned();
        assert_eq!(asked.json(&["sessions", "--client", "192.0.2.0/24"]).len(), 2);
        assert_eq!(asked.json(&["sessions", "--at-most", "2"]).len(), 2);
        asked.run(&["sessions"]).expect_code(0).expect_text(&["SESSION", "198.51.100.9:3", &name]);

        asked.run(&["kill", &name]).expect_code(0).expect_text(&["closed"]);
        sessions[0].0.expect_reset();
        sessions[0].1.expect_reset();
        asked.run(&["kill", &name]).expect_code(69).expect_text(&["no such session"]);
        asked.run(&["kill", "--client", "192.0.2.0/24"]).expect_code(0);
        sessions[1].0.expect_reset();
        sessions[1].1.expect_reset();
        talk(&sessions[2].0, &sessions[2].1);
        asked.scene.gateway.expect_log(&["session closed", "reason=killed"]);
        asked.scene.gateway.stop();
    });
}

#[test]
fn a_trace_shows_each_step_of_the_clients_that_are_meant_also_across_a_reload() {
    isolated(|| {
        let asked = Asked::new();
        let mut command = mmproxy(["trace", "--client", "192.0.2.7", "--control", &asked.socket]);
        let trace = Program::start(&asked.scene.net.gateway, &mut command);
        // It is heard when its first line comes; sessions before that are missed.
        eventually("the trace to be heard", || {
            asked.scene.expect_alive();
            trace.output().contains("established").then_some(())
        });
        asked.run(&["reload"]).expect_code(0);
        let other = asked.scene.open(&Version::V2.header(addr("198.51.100.9:3"), addr("192.0.2.1:22")));
        talk(&other, &asked.scene.target.accept());
        let before = trace.count_lines(&["closed", "finished"]);
        asked.scene.expect_alive();
        for step in
            ["announced header v2", "dialing to", "established from", "half_closed", "closed finished"]
        {
            trace.expect_line(&[&format!("client={}", client(V4)), step]);
        }
        eventually("the end of the one after the reload", || {
            (trace.count_lines(&["closed", "finished"]) > before).then_some(())
        });
        assert!(!trace.output().contains("198.51.100.9"), "{}", trace.output());
        trace.kill();
        asked.scene.gateway.stop();
    });
}

/// A gateway that can be asked, and its list of balancers.
fn with_a_list() -> (Asked, PathBuf) {
    let list = scratch().join("balancers.txt");
    fs::write(&list, "10.0.0.0/24\n").expect("room");
    let socket = scratch().join("control.sock").to_str().expect("UTF-8").to_owned();
    let scene = Scene::with(V4, |flags| {
        flags.allowed_subnets(list.to_str().expect("UTF-8")).with(["--control", &socket])
    });
    (Asked { scene, socket }, list)
}

#[test]
fn a_reload_that_is_refused_tells_whoever_asked_why() {
    isolated(|| {
        let (asked, list) = with_a_list();
        fs::write(&list, "nobody\n").expect("room");
        asked.run(&["reload"]).expect_code(69).expect_text(&["balancers.txt:1: "]);
        fs::write(&list, "10.0.0.0/24\n").expect("room");
        asked.run(&["reload"]).expect_code(0);
        asked.scene.expect_alive();
        asked.scene.gateway.stop();
    });
}

#[test]
fn whoever_asks_for_a_reload_during_another_one_is_told_of_what_was_there_when_it_asked() {
    isolated(|| {
        let (asked, list) = with_a_list();
        let begun = || asked.scene.gateway.program().count_lines(&["INFO", "reloading"]);
        for round in 0..6 {
            thread::scope(|scope| {
                let before = begun();
                scope.spawn(|| asked.run(&["reload"]).expect_code(0));
                eventually("the first one to begin", || (begun() > before).then_some(()));
                let allowed = round % 2 == 1;
                fs::write(&list, if allowed { "10.0.0.0/24\n" } else { "192.0.2.0/24\n" }).expect("room");
                asked.run(&["reload"]).expect_code(0);
                if allowed {
                    asked.scene.expect_alive();
                } else {
                    let address = asked.scene.gateway.address(V4);
                    asked.scene.balancer.expect_turned_away(address, &header(Version::V2, V4));
                }
            });
        }
        asked.scene.gateway.stop();
    });
}

#[test]
fn where_nobody_answers_a_reload_can_be_asked_for_by_signal() {
    isolated(|| {
        let (asked, list) = with_a_list();
        let keeper = asked.scene.gateway.program().pid().to_string();
        let by_signal = |pid: &str, socket: &str| {
            let command = ["reload", "--control", socket, "--or-signal", pid];
            run(&asked.scene.net.gateway, &mut mmproxy(command), b"")
        };
        by_signal(&keeper, "/nonexistent/control.sock").expect_code(0).expect_text(&["SIGHUP"]);
        asked.scene.gateway.expect_log(&["INFO", "reloaded"]);
        // Numbers of processes end at 4194304.
        by_signal("4194305", "/nonexistent/control.sock").expect_code(69).expect_text(&["4194305"]);
        // Where somebody does, it is asked in the usual way.
        fs::write(&list, "nobody\n").expect("room");
        by_signal(&keeper, &asked.socket).expect_code(69).expect_text(&["balancers.txt:1: "]);
        asked.scene.expect_alive();
        asked.scene.gateway.stop();
    });
}

#[test]
fn the_socket_is_its_users_alone_goes_with_the_gateway_and_is_taken_over_from_one_that_was_killed() {
    isolated(|| {
        let asked = Asked::new();
        let mode = fs::metadata(&asked.socket).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let Asked { scene, socket } = asked;
        // A second one is told, and the first one keeps it.
        let target = Target::listen(&scene.net.gateway, addr("127.0.0.1:0"));
        let second = harness::Gateway::before(&scene.net, &target).with(["--control", &socket]).run();
        second.expect_code(78).expect_text(&["another mmproxy answers there"]);
        scene.gateway.kill();
        let next = harness::Gateway::before(&scene.net, &target).with(["--control", &socket]).start();
        run(&scene.net.gateway, &mut mmproxy(["status", "--control", &socket]), b"").expect_code(0);
        next.stop();
        assert!(!fs::exists(&socket).expect("a folder"));
        let finished = run(&scene.net.gateway, &mut mmproxy(["status", "--control", &socket]), b"");
        finished.expect_code(69).expect_text(&["no mmproxy answers at", "--control"]);
    });
}

#[test]
fn what_is_no_request_is_refused_and_the_connection_goes_on() {
    isolated(|| {
        let asked = Asked::new();
        let script = format!(
            "import json, socket\n\
             s = socket.socket(socket.AF_UNIX)\n\
             s.connect('{}')\n\
             f = s.makefile('rw')\n\
             for line in ['nonsense', '{{\"sessions\": {{\"of\": 1}}}}', '\"status\"']:\n\
             \tf.write(line + '\\n'); f.flush()\n\
             \tprint(list(json.loads(f.readline()))[0])\n",
            asked.socket
        );
        let mut python = std::process::Command::new("python3");
        python.args(["-c", &script]);
        let finished = run(&asked.scene.net.gateway, &mut python, b"").expect_code(0);
        assert_eq!(finished.stdout.lines().collect::<Vec<_>>(), ["refused", "refused", "status"]);
        asked.scene.gateway.stop();
    });
}
