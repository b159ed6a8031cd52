//! A server for a container image that has nothing else in it: says on standard output, and to each client, whom it
//! sees, and echoes what it is sent.
//!
//! `ci/docker` links it statically. The only argument is the port; it listens on all addresses.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    // Takes IPv4 clients too, unless this namespace has no IPv6.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        let client = client?;
        // A client that has gone already is no reason to end.
        thread::spawn(move || greet(client).ok());
    }
    Ok(())
}

fn greet(mut client: TcpStream) -> io::Result<()> {
    let peer = client.peer_addr()?;
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    println!("client {peer}");
    writeln!(client, "hello {peer}")?;
    io::copy(&mut client.try_clone()?, &mut client)?;
    Ok(())
}
