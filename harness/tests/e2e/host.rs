//! A host whose state is compared before and after.

use harness::{Balancer, Family, Gateway, State, Target, Topology, Version, addr, mmproxy, run};

use crate::support::{header, talk};
use Family::{V4, V6};

/// A network with a target, and the state of the gateway's namespace before anything happened to it.
pub(crate) struct Host {
    pub(crate) net: Topology,
    pub(crate) v4: Target,
    pub(crate) v6: Target,
    pub(crate) before: State,
}

impl Host {
    pub(crate) fn new() -> Self {
        let net = Topology::new();
        let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| Target::listen(&net.gateway, addr(address)));
        let before = State::of(&net.gateway);
        Self { net, v4, v6, before }
    }

    /// A gateway that serves both families.
    pub(crate) fn start(&self) -> Gateway {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, flags: &[&str]) -> Gateway {
        Gateway::before(&self.net, &self.v4).and_before(&self.v6).with(flags.iter().copied()).start()
    }

    /// Shows that clients of both families get through `gateway`.
    #[track_caller]
    pub(crate) fn expect_served(&self, gateway: &Gateway) {
        for (family, target) in [(V4, &self.v4), (V6, &self.v6)] {
            let downstream =
                self.balancer().announce(gateway.address(family), &header(Version::V2, family), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer().ip(), family.client());
            talk(&downstream, &upstream);
        }
    }

    /// Runs a command of the program in the gateway's namespace, and expects success.
    #[track_caller]
    pub(crate) fn command(&self, words: &str) -> String {
        run(&self.net.gateway, &mut mmproxy(words.split_whitespace()), b"").expect_code(0).stdout
    }

    #[track_caller]
    pub(crate) fn expect_as_before(&self) {
        self.state().expect_unchanged_since(&self.before);
    }

    #[track_caller]
    pub(crate) fn expect_changed(&self) {
        assert_ne!(self.state(), self.before, "the return path must be visible, or this test shows nothing");
    }

    pub(crate) fn state(&self) -> State {
        State::of(&self.net.gateway)
    }

    pub(crate) fn balancer(&self) -> Balancer {
        Balancer::of(&self.net)
    }
}
