//! The SSL vector: what the proxy knows of the client's TLS (§2.2.6).

use core::fmt;

use nom::IResult;
use nom::Parser;
use nom::number::complete::{be_u8, be_u32};
use nom::sequence::pair;

use super::tlv::{Tlv, TlvError, TlvType, Tlvs, ascii, utf8, whole};

/// The value of an SSL vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ssl<'a> {
    client: SslClient,
    verify: u32,
    /// Invariant: a sequence of whole TLVs.
    vectors: &'a [u8],
}

impl<'a> Ssl<'a> {
    /// Reads a value. Vectors inside it are not looked into further, not even another SSL vector.
    pub(super) fn parse(value: &'a [u8]) -> Result<Self, TlvError> {
        let fixed: IResult<_, _> = pair(be_u8, be_u32).parse(value);
        let (vectors, (client, verify)) = fixed.map_err(|_| TlvError::Length)?;
        if !whole(vectors) {
            return Err(TlvError::Nested);
        }
        Ok(Self { client: SslClient(client), verify, vectors })
    }

    /// Which of TLS and client certificates there are.
    pub const fn client(&self) -> SslClient {
        self.client
    }

    /// Result of verifying the client's certificate; 0 is success, *or that there was none*.
    ///
    /// [`client_verified`](Self::client_verified) tells the two apart.
    pub const fn verify(&self) -> u32 {
        self.verify
    }

    /// Whether the client presented a certificate that the proxy found good.
    pub const fn client_verified(&self) -> bool {
        self.verify == 0 && (self.client.has(SslClient::CERT_CONN) || self.client.has(SslClient::CERT_SESS))
    }

    /// The vectors inside, in wire order.
    pub const fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(self.vectors)
    }

    /// Version of TLS, for example `TLSv1.3`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`]. As for the other names, but [`common_name`](Self::common_name).
    pub fn version(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_VERSION)
    }

    /// Common name of the client's certificate.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotUtf8`].
    pub fn common_name(&self) -> Option<Result<&'a str, TlvError>> {
        self.find(TlvType::SSL_CN).map(|tlv| utf8(tlv.value()))
    }

    /// Name of the cipher, for example `ECDHE-RSA-AES128-GCM-SHA256`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn cipher(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_CIPHER)
    }

    /// Algorithm that signed the proxy's certificate, for example `RSA-SHA256`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn signature_algorithm(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_SIG_ALG)
    }

    /// Algorithm of the key in the proxy's certificate, for example `RSA2048`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn key_algorithm(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_KEY_ALG)
    }

    /// Key exchange group, for example `X25519`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn group(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_GROUP)
    }

    /// Signature scheme of the handshake, for example `rsa_pss_rsae_sha256`.
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn signature_scheme(&self) -> Option<Result<&'a str, TlvError>> {
        self.text(TlvType::SSL_SIG_SCHEME)
    }

    /// The client's certificate in DER, unparsed.
    pub fn client_certificate(&self) -> Option<&'a [u8]> {
        self.find(TlvType::SSL_CLIENT_CERT).map(|tlv| tlv.value())
    }

    fn text(&self, kind: TlvType) -> Option<Result<&'a str, TlvError>> {
        self.find(kind).map(|tlv| ascii(tlv.value()))
    }

    fn find(&self, kind: TlvType) -> Option<Tlv<'a>> {
        self.tlvs().first(kind)
    }
}

impl fmt::Debug for Ssl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ssl")
            .field("client", &self.client)
            .field("verify", &self.verify)
            .field("tlvs", &self.tlvs())
            .finish()
    }
}

/// The client bits of an SSL vector; bits without a name are carried.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SslClient(pub u8);

impl SslClient {
    /// The client connected over TLS.
    pub const SSL: Self = Self(0x01);
    /// It presented a certificate over this connection.
    pub const CERT_CONN: Self = Self(0x02);
    /// It presented a certificate at least once over this TLS session.
    pub const CERT_SESS: Self = Self(0x04);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for SslClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SslClient({:#04x})", self.0)
    }
}
