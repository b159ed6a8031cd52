//! Out of descriptors: the gateway waits, says so, and recovers.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mmproxy_forwarder::{
    AcceptPaused, CloseReason, Observer, PipesScarce, RelayOptions, SessionOpened, SessionReport, SpliceUse,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::isolated::{in_child, run_alone, this_program, unprivileged};
use crate::rig::{DEADLINE, End, Recorder, Rig, config, end, patient, read_exactly, read_to_end};

#[test]
fn a_gateway_out_of_descriptors_waits_without_spinning_and_recovers() {
    // The limit is the whole process's.
    in_child(
        "exhaustion::a_gateway_out_of_descriptors_waits_without_spinning_and_recovers",
        "MMPROXY_TEST_FEW_DESCRIPTORS",
        child,
    );
}

struct Pauses {
    inner: Recorder,
    paused: mpsc::Sender<i32>,
}

impl Observer for Pauses {
    fn session_opened(&self, opened: &SessionOpened) {
        self.inner.session_opened(opened);
    }

    fn session_closed(&self, report: &SessionReport) {
        self.inner.session_closed(report);
    }

    fn accept_paused(&self, paused: &AcceptPaused<'_>) {
        self.paused.send(paused.error.raw_os_error().unwrap_or(0)).ok();
    }
}

fn child() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target);
    let (sender, paused) = mpsc::channel();
    let rig = Rig::serving(target, config, "127.0.0.1:0", |inner| Pauses { inner, paused: sender });

    // One session shows that everything works, and that the runtime has all its descriptors.
    let (peer, far) = rig.session();
    end(&peer);
    end(&far);
    assert_eq!(rig.report().reason, CloseReason::Finished);
    drop((peer, far));

    // A client socket is made first: it needs a descriptor, too.
    let waiting = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let in_use = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, in_use - 1, hard).unwrap();
    let mut used_up = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        used_up.push(file);
    }
    waiting.connect(&rig.address.into()).unwrap();
    assert_eq!(paused.recv_timeout(DEADLINE), Ok(nix::libc::EMFILE));

    // Waiting costs next to nothing: the kernel's own account of this process says so.
    let before = cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = cpu_time() - before;
    assert!(spent < Duration::from_millis(50), "{spent:?} of processor time in a second of waiting");
    // Told once, not at each attempt.
    assert!(paused.try_recv().is_err());

    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    drop(used_up);
    let mut peer = patient(waiting.into());
    peer.write_all(b"PROXY UNKNOWN\r\nhello").unwrap();
    let mut far = rig.accept();
    assert_eq!(read_exactly(&mut far, 5), b"hello");
    end(&peer);
    end(&far);
    assert_eq!(rig.report().reason, CloseReason::Finished);
    rig.stop().0.unwrap();
}

fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    micros(usage.user_time()) + micros(usage.system_time())
}

/// The user's pipes hold as much as `fs.pipe-user-pages-soft` allows, and the process is not exempt from it.
#[test]
fn without_room_for_pipes_bulk_arrives_all_the_same_and_it_is_told_once() {
    const CHILD: &str = "MMPROXY_TEST_NO_PIPES";
    if std::env::var_os(CHILD).is_some() {
        return bulk_without_room_for_pipes();
    }
    let command = if nix::unistd::geteuid().is_root() {
        unprivileged("-sys_resource,-sys_admin")
    } else {
        Command::new(this_program())
    };
    run_alone(
        command,
        "exhaustion::without_room_for_pipes_bulk_arrives_all_the_same_and_it_is_told_once",
        CHILD,
        "with a limit on pipes",
    );
}

fn bulk_without_room_for_pipes() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mut held = Vec::new();
    use_up_pipes(&mut held);

    let bytes: Vec<u8> = (0..8_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let bulk = |rig: &Rig| {
        let (mut peer, mut target) = rig.session();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                target.write_all(&bytes).unwrap();
                end(&target);
            });
            let (received, how) = read_to_end(&mut peer);
            assert!(received == bytes && how == End::Fin);
            end(&peer);
        });
        assert_eq!(rig.report().reason, CloseReason::Finished);
    };
    for splice in [SpliceUse::Adaptive, SpliceUse::Always] {
        bulk(&Rig::with(|config| config.relay(RelayOptions::new().splice(splice))));
    }
    // And when there is room again, which needs no telling.
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target).relay(RelayOptions::new().splice(SpliceUse::Always));
    let (sender, scarce) = mpsc::channel();
    let rig = Rig::serving(target, config, "127.0.0.1:0", |inner| Scarcity { inner, scarce: sender });
    let until = Instant::now() + DEADLINE;
    // The limit is the user's: another process may give some back at any moment.
    let (error, wanted, got) = loop {
        use_up_pipes(&mut held);
        bulk(&rig);
        if let Ok(told) = scarce.try_recv() {
            break told;
        }
        assert!(Instant::now() < until, "nobody is told");
    };
    assert_eq!((error, wanted), (Some(nix::libc::EPERM), 1 << 20));
    assert!(got.is_some_and(|got| got < wanted), "{got:?}");
    bulk(&rig);
    drop(held);
    bulk(&rig);
    rig.stop().0.unwrap();
    assert_eq!(scarce.iter().count(), 0, "one word a minute");
}

/// Makes pipes until the kernel gives no more of the size that the gateway wants.
fn use_up_pipes(held: &mut Vec<(OwnedFd, OwnedFd)>) {
    let refused = loop {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let grown = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
        held.push((read, write));
        if let Err(error) = grown {
            break error;
        }
        assert!(held.len() < 4096, "there is no limit");
    };
    assert_eq!(refused, rustix::io::Errno::PERM);
}

struct Scarcity {
    inner: Recorder,
    scarce: mpsc::Sender<(Option<i32>, usize, Option<usize>)>,
}

impl Observer for Scarcity {
    fn session_opened(&self, opened: &SessionOpened) {
        self.inner.session_opened(opened);
    }

    fn session_closed(&self, report: &SessionReport) {
        self.inner.session_closed(report);
    }

    fn pipes_scarce(&self, scarce: &PipesScarce<'_>) {
        self.scarce.send((scarce.error.raw_os_error(), scarce.wanted, scarce.got)).ok();
    }
}
