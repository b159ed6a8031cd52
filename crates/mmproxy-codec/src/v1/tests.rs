use super::*;
use crate::header::Header;

fn line_of(text: &str) -> Result<Header<'_>, HeaderError> {
    decode_in_order(text.as_bytes(), &DecodeOptions::new()).map(|outcome| outcome.complete().unwrap().0)
}

#[test]
fn the_plain_reader_leaves_everything_peculiar_to_the_other() {
    for text in
        ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n", "PROXY UNKNOWN\r\n"]
    {
        assert_eq!(plain_line(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn both_readers_agree_on_plain_lines() {
    for text in ["PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "PROXY TCP6 ::1 2001:db8::2 0 65535\r\n"] {
        let (addresses, consumed) = plain_line(text.as_bytes()).unwrap();
        assert_eq!(consumed, text.len());
        assert_eq!(line_of(text), Ok(tcp(addresses)));
    }
}
