//! Asks a UDP server from an address that is not this host's, as a gateway does, and prints the answer.
//!
//! `ask CLIENT TARGET`, each an `IP:PORT`. Ends with 1 where no answer comes back: the return path is what is shown.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> Result<SocketAddr, Box<dyn Error>> {
        Ok(arguments.next().ok_or("usage: ask CLIENT TARGET")?.parse()?)
    };
    let (client, target) = (address()?, address()?);
    // Connected: answers from another address are not taken.
    let socket = harness::spoofed(client, target)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(b"question")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    print!("{}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}
