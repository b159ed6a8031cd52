//! A server for a container image that has nothing else in it: says on standard output, and to each client, whom it
//! sees, and echoes what it is sent. Over UDP it answers each datagram in the same way.
//!
//! `ci/docker` links it statically. The only argument is the port; it listens on all addresses.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8080);
    // Takes IPv4 clients too, unless this namespace has no IPv6.
    let (listener, datagrams) =
        listen(Ipv6Addr::UNSPECIFIED.into(), port).or_else(|_| listen(Ipv4Addr::UNSPECIFIED.into(), port))?;
    println!("listening on {}", listener.local_addr()?);
    thread::spawn(move || {
        loop {
            // A client that cannot be answered is no reason to end.
            answer(&datagrams).ok();
        }
    });
    for client in listener.incoming() {
        let client = client?;
        // A client that has gone already is no reason to end.
        thread::spawn(move || greet(client).ok());
    }
    Ok(())
}

fn listen(ip: IpAddr, port: u16) -> io::Result<(TcpListener, UdpSocket)> {
    Ok((TcpListener::bind((ip, port))?, UdpSocket::bind((ip, port))?))
}

fn greet(mut client: TcpStream) -> io::Result<()> {
    let peer = plain(client.peer_addr()?);
    println!("client {peer}");
    writeln!(client, "hello {peer}")?;
    io::copy(&mut client.try_clone()?, &mut client)?;
    Ok(())
}

fn answer(datagrams: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let (_, peer) = datagrams.recv_from(&mut buffer)?;
    println!("datagram of {}", plain(peer));
    datagrams.send_to(format!("hello {}\n", plain(peer)).as_bytes(), peer)?;
    Ok(())
}

fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
