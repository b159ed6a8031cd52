//! `mmproxy probe`: plays the load balancer and shows what comes back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::cli::ProbeArgs;
use crate::commands::encode;
use crate::escape;
use crate::exit::{Exit, Failure};

/// Sends a header and perhaps a text through a gateway; fails when the gateway closes without an answer.
pub(crate) fn run(args: &ProbeArgs) -> Result<Exit, Failure> {
    let text = match &args.send {
        Some(text) => {
            escape::unescape(text).map_err(|error| Failure::new(Exit::Usage, format!("--send: {error}")))?
        }
        None => Vec::new(),
    };
    let destination = args.destination.unwrap_or(args.via);
    let header = encode::proxied(args.version, args.source, destination)
        .map_err(|error| Failure::new(Exit::Usage, error))?;

    let mut gateway = TcpStream::connect_timeout(&args.via, args.wait).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("cannot connect to {}: {error}", args.via))
            .hint("start the gateway, or correct --via")
    })?;
    println!("[+] Connected to {}.", args.via);
    let message = [header.as_slice(), &text].concat();
    gateway.set_read_timeout(Some(args.wait)).map_err(|error| Failure::new(Exit::Usage, error))?;
    gateway.write_all(&message).map_err(|error| broken(args.via, &error))?;
    println!(
        "[+] Sent a version {} header of {} bytes: {} -> {destination}.",
        if args.version.v1 { 1 } else { 2 },
        header.len(),
        args.source
    );
    if !text.is_empty() {
        println!("[+] Sent {} bytes: {}", text.len(), escape::escape(&text));
    }
    listen(&mut gateway, args)
}

/// Prints what comes until the connection ends or is silent for as long as `--wait`.
fn listen(gateway: &mut TcpStream, args: &ProbeArgs) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut received = 0;
    let mut buf = [0; 4096];
    loop {
        match gateway.read(&mut buf) {
            Ok(0) if received == 0 => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "the gateway closed the connection without a byte",
                )
                .hint("its log names the reason: peer not allowed, header or source refused, target down"));
            }
            Ok(0) => {
                println!("[+] The connection ended after {received} bytes.");
                return Ok(Exit::Ok);
            }
            Ok(n) => {
                received += n;
                println!(
                    "[+] Received {n} bytes after {} ms: {}",
                    started.elapsed().as_millis(),
                    escape::escape(&buf[..n])
                );
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let what = if received == 0 { "nothing" } else { "nothing more" };
                println!("[+] The connection is open and {what} came within {:?}.", args.wait);
                return Ok(Exit::Ok);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(args.via, &error)),
        }
    }
}

fn broken(via: SocketAddr, error: &io::Error) -> Failure {
    Failure::new(Exit::Unavailable, format!("the connection to {via} broke: {error}")).hint(
        "the gateway resets a connection whose peer, header or source it refuses; its log names the reason",
    )
}
