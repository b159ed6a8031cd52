use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MIXED: [(&str, &str); 3] = [
    ("TCP4 203.0.113.7 ::1 51000 29034", "[::ffff:203.0.113.7]:51000 [::1]:29034"),
    ("TCP6 2001:db8::7 192.0.2.1 1 2", "[2001:db8::7]:1 [::ffff:192.0.2.1]:2"),
    ("TCP6 192.0.2.1 2001:db8::7 1 2", "[::ffff:192.0.2.1]:1 [2001:db8::7]:2"),
];

fn decoded(fields: &str, options: &DecodeOptions) -> Result<String, HeaderError> {
    let text = format!("PROXY {fields}\r\n");
    let (header, consumed) = decode(text.as_bytes(), options)?.complete().expect("the line is complete");
    assert_eq!(consumed, text.len());
    Ok(format!("{} {}", header.source().unwrap(), header.destination().unwrap()))
}

/// docs/conformance.md, reading 20.
#[test]
fn reading_20_mixed_families_are_refused_unless_asked_for() {
    for (fields, read) in MIXED {
        assert!(matches!(decoded(fields, &DecodeOptions::new()), Err(HeaderError::V1Address(_))), "{fields}");
        let tolerant = DecodeOptions::new().v1_mixed_families(true);
        assert_eq!(decoded(fields, &tolerant).as_deref(), Ok(read));
    }
}

#[test]
fn tolerance_for_mixed_families_is_no_tolerance_for_anything_else() {
    let tolerant = DecodeOptions::new().v1_mixed_families(true);
    for (fields, error) in [
        ("TCP4 2001:db8::1 2001:db8::2 1 2", HeaderError::V1Address(Endpoint::Source)),
        ("TCP6 192.0.2.1 192.0.2.2 1 2", HeaderError::V1Address(Endpoint::Source)),
        ("TCP4 192.0.2.1 ::1 1 65536", HeaderError::V1Port(Endpoint::Destination)),
        ("TCP4 192.0.2.1 ::1 +1 2", HeaderError::V1Port(Endpoint::Source)),
        ("TCP4 192.0.2.1 ::1x 1 2", HeaderError::V1Address(Endpoint::Destination)),
        ("TCP4 192.0.2.1 ::1 1", HeaderError::V1MissingField),
        ("TCP4 192.0.2.1 192.0.2.2 1 02", HeaderError::V1Port(Endpoint::Destination)),
    ] {
        assert_eq!(decoded(fields, &tolerant), Err(error), "{fields}");
    }
    assert_eq!(decoded("TCP4 1.2.3.4 5.6.7.8 1 2", &tolerant).as_deref(), Ok("1.2.3.4:1 5.6.7.8:2"));
}

#[test]
fn the_error_names_the_field() {
    for (fields, error) in [
        ("TCP4 192.0.2.x 192.0.2.2 1 2", HeaderError::V1Address(Endpoint::Source)),
        ("TCP4 192.0.2.1 192.0.2 1 2", HeaderError::V1Address(Endpoint::Destination)),
        ("TCP6 ::1 ::2 01 2", HeaderError::V1Port(Endpoint::Source)),
        ("TCP6 ::1 ::2 1 ", HeaderError::V1Port(Endpoint::Destination)),
        ("TCP6 ::1 ::2 1 2 ", HeaderError::V1ExtraField),
        ("TCP6 ::1  ::2 1 2", HeaderError::V1Separator),
        ("TCP6 ::1 ::2 1", HeaderError::V1MissingField),
        (" TCP6 ::1 ::2 1 2", HeaderError::V1Separator),
        ("", HeaderError::V1Protocol),
    ] {
        assert_eq!(decoded(fields, &DecodeOptions::new()), Err(error), "{fields:?}");
    }
}

#[test]
fn a_line_that_can_be_read_must_keep_the_limit_too() {
    let address = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
    let text = format!("PROXY TCP6 {address} {address} 1 2\r\n");
    assert_eq!(decode(text.as_bytes(), &DecodeOptions::new()), Err(HeaderError::V1TooLong));
}

/// The rules of §2.1 to the letter, with nothing clever in it: find the end, cut at the spaces, read the fields.
fn by_the_letter(text: &str) -> Result<String, HeaderError> {
    let fields: Vec<&str> = text.strip_suffix("\r\n").expect("a whole line").split(' ').collect();
    let [_, protocol, source, destination, source_port, destination_port] = fields[..] else {
        return Err(match fields.len() {
            ..6 => HeaderError::V1MissingField,
            _ if text.contains("  ") => HeaderError::V1Separator,
            _ => HeaderError::V1ExtraField,
        });
    };
    let address = |text: &str, end| {
        let v4 = text.parse::<Ipv4Addr>().map(IpAddr::from);
        let v6 = text.parse::<Ipv6Addr>().map(IpAddr::from);
        if protocol == "TCP4" { v4 } else { v6 }.map_err(|_| HeaderError::V1Address(end))
    };
    let port = |text: &str, end| {
        let value = text.parse::<u16>().ok().filter(|value| value.to_string() == text);
        value.ok_or(HeaderError::V1Port(end))
    };
    let source = address(source, Endpoint::Source)?;
    let destination = address(destination, Endpoint::Destination)?;
    let source = SocketAddr::new(source, port(source_port, Endpoint::Source)?);
    let destination = SocketAddr::new(destination, port(destination_port, Endpoint::Destination)?);
    Ok(format!("{source} {destination}"))
}

proptest! {
    /// Nearly every text this makes is a header, or would be but for one thing.
    #[test]
    fn lines_are_read_by_the_letter(
        fields in "TCP[46]( [0-9]{1,3}(\\.[0-9]{1,3}){3}| [0-9a-f]{0,4}::[0-9a-f]{1,4}){2}( [0-9]{1,6}){1,2} {0,1}",
        change in prop::option::of((0..60_usize, prop::sample::select(&[" ", "", "\t", "+", "0"][..]))),
    ) {
        let mut text = format!("PROXY {fields}\r\n");
        if let Some((at, with)) = change.filter(|(at, _)| (11..text.len() - 2).contains(at)) {
            text.replace_range(at..=at, with);
        }
        let fields = text["PROXY ".len()..].strip_suffix("\r\n").unwrap();
        prop_assert_eq!(decoded(fields, &DecodeOptions::new()), by_the_letter(&text), "{:?}", text);
    }
}
