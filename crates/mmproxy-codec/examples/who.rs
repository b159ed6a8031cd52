//! A server that tells every connection who it is, by the header its proxy sent.
//!
//! ```text
//! $ cargo run -p mmproxy-codec --example who &
//! listening on 127.0.0.1:4000; every connection must begin with a PROXY header
//! $ printf 'PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n' | nc 127.0.0.1 4000
//! you are 192.0.2.7:4711 and wanted 198.51.100.1:443
//! ```
//!
//! An address to listen on may be given as argument. Standard library only: no runtime, one thread per connection.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mmproxy_codec::{DEFAULT_MAX_V2_LEN, Outcome, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| String::from("127.0.0.1:4000"));
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}; every connection must begin with a PROXY header", listener.local_addr()?);
    for connection in listener.incoming() {
        // A real server checks here that the peer is one of its proxies: whoever may send a header may claim any
        // address.
        let connection = connection?;
        thread::spawn(move || {
            if let Err(error) = greet(connection) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Tells the client what its proxy says about it. Nothing is answered before a whole header is there (§2).
fn greet(mut connection: TcpStream) -> io::Result<()> {
    let mut received = Vec::with_capacity(DEFAULT_MAX_V2_LEN);
    let who = read_header(&mut connection, &mut received)?;
    // What is left in `received` is the first of the payload, for a protocol that has any.
    writeln!(connection, "{who}")
}

/// Reads up to and including the header and describes it; what came behind it is left in `received`.
fn read_header(connection: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<String> {
    let deadline = Instant::now() + HEADER_TIMEOUT;
    loop {
        let missing = match decode(received)? {
            Outcome::Complete { header, consumed } => {
                let who = match (header.source(), header.destination()) {
                    (Some(source), Some(destination)) => format!("you are {source} and wanted {destination}"),
                    // LOCAL, UNKNOWN and the like: the proxy speaks for itself.
                    _ => format!("you are {}, my proxy", connection.peer_addr()?),
                };
                received.drain(..consumed);
                return Ok(who);
            }
            Outcome::NeedMore(missing) => missing.get(),
        };
        // The deadline is for the whole header: a byte now and then does not move it.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_read_timeout(Some(left))?;
        let have = received.len();
        received.resize(have + missing, 0);
        let got = connection.read(&mut received[have..])?;
        received.truncate(have + got);
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// At least three seconds, so that one lost segment does not cost the connection (§2).
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
