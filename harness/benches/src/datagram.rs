//! A datagram of the bench: a hello with the datagram's number as its seed, filled up with bytes that can be checked.

use crate::wire::Hello;

/// Writes a datagram of `size` bytes.
///
/// # Panics
///
/// If the hello does not fit.
pub(crate) fn write(hello: Hello, size: usize, into: &mut Vec<u8>) {
    assert!(size >= Hello::LEN, "a datagram begins with a hello");
    let start = into.len();
    into.extend_from_slice(&hello.to_bytes());
    into.resize(start + size, filler(hello.seed));
}

/// What [`write()`] wrote; `None` if these are other bytes.
pub(crate) fn read(bytes: &[u8]) -> Option<Hello> {
    let (head, rest) = bytes.split_first_chunk::<{ Hello::LEN }>()?;
    let hello = Hello::from_bytes(head)?;
    let wanted = filler(hello.seed);
    rest.iter().all(|&byte| byte == wanted).then_some(hello)
}

/// Each datagram has its own, nearly.
const fn filler(number: u64) -> u8 {
    crate::pattern::mix(number).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Role;

    #[test]
    fn a_datagram_is_read_as_it_was_written_and_any_changed_byte_behind_the_hello_is_noticed() {
        let hello = Hello { client: "44.1.2.3:4711".parse().unwrap(), role: Role::Echo, seed: 99 };
        let mut bytes = Vec::new();
        write(hello, 64, &mut bytes);
        assert_eq!((bytes.len(), read(&bytes)), (64, Some(hello)));
        for position in Hello::LEN..64 {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert_eq!(read(&changed), None);
        }
        assert_eq!(read(&bytes[..20]), None);
    }
}
