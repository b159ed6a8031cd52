use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use mmproxy_codec::{Addresses, Transport, encode};

use super::*;
use crate::addr::PeerAddr;
use crate::sys::datagram::Inbox;
use crate::udp::header::Announcement;
use crate::udp::options::FlowLimits;

fn options(format: DatagramFormat) -> UdpOptions {
    UdpOptions::new(FlowLimits::new(NonZeroUsize::MIN)).format(format)
}

fn bind(address: &str, workers: usize, format: DatagramFormat) -> Vec<UdpListener> {
    let workers = NonZeroUsize::new(workers).unwrap();
    UdpListener::bind(address.parse().unwrap(), workers, &options(format), ClientFrom::Header).unwrap()
}

/// Headers of one kind each, from many clients.
fn headers(format: DatagramFormat) -> Vec<Vec<u8>> {
    let mut headers = Vec::new();
    for number in 0..40u16 {
        let clients = [
            SocketAddr::from(([192, 0, 2, number as u8], 4000 + number)),
            SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, number, 1, 2, 3, 4, 5), 4000)),
            // The same client as the first one, written in IPv6.
            SocketAddr::from((
                std::net::Ipv4Addr::new(192, 0, 2, number as u8).to_ipv6_mapped(),
                4000 + number,
            )),
        ];
        for client in clients {
            let proxy = match client {
                SocketAddr::V4(_) => "198.51.100.1:53",
                SocketAddr::V6(_) => "[2001:db8::53]:53",
            };
            let proxy = proxy.parse().unwrap();
            headers.push(match format {
                DatagramFormat::Spp => encode::spp(client, proxy).unwrap().to_vec(),
                DatagramFormat::V2 => {
                    let mut buffer = [0; 64];
                    let pair = Addresses::between(client, proxy);
                    encode::v2(&mut buffer, Transport::Datagram, pair).unwrap().finish().to_vec()
                }
            });
        }
    }
    if format == DatagramFormat::V2 {
        headers.push(encode::v2_local(&mut [0; 16]).unwrap().finish().to_vec());
    }
    headers
}

#[test]
fn a_client_belongs_to_one_worker_whichever_port_its_balancer_sends_from() {
    for format in [DatagramFormat::V2, DatagramFormat::Spp] {
        for (address, balancer) in [
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::]:0", "127.0.0.1:0"),
            ("[::]:0", "[::1]:0"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let listeners = bind(address, 3, format);
            let balancers: Vec<_> = (0..4).map(|_| UdpSocket::bind(balancer).unwrap()).collect();
            let to =
                SocketAddr::new(balancers[0].local_addr().unwrap().ip(), listeners[0].local_addr().port());
            let mut expected = HashMap::new();
            for header in headers(format) {
                for balancer in &balancers {
                    balancer.send_to(&header, to).unwrap();
                }
                let peer = PeerAddr::new(balancers[0].local_addr().unwrap());
                let (announced, _) = Announcement::read(&header, &options(format).decode()).unwrap();
                let owner = owner(&announced.key(peer, to.ip()), listeners.len());
                *expected.entry(owner).or_insert(0) += balancers.len();
                assert_eq!(
                    received(&listeners, balancers.len()),
                    HashMap::from([(owner, 4)]),
                    "{header:02x?}"
                );
            }
            assert_eq!(expected.len(), 3, "every worker has some: {expected:?}");
        }
    }
}

/// How many datagrams arrived where, once all have.
fn received(listeners: &[UdpListener], all: usize) -> HashMap<usize, usize> {
    let mut inbox = Inbox::new(8);
    let mut seen = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.values().sum::<usize>() < all {
        assert!(Instant::now() < deadline, "only {seen:?} of {all} datagrams arrived");
        for (worker, listener) in listeners.iter().enumerate() {
            if let Ok(count) = inbox.receive(listener.fd()) {
                *seen.entry(worker).or_insert(0) += count;
            }
        }
    }
    seen
}

#[test]
fn an_address_that_somebody_has_is_refused_also_if_they_would_share_it() {
    let first = bind("127.0.0.1:0", 2, DatagramFormat::V2);
    let address = first[0].local_addr();
    let second =
        UdpListener::bind(address, NonZeroUsize::MIN, &options(DatagramFormat::V2), ClientFrom::Header);
    let error = second.expect_err("taken");
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn where_only_the_first_datagram_tells_there_is_one_worker() {
    let options = options(DatagramFormat::V2).header(HeaderRule::FirstDatagram);
    let workers = NonZeroUsize::new(4).unwrap();
    let listeners =
        UdpListener::bind("127.0.0.1:0".parse().unwrap(), workers, &options, ClientFrom::Header).unwrap();
    assert_eq!(listeners.len(), 1);
}
