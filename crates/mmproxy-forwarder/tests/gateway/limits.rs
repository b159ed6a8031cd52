//! How many get in.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::{NonZeroU32, NonZeroUsize};

use mmproxy_forwarder::{CloseReason, DialOptions, Pace, SessionLimits};
use socket2::{Domain, Socket, Type};

use crate::isolated::{MARK, in_namespace, return_path};
use crate::rig::{Closed, End, Rig, config, end, patient, read_to_end};

/// A gateway with `limits`, before a target that sees its clients.
pub(crate) fn spoofing(limits: SessionLimits) -> Rig {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target).dial(DialOptions::new().mark(NonZeroU32::new(MARK)));
    Rig::serving(target, config.limits(limits), "127.0.0.1:0", |recorder| recorder)
}

impl Rig {
    /// A balancer's connection that announces a client.
    pub(crate) fn announce(&self, client: &str) -> TcpStream {
        let client: SocketAddr = client.parse().unwrap();
        let mut peer = self.connect();
        write!(peer, "PROXY TCP4 {} 198.51.100.1 {} 443\r\n", client.ip(), client.port()).unwrap();
        peer
    }

    /// A session of `client`: the balancer's end and the target's, which sees it.
    pub(crate) fn session_of(&self, client: &str) -> (TcpStream, TcpStream) {
        let peer = self.announce(client);
        let target = self.accept();
        assert_eq!(target.peer_addr().unwrap(), client.parse().unwrap());
        (peer, target)
    }

    /// Expects that `client` is refused for `reason`, without the target hearing of it.
    #[track_caller]
    pub(crate) fn expect_refused(&self, client: &str, reason: CloseReason) -> Closed {
        assert_eq!(read_to_end(&mut self.announce(client)), (Vec::new(), End::Reset));
        let report = self.report();
        assert_eq!(report.reason, reason);
        assert_eq!((report.bound, report.target), (None, None), "nothing was dialed");
        assert!(self.target_was_left_alone());
        report
    }

    /// Ends a session in order.
    pub(crate) fn finish(&self, (peer, target): (TcpStream, TcpStream)) {
        end(&peer);
        end(&target);
        assert_eq!(self.report().reason, CloseReason::Finished);
    }
}

fn number(n: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(n)
}

#[test]
fn a_client_and_its_network_have_their_limits_and_others_their_own() {
    in_namespace("limits::a_client_and_its_network_have_their_limits_and_others_their_own", &[], || {
        return_path();
        let limits = SessionLimits::UNLIMITED.per_client(number(2)).per_client_network(number(3));
        let rig = spoofing(limits);
        let first = rig.session_of("192.0.2.7:4711");
        let _second = rig.session_of("192.0.2.7:4712");
        let report = rig.expect_refused("192.0.2.7:4713", CloseReason::ClientLimit);
        assert_eq!(report.error.as_deref(), Some("all 2 sessions of client 192.0.2.7/32 are in use"));
        let _neighbour = rig.session_of("192.0.2.8:4711");
        let report = rig.expect_refused("192.0.2.9:4711", CloseReason::ClientNetworkLimit);
        assert_eq!(report.error.as_deref(), Some("all 3 sessions of clients in 192.0.2.0/24 are in use"));
        rig.finish(rig.session_of("192.0.3.7:4711"));
        // The balancer's own connections are no client's.
        rig.finish(rig.session());

        rig.finish(first);
        let _third = rig.session_of("192.0.2.7:4713");
        rig.expect_refused("192.0.2.7:4714", CloseReason::ClientLimit);
    });
}

#[test]
fn sessions_that_begin_too_fast_are_refused_and_other_networks_go_on() {
    in_namespace("limits::sessions_that_begin_too_fast_are_refused_and_other_networks_go_on", &[], || {
        return_path();
        let one = NonZeroU32::MIN;
        let rig = spoofing(SessionLimits::UNLIMITED.pace(Some(Pace::new(one, one))));
        // However slow the machine is, it makes more than one in a second now and then.
        let targets = rig.target.try_clone().unwrap();
        std::thread::spawn(move || targets.incoming().flatten().for_each(|session| end(&session)));
        let refused = (10_000..11_000u16).find_map(|port| {
            let peer = rig.announce(&format!("192.0.2.7:{port}"));
            end(&peer);
            let report = rig.report();
            (report.reason == CloseReason::ClientRate).then_some(report)
        });
        let refused = refused.expect("a thousand sessions in a thousand seconds");
        assert_eq!(
            refused.error.as_deref(),
            Some("clients in 192.0.2.0/24 begin more than 1 sessions per second")
        );
        end(&rig.announce("192.0.3.7:4711"));
        let report = rig.report();
        assert_eq!((report.reason, report.bound), (CloseReason::Finished, "192.0.3.7:4711".parse().ok()));
    });
}

#[test]
fn a_balancer_over_its_limit_is_turned_away_before_a_byte_of_it_is_read_and_another_is_served() {
    let rig = Rig::with(|config| config.limits(SessionLimits::UNLIMITED.per_balancer(number(1))));
    let session = rig.session();
    // It has said nothing and is not waited for.
    assert_eq!(read_to_end(&mut rig.connect()), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!((report.reason, report.header.as_deref()), (CloseReason::BalancerLimit, None));
    assert_eq!(report.error.as_deref(), Some("all 1 sessions of balancer 127.0.0.1 are in use"));

    let mut other = connect_from("127.0.0.2:0", rig.address);
    other.write_all(crate::rig::UNKNOWN).unwrap();
    rig.finish((other, rig.accept()));
    rig.finish(session);
    rig.finish(rig.session());
}

#[test]
fn a_listener_has_a_limit_of_its_own() {
    let rig = Rig::with(|config| config.limits(SessionLimits::UNLIMITED.per_listener(number(1))));
    let session = rig.session();
    assert_eq!(read_to_end(&mut rig.connect()), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::ListenerLimit);
    rig.finish(session);
    rig.finish(rig.session());
}

fn connect_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&source.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address.into()).unwrap();
    patient(socket.into())
}
