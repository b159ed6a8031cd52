//! Bytes as text for a terminal and back: printable ASCII stays, everything else is escaped.

/// The bytes that `text` stands for; `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` are escapes.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, EscapeError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let kind = rest.chars().next().ok_or(EscapeError::Unfinished)?;
        rest = &rest[kind.len_utf8()..];
        match kind {
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                let digits = rest.get(..2).ok_or(EscapeError::Unfinished)?;
                // from_str_radix alone would take `+f`.
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(EscapeError::Hex);
                }
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| EscapeError::Hex)?);
                rest = &rest[2..];
            }
            other => return Err(EscapeError::Unknown(other)),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// One line of text for any bytes; no control character reaches the terminal.
pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Why an escaped text stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EscapeError {
    #[error("the text ends inside an escape")]
    Unfinished,
    #[error("\\x needs two hexadecimal digits")]
    Hex,
    #[error("\\{0} is not an escape; \\n, \\r, \\t, \\0, \\\\ and \\xHH are")]
    Unknown(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(unescape(r"GET /\r\n\x00\\").unwrap(), b"GET /\r\n\0\\");
        assert_eq!(unescape("é").unwrap(), "é".as_bytes());
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(unescape("a\\"), Err(EscapeError::Unfinished));
        assert_eq!(unescape("\\x1"), Err(EscapeError::Unfinished));
        assert_eq!(unescape("\\x+f"), Err(EscapeError::Hex));
        assert_eq!(unescape("\\q"), Err(EscapeError::Unknown('q')));
    }

    #[test]
    fn no_control_character_is_printed() {
        assert_eq!(escape(b"SSH-2.0\r\n\x1b[0m\xff"), r"SSH-2.0\r\n\x1b[0m\xff");
    }
}
