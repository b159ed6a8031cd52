//! The attacks. Each comes at a rate, not as fast as it can: what a machine's last cycle is spent on is its scheduler's
//! decision, not the gateway's.

pub(crate) mod floods;
pub(crate) mod idle;
pub(crate) mod malformed;
pub(crate) mod slow;

use std::time::Instant;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::pace::Pace;

/// Makes `number` connections, `RATE` a second, each with what `open` does; those that came about, with their numbers.
async fn crowd<F>(number: u32, end: Instant, open: impl Fn(u32) -> F) -> Vec<(u32, TcpStream)>
where
    F: Future<Output = std::io::Result<TcpStream>> + Send + 'static,
{
    let (mut pace, mut opening) = (Pace::new(RATE), JoinSet::new());
    for number in 0..number {
        if pace.next().await > end {
            break;
        }
        let opened = open(number);
        opening.spawn(async move { opened.await.map(|stream| (number, stream)) });
    }
    // Who is missing shows in what the gateway holds.
    opening.join_all().await.into_iter().flatten().collect()
}

/// Ends connections by a reset, which leaves no port in TIME_WAIT.
fn reset(crowd: Vec<(u32, TcpStream)>) {
    for (_, stream) in crowd {
        // One that has ended already.
        stream.set_zero_linger().ok();
    }
}

/// Connections, or bytes, a second.
const RATE: u32 = 1500;
