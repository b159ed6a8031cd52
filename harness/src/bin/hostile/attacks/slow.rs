//! Slow headers: connections whose header never ends, and goes on a byte at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use harness::{V2, addr};
use tokio::io::AsyncWriteExt;

use super::{RATE, crowd, reset};
use crate::attack::{Attack, Configuration, HEADER_KIB};
use crate::pace::Pace;
use crate::world::{HOSTILE, connect};

pub(crate) fn attack(number: u32) -> Attack {
    let attack = Attack::new(
        "slow headers",
        format!(
            "{number} connections, {RATE} new ones a second; then a byte more of {RATE} headers a second"
        ),
        move |end| slow(number, end),
    );
    Attack {
        // Nobody is sent away: the worst case for whoever has to keep them.
        configuration: Configuration { connections: "header-timeout = \"10m\"", together: false },
        held: number,
        bound_kib: attack.bound_kib + usize::try_from(number).expect("small") * HEADER_KIB,
        ..attack
    }
}

async fn slow(number: u32, end: Instant) {
    // Long enough for a byte every few seconds, for minutes.
    let client = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 4711));
    let header = V2::proxy(client, addr(HOSTILE.tcp)).tlv(0xE0, &[0; 200]).to_bytes();
    let mut crowd = {
        let header = header.clone();
        crowd(number, end, move |number| {
            let begin = header[..=begin(number)].to_vec();
            async move {
                let mut stream = connect(HOSTILE.tcp).await?;
                stream.write_all(&begin).await?;
                Ok(stream)
            }
        })
        .await
    };
    let mut pace = Pace::new(RATE);
    'turns: for more in 1.. {
        for (number, stream) in &mut crowd {
            if pace.next().await > end {
                break 'turns;
            }
            let at = begin(*number) + more;
            if let Some(byte) = header[..header.len() - 1].get(at) {
                // One that was sent away shows in what the gateway holds.
                stream.write_all(&[*byte]).await.ok();
            }
        }
    }
    reset(crowd);
}

/// How many bytes come first, less one: every beginning of the fixed part and the addresses.
fn begin(number: u32) -> usize {
    usize::try_from(number % 28).expect("small")
}
