//! The target: it tells each client its address and sends back what it gets. Thousands may be idle at it.

use std::net::SocketAddr;
use std::thread;

use harness::Namespace;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Serves at `address` until the program ends.
pub(crate) fn start(namespace: &Namespace, address: SocketAddr) {
    let runtime = crate::world::runtime();
    let listener = namespace.run(|| {
        let _inside = runtime.enter();
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket");
        socket.set_reuseaddr(true).expect("a socket");
        socket.bind(address).and_then(|()| socket.listen(4096)).expect("the target's address is free")
    });
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => drop(tokio::spawn(serve(stream, peer))),
                    // A client that has gone again.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                    Err(error) => panic!("the target cannot accept: {error}"),
                }
            }
        });
    });
}

async fn serve(mut stream: TcpStream, peer: SocketAddr) {
    let mut buffer = [0; 1024];
    if stream.write_all(format!("{peer}\n").as_bytes()).await.is_err() {
        return;
    }
    // What breaks here is the client's to tell.
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
