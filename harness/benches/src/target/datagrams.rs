//! Datagrams: each names its client and is answered, or counted, alone.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use crate::datagram;
use crate::wire::Role;

use super::Counters;

/// Takes what waits in `socket`, up to a turn's worth.
pub(super) fn answer(socket: &OwnedFd, buffer: &mut [u8], counters: &Counters) {
    for _ in 0..BATCH {
        // An error here is an ICMP message about a datagram sent earlier: nothing is lost by it but that datagram.
        let Ok((read, _, Some(peer))) = recvfrom(socket, &mut *buffer, RecvFlags::empty()) else { return };
        let Ok(peer) = SocketAddr::try_from(peer) else { return };
        let bytes = &buffer[..read];
        Counters::add(&counters.datagrams, 1);
        match datagram::read(bytes) {
            None => Counters::add(&counters.corrupt, 1),
            Some(hello) => {
                if hello.client != peer {
                    counters.stranger(peer, hello.client);
                }
                if hello.role == Role::Echo {
                    // Full or refused: lost, as datagrams may be; the generator counts the answers.
                    sendto(socket, bytes, SendFlags::empty(), &peer).ok();
                }
            }
        }
    }
}

const BATCH: usize = 64;
