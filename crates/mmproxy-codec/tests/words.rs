//! What errors and values say: one keyword per rule, the offending value in the text, nothing said twice.

use std::collections::HashMap;
use std::error::Error;

use mmproxy_codec::{Command, Endpoint, Family, HeaderError, LimitError, TlvError, Transport, Version};

#[test]
fn keywords_never_change() {
    let texts = errors().map(|(error, keyword)| {
        assert_eq!(error.keyword(), keyword);
        (error.to_string(), keyword)
    });
    // Rules may share a keyword, but no two share a text.
    assert_eq!(texts.iter().cloned().collect::<HashMap<_, _>>().len(), texts.len());
}

#[test]
fn texts_fit_into_the_middle_of_a_line() {
    for (error, _) in errors() {
        let text = error.to_string();
        assert!(!text.ends_with('.') && !text.contains('\n') && !text.is_empty(), "{text:?}");
        assert!(error.source().is_none(), "{text:?} has said everything");
    }
}

#[test]
fn texts_carry_the_offending_value() {
    let short = HeaderError::V2ShortAddress { family: Family::Inet6, need: 36, got: 12 };
    for (error, text) in [
        (HeaderError::VersionNotAccepted(Version::Spp), "SPP header where this version is not accepted"),
        (HeaderError::V1TooLong, "v1 line has no CRLF in its first 107 bytes"),
        (
            HeaderError::V1Address(Endpoint::Destination),
            "v1 destination address is not one of the announced family",
        ),
        (HeaderError::V1Port(Endpoint::Source), "v1 source port is not a decimal number from 0 to 65535"),
        (HeaderError::V2Version(1), "v2 signature with version 1"),
        (HeaderError::V2Command(0xF), "v2 command 0xf is unassigned"),
        (short, "v2 length field is 12, inet6 addresses need 36 bytes"),
        (
            HeaderError::V2Crc32c { stored: 1, computed: 0xE306_9283 },
            "v2 CRC32C is 0x00000001, the header's is 0xe3069283",
        ),
        (
            HeaderError::Truncated { need: 38, got: 2 },
            "datagram of 2 bytes ends inside its header of at least 38 bytes",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(LimitError(1).to_string(), "limit of 1 bytes for v2 headers is outside 4096 to 65551");
}

#[test]
fn values_have_the_names_of_the_specification() {
    assert_eq!([Version::V1, Version::V2, Version::Spp].map(|it| it.to_string()), ["v1", "v2", "SPP"]);
    assert_eq!([Command::Local, Command::Proxy].map(|it| it.to_string()), ["LOCAL", "PROXY"]);
    let families = [Family::Unspec, Family::Inet, Family::Inet6, Family::Unix];
    assert_eq!(families.map(|it| it.to_string()), ["unspec", "inet", "inet6", "unix"]);
    let transports = [Transport::Unspec, Transport::Stream, Transport::Datagram];
    assert_eq!(transports.map(|it| it.to_string()), ["unspec", "stream", "dgram"]);
    let views = [TlvError::NotUtf8, TlvError::NotAscii, TlvError::Length, TlvError::Nested];
    assert!(views.iter().all(|error| error.to_string().starts_with("TLV ")));
}

#[cfg(feature = "std")]
#[test]
fn a_reader_may_use_the_question_mark() {
    use std::io;

    use mmproxy_codec::encode::EncodeError;

    let error = io::Error::from(HeaderError::V1BareLf);
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(error.to_string(), HeaderError::V1BareLf.to_string());
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<HeaderError>());
    assert_eq!(inner, Some(&HeaderError::V1BareLf));
    let error = io::Error::from(EncodeError::Scope);
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.get_ref().is_some_and(|inner| inner.downcast_ref::<EncodeError>().is_some()));
}

/// One error per rule, and its keyword.
fn errors() -> [(HeaderError, &'static str); 25] {
    let short = HeaderError::V2ShortAddress { family: Family::Inet, need: 12, got: 11 };
    [
        (HeaderError::NotProxy, "not_proxy"),
        (HeaderError::VersionNotAccepted(Version::V1), "version_not_accepted"),
        (HeaderError::V1TooLong, "v1_too_long"),
        (HeaderError::V1BareCr, "v1_bare_cr"),
        (HeaderError::V1BareLf, "v1_bare_lf"),
        (HeaderError::V1Separator, "v1_bad_syntax"),
        (HeaderError::V1MissingField, "v1_bad_syntax"),
        (HeaderError::V1ExtraField, "v1_bad_syntax"),
        (HeaderError::V1Protocol, "v1_bad_protocol"),
        (HeaderError::V1Address(Endpoint::Source), "v1_bad_address"),
        (HeaderError::V1Address(Endpoint::Destination), "v1_bad_address"),
        (HeaderError::V1Port(Endpoint::Source), "v1_bad_port"),
        (HeaderError::V1Port(Endpoint::Destination), "v1_bad_port"),
        (HeaderError::V1OnDatagram, "v1_on_datagram"),
        (HeaderError::V2Version(3), "v2_bad_version"),
        (HeaderError::V2Command(2), "v2_bad_command"),
        (HeaderError::V2Family(4), "v2_bad_family"),
        (HeaderError::V2Transport(3), "v2_bad_transport"),
        (short, "v2_short_address"),
        (HeaderError::V2TooLarge { size: 20_000, limit: 16_384 }, "v2_too_large"),
        (HeaderError::V2Tlv { offset: 28 }, "v2_bad_tlv"),
        (HeaderError::V2Crc32cLen(3), "v2_bad_crc32c"),
        (HeaderError::V2Crc32c { stored: 0, computed: 1 }, "v2_bad_crc32c"),
        (HeaderError::V2UniqueIdLen(129), "v2_bad_unique_id"),
        (HeaderError::Truncated { need: 16, got: 12 }, "truncated"),
    ]
}
