//! What a TLV's type makes of its value, beyond what the vectors show.

use mmproxy_codec::{
    Alibaba, Header, Outcome, Ssl, SslClient, TlvError, TlvType, TlvValue, Tlvs, Transport, decode, encode,
};

#[test]
fn every_type_is_of_one_kind() {
    for kind in 0..=u8::MAX {
        let wire = header(&[(kind, b"v")]);
        let value = decoded(&wire).map(|header| header.tlvs().next().expect("one TLV").parse());
        let kind = TlvType(kind);
        match (kind.0, value) {
            // The header is refused: a checksum has four bytes.
            (0x03, None) => {}
            (0x01, Some(Ok(TlvValue::Alpn(b"v"))))
            | (0x02, Some(Ok(TlvValue::Authority("v"))))
            | (0x04, Some(Ok(TlvValue::Noop)))
            | (0x05, Some(Ok(TlvValue::UniqueId(b"v"))))
            | (0x20, Some(Err(TlvError::Length)))
            | (0x30, Some(Ok(TlvValue::Netns("v")))) => {}
            (0xE0..=0xEF, found) => assert_eq!(found, Some(Ok(TlvValue::Custom(kind, b"v")))),
            (0xF0..=0xF7, found) => assert_eq!(found, Some(Ok(TlvValue::Experimental(kind, b"v")))),
            (0xF8..=0xFF, found) => assert_eq!(found, Some(Ok(TlvValue::Future(kind, b"v")))),
            // Types of the SSL TLV are unknown outside it.
            (_, found) => assert_eq!(found, Some(Ok(TlvValue::Unknown(kind, b"v")))),
        }
    }
}

#[test]
fn a_custom_type_is_a_vendor_s_only_in_the_vendor_s_form() {
    let vendors: &[(u8, &[u8], TlvValue<'_>)] = &[
        (0xE0, &[0, 0, 0, 0, 0xC0, 0, 2, 1], TlvValue::GcpPscConnectionId(0xC000_0201)),
        (0xE1, b"\x01vpc-1", TlvValue::Alibaba(Alibaba::VpcId("vpc-1"))),
        (0xE1, b"\x02ep-1", TlvValue::Alibaba(Alibaba::EndpointId("ep-1"))),
        (0xE1, b"\x03epsrv-1", TlvValue::Alibaba(Alibaba::ServiceId("epsrv-1"))),
        (0xEA, b"\x01vpce-1", TlvValue::AwsVpcEndpointId("vpce-1")),
        (0xEE, &[1, 0x78, 0x56, 0x34, 0x12], TlvValue::AzurePrivateEndpointLinkId(0x1234_5678)),
    ];
    for (kind, bytes, expected) in vendors {
        assert_eq!(value(&header(&[(*kind, bytes)])), Ok(owned(expected)));
    }
    let others: &[(u8, &[u8])] = &[
        (0xE0, &[0; 7]),
        (0xE0, &[0; 9]),
        (0xE1, b""),
        (0xE1, b"\x04other"),
        (0xE1, b"\x01\xFF"),
        (0xEA, b""),
        (0xEA, b"\x02vpce-1"),
        (0xEA, b"\x01\xFF"),
        (0xEE, &[1, 0x78, 0x56, 0x34]),
        (0xEE, &[1, 0x78, 0x56, 0x34, 0x12, 0]),
        (0xEE, &[2, 0x78, 0x56, 0x34, 0x12]),
        (0xEF, b"\x01vpce-1"),
    ];
    for (kind, bytes) in others {
        let wire = header(&[(*kind, bytes)]);
        assert_eq!(value(&wire), Ok(owned(&TlvValue::Custom(TlvType(*kind), bytes))));
        with_tlvs(&wire, |tlvs| {
            assert_eq!((tlvs.aws_vpc_endpoint_id(), tlvs.gcp_psc_connection_id()), (None, None));
            assert_eq!(tlvs.azure_private_endpoint_link_id(), None);
            assert_eq!(tlvs.alibaba().next(), None);
        });
    }
}

#[test]
fn a_vendor_s_value_is_found_behind_somebody_else_s_of_the_same_type() {
    let wire = header(&[
        (0xEA, b"private"),
        (0xEA, b"\x01vpce-1"),
        (0xEA, b"\x01vpce-2"),
        (0xE1, b"\x01vpc-1"),
        (0xE1, b"?"),
        (0xE1, b"\x02ep-1"),
    ]);
    with_tlvs(&wire, |tlvs| {
        assert_eq!(tlvs.aws_vpc_endpoint_id(), Some("vpce-1"));
        let alibaba: Vec<Alibaba<'_>> = tlvs.alibaba().collect();
        assert_eq!(alibaba, [Alibaba::VpcId("vpc-1"), Alibaba::EndpointId("ep-1")]);
    });
}

#[test]
fn text_of_the_wrong_encoding_is_refused_by_the_view_and_carried_by_the_header() {
    let latin1 = b"M\xFCnchen".as_slice();
    let wire = header(&[(0x02, latin1), (0x30, "München".as_bytes())]);
    with_tlvs(&wire, |tlvs| {
        assert_eq!(tlvs.authority(), Some(Err(TlvError::NotUtf8)));
        assert_eq!(tlvs.netns(), Some(Err(TlvError::NotAscii)));
        assert_eq!(tlvs.first(TlvType::AUTHORITY).map(|tlv| tlv.value()), Some(latin1));
    });
    let utf8 = "Jörg".as_bytes();
    let inside: Vec<(TlvType, &[u8])> = (0x21..=0x28).map(|kind| (TlvType(kind), utf8)).collect();
    with_ssl(SslClient::SSL, 0, &inside, |ssl| {
        let ascii = [
            ssl.version(),
            ssl.cipher(),
            ssl.signature_algorithm(),
            ssl.key_algorithm(),
            ssl.group(),
            ssl.signature_scheme(),
        ];
        assert_eq!(ascii, [Some(Err(TlvError::NotAscii)); 6]);
        assert_eq!(ssl.common_name(), Some(Ok("Jörg")));
        assert_eq!(ssl.client_certificate(), Some(utf8));
    });
    with_ssl(SslClient::SSL, 0, &[(TlvType::SSL_CN, latin1)], |ssl| {
        assert_eq!(ssl.common_name(), Some(Err(TlvError::NotUtf8)));
        assert_eq!(ssl.version(), None);
    });
}

#[test]
fn a_client_is_verified_only_if_it_presented_a_certificate() {
    let (tls, now, before) = (SslClient::SSL, SslClient::CERT_CONN, SslClient::CERT_SESS);
    for (client, verify, verified) in [
        (tls, 0, false),
        (tls.and(now), 0, true),
        (tls.and(before), 0, true),
        (tls.and(now).and(before), 0, true),
        (tls.and(now).and(before), 1, false),
        (SslClient(0xF8), 0, false),
    ] {
        with_ssl(client, verify, &[], |ssl| {
            assert_eq!((ssl.client(), ssl.verify()), (client, verify));
            assert_eq!(ssl.client_verified(), verified, "{client:?}, verify {verify}");
        });
    }
    assert!(tls.and(now).has(now) && !tls.and(now).has(now.and(before)));
    assert_eq!(tls.and(now).and(now), tls.and(now));
}

#[test]
fn an_ssl_vector_inside_an_ssl_vector_is_a_value_like_any_other() {
    with_ssl(SslClient::SSL, 0, &[(TlvType::SSL, b"not looked into")], |ssl| {
        let inside: Vec<(TlvType, &[u8])> = ssl.tlvs().map(|tlv| (tlv.kind(), tlv.value())).collect();
        assert_eq!(inside, [(TlvType::SSL, b"not looked into".as_slice())]);
    });
}

#[test]
fn views_take_the_first_of_several_and_go_on_from_where_the_iterator_is() {
    let wire = header(&[(0x01, b"h2"), (0x04, b""), (0x01, b"http/1.1")]);
    with_tlvs(&wire, |mut tlvs| {
        assert_eq!(tlvs.alpn(), Some(b"h2".as_slice()));
        tlvs.next();
        assert_eq!(tlvs.alpn(), Some(b"http/1.1".as_slice()));
        assert_eq!(tlvs.by_ref().count(), 2);
        assert_eq!((tlvs.alpn(), tlvs.next()), (None, None));
        assert_eq!(tlvs.crc32c(), None);
    });
}

#[test]
fn types_are_printed_by_name_or_number() {
    assert_eq!(TlvType::AUTHORITY.to_string(), "AUTHORITY");
    assert_eq!(TlvType::SSL_CLIENT_CERT.to_string(), "SSL_CLIENT_CERT");
    assert_eq!(TlvType::AWS.to_string(), "0xea");
    let named = (0..=u8::MAX).filter(|kind| TlvType(*kind).name().is_some());
    assert_eq!(named.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 32, 33, 34, 35, 36, 37, 38, 39, 40, 48]);
}

/// A v2 header with these TLVs; not by the encoder, which refuses some of them.
fn header(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let region: Vec<u8> = tlvs
        .iter()
        .flat_map(|(kind, value)| {
            let length = u16::try_from(value.len()).expect("short values").to_be_bytes();
            [&[*kind], length.as_slice(), value].concat()
        })
        .collect();
    let length = u16::try_from(12 + region.len()).expect("short values").to_be_bytes();
    let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11".as_slice(), &length, &addresses, &region].concat()
}

fn decoded(wire: &[u8]) -> Option<Header<'_>> {
    decode(wire).ok().and_then(Outcome::complete).map(|(header, _)| header)
}

fn with_tlvs(wire: &[u8], check: impl FnOnce(Tlvs<'_>)) {
    check(decoded(wire).expect("a sound header").tlvs());
}

/// Prints the first TLV's value, so that it can be compared after its header is gone.
fn value(wire: &[u8]) -> Result<String, TlvError> {
    let header = decoded(wire).expect("a sound header");
    header.tlvs().next().expect("one TLV").parse().map(|value| owned(&value))
}

fn owned(value: &TlvValue<'_>) -> String {
    format!("{value:?}")
}

fn with_ssl(client: SslClient, verify: u32, vectors: &[(TlvType, &[u8])], check: impl FnOnce(Ssl<'_>)) {
    let mut buf = [0; 256];
    let addresses = mmproxy_codec::Addresses::between(
        "192.0.2.1:1".parse().expect("an address"),
        "192.0.2.2:2".parse().expect("an address"),
    );
    let encoder = encode::v2(&mut buf, Transport::Stream, addresses).expect("room for addresses");
    let wire = encoder.ssl(client, verify, vectors).expect("room for the vectors").finish();
    let header = decoded(wire).expect("a sound header");
    check(header.tlvs().ssl().expect("an SSL vector").expect("a sound one"));
}
