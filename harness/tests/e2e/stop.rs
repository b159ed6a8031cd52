//! Sessions under way when the gateway is told to stop.

use harness::expect::eventually;
use harness::{Balancer, Family, Gateway, Target, Topology, Version, addr, isolated};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Host;
use crate::support::{Scene, client, header, talk};
use Family::V4;

#[test]
fn a_session_may_finish_after_sigterm_while_nobody_new_is_taken() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "300s"]));
        let (downstream, upstream) = scene.session();
        let address = scene.gateway.address(V4);
        scene.gateway.program().signal(Signal::SIGTERM);
        eventually("new connections to be refused", || scene.balancer.try_connect(address).err());
        talk(&downstream, &upstream);
        let finished = scene.gateway.wait().expect_code(0);
        assert!(finished.stderr.contains("reason=finished"), "{finished}");
    });
}

#[test]
fn a_signal_to_all_of_its_processes_is_one_to_the_gateway() {
    isolated(|| {
        // As a terminal and a service manager do it.
        let signal = |scene: &Scene, signal| {
            let worker = Pid::from_raw(scene.gateway.worker().try_into().expect("small"));
            kill(worker, signal).expect("it runs");
            scene.gateway.program().signal(signal);
        };
        for stop in [Signal::SIGTERM, Signal::SIGINT] {
            let scene = Scene::with(V4, |flags| flags.with(["--drain", "300s"]));
            let (downstream, upstream) = scene.session();
            signal(&scene, Signal::SIGHUP);
            scene.gateway.expect_log(&["INFO", "reloaded"]);
            let other = scene.session_of("192.0.2.8:4711");
            signal(&scene, stop);
            scene.gateway.expect_log(&["stopping", "sessions may finish"]);
            talk(&downstream, &upstream);
            talk(&other.0, &other.1);
            let finished = scene.gateway.wait().expect_code(0);
            assert_eq!(finished.stderr.matches("reason=finished").count(), 2, "{finished}");
        }
    });
}

#[test]
fn a_session_that_does_not_finish_is_ended_at_the_drains_deadline() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "1s"]));
        let (downstream, upstream) = scene.session();
        scene.gateway.program().signal(Signal::SIGTERM);
        downstream.expect_closed();
        upstream.expect_closed();
        let finished = scene.gateway.wait().expect_code(0);
        assert!(finished.stderr.contains("reason=drained"), "{finished}");
    });
}

#[test]
fn a_second_signal_does_not_wait_for_the_sessions() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start_with(&["--drain", "300s"]);
        let downstream = host.balancer().announce(gateway.address(V4), &header(Version::V2, V4), b"");
        let upstream = host.v4.accept();
        assert_eq!(upstream.peer(), client(V4));
        gateway.program().signal(Signal::SIGTERM);
        gateway.expect_log(&["stopping", "sessions may finish"]);
        gateway.program().signal(Signal::SIGTERM);
        gateway.wait().expect_code(0);
        downstream.expect_closed();
        upstream.expect_closed();
        host.expect_as_before();
    });
}

#[test]
fn the_port_is_free_again_at_once_after_a_restart() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags = Gateway::before(&net, &target).listen(addr("10.0.0.1:2222"));
        for _ in 0..3 {
            let gateway = flags.start();
            let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(Version::V2, V4), b"");
            let upstream = target.accept();
            // The gateway closes first, so that its end of the connection stays in TIME_WAIT.
            upstream.finish();
            downstream.expect_end();
            downstream.finish();
            upstream.expect_end();
            gateway.stop();
        }
    });
}
