//! The target: it tells each client its address and sends back what it gets, until it is stopped, like a program that crashes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use harness::Namespace;
use harness::expect::eventually;
use socket2::SockRef;

/// A running server; it stops when it is dropped, and resets its connections.
pub(crate) struct Server {
    listener: TcpListener,
    live: Live,
}

/// Connections by number; `None` once the server has stopped.
type Live = Arc<Mutex<Option<BTreeMap<u64, TcpStream>>>>;

impl Server {
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        // What a predecessor had may take a moment to be gone.
        let listener =
            eventually("the target's address", || namespace.run(|| TcpListener::bind(address)).ok());
        let live = Live::new(Mutex::new(Some(BTreeMap::new())));
        let (accepting, connections) = (listener.try_clone().expect("a descriptor"), Arc::clone(&live));
        thread::spawn(move || {
            for number in 0.. {
                // Shut down, a listener ends what waits in accept(2).
                let Ok((stream, peer)) = accepting.accept() else { return };
                let registered = stream.try_clone().expect("a descriptor");
                match lock(&connections).as_mut() {
                    Some(live) => drop(live.insert(number, registered)),
                    None => return,
                }
                let connections = Arc::clone(&connections);
                thread::spawn(move || {
                    // What breaks here is the client's to tell.
                    serve(&stream, peer).ok();
                    lock(&connections).as_mut().and_then(|live| live.remove(&number));
                });
            }
        });
        Self { listener, live }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        SockRef::from(&self.listener).shutdown(Shutdown::Both).ok();
        for (_, stream) in lock(&self.live).take().into_iter().flatten() {
            // The last close(2) then is a reset.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok();
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn serve(mut stream: &TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    stream.write_all(format!("{}\n", peer.ip()).as_bytes())?;
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn lock(live: &Live) -> std::sync::MutexGuard<'_, Option<BTreeMap<u64, TcpStream>>> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}
