//! Targets in a network namespace that has nothing in common with the gateway's but the kernel: no cable, no route.

use std::net::SocketAddr;
use std::process::{Child, Command};

use harness::expect::eventually;
use harness::{
    Balancer, Connection, Family, Finished, Flags, Gateway, Namespace, State, Target, Topology, Version,
    addr, isolated, mmproxy, run,
};

use crate::support::{client, header, header_from, talk};
use Family::{V4, V6};

/// The gateway's network, and targets elsewhere.
struct Scene {
    net: Topology,
    elsewhere: Namespace,
    v4: Target,
    v6: Target,
    host: State,
    there: State,
}

impl Scene {
    fn new() -> Self {
        let net = Topology::new();
        let elsewhere = Namespace::new("web");
        let [v4, v6] = ["127.0.0.1:8080", "[::1]:8080"].map(|at| Target::listen(&elsewhere, addr(at)));
        let (host, there) = (State::of(&net.gateway), State::of(&elsewhere));
        Self { net, elsewhere, v4, v6, host, there }
    }

    /// A gateway that is told where its targets are by `name`.
    fn flags(&self, name: &str) -> Flags {
        Gateway::before(&self.net, &self.v4).and_before(&self.v6).with(["--target-netns", name])
    }

    /// Opens a session that announces the usual client.
    #[track_caller]
    fn open(&self, gateway: &Gateway, version: Version, family: Family) -> Connection {
        Balancer::of(&self.net).announce(gateway.address(family), &header(version, family), b"")
    }

    /// Shows that clients of both families get through, announced in both versions.
    #[track_caller]
    fn expect_served(&self, gateway: &Gateway) {
        for (family, target) in [(V4, &self.v4), (V6, &self.v6)] {
            for version in Version::BOTH {
                let downstream = self.open(gateway, version, family);
                let upstream = target.accept();
                assert_eq!(upstream.peer(), client(family));
                talk(&downstream, &upstream);
            }
        }
    }

    /// The host has not been touched, now or ever.
    #[track_caller]
    fn expect_host_untouched(&self) {
        State::of(&self.net.gateway).expect_unchanged_since(&self.host);
    }

    /// A command of the program, run in the gateway's namespace.
    #[track_caller]
    fn command(&self, words: &str) -> Finished {
        run(&self.net.gateway, &mut mmproxy(words.split_whitespace()), b"")
    }
}

/// A process that is in `namespace` and does nothing. Ended when dropped.
struct Idler(Child);

impl Idler {
    fn of(namespace: &Namespace) -> Self {
        Self(namespace.spawn(Command::new("sleep").arg("600")).expect("coreutils"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_target_that_nothing_leads_to_sees_the_client_whatever_its_namespace_is_called() {
    isolated(|| {
        let scene = Scene::new();
        let path = scene.elsewhere.publish();
        let idler = Idler::of(&scene.elsewhere);
        for name in
            [path.to_str().expect("ASCII"), "web", &idler.pid(), &format!("/proc/{}/ns/net", idler.pid())]
        {
            let gateway = scene.flags(name).start();
            scene.expect_served(&gateway);
            scene.expect_host_untouched();
            assert_ne!(State::of(&scene.elsewhere), scene.there, "the return path is installed there");
            gateway.stop().expect_text(&["using spoofed connection"]);
            scene.expect_host_untouched();
            State::of(&scene.elsewhere).expect_unchanged_since(&scene.there);
        }
    });
}

#[test]
fn every_mode_of_the_return_path_works_there() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        for mode in ["fwmark", "source", "port"] {
            let gateway = scene.flags("web").with(["--return-path", mode]).start();
            scene.expect_served(&gateway);
            scene.expect_host_untouched();
            gateway.stop();
            State::of(&scene.elsewhere).expect_unchanged_since(&scene.there);
        }
    });
}

#[test]
fn a_namespace_that_is_deleted_and_made_again_is_followed() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        // Time for what the session still does below, on a machine that is busy.
        let gateway = scene.flags("web").with(["--drain", "4s"]).start();
        let downstream = scene.open(&gateway, Version::V2, V4);
        let upstream = scene.v4.accept();

        scene.elsewhere.unpublish();
        gateway.expect_log(&["WARN", "the target's network namespace is gone"]);
        // The target goes on; its session has the time of --drain to end by itself.
        upstream.send(b"last words");
        downstream.expect(b"last words");
        // Workers hear of it a moment after the log does.
        eventually("new sessions to be refused before the target sees them", || {
            scene.open(&gateway, Version::V2, V4).expect_closed();
            scene.v4.try_accept().is_none().then_some(())
        });
        gateway.expect_log(&["client=192.0.2.7:4711", "bytes_down=0", "reason=namespace_gone"]);
        downstream.expect_reset();
        upstream.expect_reset();
        gateway.expect_log(&["bytes_down=10", "reason=namespace_gone"]);
        eventually("what was installed in the deleted namespace to be removed", || {
            State::of(&scene.elsewhere).differences(&scene.there).is_empty().then_some(())
        });

        // The same name, the same addresses, another namespace.
        let next = Namespace::new("web");
        let [v4, v6] = ["127.0.0.1:8080", "[::1]:8080"].map(|at| Target::listen(&next, addr(at)));
        let before = State::of(&next);
        next.publish();
        gateway.expect_log(&["the target's network namespace is back"]);
        for (family, target) in [(V4, &v4), (V6, &v6)] {
            let downstream = scene.open(&gateway, Version::V1, family);
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(family));
            talk(&downstream, &upstream);
        }
        scene.v4.expect_untouched();
        gateway.stop();
        State::of(&next).expect_unchanged_since(&before);
        scene.expect_host_untouched();
    });
}

#[test]
fn a_namespace_that_is_replaced_between_two_looks_is_not_taken_for_the_old_one() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        let gateway = scene.flags("web").start();
        let next = Namespace::new("web");
        let target = Target::listen(&next, addr("127.0.0.1:8080"));
        scene.elsewhere.unpublish();
        next.publish();
        gateway.expect_log(&["the target's network namespace is back"]);
        let downstream = scene.open(&gateway, Version::V2, V4);
        talk(&downstream, &target.accept());
        scene.v4.expect_untouched();
    });
}

#[test]
fn what_a_killed_gateway_left_there_goes_with_the_next_one() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        scene.flags("web").start().kill();
        assert_ne!(State::of(&scene.elsewhere), scene.there);
        let next = scene.flags("web").start();
        scene.expect_served(&next);
        next.stop();
        State::of(&scene.elsewhere).expect_unchanged_since(&scene.there);
        scene.expect_host_untouched();
    });
}

#[test]
fn a_process_that_has_ended_is_not_found_again() {
    isolated(|| {
        let scene = Scene::new();
        let idler = Idler::of(&scene.elsewhere);
        let gateway = scene.flags(&idler.pid()).start();
        scene.expect_served(&gateway);
        let pid = idler.pid();
        drop(idler);
        gateway.expect_log(&["the target's network namespace cannot be used", &format!("no process {pid}")]);
        scene.open(&gateway, Version::V2, V4).expect_closed();
        gateway.expect_log(&["reason=namespace_gone"]);
        gateway.stop();
    });
}

#[test]
fn addresses_of_either_side_are_refused_as_clients() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        run(&scene.elsewhere, Command::new("ip").args(["address", "add", "172.16.0.9/32", "dev", "lo"]), b"")
            .expect_code(0);
        let gateway = scene.flags("web").start();
        for own in [SocketAddr::new(V4.gateway(), 4711), addr("172.16.0.9:4711")] {
            let header = header_from(Version::V2, &own.to_string());
            Balancer::of(&scene.net).announce(gateway.address(V4), &header, b"").expect_closed();
        }
        scene.v4.expect_untouched();
        gateway.expect_log(&["reason=source_refused"]);
    });
}

#[test]
fn check_setup_and_teardown_work_there_too() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        let targets = "-4 127.0.0.1:8080 -6 [::1]:8080 --target-netns web";
        let missing = scene.command(&format!("check {targets}")).expect_code(78);
        missing.expect_text(&["[!] MISSING", "using conventional connection", "[!] FAILED"]);

        scene
            .command("setup --dry-run --target-netns web")
            .expect_code(0)
            .expect_text(&["nsenter --net=/run/netns/web"]);
        State::of(&scene.elsewhere).expect_unchanged_since(&scene.there);
        scene.command("setup --target-netns web").expect_code(0);
        assert_ne!(State::of(&scene.elsewhere), scene.there);
        scene.command(&format!("check {targets}")).expect_code(0);
        // Here nobody listens.
        scene.command("check -4 127.0.0.1:8080").expect_code(69);

        let gateway = scene.flags("web").with(["--routing", "check"]).start();
        scene.expect_served(&gateway);
        gateway.stop();
        scene.command("teardown --target-netns web").expect_code(0);
        State::of(&scene.elsewhere).expect_unchanged_since(&scene.there);
        scene.expect_host_untouched();
    });
}

#[test]
fn a_name_that_leads_nowhere_is_78_and_comes_with_its_cure() {
    isolated(|| {
        let scene = Scene::new();
        let path = scene.elsewhere.publish();
        scene.elsewhere.unpublish();
        // What a crash leaves behind: the file of a namespace that is not mounted on it any more.
        std::fs::write(&path, "").expect("the test's own tmpfs");
        for (name, parts) in [
            ("nobody", ["/run/netns/nobody", "ip netns list"]),
            ("/run/netns/nobody", ["/run/netns/nobody", "ip netns list"]),
            ("web", ["no network namespace", "ip netns add"]),
            ("4194305", ["no process 4194305", "docker:CONTAINER"]),
        ] {
            scene.flags(name).run().expect_code(78).expect_text(&parts);
        }
        let mut command = scene.flags("docker:web").command();
        command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
        let finished = run(&scene.net.gateway, &mut command, b"").expect_code(69);
        finished.expect_text(&["/nonexistent/docker.sock", "systemctl start docker"]);
        scene.flags("docker:../web").run().expect_code(64);
        scene.v4.expect_untouched();
        scene.expect_host_untouched();
    });
}

#[test]
fn without_cap_sys_admin_it_is_77_and_the_line_that_grants_it() {
    isolated(|| {
        let scene = Scene::new();
        scene.elsewhere.publish();
        let program = scene.flags("web").command();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
        command.arg(program.get_program()).args(program.get_args());
        let finished = run(&scene.net.gateway, &mut command, b"").expect_code(77);
        finished.expect_text(&["CAP_SYS_ADMIN", "setcap cap_net_admin,cap_net_raw,cap_sys_admin"]);
        scene.expect_host_untouched();
    });
}
