//! Sessions that fall silent. How long, is tested on a clock of its own in the crate; here, that they end.

use std::io::Write;
use std::time::Duration;

use mmproxy_forwarder::{CloseReason, GatewayConfig};

use crate::rig::{End, Rig, end, read_exactly, read_to_end};

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
