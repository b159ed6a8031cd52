//! What becomes of connections that speak for no client.

use std::io::Write;
use std::net::TcpStream;

use mmproxy_forwarder::{CloseReason, GatewayConfig, HealthChecks, TargetHealth};

use crate::rig::{End, Rig, UNKNOWN, read_to_end};

fn with(policy: HealthChecks) -> impl FnOnce(GatewayConfig) -> GatewayConfig {
    move |config| config.health_checks(policy, TargetHealth::new())
}

fn check(rig: &Rig) -> TcpStream {
    let mut peer = rig.connect();
    // A request behind the header: what nobody reads must not turn the answer into a reset.
    peer.write_all(&[UNKNOWN, b"OPTIONS / HTTP/1.0\r\n\r\n"].concat()).unwrap();
    peer
}

#[test]
fn an_answered_check_ends_in_order_while_the_target_is_up_and_is_reset_when_it_is_down() {
    let rig = Rig::with(with(HealthChecks::Answer));
    let mut peer = check(&rig);
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Fin));
    drop(peer);
    assert_eq!(rig.report().reason, CloseReason::HealthCheck);
    // Nothing was known, so the target was asked: once.
    drop(rig.accept());
    drop(check(&rig));
    assert_eq!(rig.report().reason, CloseReason::HealthCheck);
    assert!(rig.target_was_left_alone());
}

#[test]
fn an_answered_check_is_reset_while_the_target_is_down() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets = mmproxy_forwarder::Targets::new(Some(gone.to_string().parse().unwrap()), None).unwrap();
    let allowed = mmproxy_forwarder::AllowList::parse("127.0.0.0/8").unwrap();
    let config = with(HealthChecks::Answer)(GatewayConfig::new(allowed, targets));
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::serving(target, config, "127.0.0.1:0", |recorder| recorder);
    assert_eq!(read_to_end(&mut check(&rig)).1, End::Reset);
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::HealthCheckFailed);
    assert_eq!(
        report.error.unwrap(),
        format!("the balancer's own connection was reset: target {gone} is down")
    );
}

#[test]
fn refused_checks_are_reset_and_never_reach_the_target() {
    let rig = Rig::with(with(HealthChecks::Refuse));
    assert_eq!(read_to_end(&mut check(&rig)).1, End::Reset);
    assert_eq!(rig.report().reason, CloseReason::HealthCheckRefused);
    assert!(rig.target_was_left_alone());
}
