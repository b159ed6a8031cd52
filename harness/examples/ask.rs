//! Asks a UDP server from an address that is not this host's, as a gateway does, and prints the answer.
//!
//! `ask CLIENT TARGET`, each an `IP:PORT`. Ends with 1 where no answer comes back: the return path is what is shown.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> Result<SocketAddr, Box<dyn Error>> {
        Ok(arguments.next().ok_or("usage: ask CLIENT TARGET")?.parse()?)
    };
    let (client, target) = (address()?, address()?);
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, None)?;
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.bind(&client.into())?;
    // Answers from another address are not taken.
    socket.connect(&target.into())?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(b"question")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    print!("{}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}
