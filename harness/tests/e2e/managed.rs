//! Under a service manager: what it is told, and sockets that it listens on already.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use harness::expect::{DEADLINE, eventually};
use harness::{Balancer, Family, Gateway, Target, Topology, Version, addr, isolated, scratch};
use nix::sys::signal::Signal;

use crate::support::{client, header, talk};
use Family::V4;

/// The manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new() -> Self {
        let path = scratch().join("notify").to_str().expect("UTF-8").to_owned();
        let socket = UnixDatagram::bind(&path).expect("a file of this test's own");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it is there");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self { socket, path }
    }

    /// Waits for a message that has all of these lines, or beginnings of lines.
    #[track_caller]
    fn expect(&self, parts: &[&str]) -> String {
        eventually("the manager to be told", || {
            let mut room = [0; 4096];
            let length =
                self.socket.recv(&mut room).unwrap_or_else(|error| panic!("never told {parts:?}: {error}"));
            let message = String::from_utf8_lossy(&room[..length]).into_owned();
            parts.iter().all(|part| message.lines().any(|line| line.starts_with(part))).then_some(message)
        })
    }
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop_and_that_all_goes_on() {
    isolated(|| {
        let manager = Manager::new();
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let environment = [format!("NOTIFY_SOCKET={}", manager.path), "WATCHDOG_USEC=400000".to_owned()];
        let environment: Vec<&str> = environment.iter().map(String::as_str).collect();
        let gateway = Gateway::before(&net, &target).start_under("env", &environment);
        manager.expect(&["READY=1", "STATUS=serving on 1 addresses"]);
        manager.expect(&["WATCHDOG=1"]);
        manager.expect(&["WATCHDOG=1"]);
        gateway.program().signal(Signal::SIGHUP);
        manager.expect(&["RELOADING=1", "MONOTONIC_USEC="]);
        manager.expect(&["READY=1"]);
        gateway.program().signal(Signal::SIGTERM);
        // 10 seconds of drain, the default, and some for what comes then.
        manager.expect(&["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000"]);
        gateway.wait().expect_code(0);
    });
}

#[test]
fn a_socket_that_the_manager_listens_on_is_served_and_one_for_nobody_is_closed() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        // As systemd does it: the listening sockets from descriptor 3 on, and whose they are.
        let script = "import os, socket, sys\n\
                      a = socket.create_server(('0.0.0.0', 2222), backlog=64)\n\
                      b = socket.create_server(('127.0.0.1', 0))\n\
                      fds = [os.dup(s.fileno()) for s in (a, b)]\n\
                      for place, fd in enumerate(fds):\n\
                      \tos.dup2(fd, 3 + place)\n\
                      os.environ['LISTEN_FDS'] = '2'\n\
                      os.environ['LISTEN_PID'] = str(os.getpid())\n\
                      os.execv(sys.argv[1], sys.argv[1:])\n";
        let gateway = Gateway::before(&net, &target)
            .listen(addr("0.0.0.0:2222"))
            .with(["--workers", "2"])
            .start_under("python3", &["-c", script]);
        gateway.expect_log(&["WARN", "an address that no service has"]);
        let balancer = Balancer::of(&net);
        for _ in 0..8 {
            let downstream = balancer.announce(gateway.address(V4), &header(Version::V2, V4), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(V4));
            talk(&downstream, &upstream);
        }
        gateway.program().signal(Signal::SIGHUP);
        gateway.expect_log(&["INFO", "reloaded"]);
        let downstream = balancer.announce(gateway.address(V4), &header(Version::V2, V4), b"");
        talk(&downstream, &target.accept());
        gateway.stop();
    });
}
