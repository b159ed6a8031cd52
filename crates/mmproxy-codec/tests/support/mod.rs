//! The vectors in `tests/vectors`, as values, and the codec's answer to one of them.
#![allow(dead_code, unused_imports, reason = "every test binary compiles this module and uses a part of it")]

mod notation;
mod reader;

use std::net::SocketAddr;

use mmproxy_codec::{DecodeOptions, Header, HeaderError, Outcome, UNIX_ADDR_LEN};
use proptest::test_runner::{Config, FileFailurePersistence};

pub(crate) use notation::bytes;
pub(crate) use reader::all;

/// How many vectors there are. A test counts them, so that none gets lost.
pub(crate) const COUNT: usize = 325;

/// How properties are tested: a failing case is kept beside its test, in a file that belongs into version control.
pub(crate) fn properties() -> Config {
    Config::with_failure_persistence(FileFailurePersistence::WithSource("regressions"))
}

/// One input and the verdict it must get. The fields are those of `tests/vectors/README.md`.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) max_v2_len: Option<usize>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expect: Expect,
}

impl Vector {
    /// The codec's answer to this vector.
    pub(crate) fn decode(&self) -> Result<Outcome<Header<'_>>, HeaderError> {
        self.decode_instead(&self.bytes)
    }

    /// The codec's answer to other bytes that arrive in the same way.
    ///
    /// A whole datagram is never incomplete, so its answer fits the same type.
    pub(crate) fn decode_instead<'a>(&self, input: &'a [u8]) -> Result<Outcome<Header<'a>>, HeaderError> {
        let options = self.options();
        match self.transport {
            Transport::Stream => mmproxy_codec::decode_with(input, &options),
            Transport::Datagram => mmproxy_codec::decode_datagram_with(input, &options)
                .map(|(header, consumed)| Outcome::Complete { header, consumed }),
        }
    }

    /// The header, if the verdict is `ok`.
    pub(crate) fn header(&self) -> Option<&[u8]> {
        match &self.expect {
            Expect::Ok(expected) => Some(&self.bytes[..expected.header_len]),
            Expect::Incomplete | Expect::Error(_) | Expect::NotProxy => None,
        }
    }

    fn options(&self) -> DecodeOptions {
        let options = DecodeOptions::new();
        match self.max_v2_len {
            Some(limit) => options.max_v2_len(limit).expect("the limit of a vector is a possible one"),
            None => options,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Stream,
    Datagram,
}

#[derive(Clone, Debug)]
pub(crate) enum Expect {
    Ok(Box<Expected>),
    Incomplete,
    /// The keyword.
    Error(String),
    NotProxy,
}

/// What a complete header says.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) version: String,
    pub(crate) command: String,
    pub(crate) family: String,
    pub(crate) protocol: String,
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
    pub(crate) header_len: usize,
    /// Types and values in wire order; `None`: not to be compared.
    pub(crate) tlvs: Option<Vec<(u8, Vec<u8>)>>,
    pub(crate) ssl: Option<ExpectedSsl>,
    /// Name of the typed view and its value as text.
    pub(crate) vendor: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// The real endpoints of the connection apply.
    None,
    Inet(SocketAddr),
    Unix(Box<[u8; UNIX_ADDR_LEN]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedSsl {
    Malformed,
    Sound { client: u8, verify: u32, tlvs: Vec<(u8, Vec<u8>)> },
}
