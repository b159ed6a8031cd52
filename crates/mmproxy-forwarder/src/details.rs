//! What a header tells beside addresses, kept for the report.

use mmproxy_codec::{SslClient, Tlvs};

/// What the balancer says of a client beside its address. All of it is as hostile as whoever sent it: escape it before
/// it reaches a terminal.
///
/// Each text is at most [`DETAIL_LEN`] bytes long; what is longer was cut. Text that is not of its type's form is left
/// out, as if it had not been sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderDetails {
    /// AUTHORITY: the host name that the client asked for.
    pub authority: Option<Box<str>>,
    /// UNIQUE_ID: what identifies the connection across proxies.
    pub unique_id: Option<Box<[u8]>>,
    /// ALPN: the protocol that the client's TLS agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// AWS: id of the VPC endpoint.
    pub aws_vpc_endpoint: Option<Box<str>>,
    /// Azure: link id of the private endpoint.
    pub azure_link: Option<u32>,
    /// Google Cloud: id of the Private Service Connect connection.
    pub gcp_psc: Option<u64>,
    /// SSL: the client's TLS.
    pub tls: Option<Box<TlsDetails>>,
}

/// The client's TLS, as the balancer tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsDetails {
    /// The client connected over TLS.
    pub encrypted: bool,
    /// It presented a certificate.
    pub certificate: bool,
    /// It presented one that the balancer found good.
    pub verified: bool,
    /// Version of TLS.
    pub version: Option<Box<str>>,
    /// Name of the cipher.
    pub cipher: Option<Box<str>>,
    /// Common name of the client's certificate.
    pub common_name: Option<Box<str>>,
}

/// The longest text of [`HeaderDetails`] in bytes: every host name and every UNIQUE_ID fits.
pub const DETAIL_LEN: usize = 255;

impl HeaderDetails {
    /// What is worth keeping of `tlvs`; `None` if nothing is, which costs a session nothing.
    pub(crate) fn of(tlvs: &Tlvs<'_>) -> Option<Box<Self>> {
        // Most headers have none.
        tlvs.clone().next()?;
        let details = Self {
            authority: tlvs.authority().and_then(Result::ok).map(text),
            unique_id: tlvs.unique_id().map(bytes),
            alpn: tlvs.alpn().map(bytes),
            aws_vpc_endpoint: tlvs.aws_vpc_endpoint_id().map(text),
            azure_link: tlvs.azure_private_endpoint_link_id(),
            gcp_psc: tlvs.gcp_psc_connection_id(),
            tls: tlvs.ssl().and_then(Result::ok).map(|ssl| {
                let client = ssl.client();
                Box::new(TlsDetails {
                    encrypted: client.has(SslClient::SSL),
                    certificate: client.has(SslClient::CERT_CONN) || client.has(SslClient::CERT_SESS),
                    verified: ssl.client_verified(),
                    version: ssl.version().and_then(Result::ok).map(text),
                    cipher: ssl.cipher().and_then(Result::ok).map(text),
                    common_name: ssl.common_name().and_then(Result::ok).map(text),
                })
            }),
        };
        (details != Self::default()).then(|| Box::new(details))
    }
}

fn text(text: &str) -> Box<str> {
    let end = (0..=DETAIL_LEN.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

fn bytes(bytes: &[u8]) -> Box<[u8]> {
    bytes[..bytes.len().min(DETAIL_LEN)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmproxy_codec::{Addresses, Outcome, TlvType, Transport, decode, encode};

    fn of(tlvs: &[(TlvType, &[u8])]) -> Option<Box<HeaderDetails>> {
        let addresses = Addresses::between("192.0.2.7:1".parse().unwrap(), "192.0.2.8:2".parse().unwrap());
        let mut room = [0; 2048];
        let mut encoder = encode::v2(&mut room, Transport::Stream, addresses).unwrap();
        for (kind, value) in tlvs {
            encoder = encoder.tlv(*kind, value).unwrap();
        }
        let Outcome::Complete { header, .. } = decode(encoder.finish()).unwrap() else {
            panic!("a whole header")
        };
        HeaderDetails::of(&header.tlvs())
    }

    #[test]
    fn a_header_that_tells_nothing_keeps_nothing() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(TlvType::NOOP, b"padding"), (TlvType::AUTHORITY, b"\xff")]), None);
    }

    #[test]
    fn what_a_header_tells_is_kept_up_to_a_limit() {
        let long = "é".repeat(300);
        let details = of(&[
            (TlvType::AUTHORITY, long.as_bytes()),
            (TlvType::UNIQUE_ID, b"\x1b[0m"),
            (TlvType::AWS, b"\x01vpce-08d2bf15fac5001c9"),
            (TlvType::AZURE, &[1, 1, 0, 0, 0]),
            (TlvType::GCP, &[0, 0, 0, 0, 0, 0, 0, 9]),
            (TlvType::SSL, b"\x05\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice"),
        ])
        .unwrap();
        assert_eq!(details.authority.as_deref(), Some("é".repeat(127).as_str()));
        assert_eq!(details.unique_id.as_deref(), Some(&b"\x1b[0m"[..]));
        assert_eq!(details.aws_vpc_endpoint.as_deref(), Some("vpce-08d2bf15fac5001c9"));
        assert_eq!((details.azure_link, details.gcp_psc), (Some(1), Some(9)));
        let tls = details.tls.unwrap();
        assert!(tls.encrypted && tls.certificate && tls.verified);
        assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
        assert_eq!(tls.common_name.as_deref(), Some("alice"));
        assert_eq!(tls.cipher, None);
    }
}
