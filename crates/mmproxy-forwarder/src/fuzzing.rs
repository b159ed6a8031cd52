//! What must hold for any sequence of datagrams. The fuzz targets, and a test over what they found, call these.
//!
//! Behind the feature `fuzzing`; no part of the interface.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use mmproxy_codec::{Addresses, SPP_LEN, Transport, encode};

use crate::addr::PeerAddr;
use crate::choice::ClientFrom;
use crate::error::SessionError;
use crate::udp::core::{Core, Dropped, Flow, Incoming, World};
use crate::udp::header::Announcement;
use crate::udp::key::{FlowKey, Origin};
use crate::udp::options::{DatagramFormat, FlowLimits, HeaderRule, UdpOptions};
use crate::udp::report::FlowEnd;
use crate::udp::table::FlowId;
use crate::udp::table::model::{self, Step};

/// What is done with each input. A broken promise is a panic.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: [(&str, Body); 2] = [("flow_table", flow_table), ("udp_gateway", udp_gateway)];

/// The flow table does what a plain list would, whatever happens in whatever order.
pub fn flow_table(data: &[u8]) {
    model::run(data.as_chunks::<2>().0.iter().map(|[what, who]| {
        // Two bits for a balancer, two for a network, three for a client.
        let who = (who & 3, who >> 2 & 3, who >> 4 & 7);
        match what % 16 {
            0..6 => Step::Up(who),
            6..10 => Step::Down(who),
            10 => Step::Close(who),
            _ => Step::Wait(u64::from(*what) / 4),
        }
    }));
}

/// However datagrams, replies and time follow each other: what is sent to a target goes out of the socket of the client
/// that its own header names, and a reply goes to the balancer that sent last for its flow.
pub fn udp_gateway(data: &[u8]) {
    let Some(([mode], mut events)) = data.split_first_chunk::<1>() else { return };
    let format = if mode & 1 == 0 { DatagramFormat::V2 } else { DatagramFormat::Spp };
    let header = if mode & 3 == 2 { HeaderRule::FirstDatagram } else { HeaderRule::EveryDatagram };
    let client_from = if mode & 12 == 12 { ClientFrom::Peer } else { ClientFrom::Header };
    let limits = FlowLimits::new(const { NonZeroUsize::new(6).unwrap() })
        .per_network(const { NonZeroUsize::new(3).unwrap() });
    let options = UdpOptions::new(limits).format(format).header(header);
    let mut play = Play {
        core: Core::new(&options, options.rules(NonZeroUsize::MIN), client_from),
        stage: Stage::default(),
        options,
        client_from,
        now: Instant::now(),
    };
    while let Some(([what, who], rest)) = events.split_first_chunk::<2>() {
        events = rest;
        let incoming = (balancer(*who), local(*what));
        match what & 7 {
            0..3 => play.datagram(incoming, &written(format, *what, *who)),
            // Whatever it may be.
            3 => {
                let (bytes, rest) = events.split_at(events.len().min(usize::from(*who)));
                events = rest;
                play.datagram(incoming, bytes);
            }
            4..6 => play.reply(usize::from(*who)),
            6 => play.now += Duration::from_secs(u64::from(*who)),
            _ => {
                let ended = play.core.expire(&mut play.stage, play.now, FlowEnd::Idle);
                assert!(ended <= 6);
            }
        }
        assert!(play.core.table().len() <= 6, "more flows than allowed");
        assert_eq!(play.core.table().len(), play.stage.flows.values().filter(|flow| flow.open).count());
    }
}

/// One of four balancers, two at one address; the last one is not allowed.
fn balancer(who: u8) -> PeerAddr {
    let [ip, port] = [who & 3, who >> 2 & 1];
    PeerAddr::new(SocketAddr::from(([10, 0, 0, ip], 4000 + u16::from(port))))
}

const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

fn local(what: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, what >> 7).into()
}

/// A datagram with a header that is in order.
fn written(format: DatagramFormat, what: u8, who: u8) -> Vec<u8> {
    let client = SocketAddr::from(([192, 0, who >> 6, who >> 3 & 7], 4711));
    let destination = SocketAddr::from(([198, 51, 100, what >> 3 & 1], 53));
    let payload = &[what, who][..usize::from(what >> 4 & 3).min(2)];
    let mut buffer = [0; 64];
    let header = match format {
        DatagramFormat::Spp => encode::spp(client, destination).map(|header| header.to_vec()),
        DatagramFormat::V2 if what >> 4 & 7 == 7 => {
            encode::v2_local(&mut buffer).map(|header| header.finish().to_vec())
        }
        DatagramFormat::V2 => {
            encode::v2(&mut buffer, Transport::Datagram, Addresses::between(client, destination))
                .map(|header| header.finish().to_vec())
        }
    };
    [header.expect("addresses of one family").as_slice(), payload].concat()
}

/// The gateway and everybody else.
struct Play {
    core: Core<usize>,
    stage: Stage,
    options: UdpOptions,
    client_from: ClientFrom,
    now: Instant,
}

/// Targets, and the memory of what came from whom.
#[derive(Default)]
struct Stage {
    /// By the number of their socket.
    flows: HashMap<usize, Known>,
    /// What was sent last, and out of which socket.
    sent: Option<(usize, Vec<u8>)>,
}

/// A flow as the audience sees it.
struct Known {
    key: FlowKey,
    /// Who sent last for it.
    last: PeerAddr,
    header: Option<[u8; SPP_LEN]>,
    id: Option<FlowId>,
    open: bool,
}

impl Play {
    fn datagram(&mut self, (peer, local): (PeerAddr, IpAddr), bytes: &[u8]) {
        self.stage.sent = None;
        let outcome = self.core.datagram(&mut self.stage, &Incoming { peer, local, bytes }, self.now);
        let Some((socket, payload)) = self.stage.sent.take() else {
            return assert!(outcome.is_err(), "a datagram vanished");
        };
        assert!(outcome.is_ok());
        assert_ne!(peer.ip(), IpAddr::from(STRANGER), "nobody allowed that one to send");
        let read = match self.client_from {
            ClientFrom::Peer => Ok((Announcement::of_peer(peer), bytes)),
            ClientFrom::Header => Announcement::read(bytes, &self.options.decode()),
        };
        let flow = self.stage.flows.get_mut(&socket).expect("a socket that was opened");
        assert!(flow.open, "sent out of a socket that was closed");
        match read {
            Ok((announced, expected)) => {
                assert_eq!(payload, expected, "not what was sent");
                assert_eq!(flow.key, announced.key(peer, local), "out of another client's socket");
                assert_eq!(flow.header, announced.reply);
            }
            Err(_) => {
                assert_eq!(
                    self.options.header,
                    HeaderRule::FirstDatagram,
                    "a datagram without header went through"
                );
                assert_eq!(payload, bytes, "not what was sent");
                assert_eq!((flow.last, flow.key.local), (peer, local), "of a balancer that sent no header");
            }
        }
        flow.last = peer;
    }

    /// A target answers in one of the flows.
    fn reply(&mut self, which: usize) {
        let known: Vec<_> =
            self.stage.flows.iter().filter_map(|(socket, flow)| Some((*socket, flow.id?))).collect();
        let Some((socket, id)) = which.checked_rem(known.len()).map(|place| known[place]) else { return };
        let answer = self.core.reply(id, 1, self.now);
        let flow = &self.stage.flows[&socket];
        match answer {
            Some(answer) => {
                assert!(flow.open, "a reply for a flow that has ended");
                assert_eq!(
                    (answer.to, answer.from),
                    (flow.last, flow.key.local),
                    "to a balancer that did not ask"
                );
                assert_eq!(answer.header, flow.header);
                assert_eq!(self.core.upstream(id), Some(&socket));
            }
            None => assert!(!flow.open, "a reply was lost"),
        }
    }
}

impl World for Stage {
    type Upstream = usize;
    type Pass = ();

    fn admits(&mut self, peer: PeerAddr) -> bool {
        peer.ip() != IpAddr::from(STRANGER)
    }

    fn hand_over(&mut self, _key: &FlowKey, _incoming: &Incoming<'_>) -> Option<Result<(), Dropped>> {
        None
    }

    fn authorise(&mut self, _peer: PeerAddr, _announced: &Announcement) -> Result<(), SessionError> {
        Ok(())
    }

    fn open(&mut self, (): ()) -> Result<usize, SessionError> {
        Ok(self.flows.len())
    }

    fn watch(&mut self, socket: &usize, id: FlowId) -> io::Result<()> {
        let nobody = FlowKey {
            local: Ipv4Addr::UNSPECIFIED.into(),
            balancer: Ipv4Addr::UNSPECIFIED.into(),
            origin: Origin::Balancer { port: 0 },
        };
        let flow = Known { key: nobody, last: balancer(0), header: None, id: Some(id), open: true };
        assert!(self.flows.insert(*socket, flow).is_none(), "a number that was given before");
        Ok(())
    }

    fn send(&mut self, _id: FlowId, socket: &usize, payload: &[u8]) -> io::Result<()> {
        assert!(self.sent.is_none(), "sent twice");
        self.sent = Some((*socket, payload.to_vec()));
        Ok(())
    }

    fn opened(&mut self, flow: &Flow<usize>) {
        let known = self.flows.get_mut(&flow.upstream).expect("watched first");
        known.key = flow.announced.key(flow.peer, flow.local);
        known.last = flow.peer;
        known.header = flow.announced.reply;
    }

    fn closed(&mut self, flow: Flow<usize>, _established: bool, _end: FlowEnd) {
        let known = self.flows.get_mut(&flow.upstream).expect("it was opened");
        assert!(std::mem::replace(&mut known.open, false), "closed twice");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What the fuzzer has found worth keeping is run by everybody.
    #[test]
    fn every_kept_input_of_the_fuzzer_passes() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        for (name, body) in BODIES {
            let mut inputs = 0;
            for folder in ["corpus", "regressions"] {
                let Ok(entries) = fs::read_dir(fuzz.join(folder).join(name)) else { continue };
                for entry in entries {
                    let path = entry.expect("the corpus is readable").path();
                    println!("{}", path.display());
                    body(&fs::read(&path).expect("an input is readable"));
                    inputs += 1;
                }
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
    }

    proptest! {
        #[test]
        fn every_body_takes_every_input(data in vec(any::<u8>(), 0..600)) {
            for (_, body) in BODIES {
                body(&data);
            }
        }
    }
}
