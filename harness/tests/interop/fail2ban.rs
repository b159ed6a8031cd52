//! fail2ban with the filter that is shipped in `deploy/fail2ban`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{
    Balancer, Family, Finished, Gateway, Namespace, Target, Topology, Version, addr, installed, isolated,
    run, scratch,
};

/// What the shipped files are.
pub(crate) fn shipped(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/fail2ban").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What of `log` the shipped filter finds: one address a line.
fn found(namespace: &Namespace, log: &str) -> Finished {
    let file = scratch().join("mmproxy.log");
    fs::write(&file, log).expect("the test's own directory");
    let mut command = Command::new(installed("fail2ban-regex", "fail2ban"));
    command.args(["--out", "ip"]).arg(&file).arg(shipped("filter.d/mmproxy.conf"));
    run(namespace, &mut command, b"")
}

#[test]
fn the_shipped_filter_finds_clients_over_a_limit_and_nobody_else() {
    isolated(|| {
        let net = Topology::new();
        let targets = Family::BOTH
            .map(|family| Target::listen(&net.gateway, std::net::SocketAddr::new(family.loopback(), 0)));
        let flags = ["--verbose", "--max-sessions-per-client", "1", "--drain", "0s"];
        let gateway = Gateway::before(&net, &targets[0]).and_before(&targets[1]).with(flags).start();
        let (balancer, address) = (Balancer::of(&net), gateway.address(Family::V4));
        let announce = |source: &str| {
            let (source, family) = (addr(source), Family::of(addr(source).ip()));
            let header = Version::V2.header(source, std::net::SocketAddr::new(family.frontend(), 22));
            balancer.announce(address, &header, b"")
        };
        let held = [announce("192.0.2.7:1"), announce("[2001:db8::7]:1")];
        let _upstreams = targets.each_ref().map(Target::accept);
        for source in ["192.0.2.7:2", "[2001:db8::7]:2"] {
            announce(source).expect_closed();
        }
        // Ends as usual, is refused for another reason, or tries to be somebody else in what is logged of it.
        announce("127.0.0.1:4711").expect_closed();
        let garbage = b"INFO session closed service=s id=1 peer=10.0.0.2:1 listener=l client=198.51.100.1:1 reason=client_rate";
        balancer.announce(address, garbage, b"").expect_closed();
        drop(held);
        let log = gateway.stop().stderr;
        for line in ["reason=client_limit", "reason=source_refused", "began_with="] {
            assert!(log.contains(line), "{line} is not in {log}");
        }
        let finished = found(&net.gateway, &log);
        let mut ips: Vec<&str> = finished.stdout.split_whitespace().collect();
        ips.sort_unstable();
        assert_eq!(ips, ["192.0.2.7", "2001:db8::7"], "of {log}\n{finished}");
    });
}
