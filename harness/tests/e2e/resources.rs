//! When the machine has no more to give.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::id;
use std::thread;

use harness::expect::eventually;
use harness::{Balancer, Connection, End, Family, Gateway, Target, Topology, Version, addr, isolated, shell};

use crate::support::{Scene, client, header, noise, talk};
use Family::V4;

#[test]
fn out_of_descriptors_the_gateway_waits_and_then_serves_who_has_waited() {
    isolated(|| {
        // Nobody else may change the limits of another user's process, not even this test.
        let scene = Scene::with(V4, |flags| flags.with(["--user", "keep"]));
        let limit = |soft: &str| {
            let pid = scene.gateway.worker();
            shell(&scene.net.gateway, &format!("prlimit --pid {pid} --nofile={soft}:"));
        };
        limit("3");
        let waiting = scene.open(&[header(Version::V2, V4).as_slice(), b"first"].concat());
        scene.gateway.expect_log(&["WARN", "accepting waits"]);
        scene.target.expect_untouched();
        limit("512");
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer(), client(V4));
        upstream.expect(b"first");
        talk(&waiting, &upstream);
    });
}

#[test]
fn connections_beyond_what_the_descriptors_allow_are_turned_away_and_harm_nobody() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags = Gateway::before(&net, &target).with(["--verbose", "--header-timeout", "300s"]);
        // Room for a few dozen sessions, with both limits so that it cannot help itself.
        let gateway = flags.start_under("prlimit", &["--nofile=128:128", "--"]);
        let (balancer, address) = (Balancer::of(&net), gateway.address(V4));
        let silent: Vec<_> = (0..CROWD).map(|_| balancer.try_connect(address)).collect();
        gateway.expect_log(&["WARN", "session closed", "reason=session_limit"]);
        drop(silent);
        eventually("every connection of the crowd to be accounted for", || {
            (gateway.program().count_lines(&["session closed"]) == CROWD).then_some(())
        });
        let downstream = balancer.announce(address, &header(Version::V2, V4), b"");
        talk(&downstream, &target.accept());
    });
}

#[test]
fn out_of_ports_the_gateway_says_so_once_and_serves_again_when_there_are_some() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--source-port", "ephemeral"]));
        scene.net.gateway.set_sysctl("net/ipv4/ip_local_port_range", "40000 40003");
        let session = || {
            let downstream = scene.open(&header(Version::V2, V4));
            (downstream, scene.target.accept())
        };
        let mut held: Vec<_> = (0..4).map(|_| session()).collect();
        for _ in 0..3 {
            scene.open(&header(Version::V2, V4)).expect_closed();
        }
        let told = ["WARN", "session closed", "reason=out_of_resources"];
        scene.gateway.expect_log(&told);
        scene.target.expect_untouched();
        // A reset leaves nothing behind that would keep the port.
        let (downstream, upstream) = held.remove(0);
        downstream.reset();
        upstream.expect_reset();
        drop(upstream);
        let (downstream, upstream) = session();
        talk(&downstream, &upstream);
        for (downstream, upstream) in &held {
            talk(downstream, upstream);
        }
        assert_eq!(scene.gateway.program().count_lines(&told), 1, "one line a minute");
    });
}

#[test]
fn out_of_memory_for_buffers_sessions_are_slow_and_lose_nothing() {
    isolated(|| {
        let scene = Scene::new();
        let Some(group) = MemoryGroup::with(scene.gateway.worker()) else {
            // Groups are the machine's: a user's namespace cannot make them.
            println!("NOT SHOWN: no memory cgroup can be made here; run this test as root");
            return;
        };
        let bytes = noise(9, 1 << 20);
        let sessions: Vec<(Connection, Connection)> = (0..32)
            .map(|number| {
                let client = addr(&format!("192.0.2.7:{}", 20_000 + number));
                let downstream = scene.open(&Version::V2.header(client, addr("192.0.2.1:22")));
                let upstream = scene.target.accept();
                assert_eq!(upstream.peer(), client);
                (downstream, upstream)
            })
            .collect();
        thread::scope(|scope| {
            for (_, upstream) in &sessions {
                scope.spawn(|| {
                    upstream.send(&bytes);
                    upstream.finish();
                });
            }
            // Nobody reads, and what the gateway has to hold is more than it may.
            eventually("the memory of the group to be used up", || group.is_used_up().then_some(()));
            for (downstream, upstream) in &sessions {
                scope.spawn(|| {
                    let (received, end) = downstream.receive_all();
                    assert_eq!((received.len(), end), (bytes.len(), End::Finished));
                    assert!(received == bytes);
                    downstream.finish();
                    upstream.expect_end();
                });
            }
        });
        scene.expect_alive();
    });
}

/// A cgroup of the machine with little memory for sockets' buffers, and the gateway in it. Removed when dropped.
struct MemoryGroup {
    path: PathBuf,
    /// A file with a number, the word before it, if any, and from which number on the limit was reached.
    reached: (&'static str, &'static str, u64),
    /// Where the gateway came from.
    home: PathBuf,
    gateway: u32,
}

/// Where groups are, the file and the value of the limit, and `reached` of [`MemoryGroup`].
type Kind = (&'static str, &'static str, u64, (&'static str, &'static str, u64));

impl MemoryGroup {
    /// Version 1 of cgroups counts buffers by themselves, version 2 with everything else.
    const KINDS: [Kind; 2] = [
        (
            "/sys/fs/cgroup/memory",
            "memory.kmem.tcp.limit_in_bytes",
            4 << 20,
            ("memory.kmem.tcp.max_usage_in_bytes", "", 4 << 20),
        ),
        ("/sys/fs/cgroup", "memory.max", 32 << 20, ("memory.events", "max ", 1)),
    ];

    fn with(gateway: u32) -> Option<Self> {
        Self::KINDS.into_iter().find_map(|(root, limit, bytes, reached)| {
            let home = own_group(Path::new(root))?;
            // Process numbers of a test's namespace say little: its time tells it from another test's.
            let path = Path::new(root).join(format!("mmproxy-test-{}", unique()));
            fs::create_dir(&path).ok()?;
            let group = Self { path, reached, home, gateway };
            let limited = fs::write(group.path.join(limit), bytes.to_string()).is_ok()
                && fs::write(group.path.join("cgroup.procs"), gateway.to_string()).is_ok();
            limited.then_some(group)
        })
    }

    fn is_used_up(&self) -> bool {
        let (file, word, enough) = self.reached;
        let text = fs::read_to_string(self.path.join(file)).expect("the group is there");
        let number = text.lines().find_map(|line| line.strip_prefix(word)).expect("a line of that name");
        number.trim().parse::<u64>().expect("a number") >= enough
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // What fails here has ended by itself.
        fs::write(self.home.join("cgroup.procs"), self.gateway.to_string()).ok();
        fs::remove_dir(&self.path).ok();
    }
}

/// The group of this process in the hierarchy that is mounted at `root`, if one is.
fn own_group(root: &Path) -> Option<PathBuf> {
    let controller = if root.ends_with("memory") { ":memory:" } else { "::" };
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.split_once(controller))?.1;
    let path = root.join(own.trim_start_matches('/'));
    path.join("cgroup.procs").exists().then_some(path)
}

fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_nanos() + u128::from(id())
}

/// Far more than 128 descriptors are enough for, far fewer than a listener's queue holds.
const CROWD: usize = 200;
