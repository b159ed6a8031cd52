//! Sessions that fall silent. How long, is tested on a clock of its own in the crate; here, that they end.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mmproxy_forwarder::{CloseReason, GatewayConfig};

use crate::rig::{DEADLINE, End, Rig, end, read_exactly, read_to_end};

/// As short as it can be: nothing here is expected to happen before it.
const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_silent_session_is_reset_on_both_sides() {
    let rig = Rig::with(|config| config.idle_timeout(Some(SOON)).unwrap());
    let (mut peer, mut target) = rig.session();
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    assert_eq!(read_to_end(&mut target), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::IdleTimeout);
    assert_eq!(report.error.as_deref(), Some("no byte moved for 100ms"));
    assert!(report.total >= SOON, "{:?}", report.total);
}

#[test]
fn a_half_closed_session_that_stays_silent_is_reset_on_both_sides() {
    for target_ends in [false, true] {
        let rig = Rig::with(|config| config.half_closed_timeout(Some(SOON)).unwrap());
        let (mut peer, mut target) = rig.session();
        peer.write_all(b"question").unwrap();
        assert_eq!(read_exactly(&mut target, 8), b"question");
        let (ended, mut told) = if target_ends { (target, peer) } else { (peer, target) };
        end(&ended);
        assert_eq!(read_to_end(&mut told), (Vec::new(), End::Fin));
        let mut ended = ended;
        assert_eq!(read_to_end(&mut ended), (Vec::new(), End::Reset));
        assert_eq!(rig.report().reason, CloseReason::HalfClosedTimeout);
    }
}

#[test]
fn the_kernel_probes_both_sides_of_a_session_that_lives_on() {
    let rig = Rig::start();
    let (peer, target) = rig.session();
    let of_the_gateway = [
        (rig.address, peer.local_addr().unwrap()),
        (target.peer_addr().unwrap(), target.local_addr().unwrap()),
    ];
    let until = Instant::now() + DEADLINE;
    while !of_the_gateway.into_iter().all(|(local, remote)| is_probed(local, remote)) {
        assert!(Instant::now() < until, "nobody is asked whether he is there");
        sleep(Duration::from_millis(20));
    }
    end(&peer);
    end(&target);
    assert_eq!(rig.report().reason, CloseReason::Finished);
}

/// Whether the timer of a connection, both ends of which are loopback addresses, is that for probes (proc_net_tcp).
fn is_probed(local: SocketAddr, remote: SocketAddr) -> bool {
    let end = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let (local, remote) = (end(local), end(remote));
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let of_it = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_it = of_it.filter(|fields| fields[1] == local && fields[2] == remote);
    of_it.map(|fields| fields[5].starts_with("02:")).next().expect("the connection stands")
}

#[test]
fn a_time_out_that_every_session_would_meet_is_refused() {
    type Setter = fn(GatewayConfig, Option<Duration>) -> bool;
    let setters: [Setter; 2] = [
        |config, limit| config.idle_timeout(limit).is_ok(),
        |config, limit| config.half_closed_timeout(limit).is_ok(),
    ];
    let rig = Rig::start();
    for set in setters {
        let config = || crate::rig::config("127.0.0.0/8", &rig.target);
        assert!(!set(config(), Some(Duration::ZERO)));
        assert!(set(config(), Some(SOON)));
        assert!(set(config(), None));
    }
}
