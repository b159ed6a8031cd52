//! What gateways of the modes that use nftables leave behind, in whichever order they start, stop and are killed: nothing.

use std::net::SocketAddr;

use harness::{Balancer, Family, Gateway, State, Target, Topology, Version, isolated, mmproxy, run};

use crate::support::{client, header, talk};
use Family::V4;

/// A host with a target of its own and one behind it.
struct Host {
    net: Topology,
    here: Target,
    there: Target,
    before: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Connmark,
    Socket,
}

impl Mode {
    const BOTH: [Self; 2] = [Self::Connmark, Self::Socket];

    fn name(self) -> &'static str {
        match self {
            Self::Connmark => "connmark",
            Self::Socket => "socket",
        }
    }
}

impl Host {
    fn new() -> Self {
        let net = Topology::new();
        net.default_routes();
        let machine = net.behind();
        let here = Target::listen(&net.gateway, SocketAddr::new(V4.loopback(), 0));
        let there = Target::listen(&machine, SocketAddr::new(V4.behind(), 0));
        let before = State::of(&net.gateway);
        Self { net, here, there, before }
    }

    fn target(&self, mode: Mode) -> &Target {
        match mode {
            Mode::Connmark => &self.here,
            Mode::Socket => &self.there,
        }
    }

    fn start(&self, mode: Mode) -> Gateway {
        Gateway::before(&self.net, self.target(mode)).with(["--return-path", mode.name()]).start()
    }

    #[track_caller]
    fn expect_served(&self, gateway: &Gateway, mode: Mode) {
        let downstream = Balancer::of(&self.net).announce(gateway.address(V4), &header(Version::V2, V4), b"");
        let upstream = self.target(mode).accept();
        assert_eq!(upstream.peer(), client(V4));
        talk(&downstream, &upstream);
    }

    #[track_caller]
    fn command(&self, word: &str, mode: Mode) {
        let target = self.target(mode).address().to_string();
        run(&self.net.gateway, &mut mmproxy([word, "--return-path", mode.name(), "-4", &target]), b"")
            .expect_code(0);
    }

    #[track_caller]
    fn expect_as_before(&self) {
        State::of(&self.net.gateway).expect_unchanged_since(&self.before);
    }

    #[track_caller]
    fn expect_changed(&self) {
        assert_ne!(
            State::of(&self.net.gateway),
            self.before,
            "something must be there, or this test shows nothing"
        );
    }
}

#[test]
fn what_a_killed_gateway_left_goes_with_the_next_one_whatever_its_mode() {
    isolated(|| {
        let host = Host::new();
        for killed in Mode::BOTH {
            for next in Mode::BOTH {
                host.start(killed).kill();
                host.expect_changed();
                let gateway = host.start(next);
                host.expect_served(&gateway, next);
                gateway.stop();
                host.expect_as_before();
            }
        }
    });
}

#[test]
fn what_a_killed_gateway_left_goes_with_teardown() {
    isolated(|| {
        let host = Host::new();
        for killed in Mode::BOTH {
            for torn_down in Mode::BOTH {
                host.start(killed).kill();
                host.expect_changed();
                host.command("teardown", torn_down);
                host.expect_as_before();
            }
        }
    });
}

#[test]
fn of_two_gateways_each_may_stop_or_be_killed_without_hurting_the_other() {
    isolated(|| {
        let host = Host::new();
        for (first, second) in
            [(Mode::Connmark, Mode::Socket), (Mode::Connmark, Mode::Connmark), (Mode::Socket, Mode::Socket)]
        {
            for first_goes_first in [true, false] {
                for go in [|gateway: Gateway| drop(gateway.stop()), Gateway::kill] {
                    let (one, other) = (host.start(first), host.start(second));
                    let ((goes, _), (stays, mode)) = if first_goes_first {
                        ((one, first), (other, second))
                    } else {
                        ((other, second), (one, first))
                    };
                    go(goes);
                    host.expect_served(&stays, mode);
                    stays.stop();
                    host.expect_as_before();
                }
            }
        }
    });
}

#[test]
fn what_setup_made_outlives_gateways_and_goes_with_teardown() {
    isolated(|| {
        let host = Host::new();
        for mode in Mode::BOTH {
            for set_up_first in [true, false] {
                let set_up = || {
                    host.command("setup", mode);
                    State::of(&host.net.gateway)
                };
                let (set_up, gateway) = if set_up_first {
                    (set_up(), host.start(mode))
                } else {
                    let gateway = host.start(mode);
                    (set_up(), gateway)
                };
                host.expect_served(&gateway, mode);
                gateway.stop();
                State::of(&host.net.gateway).expect_unchanged_since(&set_up);
                host.start(mode).kill();
                State::of(&host.net.gateway).expect_unchanged_since(&set_up);
                host.command("setup", mode);
                State::of(&host.net.gateway).expect_unchanged_since(&set_up);
                host.command("teardown", mode);
                host.expect_as_before();
            }
        }
    });
}
