//! `mmproxy check --config`: every service of a file, each with its own targets, return path and namespace.

use std::fs;
use std::net::SocketAddr;

use harness::{
    Family, Finished, Namespace, State, Target, Topology, UdpTarget, addr, isolated, mmproxy, run, scratch,
};

use Family::V4;

/// A host with a target of each kind, and a file with a service before each.
struct Scene {
    net: Topology,
    elsewhere: Namespace,
    _targets: (Target, Target, UdpTarget),
    file: String,
}

impl Scene {
    /// First the one whose target is in another namespace: what is looked at there must not be taken for what is here.
    #[track_caller]
    fn new() -> Self {
        let (net, elsewhere) = (Topology::new(), Namespace::new("web"));
        let boxed = Target::listen(&elsewhere, addr("127.0.0.1:8080"));
        let ssh = Target::listen(&net.gateway, addr("127.0.0.1:22"));
        let dns = UdpTarget::listen(&net.gateway, SocketAddr::new(V4.loopback(), 53));
        let file = format!(
            "{}target-netns = \"{}\"\n{}{}table = 102\nprotocol = \"udp\"\n",
            service("web", 8081, "127.0.0.1:8080"),
            elsewhere.publish().display(),
            service("ssh", 2222, "127.0.0.1:22"),
            service("dns", 5300, "127.0.0.1:53"),
        );
        Self { net, elsewhere, _targets: (boxed, ssh, dns), file }
    }

    /// Runs a command of the program.
    #[track_caller]
    fn command(&self, words: &str) -> Finished {
        run(&self.net.gateway, &mut mmproxy(words.split_whitespace()), b"")
    }

    /// Checks the file with `more` at its end.
    #[track_caller]
    fn check(&self, more: &str, words: &str) -> Finished {
        let path = scratch().join("mmproxy.toml");
        fs::write(&path, format!("{}{more}", self.file)).expect("the test's own directory");
        self.command(&format!("check --config {} {words}", path.display()))
    }

    /// Installs the return path of each service.
    #[track_caller]
    fn set_up(&self) {
        for words in [
            "setup -4 127.0.0.1:8080 --target-netns web",
            "setup -4 127.0.0.1:22",
            "setup -4 127.0.0.1:53 -p udp --table 102",
        ] {
            self.command(words).expect_code(0);
        }
    }
}

fn service(name: &str, port: u16, target: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = \"0.0.0.0:{port}\"\nallow = \"10.0.0.0/24\"\ntarget-v4 = \"{target}\"\n"
    )
}

/// The services of a report, with what became of each.
fn services(finished: &Finished) -> Vec<(String, bool, u64)> {
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
    assert_eq!(report["sandbox"].as_array().map(Vec::len), Some(2), "{report:#}");
    let of = |service: &serde_json::Value| {
        let name = service["service"].as_str().expect("a name").to_owned();
        (name, service["ok"].as_bool().expect("a truth"), service["exit"].as_u64().expect("a status"))
    };
    report["services"].as_array().expect("a list").iter().map(of).collect()
}

#[test]
fn every_service_of_a_file_is_looked_at_where_its_target_is() {
    isolated(|| {
        let scene = Scene::new();
        // Nothing is installed: neither there nor here, and nothing becomes so.
        let before = [&scene.net.gateway, &scene.elsewhere].map(State::of);
        let finished = scene.check("", "--no-connect");
        finished.expect_code(78).expect_text(&[
            "Service web:",
            "Service ssh:",
            "Service dns:",
            "[!] MISSING",
        ]);
        for (namespace, before) in [&scene.net.gateway, &scene.elsewhere].into_iter().zip(&before) {
            State::of(namespace).expect_unchanged_since(before);
        }

        scene.set_up();
        let finished = scene.check("", "").expect_code(0);
        let worked = "is up and reachable using spoofed connection.";
        let text = &finished.stdout;
        for target in ["127.0.0.1:8080", "127.0.0.1:22"] {
            assert!(text.contains(&format!("[+] OK. Target server {target} {worked}")), "{finished}");
        }
        // Of a datagram nobody could tell.
        assert_eq!(text.matches(worked).count(), 2, "{finished}");
        assert!(text.find("Service web:") < text.find("Service ssh:"), "{finished}");
        // Whom a header will name nobody knows; the way back is there to be looked at.
        let named = "[[service]]\nname = \"named\"\nlisten = \"0.0.0.0:2300\"\nallow = \"10.0.0.0/24\"\n\
                     target-from-header = true\nallow-target = [\"127.0.0.1:22\"]\nreturn-path = \"fwmark\"\n";
        let finished = scene.check(named, "").expect_code(0);
        let (_, named) = finished.stdout.split_once("Service named:").expect("it is looked at");
        assert!(named.contains("ip rule add fwmark 0x7b") && !named.contains("Target server"), "{finished}");
        let finished = scene.check("", "--json").expect_code(0);
        let names = ["web", "ssh", "dns"].map(|name| (name.to_owned(), true, 0));
        assert_eq!(services(&finished), names);
    });
}

#[test]
fn a_service_that_would_not_work_is_named_and_the_others_are_looked_at() {
    isolated(|| {
        let scene = Scene::new();
        scene.set_up();
        let more = format!(
            "{}{}target-netns = \"nowhere\"\n",
            service("down", 2223, "127.0.0.1:9"),
            service("boxed", 2224, "127.0.0.1:22")
        );
        let finished = scene.check(&more, "").expect_code(69);
        let (_, down) = finished.stdout.split_once("Service down:").expect("it is looked at");
        let (down, boxed) = down.split_once("Service boxed:").expect("and so is the next");
        assert!(down.contains("[!] FAILED: Target server 127.0.0.1:9 "), "{finished}");
        assert!(boxed.contains("[!] FAILED: ") && boxed.contains("nowhere"), "{finished}");
        let finished = scene.check(&more, "--json").expect_code(69);
        let seen = services(&finished);
        assert_eq!(seen[..3].iter().filter(|(_, ok, exit)| *ok && *exit == 0).count(), 3, "{seen:?}");
        assert_eq!(seen[3], ("down".to_owned(), false, 69));
        assert!(!seen[4].1 && seen[4].2 != 0, "{seen:?}");

        // Connecting to nothing is asked of all of them.
        let finished = scene.check(&more, "--no-connect");
        assert!(!finished.stdout.contains("spoofed connection"), "{finished}");
    });
}

#[test]
fn a_file_and_flags_together_and_a_file_that_is_wrong_are_refused() {
    isolated(|| {
        let scene = Scene::new();
        for flags in ["-4 127.0.0.1:22", "-p udp", "--table 102", "--target-netns web"] {
            scene.check("", flags).expect_code(64).expect_text(&["cannot be used with"]);
        }
        scene.check("colour = 7\n", "").expect_code(78).expect_text(&["colour"]);
        // Neither a file nor a target.
        scene.command("check").expect_code(64).expect_text(&["-4 127.0.0.1:22", "--config"]);
    });
}
