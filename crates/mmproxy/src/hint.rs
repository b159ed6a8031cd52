//! What a peer speaks instead of PROXY, by its first bytes.

/// What `opening`, the first bytes of a connection that has no header, looks like, as a sentence with its cure; `None` if it
/// looks like nothing that is known.
///
/// Told to people, never acted upon.
pub(crate) fn hint(opening: &[u8]) -> Option<&'static str> {
    Some(match opening {
        [0x16, 0x03, 0..=4, _, _, 0x01, ..] => {
            "looks like a TLS ClientHello: the balancer does not send PROXY, or sends it inside TLS"
        }
        [0x80..=0x8f, _, 0x01, 0x00 | 0x03, ..] => {
            "looks like an SSL 2 hello: the balancer does not send PROXY"
        }
        [b'S', b'S', b'H', b'-', ..] => {
            "looks like an SSH banner: the balancer does not send PROXY, or the client came directly"
        }
        [b'P', b'R', b'I', b' ', b'*', b' ', b'H', b'T', b'T', b'P', ..] => {
            "looks like HTTP/2: the balancer does not send PROXY"
        }
        _ if is_http(opening) => "looks like an HTTP request: the balancer does not send PROXY",
        _ if starts_with_word(opening, &["EHLO", "HELO", "LHLO"]) => {
            "looks like SMTP: the balancer does not send PROXY"
        }
        [b'2', b'2', b'0', b' ' | b'-', ..] => {
            "looks like an SMTP or FTP greeting: a server is connected here, not a balancer"
        }
        [0x03, 0x00, _, _, _, 0xe0, ..] => {
            "looks like a remote desktop (RDP) request: the balancer does not send PROXY"
        }
        [0x00, 0x00, 0x00, 0x08, 0x04, 0xd2, 0x16, 0x2f, ..]
        | [0x00, 0x00, _, _, 0x00, 0x03, 0x00, 0x00, ..] => {
            "looks like a PostgreSQL client: the balancer does not send PROXY"
        }
        [b'*', b'0'..=b'9', b'\r' | b'0'..=b'9', ..] => {
            "looks like a Redis command: the balancer does not send PROXY"
        }
        [0x10, _, 0x00, 0x04 | 0x06, b'M', b'Q', ..] => "looks like MQTT: the balancer does not send PROXY",
        [0x05, 1..=9, ..] => "looks like a SOCKS 5 request: the balancer does not send PROXY",
        _ if starts_with_word(opening, &["proxy", "Proxy"]) => {
            "looks like a PROXY header, which is written in capitals"
        }
        _ if opening.first().is_some_and(u8::is_ascii_whitespace)
            && opening.trim_ascii_start().starts_with(b"PROXY ") =>
        {
            "looks like a PROXY header behind white space"
        }
        _ if has_simple_header(opening) => {
            "looks like Cloudflare's Simple Proxy Protocol, which is for datagrams: use PROXY for TCP"
        }
        _ => return None,
    })
}

fn is_http(opening: &[u8]) -> bool {
    starts_with_word(
        opening,
        &["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND"],
    )
}

/// One of `words`, then a space.
fn starts_with_word(opening: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| {
        opening
            .strip_prefix(word.as_bytes())
            .is_some_and(|rest| rest.first().is_some_and(|byte| *byte == b' '))
    })
}

/// The magic number at its start.
fn has_simple_header(opening: &[u8]) -> bool {
    opening.starts_with(&[0x56, 0xec])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn what_often_comes_instead_of_a_header_is_recognised() {
        let looks = |bytes: &[u8], expected: &str| {
            let hint = hint(bytes).unwrap_or("nothing");
            assert!(hint.contains(expected), "{}: {hint}", bytes.escape_ascii());
        };
        looks(b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH banner");
        // As openssl s_client begins.
        looks(b"\x16\x03\x01\x01\x2e\x01\0\x01\x2a\x03\x03", "TLS ClientHello");
        looks(b"GET / HTTP/1.1\r\nHost: example.org", "HTTP request");
        looks(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2");
        looks(b"EHLO client.example\r\n", "SMTP");
        looks(b"220 mail.example ESMTP\r\n", "greeting");
        looks(b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0", "RDP");
        looks(b"\0\0\0\x08\x04\xd2\x16\x2f", "PostgreSQL");
        looks(b"\0\0\0\x54\0\x03\0\0user\0", "PostgreSQL");
        looks(b"*1\r\n$4\r\nPING\r\n", "Redis");
        looks(b"\x10\x10\0\x04MQTT\x04\x02", "MQTT");
        looks(b"\x05\x01\0", "SOCKS");
        looks(b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "capitals");
        looks(b"\r\nPROXY TCP4 ", "white space");
        looks(b"\x56\xec\0\0", "Simple Proxy Protocol");
    }

    #[test]
    fn what_resembles_nothing_gets_no_hint() {
        for bytes in [&b""[..], b"\0", b"GETTING", b"hello", b"\x16\x03", b"SSH"] {
            assert_eq!(hint(bytes), None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_hint_or_none(bytes in vec(any::<u8>(), 0..40)) {
            if let Some(hint) = hint(&bytes) {
                prop_assert!(hint.starts_with("looks like "));
            }
        }
    }
}
