//! Where the oracles are known to answer otherwise, and why we do not follow them.
//!
//! The only exceptions that `differential` makes. Each has an input that shows it; a test looks whether it still
//! does, and whether README.md lists it.

use mmproxy_codec::HeaderError;

use crate::oracles::{Answer, Oracle};

/// One kind of input that an oracle answers otherwise.
pub struct Disagreement {
    /// Its name in README.md.
    pub name: &'static str,
    /// Who is of another opinion.
    pub oracle: Oracle,
    /// An input that shows it.
    pub example: &'static [u8],
    /// Whether it is the reason for these two answers to this input.
    applies: fn(&[u8], &Answer, &Answer) -> bool,
}

impl Disagreement {
    /// Whether it is the reason for these two answers to this input.
    pub fn covers(&self, oracle: Oracle, data: &[u8], ours: &Answer, theirs: &Answer) -> bool {
        self.oracle == oracle && (self.applies)(data, ours, theirs)
    }
}

/// All that is known.
pub const DISAGREEMENTS: &[Disagreement] = &[
    Disagreement {
        name: "ppp-v1-never-gives-up",
        oracle: Oracle::Ppp,
        example: b"PROXY TCP4 192.0.2.1\r\n",
        applies: |data, ours, theirs| v1(data) && refused(ours) && incomplete(theirs),
    },
    Disagreement {
        name: "ppp-v1-refuses-before-the-end-of-the-line",
        oracle: Oracle::Ppp,
        example: b"PROXY TCP4 192.0.2.1 192.0.2.2 1 ",
        applies: |data, ours, theirs| v1(data) && incomplete(ours) && refused(theirs),
    },
    Disagreement {
        name: "ppp-v1-plus-sign-in-ports",
        oracle: Oracle::Ppp,
        example: b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        applies: |_, ours, theirs| matches!(ours.reason(), Some(HeaderError::V1Port(_))) && whole(theirs),
    },
    Disagreement {
        name: "ppp-v1-reads-the-text-behind-unknown",
        oracle: Oracle::Ppp,
        example: b"PROXY UNKNOWN \xFF\r\n",
        applies: |data, ours, theirs| unknown(data) && whole(ours) && !whole(theirs),
    },
    Disagreement {
        name: "ppp-v1-bare-lf-behind-unknown",
        oracle: Oracle::Ppp,
        example: b"PROXY UNKNOWN a\nb\r\n",
        applies: |data, ours, theirs| {
            unknown(data) && ours.reason() == Some(HeaderError::V1BareLf) && whole(theirs)
        },
    },
    Disagreement {
        name: "ppp-v1-space-and-lf-for-crlf",
        oracle: Oracle::Ppp,
        example: b"PROXY TCP6 ::1 ::2 166 535 \n",
        applies: |data, ours, theirs| {
            !unknown(data) && ours.reason() == Some(HeaderError::V1BareLf) && whole(theirs)
        },
    },
    Disagreement {
        name: "ppp-v2-reads-local",
        oracle: Oracle::Ppp,
        example: b"\r\n\r\n\0\r\nQUIT\n\x20\x11\x00\x0C\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02",
        applies: |data, ours, _| v2(data, 12, |byte| byte == 0x20) && !refused(ours),
    },
    Disagreement {
        name: "ppp-v2-reads-unspec-transport",
        oracle: Oracle::Ppp,
        example: b"\r\n\r\n\0\r\nQUIT\n\x21\x10\x00\x0C\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02",
        applies: |data, ours, _| v2(data, 13, |byte| byte & 0x0F == 0) && !refused(ours),
    },
    Disagreement {
        name: "ppp-v2-does-not-check-tlvs",
        oracle: Oracle::Ppp,
        example: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0D\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02\x04",
        applies: |_, ours, theirs| about_tlvs(ours) && whole(theirs),
    },
    Disagreement {
        name: "ppp-v2-waits-for-sixteen-bytes",
        oracle: Oracle::Ppp,
        example: b"\r\n\r\n\0\r\nQUIT\n\x31",
        applies: |data, ours, theirs| data.len() < 16 && refused(ours) && incomplete(theirs),
    },
    Disagreement {
        name: "proxy-header-never-gives-up",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY TCP4 192.0.2.1\r\n",
        applies: |_, ours, theirs| refused(ours) && incomplete(theirs),
    },
    Disagreement {
        name: "proxy-header-v1-refuses-before-the-end-of-the-line",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY TCP4 192.0.2.x ",
        applies: |data, ours, theirs| v1(data) && incomplete(ours) && refused(theirs),
    },
    Disagreement {
        name: "proxy-header-v1-any-byte-behind-proxy",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        applies: |data, ours, theirs| {
            v1(data) && data.get(5) != Some(&b' ') && refused(ours) && whole(theirs)
        },
    },
    Disagreement {
        name: "proxy-header-v1-ports-with-sign-or-zeros",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY TCP4 192.0.2.1 192.0.2.2 +01 2\r\n",
        applies: |_, ours, theirs| matches!(ours.reason(), Some(HeaderError::V1Port(_))) && whole(theirs),
    },
    Disagreement {
        name: "proxy-header-v1-unknown-is-a-prefix",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY UNKNOWNX\r\n",
        applies: |data, ours, theirs| {
            unknown(data) && ours.reason() == Some(HeaderError::V1Protocol) && whole(theirs)
        },
    },
    Disagreement {
        name: "proxy-header-v1-bare-lf-behind-unknown",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY UNKNOWN a\nb\r\n",
        applies: |data, ours, theirs| {
            unknown(data) && ours.reason() == Some(HeaderError::V1BareLf) && whole(theirs)
        },
    },
    Disagreement {
        name: "proxy-header-v1-no-limit-on-whole-lines",
        oracle: Oracle::ProxyHeader,
        example: b"PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        applies: |_, ours, theirs| ours.reason() == Some(HeaderError::V1TooLong) && whole(theirs),
    },
    Disagreement {
        name: "proxy-header-v2-reads-local",
        oracle: Oracle::ProxyHeader,
        example: b"\r\n\r\n\0\r\nQUIT\n\x20\xFF\0\0",
        applies: |data, ours, theirs| v2(data, 12, |byte| byte == 0x20) && whole(ours) && !whole(theirs),
    },
    Disagreement {
        name: "proxy-header-v2-one-unspec-nibble",
        oracle: Oracle::ProxyHeader,
        example: b"\r\n\r\n\0\r\nQUIT\n\x21\x01\0\0",
        applies: |data, ours, theirs| {
            v2(data, 13, |byte| byte & 0x0F == 0 || byte >> 4 == 0) && whole(ours) && refused(theirs)
        },
    },
    Disagreement {
        name: "proxy-header-v2-does-not-check-tlvs",
        oracle: Oracle::ProxyHeader,
        example: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0D\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02\x04",
        applies: |_, ours, theirs| about_tlvs(ours) && whole(theirs),
    },
];

fn whole(answer: &Answer) -> bool {
    matches!(answer, Answer::Header(..))
}

fn incomplete(answer: &Answer) -> bool {
    matches!(answer, Answer::Incomplete)
}

fn refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(_))
}

/// Whether the input is, or begins, a v1 line.
fn v1(data: &[u8]) -> bool {
    data.first() == Some(&b'P')
}

fn unknown(data: &[u8]) -> bool {
    data.get(6..).is_some_and(|text| text.starts_with(b"UNKNOWN"))
}

/// Whether the byte at `at` of a v2 header is of this kind.
fn v2(data: &[u8], at: usize, is: impl Fn(u8) -> bool) -> bool {
    data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && data.get(at).is_some_and(|byte| is(*byte))
}

/// Whether we refused a whole header for what stands in its TLVs.
fn about_tlvs(ours: &Answer) -> bool {
    matches!(
        ours.reason(),
        Some(
            HeaderError::V2Tlv { .. }
                | HeaderError::V2Crc32c { .. }
                | HeaderError::V2Crc32cLen(_)
                | HeaderError::V2UniqueIdLen(_)
        )
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::{differential, ours};

    #[test]
    fn every_disagreement_shows_in_its_example_and_is_in_the_readme() {
        let readme = fs::read_to_string(here().join("README.md")).expect("README.md is there");
        for listed in DISAGREEMENTS {
            let (ours, theirs) = (ours(listed.example), listed.oracle.answer(listed.example));
            assert!(!ours.agrees_with(&theirs), "{}: both say {ours:?}", listed.name);
            let covered = listed.covers(listed.oracle, listed.example, &ours, &theirs);
            assert!(covered, "{}: {ours:?} and {theirs:?}", listed.name);
            assert!(
                readme.contains(&format!("| `{}` |", listed.name)),
                "{} is not in README.md",
                listed.name
            );
        }
        let rows = readme.lines().filter(|line| line.starts_with("| `p")).count();
        assert_eq!(rows, DISAGREEMENTS.len(), "README.md lists others");
    }

    #[test]
    fn every_kept_input_of_the_fuzzer_passes() {
        let mut inputs = 0;
        for folder in ["corpus/differential", "regressions/differential"] {
            let Ok(entries) = fs::read_dir(here().join(folder)) else { continue };
            for entry in entries {
                let path = entry.expect("the corpus is readable").path();
                println!("{}", path.display());
                differential(&fs::read(&path).expect("an input is readable"));
                inputs += 1;
            }
        }
        assert!(inputs > 0, "there is no corpus");
    }

    fn here() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }
}
