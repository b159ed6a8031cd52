//! Datagrams that are not spoofed, so that no privilege is needed.

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::thread;

use mmproxy_codec::encode;
use mmproxy_forwarder::{
    AllowList, ClientFrom, DatagramsDropped, FlowEnd, FlowLimits, FlowReport, GatewayConfig, Observer,
    Shutdown, Targets, UdpGateway, UdpListener, UdpOptions, WorkerPanicked,
};

use crate::rig::{DEADLINE, runtime};

#[test]
fn a_panic_costs_the_flows_of_its_worker_and_nothing_else() {
    for io_uring in [false, true] {
        let target = socket();
        let (heard, hears) = mpsc::channel();
        let grumpy = Grumpy { heard };
        let allowed = AllowList::parse("127.0.0.1").unwrap();
        let SocketAddr::V4(v4) = target.local_addr().unwrap() else {
            unreachable!("it was bound to 127.0.0.1")
        };
        let targets = Targets::new(Some(v4), None).unwrap();
        let options = UdpOptions::new(FlowLimits::new(NonZeroUsize::new(8).unwrap()));
        let gateway = UdpGateway::new(GatewayConfig::new(allowed, targets), options, grumpy).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listeners = UdpListener::bind(any, NonZeroUsize::MIN, &options, ClientFrom::Header).unwrap();
        let mut listener = listeners.pop().unwrap();
        if io_uring {
            listener.use_io_uring().expect("io_uring is to be had where tests run");
        }
        let address = listener.local_addr();
        let shutdown = Shutdown::new();
        let serving = {
            let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
            thread::spawn(move || runtime().block_on(gateway.serve(listener, &shutdown)))
        };

        let [first, second] = [socket(), socket()];
        let before = serves(&first, address, &target);
        // The observer panics over this one.
        second.send_to(&local(b"lost"), address).unwrap();
        let ended: Vec<_> = (0..3).map(|_| hears.recv_timeout(DEADLINE).unwrap()).collect();
        assert_eq!(
            ended,
            [Event::Closed(FlowEnd::Panicked), Event::Closed(FlowEnd::Panicked), Event::Panicked(2)]
        );
        // Both go on, by new flows.
        assert_ne!(serves(&first, address, &target), before, "it is another flow's socket");
        serves(&second, address, &target);
        assert_eq!(gateway.counts().panics, 1);

        shutdown.cut();
        let drained = serving.join().unwrap().expect("the listener is as good as before");
        assert_eq!(drained.cut, 2);
    }
}

/// Panics when the second flow begins.
struct Grumpy {
    heard: mpsc::Sender<Event>,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Closed(FlowEnd),
    Panicked(usize),
}

impl Observer for Grumpy {
    fn flow_opened(&self, opened: &FlowReport) {
        assert_ne!(opened.id.to_string(), "2", "this panic is meant");
    }

    fn flow_closed(&self, _report: &FlowReport, end: FlowEnd) {
        // Nobody waits for those that the end of the test brings.
        self.heard.send(Event::Closed(end)).ok();
    }

    fn datagrams_dropped(&self, dropped: &DatagramsDropped<'_>) {
        // For whoever has to find out why this fails.
        println!("{} dropped: {}", dropped.reason, dropped.error);
    }

    fn worker_panicked(&self, panicked: &WorkerPanicked) {
        self.heard.send(Event::Panicked(panicked.flows)).ok();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A balancer's own datagram.
fn local(payload: &[u8]) -> Vec<u8> {
    [encode::v2_local(&mut [0; 16]).unwrap().finish(), payload].concat()
}

/// Shows that a question of `balancer` is answered; the address that the target saw.
fn serves(balancer: &UdpSocket, gateway: SocketAddr, target: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 64];
    balancer.send_to(&local(b"question"), gateway).unwrap();
    let (read, flow) = target.recv_from(&mut buffer).expect("a question");
    assert_eq!(&buffer[..read], b"question");
    target.send_to(b"answer", flow).unwrap();
    let (read, from) = balancer.recv_from(&mut buffer).expect("an answer");
    assert_eq!((&buffer[..read], from), (&b"answer"[..], gateway));
    flow
}
