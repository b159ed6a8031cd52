//! Floods of connections and flows, each over another limit.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use harness::{V2, Version, addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{crowd, idle, reset};
use crate::attack::{Attack, Configuration, FLOW_KIB, HEADER_KIB, IDLE_KIB, NETWORKS_KIB};
use crate::pace::Pace;
use crate::world::{HONEST, HOSTILE, STRANGER, connect};

pub(crate) fn attack() -> Attack {
    let attack = Attack::new(
        "floods over the limits",
        format!(
            "{EACH} connections a second from each of: a balancer that has {FULL} idle ones and may have no more, \
             one client behind the honest balancer, somebody who is in no allowed network; and {EACH} clients a second \
             that are invented, over UDP"
        ),
        floods,
    );
    let second = usize::try_from(3 * EACH).expect("small");
    Attack {
        configuration: Configuration {
            connections: "max-sessions-per-balancer = 2000\nnew-sessions-per-second = 100\nmax-sessions-per-client = 500",
            together: true,
        },
        held: 2 * FULL,
        bound_kib: attack.bound_kib
            + usize::try_from(FULL).expect("small") * IDLE_KIB
            + second * HEADER_KIB
            + FLOWS * FLOW_KIB
            + NETWORKS_KIB,
        ..attack
    }
}

async fn floods(end: Instant) {
    let full = crowd(FULL, end, idle::session).await;
    let balancer = tokio::spawn(connections(HOSTILE.tcp, Ipv4Addr::new(198, 51, 100, 1), end));
    let client = tokio::spawn(connections(HONEST.tcp, Ipv4Addr::new(198, 51, 100, 2), end));
    let stranger = tokio::spawn(connections(STRANGER.tcp, Ipv4Addr::new(198, 51, 100, 3), end));
    flows(end).await;
    for flood in [balancer, client, stranger] {
        flood.await.expect("it does not panic");
    }
    reset(full);
}

async fn connections(gateway: &'static str, client: Ipv4Addr, end: Instant) {
    let mut pace = Pace::new(EACH);
    for port in (1024..=u16::MAX).cycle() {
        if pace.next().await > end {
            break;
        }
        let header = Version::V2.header((client, port).into(), addr(HOSTILE.tcp));
        tokio::spawn(async move {
            // To be turned away is what it expects; who is let in goes again.
            timeout(Duration::from_secs(5), visit(gateway, &header)).await.ok();
        });
    }
}

async fn visit(gateway: &str, header: &[u8]) -> std::io::Result<()> {
    let mut stream = connect(gateway).await?;
    stream.write_all(header).await?;
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// A client for each datagram, from one network of the hostile balancer's.
async fn flows(end: Instant) {
    let socket = UdpSocket::bind("10.0.0.3:0").await.expect("the balancer's address");
    socket.connect(addr(HOSTILE.udp)).await.expect("a way");
    let mut pace = Pace::new(EACH);
    for number in 0_u32.. {
        if pace.next().await > end {
            break;
        }
        let [_, _, high, low] = number.to_be_bytes();
        let client = SocketAddr::from((Ipv4Addr::new(198, 18, high, low), 4711));
        // Refused by ICMP for one before: the next one is due.
        socket.send(&V2::datagram(client, addr(HOSTILE.udp)).to_bytes()).await.ok();
    }
}

/// Connections of a flood in a second.
const EACH: u32 = 500;
/// What the configuration of every attack says of flows.
const FLOWS: usize = 2000;
/// What the configuration says of one balancer.
const FULL: u32 = 2000;
