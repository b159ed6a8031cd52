//! The live view, on a terminal of its own.

use std::fs;

use harness::expect::eventually;
use harness::{Connection, Family, Screen, Version, addr, isolated, mmproxy, run, scratch};
use nix::sys::signal::Signal;

use crate::support::Scene;
use Family::V4;

/// A gateway with a control socket, and the socket's path.
fn watched() -> (Scene, String) {
    let socket = scratch().join("control.sock").to_str().expect("UTF-8").to_owned();
    (Scene::with(V4, |gateway| gateway.with(["--control", &socket])), socket)
}

fn top(scene: &Scene, socket: &str) -> Screen {
    let command = mmproxy(["top", "--control", socket, "--interval", "100ms"]);
    Screen::start(&scene.net.gateway, &command, (30, 150))
}

/// Sessions under way, each with bytes from its client.
fn sessions(scene: &Scene, clients: &[(&str, usize)]) -> Vec<(Connection, Connection)> {
    let open = |(client, bytes): &(&str, usize)| {
        let downstream = scene.open(&Version::V2.header(addr(client), addr("192.0.2.1:22")));
        let upstream = scene.target.accept();
        let question = vec![b'?'; *bytes];
        downstream.send(&question);
        upstream.expect(&question);
        (downstream, upstream)
    };
    clients.iter().map(open).collect()
}

#[test]
fn top_shows_services_sessions_and_refusals_as_they_are_and_ends_with_q() {
    isolated(|| {
        let (scene, socket) = watched();
        let open = sessions(
            &scene,
            &[("192.0.2.7:4711", 5_000), ("192.0.2.8:4712", 50), ("198.51.100.9:4713", 70_000)],
        );
        scene.open(b"GET / HTTP/1.0\r\n\r\n").expect_closed();
        let mut screen = top(&scene, &socket);
        let process = format!("process {}", scene.gateway.program().pid());
        screen.expect_line(&["mmproxy ", &process]);
        screen.expect_line(&["return path: host intact"]);
        let listener = format!("default tcp {}", scene.gateway.listening());
        screen.expect_line(&[&listener, &scene.target.address().to_string()]);
        screen.expect_line(&["header_missing default 1"]);
        screen.expect_line(&["serving", &scene.gateway.worker().to_string()]);
        screen.expect_line(&["Sessions: 3 live"]);
        assert!(screen.is_taken());

        // The most bytes first, then the fewest.
        let clients = || -> Vec<String> {
            let client = |line: String| Some(line.split(' ').nth(2)?.to_owned());
            let sessions = screen.lines().into_iter().filter(|line| line.contains(" relay "));
            sessions.filter_map(client).collect()
        };
        let (large, middle, small) = ("198.51.100.9:4713", "192.0.2.7:4711", "192.0.2.8:4712");
        eventually("the largest to be on top", || (clients() == [large, middle, small]).then_some(()));
        screen.press("i");
        eventually("the smallest to be on top", || (clients() == [small, middle, large]).then_some(()));
        screen.press("\x1b[C\x1b[C");
        screen.expect_line(&["^RTT"]);

        // What happens is seen; a session that has ended is not.
        drop(open);
        screen.expect_line(&["Sessions: 0 live"]);
        assert_eq!(clients(), [""; 0]);
        screen.resize((20, 100));
        screen.expect_line(&["q quit"]);

        screen.press("q");
        assert_eq!(screen.wait().code(), Some(0));
        eventually("the terminal to be as it was", || (!screen.is_taken()).then_some(()));
        scene.gateway.stop();
    });
}

#[test]
fn top_gives_the_terminal_back_on_signals() {
    isolated(|| {
        let (scene, socket) = watched();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let mut screen = top(&scene, &socket);
            screen.expect_line(&["Sessions: 0 live"]);
            screen.signal(signal);
            assert_eq!(screen.wait().code(), Some(0), "{signal}");
            eventually("the terminal to be as it was", || (!screen.is_taken()).then_some(()));
        }
        scene.gateway.stop();
    });
}

#[test]
fn top_says_that_mmproxy_has_gone_and_goes_on_with_the_next_one() {
    isolated(|| {
        let (scene, socket) = watched();
        let screen = top(&scene, &socket);
        screen.expect_line(&["Sessions: 0 live"]);
        let Scene { net, target, gateway, .. } = scene;
        gateway.stop();
        screen.expect_line(&["no answer, trying again: no mmproxy answers at"]);
        let next = harness::Gateway::before(&net, &target).with(["--control", &socket]).start();
        screen.expect_line(&[&format!("process {}", next.program().pid())]);
        screen.expect_line(&["q quit"]);
        next.stop();
    });
}

#[test]
fn top_wants_a_terminal_and_a_running_mmproxy() {
    isolated(|| {
        let (scene, socket) = watched();
        let at = |socket: &str| mmproxy(["top", "--control", socket]);
        run(&scene.net.gateway, &mut at(&socket), b"")
            .expect_code(64)
            .expect_text(&["standard output is no terminal", "mmproxy status"]);
        run(&scene.net.gateway, &mut mmproxy(["top", "--interval", "10ms"]), b"")
            .expect_code(64)
            .expect_text(&["at least 100ms"]);
        let mut screen = Screen::start(&scene.net.gateway, &at("/nonexistent/control.sock"), (24, 80));
        screen.expect_line(&["no mmproxy answers at /nonexistent/control.sock"]);
        assert_eq!(screen.wait().code(), Some(69));
        assert!(!screen.is_taken());
        scene.gateway.stop();
    });
}

/// Writes the picture in the documents where `MMPROXY_PICTURE` says (`just top-picture`).
#[test]
fn top_has_a_picture_in_the_documents() {
    isolated(|| {
        let (scene, socket) = watched();
        let names: Vec<String> =
            (1..=9).map(|host| format!("203.0.113.{}:{}", host * 7, 40000 + host * 311)).collect();
        let clients: Vec<(&str, usize)> =
            names.iter().enumerate().map(|(place, name)| (name.as_str(), 300 << place)).collect();
        let open = sessions(&scene, &clients);
        scene.open(b"GET / HTTP/1.0\r\n\r\n").expect_closed();
        let screen = top(&scene, &socket);
        screen.expect_line(&["Sessions: 9 live"]);
        for (_, upstream) in &open {
            upstream.send(&[b'!'; 20_000]);
        }
        // Rates are there from the second look on.
        screen.expect_line(&["203.0.113.63:", "KiB/s"]);
        let picture = screen.picture();
        let heads = ["Services", "Refused", "Workers", "Sessions: 9 live"];
        assert!(heads.iter().all(|head| picture.contains(head)), "{picture}");
        if let Some(path) = std::env::var_os("MMPROXY_PICTURE") {
            fs::write(path, picture).expect("a file that can be written");
        }
        drop(open);
        scene.gateway.stop();
    });
}
