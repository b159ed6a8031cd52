//! Numbers and addresses in text: what §2.1 allows and nothing else.
//!
//! Written by hand: these functions are where the time of a v1 header goes, and the ready-made parsers take either
//! more than the grammar (`u16::from_str` takes `+80`) or a second pass to find the end of the field. Each takes
//! its value off the front of the input; what may follow is the caller's to say. After `None` the input is where
//! the reader gave up. The small ones are inlined by force: called, they cost more in passing values than in
//! reading them.

/// A dotted quad: four numbers from 0 to 255 without leading zeros.
#[inline(always)]
pub(super) fn ipv4(input: &mut &[u8]) -> Option<[u8; 4]> {
    let a = octet(input)?;
    dot(input)?;
    let b = octet(input)?;
    dot(input)?;
    let c = octet(input)?;
    dot(input)?;
    let d = octet(input)?;
    Some([a, b, c, d])
}

#[inline(always)]
fn dot(input: &mut &[u8]) -> Option<()> {
    *input = input.strip_prefix(b".")?;
    Some(())
}

/// A decimal number from 0 to 65535 without sign or leading zeros.
///
/// Stops behind a leading 0, so that a digit there is left for the caller, who does not accept it.
#[inline(always)]
pub(super) fn port(input: &mut &[u8]) -> Option<u16> {
    decimal::<5>(input).and_then(|value| u16::try_from(value).ok())
}

/// One number of a dotted quad, as [`port`].
#[inline(always)]
fn octet(input: &mut &[u8]) -> Option<u8> {
    decimal::<3>(input).and_then(|value| u8::try_from(value).ok())
}

/// Up to `DIGITS` digits; exactly one if the first is 0.
#[inline(always)]
fn decimal<const DIGITS: usize>(input: &mut &[u8]) -> Option<u32> {
    let mut value = digit(input)?;
    if value != 0 {
        for _ in 1..DIGITS {
            let Some(next) = digit(input) else { break };
            value = value * 10 + next;
        }
    }
    Some(value)
}

/// A digit; anything else is left in the input.
#[inline(always)]
fn digit(input: &mut &[u8]) -> Option<u32> {
    let (first, rest) = input.split_first()?;
    let value = first.wrapping_sub(b'0');
    if value > 9 {
        return None;
    }
    *input = rest;
    Some(u32::from(value))
}

/// What `inet_pton(AF_INET6)` takes: hexadecimal groups, one `::`, and a dotted quad in the last 32 bits.
///
/// The dotted tail is outside the letter of the grammar, but HAProxy writes `::ffff:192.0.2.1` when it mixes
/// families. No zone, no brackets, no prefix length.
#[inline]
pub(super) fn ipv6(input: &mut &[u8]) -> Option<[u8; 16]> {
    // Groups before the `::`, or all of them; and those behind it. Each in the low bits, the last group lowest.
    let (mut head, mut tail) = (0_u128, 0_u128);
    let mut groups = 0;
    // Groups before the `::`.
    let mut gap = None;
    if input.starts_with(b"::") {
        *input = &input[2..];
        gap = Some(0);
        if !starts_with_hex(input) {
            return Some([0; 16]);
        }
    }
    loop {
        let start = *input;
        let mut value = u128::from(group(input)?);
        let mut bits = 16;
        if input.first() == Some(&b'.') {
            // The digits just read are the first octet of a dotted tail.
            *input = start;
            value = u128::from(u32::from_be_bytes(ipv4(input)?));
            bits = 32;
        }
        groups += bits / 16;
        if groups > 8 {
            return None;
        }
        let part = if gap.is_some() { &mut tail } else { &mut head };
        *part = *part << bits | value;
        if bits == 32 || input.first() != Some(&b':') {
            break;
        }
        *input = &input[1..];
        if input.first() == Some(&b':') {
            *input = &input[1..];
            if gap.replace(groups).is_some() {
                return None;
            }
            if !starts_with_hex(input) {
                break;
            }
        }
    }
    match gap {
        None if groups == 8 => Some(head.to_be_bytes()),
        // `::` stands for at least one group, and `before` is at most 7 then.
        Some(0) if groups < 8 => Some(tail.to_be_bytes()),
        Some(before) if groups < 8 => Some((head << (128 - 16 * before) | tail).to_be_bytes()),
        None | Some(_) => None,
    }
}

#[inline]
fn starts_with_hex(input: &[u8]) -> bool {
    input.first().is_some_and(|byte| hex(*byte) < 16)
}

/// One to four hexadecimal digits.
#[inline(always)]
fn group(input: &mut &[u8]) -> Option<u16> {
    let mut value = 0_u16;
    let mut len = 0;
    while len < 4
        && let Some(byte) = input.get(len)
        && hex(*byte) < 16
    {
        value = value << 4 | u16::from(hex(*byte));
        len += 1;
    }
    *input = &input[len..];
    (len > 0).then_some(value)
}

/// The value of a hexadecimal digit, or more than 15.
#[inline]
const fn hex(byte: u8) -> u8 {
    HEX[byte as usize]
}

/// [`hex`] as a table: a chain of range checks mispredicts on addresses.
static HEX: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    /// What `read` takes off the front of `text`, and what it leaves.
    fn front<T>(read: impl Fn(&mut &[u8]) -> Option<T>, text: &str) -> Option<(T, &str)> {
        let mut rest = text.as_bytes();
        read(&mut rest).map(|value| (value, &text[text.len() - rest.len()..]))
    }

    proptest! {
        /// The standard library's parsers take exactly what §2.1 allows; ours must agree on every text.
        #[test]
        fn addresses_are_read_as_the_standard_library_reads_them(
            text in "[0-9]{1,3}(\\.[0-9]{0,3}){2,4}|([0-9a-fA-F]{0,5}:){0,9}:?[0-9a-fA-F]{0,4}(\\.[0-9]{1,3}){0,4}|[0-9a-f:.]{0,40}",
        ) {
            let whole4 = front(ipv4, &text).and_then(|(ip, rest)| rest.is_empty().then_some(Ipv4Addr::from(ip)));
            let whole6 = front(ipv6, &text).and_then(|(ip, rest)| rest.is_empty().then_some(Ipv6Addr::from(ip)));
            prop_assert_eq!(whole4, text.parse::<Ipv4Addr>().ok(), "{}", text);
            prop_assert_eq!(whole6, text.parse::<Ipv6Addr>().ok(), "{}", text);
        }

        #[test]
        fn every_address_survives_its_own_text(v4: Ipv4Addr, v6: Ipv6Addr, sparse in proptest::array::uniform8(0_u16..2)) {
            for ip in [v6, Ipv6Addr::from(sparse), v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
                let text: String = std::format!("{ip} ");
                prop_assert_eq!(front(ipv6, &text), Some((ip.octets(), " ")));
            }
            let text = std::format!("{v4} ");
            prop_assert_eq!(front(ipv4, &text), Some((v4.octets(), " ")));
        }
    }

    /// What chance seldom makes: a `::` at each place among each number of groups, with a dotted tail and without.
    #[test]
    fn a_gap_stands_for_one_group_at_least_wherever_it_is() {
        for (groups, gap) in (0..=9).flat_map(|groups| (0..=groups + 1).map(move |gap| (groups, gap))) {
            for tail in ["", ":192.0.2.1", "192.0.2.1"] {
                let mut text = String::new();
                for group in 0..groups {
                    text += match group {
                        0 if gap == 0 => "::",
                        0 => "",
                        _ if group == gap => "::",
                        _ => ":",
                    };
                    text += "a1";
                }
                text += if gap == groups && groups > 0 { "::" } else { "" };
                text += tail;
                let read =
                    front(ipv6, &text).and_then(|(ip, rest)| rest.is_empty().then_some(Ipv6Addr::from(ip)));
                assert_eq!(read, text.parse().ok(), "{text}");
            }
        }
    }

    #[test]
    fn every_port_is_read_and_no_other_number() {
        for value in 0..=u16::MAX {
            let text = std::format!("{value}\r");
            assert_eq!(front(port, &text), Some((value, "\r")));
        }
        for wrong in ["65536 ", "99999 ", "+80 ", ""] {
            assert_eq!(front(port, wrong), None, "{wrong:?}");
        }
        // What is left over makes the caller fail.
        assert_eq!(front(port, "080 "), Some((0, "80 ")));
        assert_eq!(front(port, "655350 "), Some((65535, "0 ")));
    }
}
