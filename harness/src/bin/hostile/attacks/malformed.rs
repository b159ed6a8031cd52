//! Malformed headers: everything that the fuzzers keep, as it is and with a bit turned, over TCP and UDP.

use std::fs::{read, read_dir};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::Plan;
use crate::attack::{Attack, FLOW_KIB, HEADER_KIB};
use crate::pace::Pace;
use crate::world::{HOSTILE, connect};

pub(crate) fn attack(plan: &Plan) -> Attack {
    let rate = plan.rate(TOTAL + TOTAL / 20, MOST);
    let inputs = Arc::new(inputs());
    let attack = Attack::new(
        "malformed headers",
        format!(
            "{} inputs of the fuzzers, as they are and with a bit turned; {rate} connections and {rate} datagrams a second",
            inputs.len()
        ),
        move |end| {
            let inputs = Arc::clone(&inputs);
            async move {
                let connections = tokio::spawn(connections(Arc::clone(&inputs), rate, end));
                datagrams(&inputs, rate, end).await;
                connections.await.expect("it does not panic");
            }
        },
    );
    // Those of a second at a time, and flows for those datagrams that are right.
    let each = HEADER_KIB + FLOW_KIB;
    Attack {
        // In turns that are too short for all of them, as many as come.
        malformed: TOTAL.min(rate * plan.seconds() * 9 / 10),
        bound_kib: attack.bound_kib + usize::try_from(rate).expect("small") * each,
        ..attack
    }
}

async fn connections(inputs: Arc<Vec<Vec<u8>>>, rate: u32, end: Instant) {
    let mut pace = Pace::new(rate);
    for number in 0.. {
        if pace.next().await > end {
            break;
        }
        let bytes = variation(&inputs, number);
        tokio::spawn(async move {
            // To be turned away is what it expects.
            timeout(Duration::from_secs(5), offer(&bytes)).await.ok();
        });
    }
}

async fn offer(bytes: &[u8]) -> std::io::Result<()> {
    let mut stream = connect(HOSTILE.tcp).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

async fn datagrams(inputs: &[Vec<u8>], rate: u32, end: Instant) {
    let socket = UdpSocket::bind("10.0.0.3:0").await.expect("the balancer's address");
    socket.connect(addr(HOSTILE.udp)).await.expect("a way");
    let mut pace = Pace::new(rate);
    for number in 0.. {
        if pace.next().await > end {
            break;
        }
        // Larger than a datagram, or refused by ICMP for one before: the next one is due.
        socket.send(&variation(inputs, number)).await.ok();
    }
}

/// The `number`th: each input comes as it is, and the next times round with one bit of its first 28 bytes turned, which
/// make a header out of few and something else out of most.
fn variation(inputs: &[Vec<u8>], number: usize) -> Vec<u8> {
    let (input, round) = (&inputs[number % inputs.len()], number / inputs.len());
    let mut bytes = input.clone();
    let bit = number.wrapping_mul(31).wrapping_add(round) % (28 * 8);
    if let (1.., Some(byte)) = (round, bytes.get_mut(bit / 8)) {
        *byte ^= 1 << (bit % 8);
    }
    bytes
}

/// Everything that the fuzzers keep because it once reached new code, or broke a promise.
fn inputs() -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let targets = ["decode", "splits", "roundtrip", "tlv", "differential", "datagram"];
    let folders = targets
        .iter()
        .flat_map(|target| ["corpus", "regressions"].map(|kind| fuzz.join(kind).join(target)))
        // A target that never broke a promise has no folder of regressions.
        .filter_map(|folder| read_dir(folder).ok());
    let files = folders.flatten().flatten().map(|file| file.path()).filter(|path| path.is_file());
    let inputs: Vec<_> = files.map(|path| read(path).expect("a file of the tree")).collect();
    assert!(inputs.len() > 1000, "there are {} inputs in {}", inputs.len(), fuzz.display());
    inputs
}

/// Connections, and datagrams, in a second.
const MOST: u32 = 2000;
/// Headers to be refused in the end; some of the variations are headers.
const TOTAL: u32 = 100_000;
