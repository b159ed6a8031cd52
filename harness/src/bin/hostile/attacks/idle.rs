//! Idle sessions: clients of many networks that connect, are connected to the target, and say nothing more.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use harness::{Version, addr};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::{RATE, crowd, reset};
use crate::attack::{Attack, Configuration, HEADER_KIB, IDLE_KIB};
use crate::world::{HOSTILE, connect};

pub(crate) fn attack(number: u32) -> Attack {
    let attack = Attack::new(
        "idle sessions",
        format!("{number} sessions, {RATE} new ones a second; then they stay, without a byte"),
        move |end| idle(number, end),
    );
    let kib = |number: u32, each: usize| usize::try_from(number).expect("small") * each;
    Attack {
        configuration: Configuration { connections: "", together: false },
        // Both its sides are descriptors.
        held: 2 * number,
        // And those of a second at a time that are not idle yet.
        bound_kib: attack.bound_kib + kib(number, IDLE_KIB) + kib(RATE, HEADER_KIB),
        ..attack
    }
}

async fn idle(number: u32, end: Instant) {
    let crowd = crowd(number, end, session).await;
    sleep_until(end.into()).await;
    reset(crowd);
}

/// A session of one of 40 clients in a network of its own.
pub(super) async fn session(number: u32) -> std::io::Result<TcpStream> {
    let [_, _, high, low] = (number / 40).to_be_bytes();
    let host = u8::try_from(1 + number % 40).expect("small");
    let client = SocketAddr::from((Ipv4Addr::new(100, 64 + high, low, host), 4711));
    let mut stream = connect(HOSTILE.tcp).await?;
    stream.write_all(&Version::V2.header(client, addr(HOSTILE.tcp))).await?;
    Ok(stream)
}
