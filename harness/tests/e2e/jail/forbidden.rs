//! What a worker must not be able to do, and could do without its jail.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::expect::eventually;
use harness::{Namespace, executable, isolated, run, scratch};

use super::{Outcome, SIGSYS, attempt, probe};

/// What happens inside.
#[derive(Clone, Copy)]
enum Inside {
    Killed,
    Fails(&'static str),
}

/// What happens with `--sandbox off`, where user and capabilities are dropped all the same.
#[derive(Clone, Copy, PartialEq)]
enum Outside {
    Works,
    /// Rights, or the machine's settings, may be in the way; at any rate it is not the filter.
    KernelDecides,
}

use Inside::{Fails, Killed};
use Outside::{KernelDecides, Works};

const FORBIDDEN: &[(&str, Inside, Outside)] = &[
    // Files.
    ("open-file", Fails("EACCES"), Works),
    ("file-status", Fails("EACCES"), Works),
    ("current-directory", Fails("EACCES"), Works),
    ("memfd", Killed, Works),
    // Programs and other processes.
    ("exec", Killed, Works),
    ("fork", Killed, Works),
    ("process-in-namespace", Killed, KernelDecides),
    ("ptrace", Killed, Works),
    ("process-memory", Killed, Works),
    ("kill-parent", Killed, KernelDecides),
    // Sockets.
    ("packet-socket", Killed, Works),
    ("raw-socket", Killed, Works),
    ("icmp-socket", Killed, KernelDecides),
    ("mptcp-socket", Killed, KernelDecides),
    ("vsock-socket", Killed, KernelDecides),
    ("unix-connect", Killed, KernelDecides),
    ("udp-socket", Killed, Works),
    ("listen", Killed, Works),
    ("bind-to-device", Killed, Works),
    ("fast-open", Killed, KernelDecides),
    // Rights.
    ("setuid", Killed, KernelDecides),
    ("capset", Killed, Works),
    ("raise-limit", Killed, Works),
    ("unshare", Killed, KernelDecides),
    ("setns", Killed, KernelDecides),
    ("mount", Killed, KernelDecides),
    // The kernel's other doors.
    ("bpf", Killed, KernelDecides),
    ("io-uring", Killed, KernelDecides),
    ("user-faults", Killed, KernelDecides),
    ("perf-event", Killed, KernelDecides),
    ("keyring", Killed, KernelDecides),
    // Code that was written.
    ("writable-code", Killed, Works),
    ("written-code", Killed, Works),
];

#[test]
fn what_is_forbidden_ends_a_worker_or_fails_and_it_is_the_jail_that_forbids_it() {
    isolated(|| {
        let here = Namespace::new("here");
        for &(what, inside, outside) in FORBIDDEN {
            let expected = match inside {
                Killed => Outcome::Killed(SIGSYS),
                Fails(error) => Outcome::Refused(error.to_owned()),
            };
            assert_eq!(attempt(&here, &[], &[what]), expected, "{what}, jailed");
            for free in [["--sandbox", "off"], ["--sandbox", "log"]] {
                match attempt(&here, &free, &[what]) {
                    Outcome::Worked => {}
                    Outcome::Refused(_) if outside == KernelDecides => {}
                    other @ (Outcome::Refused(_) | Outcome::Killed(_)) => {
                        panic!("{what} with {free:?}: {other:?}")
                    }
                }
            }
        }
    });
}

#[test]
fn a_udp_socket_can_be_made_only_where_datagrams_are_forwarded() {
    isolated(|| {
        let here = Namespace::new("here");
        assert_eq!(attempt(&here, &["--datagrams"], &["udp-socket"]), Outcome::Worked);
        assert_eq!(attempt(&here, &["--datagrams"], &["icmp-socket"]), Outcome::Killed(SIGSYS));
        assert_eq!(attempt(&here, &[], &["udp-socket"]), Outcome::Killed(SIGSYS));
    });
}

#[test]
fn connections_go_to_the_targets_ports_alone() {
    isolated(|| {
        let here = Namespace::new("here");
        let [target, other] =
            [(), ()].map(|()| here.run(|| TcpListener::bind("127.0.0.1:0")).expect("a port"));
        let [to_target, to_other] =
            [&target, &other].map(|listener| listener.local_addr().expect("bound").to_string());
        let port = target.local_addr().expect("bound").port().to_string();
        let only = ["--connect-port", port.as_str()];
        assert_eq!(attempt(&here, &only, &["connect", "--to", &to_target]), Outcome::Worked);
        assert_eq!(attempt(&here, &[], &["connect", "--to", &to_other]), Outcome::Worked, "any port");

        let action = ["try", "connect", "--to", &to_other];
        let finished = run(&here, &mut probe(&only, &action), b"");
        let gaps = ["gap: this kernel cannot keep a process", "gap: this kernel cannot keep connections"];
        if gaps.iter().any(|gap| finished.stdout.contains(gap)) {
            // Before Linux 6.7: told, and refused where it must not be missing.
            assert_eq!(Outcome::of(&finished), Outcome::Worked);
            let strict = [&["--sandbox-missing", "nothing"], only.as_slice()].concat();
            run(&here, &mut probe(&strict, &action), b"").expect_code(78);
        } else {
            assert_eq!(Outcome::of(&finished), Outcome::Refused("EACCES".to_owned()));
        }
    });
}

#[test]
fn a_dry_run_is_written_to_the_kernels_log() {
    isolated(|| {
        let here = Namespace::new("here");
        // The log is the machine's: a name of its own tells this run's lines from all others.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than that");
        let name = format!("dry-run-{}", now.as_nanos());
        let copy = scratch().join(&name);
        fs::copy(executable(), &copy).expect("a copy of the program");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("our own file");
        let Ok(log) = fs::File::open("/dev/kmsg") else {
            println!("NOT SHOWN: the kernel's log is root's to read; run this test as root");
            return;
        };
        drop(log);
        // The kernel writes no more than a few lines in a while, whoever they are about.
        eventually("the kernel to log what a filter would have refused", || {
            let mut command = Command::new(&copy);
            command.args(["jail-probe", "--sandbox", "log", "try", "memfd"]);
            let finished = run(&here, &mut command, b"");
            assert_eq!(Outcome::of(&finished), Outcome::Worked);
            let log = run(&here, &mut Command::new("dmesg"), b"").expect_code(0).stdout;
            let exe = format!("exe=\"{}\"", copy.display());
            // type 1326 is AUDIT_SECCOMP; the code is SECCOMP_RET_LOG.
            let line = |line: &&str| {
                line.contains(&exe) && line.contains("type=1326") && line.contains("code=0x7ffc0000")
            };
            log.lines().find(line).map(drop)
        });
    });
}
