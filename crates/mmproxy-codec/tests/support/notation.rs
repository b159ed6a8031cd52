//! The notation for bytes that `tests/vectors/README.md` describes.

/// The bytes that `text` stands for: hexadecimal words, repetitions, strings, comments.
///
/// # Panics
///
/// If `text` is none of these.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '#' => rest.split_once('\n').map_or("", |(_, behind)| behind),
            '"' => string(&rest[1..], &mut bytes),
            _ => {
                let (word, behind) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
                bytes.extend(repeated(word));
                behind
            }
        }
        .trim_start();
    }
    bytes
}

/// `c0a8*3`.
fn repeated(word: &str) -> Vec<u8> {
    match word.split_once('*') {
        Some((unit, times)) => hex(unit).repeat(times.parse().expect("a number behind the star")),
        None => hex(word),
    }
}

fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2) && digits.is_ascii(), "odd hexadecimal word {digits:?}");
    let byte =
        |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits per byte");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A string whose opening quote has been taken; returns what follows its closing quote.
fn string<'t>(text: &'t str, bytes: &mut Vec<u8>) -> &'t str {
    let mut rest = text;
    loop {
        let first = *rest.as_bytes().first().expect("a string ends with a quote");
        rest = &rest[1..];
        match first {
            b'"' => return rest,
            b'\\' => {
                let (escape, behind) = rest.split_at(if rest.starts_with('x') { 3 } else { 1 });
                match escape {
                    "r" => bytes.push(b'\r'),
                    "n" => bytes.push(b'\n'),
                    "t" => bytes.push(b'\t'),
                    "0" => bytes.push(0),
                    "\"" | "\\" => bytes.extend(escape.as_bytes()),
                    _ => bytes.extend(hex(escape.strip_prefix('x').expect("one of the known escapes"))),
                }
                rest = behind;
            }
            plain => {
                assert!(plain.is_ascii(), "text in vectors is ASCII");
                bytes.push(plain);
            }
        }
    }
}
