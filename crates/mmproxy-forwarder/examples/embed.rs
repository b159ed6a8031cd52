//! A program that has the gateway in itself: a server, and in front of it, in the same process, who takes connections with a
//! PROXY header and hands them to it from their clients' addresses.
//!
//! ```text
//! $ sudo mmproxy setup                    # the return path; a program may do that itself, with mmproxy-routing
//! $ sudo target/debug/examples/embed 0.0.0.0:2222 127.0.0.1:2223 10.0.0.0/8
//! listening on 0.0.0.0:2222
//! session 1: 192.0.2.7:4711 by way of 10.0.0.2:40112, 14 bytes there, 34 back, finished
//! ```
//!
//! Arguments: where balancers connect, where the server listens, which balancers there are. It needs `CAP_NET_RAW` to spoof. A
//! line `stop` on its standard input ends it in order.

use std::error::Error;
use std::io::{self, Write, stdin};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::thread;

use mmproxy_forwarder::{
    AllowList, DialOptions, Gateway, GatewayConfig, Listener, Observer, SessionReport, Shutdown, Targets,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, server, balancers] = arguments.as_slice() else {
        return Err(
            "usage: embed LISTEN SERVER BALANCERS, such as 0.0.0.0:2222 127.0.0.1:2223 10.0.0.0/8".into()
        );
    };
    let server: SocketAddr = server.parse()?;
    greet_everybody(TcpListener::bind(server)?);

    let targets = match server {
        SocketAddr::V4(server) => Targets::new(Some(server), None)?,
        SocketAddr::V6(server) => Targets::new(None, Some(server))?,
    };
    // What marks spoofed sockets is what the return path goes by.
    let dial = DialOptions::new().mark(NonZeroU32::new(123));
    let config = GatewayConfig::new(AllowList::parse(balancers)?, targets).dial(dial);
    let gateway = Gateway::new(config, Printed)?;
    let listener = Listener::bind(listen.parse()?, Listener::BACKLOG)?;
    println!("listening on {}", listener.local_addr());

    let shutdown = Shutdown::new();
    let switch = shutdown.clone();
    thread::spawn(move || {
        // Where there is no standard input, nobody says it.
        if stdin().lines().map_while(Result::ok).any(|line| line == "stop") {
            switch.drain();
        }
    });
    let drained = gateway.serve(listener, &shutdown).await?;
    println!("{} sessions finished, {} were cut", drained.finished, drained.cut);
    Ok(())
}

/// A server that knows nothing of PROXY: it tells each client its address, and sends back what it gets.
fn greet_everybody(listener: TcpListener) {
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::spawn(move || connection.and_then(|connection| greet(&connection)));
        }
    });
}

fn greet(mut connection: &TcpStream) -> io::Result<()> {
    writeln!(connection, "you are {}", connection.peer_addr()?)?;
    io::copy(&mut { connection }, &mut connection)?;
    Ok(())
}

/// Prints a line for each session that has ended.
struct Printed;

impl Observer for Printed {
    fn session_closed(&self, report: &SessionReport) {
        let client = report.claimed.map_or_else(|| "nobody".to_owned(), |client| client.to_string());
        println!(
            "session {}: {client} by way of {}, {} bytes there, {} back, {}",
            report.id, report.peer, report.bytes_up, report.bytes_down, report.reason
        );
    }
}
