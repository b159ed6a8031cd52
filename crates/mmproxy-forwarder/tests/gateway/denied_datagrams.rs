//! Lists that change while datagrams come.

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;

use mmproxy_codec::{Addresses, Transport, encode};
use mmproxy_forwarder::{
    AllowList, ClientFrom, ClientLists, DatagramsDropped, DenyChange, DropReason, FlowEnd, FlowLimits,
    FlowReport, GatewayConfig, Observer, Shutdown, Targets, UdpGateway, UdpListener, UdpOptions,
    parse_network,
};

use crate::isolated::{in_namespace, ip};
use crate::rig::{DEADLINE, runtime};

/// A UDP gateway on a thread of its own, a balancer and the target.
struct Stage {
    gateway: UdpGateway,
    address: SocketAddr,
    balancer: UdpSocket,
    target: UdpSocket,
    told: mpsc::Receiver<Told>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Closed(SocketAddr, FlowEnd),
    Dropped(DropReason),
}

struct Recorder(mpsc::Sender<Told>);

impl Observer for Recorder {
    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        self.0.send(Told::Closed(report.claimed.expect("a client").addr(), end)).ok();
    }

    fn datagrams_dropped(&self, dropped: &DatagramsDropped<'_>) {
        self.0.send(Told::Dropped(dropped.reason)).ok();
    }
}

impl Stage {
    fn new() -> Self {
        ip("link set lo up");
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        target.set_read_timeout(Some(DEADLINE)).unwrap();
        let SocketAddr::V4(v4) = target.local_addr().unwrap() else { panic!("bound to IPv4") };
        let allowed = AllowList::parse("127.0.0.0/8").unwrap();
        let config = GatewayConfig::new(allowed, Targets::new(Some(v4), None).unwrap());
        let options = UdpOptions::new(FlowLimits::new(NonZeroUsize::new(16).unwrap()));
        let listen = "127.0.0.1:0".parse().unwrap();
        let listeners = UdpListener::bind(listen, NonZeroUsize::MIN, &options, ClientFrom::Header).unwrap();
        let address = listeners[0].local_addr();
        let (sender, told) = mpsc::channel();
        let gateway = UdpGateway::new(config, options, Recorder(sender)).unwrap();
        for listener in listeners {
            let gateway = gateway.clone();
            thread::spawn(move || runtime().block_on(gateway.serve(listener, &Shutdown::new())).unwrap());
        }
        let balancer = UdpSocket::bind("127.0.0.2:0").unwrap();
        Self { gateway, address, balancer, target, told }
    }

    fn send(&self, client: &str) {
        let mut room = [0; 64];
        let addresses = Addresses::between(client.parse().unwrap(), "198.51.100.1:53".parse().unwrap());
        let header = encode::v2(&mut room, Transport::Datagram, addresses).unwrap().finish();
        self.balancer.send_to(&[header, client.as_bytes()].concat(), self.address).unwrap();
    }

    /// Expects that the next datagram at the target is `client`'s, and from its address.
    #[track_caller]
    fn expect(&self, client: &str) {
        let mut room = [0; 64];
        let (length, from) = self.target.recv_from(&mut room).expect("a datagram comes");
        assert_eq!((&room[..length], from), (client.as_bytes(), client.parse().unwrap()));
    }

    fn told(&self) -> Told {
        self.told.recv_timeout(DEADLINE).expect("something happens")
    }
}

fn deny(network: &str) -> DenyChange {
    DenyChange::Add { network: parse_network(network).unwrap(), until: None, close: false }
}

#[test]
fn the_flow_of_a_client_that_is_denied_ends_and_its_datagrams_are_dropped() {
    const NAME: &str =
        "denied_datagrams::the_flow_of_a_client_that_is_denied_ends_and_its_datagrams_are_dropped";
    in_namespace(NAME, &[], || {
        let stage = Stage::new();
        for client in ["192.0.2.7:4711", "192.0.2.8:4711"] {
            stage.send(client);
            stage.expect(client);
        }
        stage.gateway.deny(&[deny("192.0.2.7")]);
        stage.send("192.0.2.7:4711");
        stage.send("192.0.2.8:4711");
        assert_eq!(stage.told(), Told::Closed("192.0.2.7:4711".parse().unwrap(), FlowEnd::ClientDenied));
        assert_eq!(stage.told(), Told::Dropped(DropReason::ClientDenied));
        stage.expect("192.0.2.8:4711");

        stage.gateway.deny(&[DenyChange::Replace(Vec::new())]);
        stage.send("192.0.2.7:4711");
        stage.expect("192.0.2.7:4711");
        stage.gateway.replace_clients(ClientLists::new(None::<[_; 0]>, parse_network("192.0.2.0/24")));
        stage.send("192.0.2.8:4711");
        let ended = [stage.told(), stage.told()];
        assert!(ended.iter().all(|told| matches!(told, Told::Closed(_, FlowEnd::ClientDenied))), "{ended:?}");
    });
}

#[test]
fn a_balancer_that_is_allowed_no_longer_is_not_remembered() {
    const NAME: &str = "denied_datagrams::a_balancer_that_is_allowed_no_longer_is_not_remembered";
    in_namespace(NAME, &[], || {
        let stage = Stage::new();
        stage.send("192.0.2.7:4711");
        stage.expect("192.0.2.7:4711");
        stage.gateway.replace_allowed(AllowList::new());
        stage.send("192.0.2.7:4711");
        assert_eq!(stage.told(), Told::Dropped(DropReason::PeerNotAllowed));
        stage.gateway.replace_allowed(AllowList::parse("127.0.0.2").unwrap());
        stage.send("192.0.2.8:4711");
        stage.expect("192.0.2.8:4711");
    });
}
