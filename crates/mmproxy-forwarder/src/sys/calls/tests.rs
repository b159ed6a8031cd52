use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::*;

/// With a queue, and without.
fn both() -> [Calls; 2] {
    [Some(Ring::new().expect("io_uring is to be had where tests run")), None].map(Calls::new)
}

/// Two sockets that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let bind = || UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let (one, other) = (bind(), bind());
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
}

fn sends<'a>(pairs: &'a [(UdpSocket, UdpSocket)], payloads: &'a [Vec<u8>]) -> impl Iterator<Item = Call<'a>> {
    pairs.iter().zip(payloads).map(|((socket, _), payload)| Call::Send(socket.as_fd(), payload))
}

fn receives<'a>(
    pairs: &'a [(UdpSocket, UdpSocket)],
    slots: &'a mut [Vec<u8>],
) -> impl Iterator<Item = Call<'a>> {
    pairs.iter().zip(slots).map(|((_, socket), slot)| Call::Receive(socket.as_fd(), slot))
}

#[test]
fn each_call_is_made_on_its_own_socket_and_says_what_came_of_it() {
    for mut calls in both() {
        // Alone; several; more than there is room for at a time.
        for many in [1, 7, 200] {
            let pairs: Vec<_> = (0..many).map(|_| pair()).collect();
            // Empty ones too.
            let payloads: Vec<_> = (0..many).map(|number| vec![number as u8; number * 31 % 1500]).collect();
            calls.make(sends(&pairs, &payloads));
            for (number, payload) in payloads.iter().enumerate() {
                assert_eq!(calls.outcome(number).unwrap(), payload.len());
            }
            let mut slots = vec![vec![0xFF; 2000]; many];
            calls.make(receives(&pairs, &mut slots));
            for (number, payload) in payloads.iter().enumerate() {
                let length = calls.outcome(number).unwrap();
                assert_eq!(slots[number][..length], payload[..], "datagram {number}");
            }
            // Nothing is left, and nobody waits for more.
            calls.make(receives(&pairs, &mut slots));
            for number in 0..many {
                assert_eq!(calls.outcome(number).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            }
        }
    }
}

#[test]
fn datagrams_of_one_socket_keep_their_order() {
    for mut calls in both() {
        let (one, other) = pair();
        let payloads: Vec<[u8; 1]> = (0..100).map(|number| [number]).collect();
        calls.make(payloads.iter().map(|payload| Call::Send(one.as_fd(), payload)));
        let mut slots = vec![[0; 8]; 100];
        calls.make(slots.iter_mut().map(|slot| Call::Receive(other.as_fd(), slot)));
        assert!(slots.iter().map(|slot| slot[0]).eq(0..100));
    }
}

#[test]
fn an_error_is_one_calls_own() {
    for mut calls in both() {
        let mut pairs: Vec<_> = (0..5).map(|_| pair()).collect();
        // Nobody listens there any more, which the second datagram hears of.
        pairs[2].1 = UdpSocket::bind("127.0.0.1:0").unwrap();
        let payloads = vec![b"hello".to_vec(); 5];
        calls.make(sends(&pairs, &payloads));
        calls.make(sends(&pairs, &payloads));
        let refused = |number| {
            calls.outcome(number).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        assert_eq!([0, 1, 2, 3, 4].map(refused), [false, false, true, false, false]);
    }
}

#[test]
fn a_call_that_was_not_made_has_not_moved_anything() {
    for calls in both() {
        assert_eq!(calls.outcome(0).unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    }
}

#[test]
fn the_queue_is_good_for_nothing_but_sending_and_receiving() {
    let Ring(mut ring) = Ring::new().expect("io_uring is to be had where tests run");
    let null = c"/dev/null";
    let forbidden = [
        opcode::Nop::new().build(),
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), null.as_ptr()).build(),
        opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build(),
    ];
    for entry in forbidden {
        // SAFETY: the only pointer is to a constant.
        unsafe { ring.submission().push(&entry) }.expect("there is room");
        ring.submit_and_wait(1).expect("the kernel takes it, to refuse it");
        assert_eq!(ring.completion().next().map(|completion| completion.result()), Some(-libc::EACCES));
    }
    let more = &mut [Restriction::sqe_op(opcode::Nop::CODE)];
    assert!(ring.submitter().register_restrictions(more).is_err(), "it was given more than at first");
}

#[test]
fn a_queue_outlives_the_filter_that_forbids_to_make_another() {
    // The filter is this thread's, and cannot be taken back.
    std::thread::spawn(|| {
        let mut calls = Calls::new(Some(Ring::new().expect("io_uring is to be had where tests run")));
        forbid_rings();
        let error = Ring::new().expect_err("it is forbidden");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let pairs: Vec<_> = (0..3).map(|_| pair()).collect();
        let payloads = vec![b"hello".to_vec(); 3];
        calls.make(sends(&pairs, &payloads));
        let mut slots = vec![vec![0; 8]; 3];
        calls.make(receives(&pairs, &mut slots));
        assert!(calls.share(), "it broke");
        assert!(slots.iter().all(|slot| slot.starts_with(b"hello")));
    })
    .join()
    .expect("the thread's own assertions hold");
}

/// Has the kernel answer EPERM to this thread when it wants to make an io_uring or change one.
fn forbid_rings() {
    let line = |code: u32, (jt, jf), k| libc::sock_filter { code: code as u16, jt, jf, k };
    let [setup, register] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_register].map(|call| call as u32);
    let mut program = [
        // The call's number is the first field of seccomp_data.
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (1, 0), setup),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, (0, 1), register),
        line(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        line(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    // SAFETY: `filter` and the program it points to outlive the call, and `len` is the program's length.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}
