//! Connections that fall silent, and hosts that vanish.

use harness::{Connection, Family, isolated, shell};

use crate::support::Scene;
use Family::V4;

/// From now on nothing gets from the gateway to its balancer or back.
fn cut_the_cable(scene: &Scene) {
    shell(&scene.net.gateway, "nft add table inet cut");
    for (hook, direction) in [("input", "iifname"), ("output", "oifname")] {
        shell(
            &scene.net.gateway,
            &format!(
                "nft 'add chain inet cut {hook} {{ type filter hook {hook} priority 0; policy accept; }}'"
            ),
        );
        shell(&scene.net.gateway, &format!("nft add rule inet cut {hook} {direction} lb0 drop"));
    }
}

fn session(flags: &[&str]) -> (Scene, Connection, Connection) {
    let scene = Scene::with(V4, |all| all.with(flags.iter().copied()));
    let (downstream, upstream) = scene.session();
    (scene, downstream, upstream)
}

#[test]
fn a_session_in_which_nothing_moves_is_reset_after_its_time() {
    isolated(|| {
        let (scene, downstream, upstream) = session(&["--idle-timeout", "1s"]);
        downstream.expect_reset();
        upstream.expect_reset();
        scene.gateway.expect_log(&["INFO", "session closed", "reason=idle_timeout", "no byte moved for 1s"]);
    });
}

#[test]
fn a_session_that_one_side_has_ended_is_reset_when_nothing_moves() {
    isolated(|| {
        let (scene, downstream, upstream) = session(&["--half-closed-timeout", "1s"]);
        downstream.finish();
        upstream.expect_end();
        downstream.expect_reset();
        scene.gateway.expect_log(&["INFO", "session closed", "reason=half_closed_timeout"]);
    });
}

#[test]
fn a_balancer_that_vanishes_is_noticed_by_probes() {
    isolated(|| {
        let (scene, _downstream, upstream) = session(&["--keepalive", "1s,1s,2"]);
        cut_the_cable(&scene);
        upstream.expect_reset();
        scene.gateway.expect_log(&["session closed", "reason=peer_lost"]);
    });
}

#[test]
fn a_balancer_that_vanishes_with_bytes_on_the_way_is_given_up_after_the_user_timeout() {
    isolated(|| {
        let (scene, _downstream, upstream) = session(&["--keepalive", "off", "--tcp-user-timeout", "2s"]);
        cut_the_cable(&scene);
        upstream.send(b"into the void");
        upstream.expect_reset();
        scene.gateway.expect_log(&["session closed", "reason=peer_lost"]);
    });
}
