//! What a gateway leaves in its host when it stops, in whichever way, alone or beside others: nothing.

use harness::{Gateway, isolated};
use nix::sys::signal::Signal;

use crate::host::Host;

#[test]
fn sigterm_and_sigint_leave_nothing_behind() {
    isolated(|| {
        let host = Host::new();
        for stop in [Gateway::stop, Gateway::interrupt] {
            let gateway = host.start();
            host.expect_changed();
            host.expect_served(&gateway);
            stop(gateway);
            host.expect_as_before();
        }
    });
}

#[test]
fn what_a_killed_gateway_left_goes_with_the_next_one() {
    isolated(|| {
        let host = Host::new();
        host.start().kill();
        host.expect_changed();
        let next = host.start();
        host.expect_served(&next);
        next.stop();
        host.expect_as_before();
    });
}

#[test]
fn what_a_killed_gateway_left_goes_with_teardown() {
    isolated(|| {
        let host = Host::new();
        host.start().kill();
        host.expect_changed();
        host.command("teardown");
        host.expect_as_before();
    });
}

#[test]
fn of_two_gateways_with_one_mark_each_may_stop_without_hurting_the_other() {
    isolated(|| {
        let host = Host::new();
        for first_stops_first in [true, false] {
            let (first, second) = (host.start(), host.start());
            let (stops, stays) = if first_stops_first { (first, second) } else { (second, first) };
            stops.stop();
            host.expect_changed();
            host.expect_served(&stays);
            stays.stop();
            host.expect_as_before();
        }
    });
}

#[test]
fn a_gateway_that_is_killed_takes_nothing_from_the_other() {
    isolated(|| {
        let host = Host::new();
        let (killed, stays) = (host.start(), host.start());
        killed.kill();
        host.expect_served(&stays);
        stays.stop();
        host.expect_as_before();
    });
}

#[test]
fn gateways_with_marks_of_their_own_do_not_know_each_other() {
    isolated(|| {
        let host = Host::new();
        let one = host.start();
        let alone = host.state();
        let other = host.start_with(&["--mark", "0x77", "--table", "177", "--priority", "77"]);
        host.expect_served(&one);
        host.expect_served(&other);
        other.stop();
        host.state().expect_unchanged_since(&alone);
        host.expect_served(&one);
        one.stop();
        host.expect_as_before();
    });
}

#[test]
fn two_runs_at_once_agree_on_who_cleans_up() {
    isolated(|| {
        let host = Host::new();
        // Started together and stopped together, so that they meet in both.
        let gateways: Vec<Gateway> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| host.start())).collect();
            starting.into_iter().map(|gateway| gateway.join().expect("it has shown why")).collect()
        });
        gateways.iter().for_each(|gateway| host.expect_served(gateway));
        for gateway in &gateways {
            gateway.program().signal(Signal::SIGTERM);
        }
        for gateway in gateways {
            gateway.wait().expect_code(0);
        }
        host.expect_as_before();
    });
}
