//! Targets in another network namespace, which has nothing in common with the gateway's.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use mmproxy_forwarder::{
    CloseReason, DialOptions, EnterError, GatewayConfig, Namespace, NamespaceGone, TargetNamespace,
};
use nix::sched::{CloneFlags, setns, unshare};

use crate::isolated::{MARK, in_namespace, ip, return_path};
use crate::rig::{DEADLINE, End, Rig, UNKNOWN, config, end, read_exactly, read_to_end, runtime};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

#[test]
fn a_target_elsewhere_sees_the_client() {
    in_namespace("namespace::a_target_elsewhere_sees_the_client", &[], || {
        let elsewhere = Elsewhere::new();
        for (listen, wire, client) in [
            ("127.0.0.1:0", HEADER, "192.0.2.7:4711"),
            ("[::1]:0", b"PROXY TCP6 2001:db8::7 2001:db8::1 4712 443\r\n", "[2001:db8::7]:4712"),
        ] {
            let target = elsewhere.listen(listen);
            let at = target.local_addr().unwrap();
            assert!(TcpStream::connect(at).is_err(), "the target is nowhere near");
            let rig = rig(target, &elsewhere.place(), |config| config);
            let mut peer = rig.connect();
            peer.write_all(wire).unwrap();
            peer.write_all(b"hello").unwrap();
            let mut target = rig.accept();
            assert_eq!(target.peer_addr().unwrap(), client.parse::<SocketAddr>().unwrap());
            assert_eq!(read_exactly(&mut target, 5), b"hello");
            target.write_all(b"welcome").unwrap();
            assert_eq!(read_exactly(&mut peer, 7), b"welcome");
            end(&peer);
            end(&target);
            assert_eq!(rig.report().reason, CloseReason::Finished);
        }
    });
}

#[test]
fn a_connection_of_the_balancers_own_reaches_it_too() {
    in_namespace("namespace::a_connection_of_the_balancers_own_reaches_it_too", &[], || {
        let elsewhere = Elsewhere::new();
        let rig = rig(elsewhere.listen("127.0.0.1:0"), &elsewhere.place(), |config| config);
        let mut peer = rig.connect();
        peer.write_all(UNKNOWN).unwrap();
        assert!(rig.accept().peer_addr().unwrap().ip().is_loopback());
    });
}

#[test]
fn while_there_is_no_namespace_sessions_fail_at_once_and_work_again_with_the_next() {
    in_namespace(
        "namespace::while_there_is_no_namespace_sessions_fail_at_once_and_work_again_with_the_next",
        &[],
        || {
            let place = TargetNamespace::new();
            let first = Elsewhere::new();
            let rig = rig(first.listen("127.0.0.1:4000"), &place, |config| config);
            for wire in [HEADER, UNKNOWN] {
                let mut peer = rig.connect();
                peer.write_all(wire).unwrap();
                let report = rig.report();
                assert_eq!(report.reason, CloseReason::NamespaceGone);
                assert_eq!(report.error, Some(NamespaceGone.to_string()));
                assert!(report.total < Duration::from_secs(2), "{:?}", report.total);
            }
            place.enter(Namespace::enter(first.file.as_fd()).unwrap());
            rig.connect().write_all(HEADER).unwrap();
            rig.accept();

            // Another namespace with the same addresses: nothing may go to the first one any more.
            let second = Elsewhere::new();
            let target = second.listen("127.0.0.1:4000");
            place.enter(Namespace::enter(second.file.as_fd()).unwrap());
            let mut peer = rig.connect();
            peer.write_all(HEADER).unwrap();
            let accepted = crate::rig::accept(&target);
            assert_eq!(accepted.peer_addr().unwrap().to_string(), "192.0.2.7:4711");
            assert!(rig.target_was_left_alone());
        },
    );
}

#[test]
fn sessions_that_outlive_their_namespace_are_reset_at_the_drain_deadline() {
    in_namespace(
        "namespace::sessions_that_outlive_their_namespace_are_reset_at_the_drain_deadline",
        &[],
        || {
            let elsewhere = Elsewhere::new();
            let place = elsewhere.place();
            let drain = Duration::from_millis(300);
            let rig = rig(elsewhere.listen("127.0.0.1:0"), &place, |config| config.drain(drain));
            let mut peer = rig.connect();
            peer.write_all(HEADER).unwrap();
            let mut target = rig.accept();
            rig.established();

            let left = Instant::now();
            place.leave();
            // What the target sends in its last moments arrives.
            target.write_all(b"goodbye").unwrap();
            assert_eq!(read_to_end(&mut peer), (b"goodbye".to_vec(), End::Reset));
            assert!(left.elapsed() >= drain);
            let report = rig.report();
            assert_eq!(report.reason, CloseReason::NamespaceGone);
            assert_eq!(report.bytes, (0, 7));
        },
    );
}

#[test]
fn a_session_whose_ends_are_closed_in_time_finishes_although_its_namespace_is_gone() {
    in_namespace(
        "namespace::a_session_whose_ends_are_closed_in_time_finishes_although_its_namespace_is_gone",
        &[],
        || {
            let elsewhere = Elsewhere::new();
            let place = elsewhere.place();
            let rig = rig(elsewhere.listen("127.0.0.1:0"), &place, |config| config.drain(DEADLINE));
            let mut peer = rig.connect();
            peer.write_all(HEADER).unwrap();
            let target = rig.accept();
            rig.established();
            place.leave();
            end(&target);
            end(&peer);
            assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Fin));
            assert_eq!(rig.report().reason, CloseReason::Finished);
        },
    );
}

#[test]
fn neither_the_hosts_addresses_nor_the_targets_may_be_clients() {
    in_namespace("namespace::neither_the_hosts_addresses_nor_the_targets_may_be_clients", &[], || {
        ip("address add 10.0.0.1/32 dev lo");
        let elsewhere = Elsewhere::new();
        elsewhere.run(|| ip("address add 10.0.0.2/32 dev lo"));
        let rig = rig(elsewhere.listen("127.0.0.1:0"), &elsewhere.place(), |config| config);
        for client in ["10.0.0.1", "10.0.0.2"] {
            let mut peer = rig.connect();
            peer.write_all(format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\n").as_bytes()).unwrap();
            let report = rig.report();
            assert_eq!(report.reason, CloseReason::SourceRefused);
            assert!(report.error.unwrap().starts_with(&format!("{client} ")));
        }
        rig.connect().write_all(b"PROXY TCP4 10.0.0.3 198.51.100.1 4711 443\r\n").unwrap();
        assert_eq!(rig.accept().peer_addr().unwrap().to_string(), "10.0.0.3:4711");
    });
}

#[test]
fn what_is_no_network_namespace_is_told_from_one_that_may_not_be_entered() {
    let without = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    in_namespace(
        "namespace::what_is_no_network_namespace_is_told_from_one_that_may_not_be_entered",
        &without,
        || {
            let file = File::open("/proc/self/ns/net").unwrap();
            let error = Namespace::enter(file.as_fd()).unwrap_err();
            assert!(matches!(error, EnterError::NotPermitted(_)), "{error:?}");
            assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
            for other in ["/proc/self/ns/mnt", "/proc/self/status"] {
                let error = Namespace::enter(File::open(other).unwrap().as_fd()).unwrap_err();
                assert!(matches!(error, EnterError::NotANamespace(_)), "{other}: {error:?}");
            }
        },
    );
}

#[test]
fn the_thread_ends_with_the_last_handle_and_its_jobs_with_it() {
    in_namespace("namespace::the_thread_ends_with_the_last_handle_and_its_jobs_with_it", &[], || {
        let elsewhere = Elsewhere::new();
        let _ordinary = Rig::start();
        assert_eq!(inhabitants(), 0, "who needs no namespace has no thread in one");
        let namespace = Namespace::enter(elsewhere.file.as_fd()).unwrap();
        assert_eq!(inhabitants(), 1);
        let runtime = runtime();
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        // A job may leave something running, as a lease does.
        let left = runtime.block_on(namespace.run(async || {
            tokio::task::spawn_local(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            std::fs::read_link("/proc/thread-self/ns/net").unwrap()
        }));
        assert_eq!(left.unwrap(), elsewhere.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()));
        let panicked =
            runtime.block_on(namespace.run(async || assert!(!HEADER.is_empty() && UNKNOWN.is_empty())));
        assert_eq!(panicked, Err(NamespaceGone));
        assert_eq!(runtime.block_on(namespace.run(async || 7)), Ok(7), "the others go on");

        drop(namespace);
        runtime.block_on(async { tokio::time::timeout(DEADLINE, gone).await }).unwrap().unwrap_err();
        let deadline = Instant::now() + DEADLINE;
        while inhabitants() > 0 {
            assert!(Instant::now() < deadline, "the thread does not end");
            thread::yield_now();
        }
    });
}

/// How many threads of this process live in target namespaces.
fn inhabitants() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // A thread may end while we look.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "target-netns").count()
}

/// A network namespace beside the gateway's, with a return path and nothing that leads there.
struct Elsewhere {
    file: File,
}

impl Elsewhere {
    fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            return_path();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        // The balancers of the tests are on the gateway's loopback interface.
        ip("link set lo up");
        Self { file: file.join().unwrap() }
    }

    fn run<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
            code()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    fn listen(&self, address: &str) -> TcpListener {
        self.run(|| TcpListener::bind(address).unwrap())
    }

    fn place(&self) -> TargetNamespace {
        let place = TargetNamespace::new();
        place.enter(Namespace::enter(self.file.as_fd()).unwrap());
        place
    }
}

fn rig(
    target: TcpListener,
    place: &TargetNamespace,
    configure: impl FnOnce(GatewayConfig) -> GatewayConfig,
) -> Rig {
    let dial = DialOptions::new().mark(NonZeroU32::new(MARK)).namespace(Some(place.clone()));
    let config = configure(config("127.0.0.0/8", &target).dial(dial));
    Rig::serving(target, config, "127.0.0.1:0", |recorder| recorder)
}
