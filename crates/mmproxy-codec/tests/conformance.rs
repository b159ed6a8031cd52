//! Every vector gets its verdict, and every value of its header is read as the vector says.

mod support;

use std::collections::HashSet;
use std::fmt::Debug;

use mmproxy_codec::{Addresses, Family, Header, HeaderError, Outcome, TlvType, Tlvs, Transport, Version};

use support::{COUNT, Endpoint, Expect, Expected, ExpectedSsl, Vector};

#[test]
fn every_vector_gets_its_verdict_and_its_values() {
    let complaints: Vec<String> = support::all().iter().flat_map(Complaints::about).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn no_vector_is_lost_or_named_twice() {
    let vectors = support::all();
    let names: HashSet<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(vectors.len(), COUNT);
    assert_eq!(names.len(), COUNT);
}

#[test]
fn vectors_are_read_as_their_readme_says() {
    assert_eq!(support::bytes("0d0a 00*3 ff"), [0x0D, 0x0A, 0, 0, 0, 0xFF]);
    assert_eq!(support::bytes("c0a8*2  # c0a8\n  01"), [0xC0, 0xA8, 0xC0, 0xA8, 1]);
    assert_eq!(support::bytes(r##""a # \"\\\r\n\t\0\xfe" 01 # "x""##), b"a # \"\\\r\n\t\0\xFE\x01");
    assert_eq!(support::bytes(" # nothing"), b"");
}

/// What is wrong with the codec's answer to one vector.
struct Complaints<'v> {
    vector: &'v Vector,
    found: Vec<String>,
}

impl<'v> Complaints<'v> {
    fn about(vector: &'v Vector) -> Vec<String> {
        let mut complaints = Self { vector, found: Vec::new() };
        match (&vector.expect, vector.decode()) {
            (Expect::Ok(expected), Ok(Outcome::Complete { header, consumed })) => {
                complaints.compare("header_len", &consumed, &expected.header_len);
                complaints.header(&header, expected);
            }
            (Expect::Incomplete, Ok(Outcome::NeedMore(_)))
            | (Expect::NotProxy, Err(HeaderError::NotProxy)) => {}
            (Expect::Error(keyword), Err(error)) => {
                complaints.compare("error", &error.keyword(), &keyword.as_str());
            }
            (expect, answer) => complaints.found.push(format!("{}: {answer:?}, not {expect:?}", vector.name)),
        }
        complaints.found
    }

    fn header(&mut self, header: &Header<'_>, expected: &Expected) {
        let version = match header.version() {
            Version::V1 => "1",
            Version::V2 => "2",
            Version::Spp => "spp",
        };
        self.compare("version", &version, &expected.version.as_str());
        self.compare("command", &header.command().to_string(), &expected.command);
        let family = match header.family() {
            Family::Unspec => "unspec",
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
            Family::Unix => "unix",
        };
        self.compare("family", &family, &expected.family.as_str());
        let protocol = match header.transport() {
            Transport::Unspec => "unspec",
            Transport::Stream => "stream",
            Transport::Datagram => "dgram",
        };
        self.compare("protocol", &protocol, &expected.protocol.as_str());
        self.addresses(header, expected);
        self.tlvs(header.tlvs(), expected);
    }

    fn addresses(&mut self, header: &Header<'_>, expected: &Expected) {
        let (source, destination) = match header.addresses() {
            Addresses::Inet { source, destination } => {
                (Endpoint::Inet(source.into()), Endpoint::Inet(destination.into()))
            }
            Addresses::Inet6 { source, destination } => {
                (Endpoint::Inet(source.into()), Endpoint::Inet(destination.into()))
            }
            Addresses::Unix { source, destination } => {
                (Endpoint::Unix(Box::new(*source.raw())), Endpoint::Unix(Box::new(*destination.raw())))
            }
            // The enum is open to growth; an address family without a vector must not pass unseen.
            Addresses::Unspecified => (Endpoint::None, Endpoint::None),
            other => panic!("{other:?}: no vector has such addresses"),
        };
        self.compare("src", &source, &expected.source);
        self.compare("dst", &destination, &expected.destination);
        let internet = |endpoint: &Endpoint| match endpoint {
            Endpoint::Inet(address) => Some(*address),
            Endpoint::None | Endpoint::Unix(_) => None,
        };
        self.compare("source()", &header.source(), &internet(&expected.source));
        self.compare("destination()", &header.destination(), &internet(&expected.destination));
    }

    fn tlvs(&mut self, tlvs: Tlvs<'_>, expected: &Expected) {
        let Some(listed) = &expected.tlvs else { return };
        self.compare("tlvs", &raw(tlvs.clone()), listed);
        let first = |kind: TlvType| {
            listed.iter().find(|(found, _)| *found == kind.0).map(|(_, value)| value.as_slice())
        };
        self.compare("alpn", &tlvs.alpn(), &first(TlvType::ALPN));
        self.compare("unique_id", &tlvs.unique_id(), &first(TlvType::UNIQUE_ID));
        let text = |value: &[u8]| str::from_utf8(value).map(str::to_owned).ok();
        self.compare(
            "authority",
            &tlvs.authority().map(|value| value.ok().map(str::to_owned)),
            &first(TlvType::AUTHORITY).map(text),
        );
        self.compare(
            "netns",
            &tlvs.netns().map(|value| value.ok().map(str::to_owned)),
            &first(TlvType::NETNS).map(text),
        );
        self.compare(
            "crc32c",
            &tlvs.crc32c().map(|value| value.to_be_bytes().to_vec()),
            &first(TlvType::CRC32C).map(<[u8]>::to_vec),
        );
        self.ssl(&tlvs, expected);
        self.vendor(&tlvs, expected);
    }

    fn ssl(&mut self, tlvs: &Tlvs<'_>, expected: &Expected) {
        let found = tlvs.ssl().map(|parsed| match parsed {
            Ok(ssl) => {
                ExpectedSsl::Sound { client: ssl.client().0, verify: ssl.verify(), tlvs: raw(ssl.tlvs()) }
            }
            Err(_) => ExpectedSsl::Malformed,
        });
        self.compare("ssl", &found, &expected.ssl);
        let (Some(Ok(ssl)), Some(ExpectedSsl::Sound { tlvs: listed, .. })) = (tlvs.ssl(), &expected.ssl)
        else {
            return;
        };
        let named = [
            (TlvType::SSL_VERSION, ssl.version()),
            (TlvType::SSL_CN, ssl.common_name()),
            (TlvType::SSL_CIPHER, ssl.cipher()),
            (TlvType::SSL_SIG_ALG, ssl.signature_algorithm()),
            (TlvType::SSL_KEY_ALG, ssl.key_algorithm()),
            (TlvType::SSL_GROUP, ssl.group()),
            (TlvType::SSL_SIG_SCHEME, ssl.signature_scheme()),
        ];
        let value =
            |kind: TlvType| listed.iter().find(|(found, _)| *found == kind.0).map(|(_, value)| value.clone());
        for (kind, found) in named {
            let found =
                found.map(|text| text.map_or_else(|error| error.to_string(), str::to_owned).into_bytes());
            self.compare(&kind.to_string(), &found, &value(kind));
        }
        let certificate = ssl.client_certificate().map(<[u8]>::to_vec);
        self.compare("SSL_CLIENT_CERT", &certificate, &value(TlvType::SSL_CLIENT_CERT));
    }

    fn vendor(&mut self, tlvs: &Tlvs<'_>, expected: &Expected) {
        let aws = tlvs.aws_vpc_endpoint_id().map(|id| ("aws_vpc_endpoint_id", id.to_owned()));
        let azure = tlvs.azure_private_endpoint_link_id();
        let azure = azure.map(|id| ("azure_private_endpoint_linkid", id.to_string()));
        let gcp = tlvs.gcp_psc_connection_id().map(|id| ("gcp_psc_connection_id", id.to_string()));
        let found = [aws, azure, gcp].into_iter().flatten().map(|(name, id)| (name.to_owned(), id));
        self.compare("vendor", &found.collect(), &expected.vendor);
    }

    fn compare<T: PartialEq + Debug>(&mut self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.found.push(format!("{}: {what} is {found:?}, not {expected:?}", self.vector.name));
        }
    }
}

fn raw(tlvs: Tlvs<'_>) -> Vec<(u8, Vec<u8>)> {
    tlvs.map(|tlv| (tlv.kind().0, tlv.value().to_vec())).collect()
}
