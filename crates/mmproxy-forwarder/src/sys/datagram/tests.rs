use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;

fn arrived(inbox: &mut Inbox, socket: &UdpSocket) -> usize {
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    socket.peek_from(&mut [0; 1]).expect("a datagram");
    inbox.receive(socket.as_fd()).expect("a datagram is there")
}

fn pair(address: &str) -> (UdpSocket, UdpSocket) {
    let bind = || UdpSocket::bind(address).expect("loopback");
    (bind(), bind())
}

#[test]
fn datagrams_of_every_size_arrive_with_the_address_of_their_sender() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, receiver) = pair(address);
        let (to, from) = (receiver.local_addr().unwrap(), sender.local_addr().unwrap());
        let family = if to.is_ipv4() { SocketFamily::V4 } else { SocketFamily::V6 };
        let (mut inbox, mut outbox) = (Inbox::new(4), Outbox::new(4, family));
        for size in [0, 1, 1200, 9000, 65_507] {
            outbox.free().next().unwrap()[..size].fill(7);
            let slot = outbox.take(1).start;
            outbox.queue(slot, b"", size, to, None);
            outbox.flush(sender.as_fd()).expect("sent");
            assert_eq!(arrived(&mut inbox, &receiver), 1);
            let received = inbox.get(0);
            assert_eq!((received.from, received.to, received.segment), (Some(from), None, None));
            assert_eq!(received.bytes, vec![7; size]);
        }
    }
}

#[test]
fn a_batch_keeps_order_headers_and_sizes_whether_they_can_be_cut_from_one_buffer_or_not() {
    let (sender, receiver) = pair("127.0.0.1:0");
    let to = receiver.local_addr().unwrap();
    let (mut inbox, mut outbox) = (Inbox::new(16), Outbox::new(16, SocketFamily::V4));
    let sizes = [5, 5, 5, 0, 0, 7, 5, 2000, 2000, 1, 1, 1];
    for (number, size) in sizes.into_iter().enumerate() {
        outbox.free().next().unwrap()[..size].fill(number as u8);
        let slot = outbox.take(1).start;
        outbox.queue(slot, b"head", size, to, None);
    }
    outbox.flush(sender.as_fd()).expect("sent");
    assert_eq!(outbox.len(), 0);
    let mut seen = Vec::new();
    while seen.len() < sizes.len() {
        for index in 0..arrived(&mut inbox, &receiver) {
            seen.push(inbox.get(index).bytes.to_vec());
        }
    }
    for (number, (size, bytes)) in sizes.into_iter().zip(seen).enumerate() {
        assert_eq!(bytes, [&b"head"[..], &vec![number as u8; size]].concat(), "datagram {number}");
    }
}

#[test]
fn a_socket_on_all_addresses_is_told_which_one_was_meant_and_answers_from_it() {
    for (bound, to) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "127.0.0.9"), ("[::]:0", "::1")] {
        let receiver = UdpSocket::bind(bound).unwrap();
        let family = if bound.starts_with('[') { SocketFamily::V6 } else { SocketFamily::V4 };
        match family {
            SocketFamily::V4 => setsockopt(&receiver, sockopt::Ipv4PacketInfo, &true).unwrap(),
            SocketFamily::V6 => setsockopt(&receiver, sockopt::Ipv6RecvPacketInfo, &true).unwrap(),
        }
        let to: IpAddr = to.parse().unwrap();
        let sender = UdpSocket::bind((if to.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
        sender.connect((to, receiver.local_addr().unwrap().port())).unwrap();
        sender.send(b"question").unwrap();
        let (mut inbox, mut outbox) = (Inbox::new(2), Outbox::new(2, family));
        assert_eq!(arrived(&mut inbox, &receiver), 1);
        let received = inbox.get(0);
        assert_eq!((received.from, received.to), (Some(sender.local_addr().unwrap()), Some(to)), "{bound}");
        // Two of a size: with their source address given, and cut from one buffer.
        for _ in 0..2 {
            outbox.free().next().unwrap()[..6].copy_from_slice(b"answer");
            let slot = outbox.take(1).start;
            outbox.queue(slot, b"", 6, sender.local_addr().unwrap(), Some(to));
        }
        outbox.flush(receiver.as_fd()).expect("sent");
        for _ in 0..2 {
            // It is connected: an answer from any other address would not be seen.
            sender.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
            let mut answer = [0; 16];
            assert_eq!(sender.recv(&mut answer).expect("an answer"), 6);
        }
    }
}

#[test]
fn what_the_kernel_refuses_is_told_and_the_others_are_sent() {
    let (sender, receiver) = pair("127.0.0.1:0");
    let to = receiver.local_addr().unwrap();
    let mut outbox = Outbox::new(4, SocketFamily::V4);
    for size in [1, 65_507, 2] {
        let slot = outbox.take(1).start;
        outbox.queue(slot, if size > 2 { b"no room" } else { b"" }, size, to, None);
    }
    let refused = outbox.flush(sender.as_fd()).expect_err("the second one is too large");
    assert_eq!((refused.to, refused.error.raw_os_error()), (to, Some(libc::EMSGSIZE)));
    assert_eq!(outbox.len(), 2);
    outbox.skip_first();
    outbox.flush(sender.as_fd()).expect("the third one");
    let mut inbox = Inbox::new(4);
    let mut sizes = Vec::new();
    while sizes.len() < 2 {
        sizes.extend(
            (0..arrived(&mut inbox, &receiver)).map(|index| inbox.get(index).bytes.len()).collect::<Vec<_>>(),
        );
    }
    assert_eq!(sizes, [1, 2]);
}
