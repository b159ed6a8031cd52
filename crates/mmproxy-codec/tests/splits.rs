//! However the network cuts a header up, and whatever follows it, the answer is the same.

mod support;

use mmproxy_codec::{Header, HeaderError, Outcome};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use support::{Expect, Transport, Vector};

#[test]
fn every_strict_prefix_asks_for_more_and_never_for_too_much() {
    for vector in streams() {
        let Some(header) = vector.header() else { continue };
        for cut in 0..header.len() {
            match vector.decode_instead(&header[..cut]) {
                Ok(Outcome::NeedMore(missing)) => {
                    assert!(
                        missing.get() <= header.len() - cut,
                        "{} cut at {cut} asks for {missing}",
                        vector.name
                    );
                }
                other => panic!("{} cut at {cut}: {other:?}", vector.name),
            }
        }
    }
}

#[test]
fn the_count_is_all_that_is_certain_to_be_missing() {
    let v2 = "0d0a0d0a000d0a515549540a 21 11 000c c0000201 c0000202 0001 0002";
    let v2 = support::bytes(v2);
    for (input, missing) in [
        (b"".as_slice(), 15),
        // The shortest line is `PROXY UNKNOWN` and CRLF.
        (b"PROXY", 10),
        (b"PROXY TCP4 1", 3),
        // Nothing but the CRLF is certain, then its second half.
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2", 2),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r", 1),
        (b"PROXY UNKNOWN", 2),
        // The fixed part of version 2, then what its length field says.
        (&v2[..1], 15),
        (&v2[..12], 4),
        (&v2[..15], 1),
        (&v2[..16], 12),
        (&v2[..27], 1),
    ] {
        let answer = mmproxy_codec::decode(input);
        let Ok(Outcome::NeedMore(count)) = answer else { panic!("{answer:?} to {}", input.escape_ascii()) };
        assert_eq!(count.get(), missing, "{}", input.escape_ascii());
    }
}

#[test]
fn a_reader_that_takes_what_it_is_asked_for_ends_at_the_header() {
    for vector in streams().into_iter().filter(|vector| vector.header().is_some()) {
        let mut have = 0;
        let whole = loop {
            match vector.decode_instead(&vector.bytes[..have]) {
                Ok(Outcome::NeedMore(missing)) => have += missing.get(),
                other => break other,
            }
        };
        assert_eq!(whole, vector.decode(), "{}", vector.name);
        assert_eq!(Some(&vector.bytes[..have]), vector.header(), "{} was read too far", vector.name);
    }
}

#[test]
fn byte_by_byte_gives_the_answer_of_one_piece() {
    for vector in streams() {
        let pieces = (0..=vector.bytes.len()).map(|end| &vector.bytes[..end]);
        assert_eq!(last_answer(&vector, pieces), vector.decode(), "{}", vector.name);
    }
}

#[test]
fn more_bytes_never_change_a_verdict_on_a_stream() {
    for vector in streams().iter().filter(|vector| !matches!(vector.expect, Expect::Incomplete)) {
        for payload in payloads() {
            let longer = [vector.bytes.as_slice(), &payload].concat();
            assert_eq!(vector.decode_instead(&longer), vector.decode(), "{} and {payload:02x?}", vector.name);
        }
    }
}

#[test]
fn the_payload_of_a_datagram_is_never_looked_at() {
    for vector in datagrams() {
        let Some(header) = vector.header() else { continue };
        for payload in payloads() {
            let datagram = [header, &payload].concat();
            assert_eq!(
                vector.decode_instead(&datagram),
                vector.decode(),
                "{} and {payload:02x?}",
                vector.name
            );
        }
    }
}

#[test]
fn a_cut_datagram_is_refused_and_never_incomplete() {
    for vector in datagrams() {
        let Some(header) = vector.header() else { continue };
        for cut in 0..header.len() {
            match mmproxy_codec::decode_datagram(&header[..cut]) {
                Err(HeaderError::NotProxy) => assert!(cut < 12, "{} cut at {cut}", vector.name),
                Err(HeaderError::Truncated { need, got }) => {
                    assert!(got == cut && cut < need && need <= header.len(), "{} cut at {cut}", vector.name);
                }
                other => panic!("{} cut at {cut}: {other:?}", vector.name),
            }
        }
    }
}

proptest! {
    #![proptest_config(support::properties())]

    #[test]
    fn any_segmentation_gives_the_answer_of_one_piece(
        vector in select(streams()),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(vector.bytes.len() + 1)).collect();
        ends.push(vector.bytes.len());
        ends.sort_unstable();
        let pieces = ends.iter().map(|end| &vector.bytes[..*end]);
        prop_assert_eq!(last_answer(&vector, pieces), vector.decode());
    }

    #[test]
    fn any_payload_leaves_the_answer_alone(
        vector in select(streams()),
        payload in vec(any::<u8>(), 0..200),
    ) {
        prop_assume!(!matches!(vector.expect, Expect::Incomplete));
        let longer = [vector.bytes.as_slice(), &payload].concat();
        prop_assert_eq!(vector.decode_instead(&longer), vector.decode());
    }
}

/// The answer of a receiver that decodes its buffer whenever something has arrived, until there is an answer.
///
/// Every prefix is decoded before the next one is looked at, so an answer given too early shows.
fn last_answer<'a>(
    vector: &Vector,
    buffers: impl Iterator<Item = &'a [u8]>,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let mut answers = buffers.map(|buffer| vector.decode_instead(buffer)).peekable();
    loop {
        let answer = answers.next().expect("there is a last buffer");
        if answers.peek().is_none() || !matches!(answer, Ok(Outcome::NeedMore(_))) {
            return answer;
        }
    }
}

fn streams() -> Vec<Vector> {
    support::all().into_iter().filter(|vector| vector.transport == Transport::Stream).collect()
}

fn datagrams() -> Vec<Vector> {
    support::all().into_iter().filter(|vector| vector.transport == Transport::Datagram).collect()
}

/// Payloads that a careless decoder would take for a part of the header.
fn payloads() -> Vec<Vec<u8>> {
    let v2 = support::bytes("0d0a0d0a000d0a515549540a 21 11 000c c0000201 c0000202 0001 0002");
    [
        b"\n".as_slice(),
        b"\r\n",
        b" 1 2\r\n",
        b"\0",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        &v2,
        &v2[12..],
        &[0x56, 0xEC],
        &[0xFF; 300],
        &[0; 70_000],
    ]
    .map(<[u8]>::to_vec)
    .into()
}
