//! Numbers and addresses in text: what §2.1 allows and nothing else.
//!
//! Written by hand: these four functions are where the time of a v1 header goes, and the ready-made parsers take
//! either more than the grammar (`u16::from_str` takes `+80`) or a second pass to find the end of the field.
//! Each returns the value and what follows it; the caller says what may follow.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A dotted quad: four numbers from 0 to 255 without leading zeros.
#[inline]
pub(super) fn ipv4(input: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let (a, rest) = octet(input)?;
    let (b, rest) = octet(rest.strip_prefix(b".")?)?;
    let (c, rest) = octet(rest.strip_prefix(b".")?)?;
    let (d, rest) = octet(rest.strip_prefix(b".")?)?;
    Some((Ipv4Addr::new(a, b, c, d), rest))
}

/// A decimal number from 0 to 65535 without sign or leading zeros.
///
/// Stops behind a leading 0, so that a digit there is left for the caller, who does not accept it.
#[inline]
pub(super) fn port(input: &[u8]) -> Option<(u16, &[u8])> {
    let (value, rest) = decimal::<5>(input)?;
    Some((u16::try_from(value).ok()?, rest))
}

/// One number of a dotted quad, as [`port`].
#[inline]
fn octet(input: &[u8]) -> Option<(u8, &[u8])> {
    let (value, rest) = decimal::<3>(input)?;
    Some((u8::try_from(value).ok()?, rest))
}

/// Up to `DIGITS` digits; exactly one if the first is 0.
#[inline]
fn decimal<const DIGITS: usize>(input: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = digit(*input.first()?)?;
    let mut len = 1;
    if value != 0 {
        while len < DIGITS
            && let Some(next) = input.get(len).copied().and_then(digit)
        {
            value = value * 10 + next;
            len += 1;
        }
    }
    Some((value, &input[len..]))
}

#[inline]
fn digit(byte: u8) -> Option<u32> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(u32::from(value))
}

/// What `inet_pton(AF_INET6)` takes: hexadecimal groups, one `::`, and a dotted quad in the last 32 bits.
///
/// The dotted tail is outside the letter of the grammar, but HAProxy writes `::ffff:192.0.2.1` when it mixes
/// families. No zone, no brackets, no prefix length.
#[inline]
pub(super) fn ipv6(input: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let mut groups = [0_u16; 8];
    let mut filled = 0;
    // Where the groups behind the `::` begin.
    let mut gap = None;
    let mut rest = input;
    if let Some(behind) = rest.strip_prefix(b"::") {
        gap = Some(0);
        rest = behind;
        if rest.first().is_none_or(|byte| hex(*byte) > 15) {
            return Some((Ipv6Addr::UNSPECIFIED, rest));
        }
    }
    loop {
        let (group, behind) = group(rest)?;
        if behind.first() == Some(&b'.') {
            // The digits just read are the first octet of a dotted tail.
            let (tail, behind) = ipv4(rest)?;
            let [a, b, c, d] = tail.octets();
            *groups.get_mut(filled + 1)? = u16::from_be_bytes([c, d]);
            groups[filled] = u16::from_be_bytes([a, b]);
            filled += 2;
            rest = behind;
            break;
        }
        *groups.get_mut(filled)? = group;
        filled += 1;
        let Some(behind) = behind.strip_prefix(b":") else {
            rest = behind;
            break;
        };
        rest = behind;
        if let Some(behind) = rest.strip_prefix(b":") {
            if gap.replace(filled).is_some() {
                return None;
            }
            rest = behind;
            if rest.first().is_none_or(|byte| hex(*byte) > 15) {
                break;
            }
        }
    }
    match gap {
        None if filled == 8 => {}
        // `::` stands for at least one group.
        Some(gap) if filled < 8 => {
            groups.copy_within(gap..filled, 8 - (filled - gap));
            groups[gap..8 - (filled - gap)].fill(0);
        }
        None | Some(_) => return None,
    }
    Some((Ipv6Addr::from(groups), rest))
}

/// One to four hexadecimal digits.
#[inline]
fn group(input: &[u8]) -> Option<(u16, &[u8])> {
    let mut value = 0_u16;
    let mut len = 0;
    while len < 4
        && let Some(byte) = input.get(len)
    {
        let digit = hex(*byte);
        if digit > 15 {
            break;
        }
        value = value << 4 | u16::from(digit);
        len += 1;
    }
    (len > 0).then(|| (value, &input[len..]))
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
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The standard library's parsers take exactly what §2.1 allows; ours must agree on every text.
        #[test]
        fn addresses_are_read_as_the_standard_library_reads_them(
            text in "[0-9]{1,3}(\\.[0-9]{0,3}){2,4}|([0-9a-fA-F]{0,5}:){0,9}:?[0-9a-fA-F]{0,4}(\\.[0-9]{1,3}){0,4}|[0-9a-f:.]{0,40}",
        ) {
            let whole4 = ipv4(text.as_bytes()).and_then(|(ip, rest)| rest.is_empty().then_some(ip));
            let whole6 = ipv6(text.as_bytes()).and_then(|(ip, rest)| rest.is_empty().then_some(ip));
            prop_assert_eq!(whole4, text.parse::<Ipv4Addr>().ok(), "{}", text);
            prop_assert_eq!(whole6, text.parse::<Ipv6Addr>().ok(), "{}", text);
        }

        #[test]
        fn every_address_survives_its_own_text(v4: Ipv4Addr, v6: Ipv6Addr, sparse in proptest::array::uniform8(0_u16..2)) {
            for ip in [v6, Ipv6Addr::from(sparse), v4.to_ipv6_mapped(), v4.to_ipv6_compatible()] {
                let text: String = std::format!("{ip} ");
                prop_assert_eq!(ipv6(text.as_bytes()), Some((ip, b" ".as_slice())));
            }
            let text = std::format!("{v4} ");
            prop_assert_eq!(ipv4(text.as_bytes()), Some((v4, b" ".as_slice())));
        }
    }

    #[test]
    fn every_port_is_read_and_no_other_number() {
        for value in 0..=u16::MAX {
            let text = std::format!("{value}\r");
            assert_eq!(port(text.as_bytes()), Some((value, b"\r".as_slice())));
        }
        assert_eq!(port(b"65536 "), None);
        assert_eq!(port(b"99999 "), None);
        assert_eq!(port(b"+80 "), None);
        assert_eq!(port(b""), None);
        // What is left over makes the caller fail.
        assert_eq!(port(b"080 "), Some((0, b"80 ".as_slice())));
        assert_eq!(port(b"655350 "), Some((65535, b"0 ".as_slice())));
    }
}
