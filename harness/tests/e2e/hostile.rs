//! A balancer that means harm, or that somebody else has taken over: honest clients are served all the same.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::expect::eventually;
use harness::{
    Balancer, Connection, Echo, Family, Gateway, Target, Topology, Usage, V2, Version, addr, isolated,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::{frontend, header, talk};
use Family::V4;

/// Everything that the fuzzers keep because it once reached new code, or broke a promise.
fn inputs(targets: &[&str]) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let folders = ["corpus", "regressions"].map(|kind| fuzz.join(kind));
    let folders = folders.iter().flat_map(|kind| targets.iter().map(|target| kind.join(target)));
    // A target that never broke a promise has no folder of regressions.
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let paths: Vec<PathBuf> = files.map(|file| file.path()).filter(|path| path.is_file()).collect();
    assert!(paths.len() > 100, "there are {} inputs in {}", paths.len(), fuzz.display());
    paths.iter().map(|path| fs::read(path).expect("a file of the tree")).collect()
}

/// The honest client that comes as the `number`th.
fn honest(number: usize) -> SocketAddr {
    SocketAddr::new(V4.client(), 10_000 + u16::try_from(number).expect("few"))
}

#[test]
fn whatever_fuzzers_have_found_may_come_over_tcp_and_honest_clients_are_served_between() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target).with(["--verbose", "--header-timeout", "3s"]).start();
        let (balancer, address, worker) = (Balancer::of(&net), gateway.address(V4), gateway.worker());
        let over = AtomicBool::new(false);
        let inputs = inputs(&["decode", "splits", "roundtrip", "tlv", "differential"]);
        let asked = thread::scope(|scope| {
            scope.spawn(|| echo_everybody(&target, &over, scope));
            let mut asked = 0;
            for (number, input) in inputs.iter().enumerate() {
                let connection = balancer.connect(address);
                connection.offer(input);
                if number % 20 == 0 {
                    let header = Version::V2.header(honest(asked), frontend(V4));
                    let client = balancer.announce(address, &header, b"question");
                    client.expect(b"question");
                    client.finish();
                    client.expect_end();
                    asked += 1;
                }
            }
            over.store(true, Ordering::Relaxed);
            asked
        });
        // Each is accounted for once, and by the worker that was there at the beginning.
        eventually("every connection to be accounted for", || {
            let closed = gateway.program().count_lines(&["session closed"]);
            (closed == inputs.len() + asked).then_some(())
        });
        assert_eq!(gateway.worker(), worker);
        assert_eq!(gateway.program().count_lines(&["panicked"]), 0, "{}", gateway.program().output());
        gateway.stop();
    });
}

#[test]
fn whatever_fuzzers_have_found_may_come_over_udp_and_honest_clients_are_served_between() {
    isolated(|| {
        for format in ["v2", "spp"] {
            let net = Topology::new();
            let echo = Echo::start(&net.gateway, addr("127.0.0.1:0"));
            let flags = ["-p", "udp", "--header", format];
            let gateway = Gateway::to(&net, echo.address()).with(flags).start();
            let (address, worker) = (gateway.address(V4), gateway.worker());
            let [stranger, balancer] = [(); 2].map(|()| harness::Datagrams::of(&net, V4.balancer()));
            let inputs = inputs(&["datagram", "spp", "decode", "tlv"]);
            for (number, input) in inputs.iter().enumerate() {
                stranger.send(address, input, b"");
                if number % 20 == 0 {
                    let client = honest(number / 20);
                    let header = match format {
                        "v2" => V2::datagram(client, frontend(V4)).to_bytes(),
                        _ => harness::header::spp(client, frontend(V4)),
                    };
                    balancer.send(address, &header, b"who?");
                    let (answer, from) = balancer.receive();
                    assert_eq!(from, address);
                    assert!(answer.ends_with(&Echo::answer(client, b"who?")), "{client}: {answer:02x?}");
                }
            }
            assert_eq!(gateway.worker(), worker);
            assert_eq!(gateway.program().count_lines(&["panicked"]), 0, "{}", gateway.program().output());
            gateway.stop();
        }
    });
}

#[test]
fn thousands_of_headers_that_never_end_keep_nobody_out_cost_little_and_go() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target).with(["--quiet", "--header-timeout", "1h"]).start();
        let (balancer, address) = (Balancer::of(&net), gateway.address(V4));
        let header = header(Version::V2, V4);
        let before = Before::the_crowd(&gateway);
        let slow: Vec<_> = (0..crowd())
            .map(|number| {
                let connection = balancer.connect(address);
                connection.send(&header[..1 + number % (header.len() - 1)]);
                connection
            })
            .collect();
        serves(&balancer, &target, address, 0);
        // One more byte for each, as slow loris does it, and honest clients between.
        for (number, connection) in slow.iter().enumerate() {
            let sent = 1 + number % (header.len() - 1);
            if sent + 1 < header.len() {
                connection.send(&header[sent..=sent]);
            }
            if number % 1000 == 0 {
                serves(&balancer, &target, address, 1 + number / 1000);
            }
        }
        before.expect_at_most(&gateway, slow.len(), HEADER_KIB);
        drop(slow);
        before.expect_descriptors_back(&gateway);
        serves(&balancer, &target, address, 100);
        gateway.stop();
    });
}

#[test]
fn thousands_of_idle_sessions_keep_nobody_out_cost_little_and_go() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        // All of them are one client's: the limits on those, which have tests of their own, would stop them earlier.
        let limits =
            ["--max-sessions-per-client", "--max-sessions-per-client-network", "--new-sessions-per-second"];
        let gateway = Gateway::before(&net, &target)
            .with(["--quiet"])
            .with(limits.iter().flat_map(|limit| [*limit, "off"]))
            .start();
        let (balancer, address) = (Balancer::of(&net), gateway.address(V4));
        let before = Before::the_crowd(&gateway);
        let crowd: Vec<usize> = (0..crowd()).collect();
        let client = |number: usize| {
            SocketAddr::from(([192, 0, 2, 100], 10_000 + u16::try_from(number).expect("few")))
        };
        let mut idle: BTreeMap<SocketAddr, (Connection, Option<Connection>)> = BTreeMap::new();
        // No more at a time than wait in the target's backlog.
        for some in crowd.chunks(100) {
            for number in some {
                let client = client(*number);
                let header = Version::V2.header(client, frontend(V4));
                idle.insert(client, (balancer.announce(address, &header, b""), None));
            }
            for _ in some {
                let upstream = target.accept();
                let (_, place) = idle.get_mut(&upstream.peer()).expect("one of them, as it was announced");
                assert!(place.replace(upstream).is_none(), "one was connected twice");
            }
        }
        serves(&balancer, &target, address, 0);
        before.expect_at_most(&gateway, idle.len(), IDLE_KIB);
        // They were not forgotten either.
        for (downstream, upstream) in idle.values().step_by(500) {
            talk(downstream, upstream.as_ref().expect("each was accepted"));
        }
        drop(idle);
        before.expect_descriptors_back(&gateway);
        gateway.stop();
    });
}

/// An honest client is served.
#[track_caller]
fn serves(balancer: &Balancer, target: &Target, gateway: SocketAddr, number: usize) {
    let client = honest(number);
    let downstream = balancer.announce(gateway, &Version::V2.header(client, frontend(V4)), b"");
    let upstream = target.accept();
    assert_eq!(upstream.peer(), client);
    talk(&downstream, &upstream);
}

/// How many sessions there are room for: both ends of each are this process's, and so are two descriptors of the gateway.
/// 20,000 where the machine allows it.
fn crowd() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
    let room = usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(1000) / 2;
    assert!(room >= 1000, "a limit of {hard} descriptors is too low for this test: ulimit -Hn");
    // The gateway's listeners and a crowd of ports of one balancer's address are the other bounds.
    room.min(20_000)
}

/// What the gateway used before.
struct Before(Usage);

impl Before {
    fn the_crowd(gateway: &Gateway) -> Self {
        Self(Self::now(gateway))
    }

    fn now(gateway: &Gateway) -> Usage {
        Usage::of(gateway.worker()).expect("a running process")
    }

    /// So much for each of the crowd, and what all share.
    #[track_caller]
    fn expect_at_most(&self, gateway: &Gateway, sessions: usize, each: usize) {
        let now = Self::now(gateway);
        assert!(
            now.descriptors >= self.0.descriptors + sessions,
            "the crowd is not there: {}",
            now.descriptors
        );
        let grown = now.resident_kib.saturating_sub(self.0.resident_kib);
        println!("{sessions} sessions: {grown} KiB");
        assert!(grown <= sessions * each + SHARED_KIB, "{grown} KiB for {sessions} sessions");
    }

    #[track_caller]
    fn expect_descriptors_back(&self, gateway: &Gateway) {
        eventually("the crowd's descriptors to be closed", || {
            (Self::now(gateway).descriptors <= self.0.descriptors + 8).then_some(())
        });
    }
}

/// The bounds of docs/operations.md: a session without a buffer, and a connection whose header has not come.
const IDLE_KIB: usize = 2;
const HEADER_KIB: usize = 8;
/// Code and tables that the first sessions touch.
const SHARED_KIB: usize = 4096;

/// A server that sends everybody what it gets, until `over`.
fn echo_everybody<'scope>(target: &Target, over: &AtomicBool, scope: &'scope thread::Scope<'scope, '_>) {
    while !over.load(Ordering::Relaxed) {
        if let Some(connection) = target.accept_within(Duration::from_millis(100)) {
            scope.spawn(move || connection.echo());
        }
    }
}
