//! Bodies of the fuzz targets: what must hold for any bytes whatsoever. Not part of the API.
//!
//! They live here so that an ordinary test replays every input the fuzzer has kept; the targets in `fuzz/` are three
//! lines each.

use std::vec;
use std::vec::Vec;

use crate::encode;
use crate::{
    Addresses, Command, DecodeOptions, Family, Formats, Header, HeaderError, MAX_UNIQUE_ID_LEN, MAX_V1_LEN,
    MAX_V2_LEN, Outcome, SPP_LEN, Tlv, TlvType, TlvValue, Version, decode_datagram, decode_with,
};

/// What is done with each input. A broken promise is a panic.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: [(&str, Body); 6] = [
    ("decode", decode),
    ("splits", splits),
    ("roundtrip", roundtrip),
    ("tlv", tlv),
    ("datagram", datagram),
    ("spp", spp),
];

/// A stream of these bytes is decoded without a panic, and each answer keeps its promises, under any options.
pub fn decode(data: &[u8]) {
    for options in options() {
        match decode_with(data, &options) {
            Ok(Outcome::Complete { header, consumed }) => {
                assert!(consumed <= data.len(), "more was taken than there is");
                sound(&header, &data[..consumed]);
                let alone = decode_with(&data[..consumed], &options);
                assert_eq!(alone, Ok(Outcome::Complete { header, consumed }), "payload changes the answer");
            }
            Ok(Outcome::NeedMore(missing)) => {
                assert!(data.len() + missing.get() <= MAX_V2_LEN, "more is asked for than any header has");
            }
            Err(error) => {
                assert!(!error.keyword().is_empty());
                let longer = [data, b"\r\n\0 1"].concat();
                assert_eq!(decode_with(&longer, &options), Err(error), "a refusal is taken back");
            }
        }
    }
}

/// However the bytes are cut, the first answer but "more" is that of the whole, and nobody waits for too much.
pub fn splits(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST_SPLIT)];
    let options = DecodeOptions::new();
    let whole = decode_with(data, &options);
    for cut in 0..data.len() {
        match decode_with(&data[..cut], &options) {
            Ok(Outcome::NeedMore(missing)) => {
                if let Ok(Outcome::Complete { consumed, .. }) = whole {
                    assert!(cut < consumed, "a whole header is said to be incomplete");
                    assert!(cut + missing.get() <= consumed, "more is asked for than the header has");
                }
            }
            answer => {
                assert_eq!(answer, whole, "the answer depends on where the bytes are cut");
                return;
            }
        }
    }
}

/// What can be decoded can be encoded again, and says the same when it is read back.
pub fn roundtrip(data: &[u8]) {
    let decoded = match decode_with(data, &DecodeOptions::new()) {
        Ok(Outcome::Complete { header, .. }) => header,
        Ok(Outcome::NeedMore(_)) | Err(_) => match decode_datagram(data) {
            Ok((header, _)) => header,
            Err(_) => return,
        },
    };
    match decoded.version() {
        Version::V1 => {
            let line = match (decoded.source(), decoded.destination()) {
                (Some(source), Some(destination)) => {
                    encode::v1(source, destination).expect("a v1 header fits")
                }
                _ => encode::v1_unknown(),
            };
            assert_eq!(read_back(&line), decoded);
        }
        Version::V2 => again_v2(&decoded),
        Version::Spp => {
            let wire = encode::spp_reply(&decoded).expect("an SPP header has a reply");
            assert_eq!(decode_datagram(&wire), Ok((decoded, wire.len())));
            assert_eq!(wire, data[..wire.len()], "a reply begins as the datagram did");
        }
    }
}

fn again_v2(decoded: &Header<'_>) {
    let mut buf = vec![0; MAX_V2_LEN];
    let started = match decoded.command() {
        Command::Local => encode::v2_local(&mut buf),
        Command::Proxy => encode::v2(&mut buf, decoded.transport(), decoded.addresses()),
    };
    let mut encoder = match started {
        Ok(encoder) => encoder,
        // One nibble UNSPEC: read, but never written.
        Err(encode::EncodeError::Combination { .. }) => {
            return assert_eq!(decoded.addresses(), Addresses::Unspecified);
        }
        Err(error) => panic!("{decoded:?}: {error}"),
    };
    let mut checksum = false;
    for tlv in decoded.tlvs() {
        encoder = match tlv.kind() {
            TlvType::CRC32C => {
                checksum = true;
                encoder
            }
            kind => encoder.tlv(kind, tlv.value()).expect("it fitted before"),
        };
    }
    // The checksum goes to the end, so it may make room for itself but not for a header at the limit.
    let wire = if checksum { encoder.finish_with_crc().expect("it fitted before") } else { encoder.finish() };
    let again = read_back(wire);
    let told = |header: &Header<'_>| (header.command(), header.transport());
    assert_eq!(told(&again), told(decoded));
    assert_eq!(again.addresses(), decoded.addresses());
    assert!(other_tlvs(&again).eq(other_tlvs(decoded)), "a TLV was lost on the way");
}

fn other_tlvs<'a>(header: &Header<'a>) -> impl Iterator<Item = Tlv<'a>> {
    header.tlvs().filter(|tlv| tlv.kind() != TlvType::CRC32C)
}

fn read_back(wire: &[u8]) -> Header<'_> {
    match decode_with(wire, &widest()) {
        Ok(Outcome::Complete { header, consumed }) => {
            assert_eq!(consumed, wire.len());
            header
        }
        other => panic!("what was encoded is read as {other:?}"),
    }
}

/// Any bytes behind the addresses are walked as a second, plainer walk does it, and every typed view is safe.
pub fn tlv(data: &[u8]) {
    let region = &data[..data.len().min(4000)];
    let mut wire = ADDRESSED.to_vec();
    wire.extend(region);
    let len = u16::try_from(wire.len() - 16).expect("cut above");
    wire[14..16].copy_from_slice(&len.to_be_bytes());
    let (found, verdict) = walk(region);
    let checksums = found.iter().filter(|tlv| tlv.kind == TlvType::CRC32C.0).count();
    if let (Some(tlv), 1) =
        (found.iter().find(|tlv| tlv.kind == TlvType::CRC32C.0 && tlv.value.len() == 4), checksums)
    {
        // Nearly no input has the right checksum by chance, and what lies behind it is to be reached.
        let at = ADDRESSED.len() + tlv.at;
        wire[at..at + 4].fill(0);
        let checksum = crc32c(&wire);
        wire[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
    match (decode_with(&wire, &widest()), verdict) {
        (Ok(Outcome::Complete { header, consumed }), Ok(())) => {
            assert_eq!(consumed, wire.len());
            sound(&header, &wire);
            let listed = header.tlvs().map(|tlv| (tlv.kind().0, tlv.value().len()));
            assert!(listed.eq(found.iter().map(|tlv| (tlv.kind, tlv.value.len()))), "the walks differ");
        }
        // Several checksums cannot all be made right as above.
        (Err(HeaderError::V2Crc32c { .. }), Ok(())) => assert!(checksums > 1),
        (answer, verdict) => assert_eq!(answer.err(), verdict.err()),
    }
}

/// A vector as the plain walk finds it; `at` is where its value begins, counted from the first vector.
struct Found<'a> {
    kind: u8,
    value: &'a [u8],
    at: usize,
}

/// The vectors of `region` up to the first that breaks a rule, and that rule.
fn walk(region: &[u8]) -> (Vec<Found<'_>>, Result<(), HeaderError>) {
    let mut found = Vec::new();
    let mut at = 0;
    while at < region.len() {
        let broken = HeaderError::V2Tlv { offset: ADDRESSED.len() + at };
        let Some(&[kind, high, low]) = region.get(at..at + 3) else { return (found, Err(broken)) };
        let len = usize::from(high) << 8 | usize::from(low);
        at += 3;
        let Some(value) = region.get(at..at + len) else { return (found, Err(broken)) };
        if kind == TlvType::CRC32C.0 && len != 4 {
            return (found, Err(HeaderError::V2Crc32cLen(len)));
        }
        if kind == TlvType::UNIQUE_ID.0 && len > MAX_UNIQUE_ID_LEN {
            return (found, Err(HeaderError::V2UniqueIdLen(len)));
        }
        found.push(Found { kind, value, at });
        at += len;
    }
    (found, Ok(()))
}

/// A datagram is never incomplete, and its v2 header says what it would say on a stream.
pub fn datagram(data: &[u8]) {
    let stream = decode_with(data, &DecodeOptions::new());
    match (decode_datagram(data), stream) {
        (Ok((header, consumed)), stream) if header.version() == Version::V2 => {
            assert_eq!(stream, Ok(Outcome::Complete { header, consumed }));
            sound(&header, &data[..consumed]);
        }
        (Ok((header, consumed)), stream) => {
            assert_eq!((header.version(), consumed), (Version::Spp, SPP_LEN));
            assert_eq!(stream, Err(HeaderError::NotProxy));
            sound(&header, &data[..consumed]);
        }
        (Err(HeaderError::V1OnDatagram), _) => assert!(data.starts_with(b"PROXY")),
        (Err(HeaderError::Truncated { need, got }), stream) => {
            assert_eq!(got, data.len());
            assert!(need > got);
            assert!(matches!(stream, Ok(Outcome::NeedMore(_)) | Err(HeaderError::NotProxy)));
        }
        (Err(HeaderError::NotProxy), stream) => {
            assert!(matches!(stream, Ok(Outcome::NeedMore(_)) | Err(HeaderError::NotProxy)));
        }
        (Err(error), stream) => assert_eq!(stream, Err(error)),
    }
}

/// SPP loses nothing: the reply begins with the bytes of the request, whatever they are.
pub fn spp(data: &[u8]) {
    let wire = [&[0x56, 0xEC], data].concat();
    match decode_datagram(&wire) {
        Ok((header, consumed)) => {
            assert_eq!(consumed, SPP_LEN);
            let reply = encode::spp_reply(&header).expect("an SPP header has a reply");
            assert_eq!(reply, wire[..SPP_LEN]);
            sound(&header, &wire[..SPP_LEN]);
        }
        Err(error) => assert_eq!(error, HeaderError::Truncated { need: SPP_LEN, got: wire.len() }),
    }
}

/// What every header must be, however it came about; `wire` is what it was decoded from.
fn sound(header: &Header<'_>, wire: &[u8]) {
    assert!(!std::format!("{header:?}").is_empty());
    let internet = matches!(header.addresses(), Addresses::Inet { .. } | Addresses::Inet6 { .. });
    assert_eq!((header.source().is_some(), header.destination().is_some()), (internet, internet));
    let family = header.addresses().family();
    assert!(
        family == header.family() || family == Family::Unspec,
        "addresses of a family that was not announced"
    );
    if header.command() == Command::Local {
        assert_eq!((family, header.tlvs().count()), (Family::Unspec, 0));
    }
    match header.version() {
        Version::V1 => {
            assert!(wire.len() <= MAX_V1_LEN && wire.ends_with(b"\r\n"));
            assert_eq!(header.tlvs().count(), 0);
        }
        Version::V2 => assert_eq!(wire.len(), 16 + usize::from(u16::from_be_bytes([wire[14], wire[15]]))),
        Version::Spp => assert_eq!(wire.len(), SPP_LEN),
    }
    let tlvs = header.tlvs();
    let mut end = wire.len() - tlvs.clone().map(|tlv| 3 + tlv.value().len()).sum::<usize>();
    for tlv in tlvs.clone() {
        end += 3 + tlv.value().len();
        assert_eq!(tlv.value(), &wire[end - tlv.value().len()..end], "a value is not where it stands");
        if let Ok(TlvValue::Ssl(ssl)) = tlv.parse() {
            let texts = [ssl.version(), ssl.common_name(), ssl.cipher(), ssl.group(), ssl.signature_scheme()];
            let present = texts.into_iter().flatten().count();
            assert!(present <= ssl.tlvs().count());
            assert!(!ssl.client_verified() || ssl.verify() == 0);
        }
    }
    let first = |kind| tlvs.clone().find(|tlv| tlv.kind() == kind).map(|tlv| tlv.value());
    assert_eq!(tlvs.alpn(), first(TlvType::ALPN));
    assert_eq!(tlvs.unique_id(), first(TlvType::UNIQUE_ID));
    assert_eq!(tlvs.authority().is_some(), first(TlvType::AUTHORITY).is_some());
    assert!(tlvs.alibaba().count() <= tlvs.clone().count());
}

/// The default, the most tolerant and the strictest.
fn options() -> [DecodeOptions; 3] {
    let narrow = DecodeOptions::new().max_v2_len(crate::MIN_MAX_V2_LEN).expect("the least possible");
    [
        DecodeOptions::new(),
        widest().v1_mixed_families(true).crc_in_local(true),
        narrow.formats(Formats::V1.and(Formats::SPP)),
    ]
}

fn widest() -> DecodeOptions {
    DecodeOptions::new().max_v2_len(MAX_V2_LEN).expect("the greatest possible")
}

/// CRC32C bit by bit, to have a second opinion.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// Bytes that [`splits`] looks at: each is a cut, and longer headers differ in their TLVs only.
const LONGEST_SPLIT: usize = 600;

/// A v2 header with IPv4 addresses; the length is filled in.
const ADDRESSED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0\xC0\0\x02\x0A\xC6\x33\x64\x14\x9C\x40\x01\xBB";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// What the fuzzer has found worth keeping is run by everybody.
    #[test]
    fn every_kept_input_of_the_fuzzer_passes() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        for (name, body) in BODIES {
            let mut inputs = 0;
            for folder in ["corpus", "regressions"] {
                let Ok(entries) = fs::read_dir(fuzz.join(folder).join(name)) else { continue };
                for entry in entries {
                    let path = entry.expect("the corpus is readable").path();
                    std::println!("{}", path.display());
                    body(&fs::read(&path).expect("an input is readable"));
                    inputs += 1;
                }
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
    }

    /// The shortest inputs, which a corpus need not have.
    #[test]
    fn every_body_takes_every_input_of_one_byte() {
        for (_, body) in BODIES {
            body(&[]);
            (0..=u8::MAX).for_each(|byte| body(&[byte]));
        }
    }
}
