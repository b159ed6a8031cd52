//! Hexadecimal text, as people write it and as the vectors carry it.

use std::fmt::Write as _;

/// Bytes written as hexadecimal digits; blanks, line ends and `# comments` do not count.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for (index, line) in text.lines().enumerate() {
        let digits = line.split('#').next().unwrap_or_default();
        for c in digits.chars().filter(|c| !c.is_whitespace()) {
            let digit = c.to_digit(16).ok_or(HexError::Digit { found: c, line: index + 1 })? as u8;
            match high.take() {
                None => high = Some(digit),
                Some(high) => bytes.push(high << 4 | digit),
            }
        }
    }
    if high.is_some() { Err(HexError::Odd) } else { Ok(bytes) }
}

/// Two lower-case digits for each byte, nothing between.
pub(crate) fn format(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// Why text is not hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    #[error("line {line}: {found:?} is not a hexadecimal digit")]
    Digit { found: char, line: usize },
    #[error("an odd number of hexadecimal digits")]
    Odd,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_may_be_spaced_and_commented() {
        assert_eq!(parse("0d0a 0D0a # signature\n 00 # NUL\n"), Ok(vec![0x0d, 0x0a, 0x0d, 0x0a, 0]));
    }

    #[test]
    fn what_is_not_hexadecimal_is_named_with_its_line() {
        assert_eq!(parse("00\n0x"), Err(HexError::Digit { found: 'x', line: 2 }));
        assert_eq!(parse("000"), Err(HexError::Odd));
    }

    #[test]
    fn formatting_is_the_inverse_of_parsing() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(parse(&format(&bytes)), Ok(bytes));
    }
}
