//! `mmproxy decode`: header bytes in, one JSON object out.

use std::io::{self, Read};

use mmproxy_codec::{
    Addresses, Command, DecodeOptions, Family, Header, HeaderError, MAX_V2_LEN, Outcome, Transport, Version,
};
use serde::Serialize;
use serde_json::json;

use crate::cli::{self, DecodeArgs};
use crate::exit::{Exit, Failure};
use crate::hex;

/// Reads all of standard input and prints what its beginning is; the exit status tells the verdict.
pub(crate) fn run(args: &DecodeArgs) -> Result<Exit, Failure> {
    let unreadable =
        |error: io::Error| Failure::new(Exit::Config, error).hint("give the bytes on standard input");
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
    if args.hex {
        let text = String::from_utf8_lossy(&bytes);
        bytes = hex::parse(&text).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    let verdict = Verdict::of(&bytes, args.transport);
    println!("{}", serde_json::to_string(&verdict).expect("strings, numbers and lists always serialize"));
    Ok(verdict.exit())
}

/// What the input is; serialized as the conformance vectors write it.
#[derive(Debug, Serialize)]
#[serde(tag = "expect", rename_all = "snake_case")]
enum Verdict {
    Ok(Description),
    /// A proper prefix of a header: at least `need` more bytes decide.
    Incomplete {
        need: usize,
    },
    Error {
        error: &'static str,
        reason: String,
    },
    NotProxy {
        error: &'static str,
        reason: String,
    },
}

impl Verdict {
    fn of(bytes: &[u8], transport: cli::Transport) -> Self {
        // The operator wants to know what a header says, however large; only a gateway has to limit it.
        let options = DecodeOptions::new().max_v2_len(MAX_V2_LEN).expect("the format's own limit is allowed");
        let decoded = match transport {
            cli::Transport::Stream => mmproxy_codec::decode_with(bytes, &options),
            cli::Transport::Datagram => mmproxy_codec::decode_datagram_with(bytes, &options)
                .map(|(header, consumed)| Outcome::Complete { header, consumed }),
        };
        match decoded {
            Ok(Outcome::Complete { header, consumed }) => Self::Ok(Description::new(&header, consumed)),
            Ok(Outcome::NeedMore(need)) => Self::Incomplete { need: need.get() },
            Err(error @ HeaderError::NotProxy) => {
                Self::NotProxy { error: error.keyword(), reason: error.to_string() }
            }
            Err(error) => Self::Error { error: error.keyword(), reason: error.to_string() },
        }
    }

    const fn exit(&self) -> Exit {
        match self {
            Self::Ok(_) => Exit::Ok,
            Self::Incomplete { .. } => Exit::Incomplete,
            Self::Error { .. } => Exit::BadHeader,
            Self::NotProxy { .. } => Exit::NotProxy,
        }
    }
}

/// A complete header, field by field.
#[derive(Debug, Serialize)]
struct Description {
    version: serde_json::Value,
    command: &'static str,
    family: &'static str,
    protocol: &'static str,
    src: Option<String>,
    dst: Option<String>,
    header_len: usize,
    /// `None` where the header has a block that must not be looked into (LOCAL, UNSPEC).
    tlvs: Option<Vec<Tlv>>,
}

#[derive(Debug, Serialize)]
struct Tlv {
    #[serde(rename = "type")]
    kind: u8,
    hex: String,
}

impl Description {
    fn new(header: &Header<'_>, header_len: usize) -> Self {
        let (src, dst) = match header.addresses() {
            Addresses::Inet { source, destination } => {
                (Some(source.to_string()), Some(destination.to_string()))
            }
            Addresses::Inet6 { source, destination } => {
                (Some(source.to_string()), Some(destination.to_string()))
            }
            Addresses::Unix { source, destination } => (
                Some(format!("unix:{}", hex::format(source.raw()))),
                Some(format!("unix:{}", hex::format(destination.raw()))),
            ),
            // A family that the codec may learn later has no spelling here yet.
            Addresses::Unspecified | _ => (None, None),
        };
        let opaque = header.version() == Version::V2 && src.is_none() && header_len > V2_FIXED_LEN;
        Self {
            version: match header.version() {
                Version::V1 => json!(1),
                Version::V2 => json!(2),
                Version::Spp => json!("spp"),
            },
            command: match header.command() {
                Command::Local => "LOCAL",
                Command::Proxy => "PROXY",
            },
            family: match header.family() {
                Family::Unspec => "unspec",
                Family::Inet => "inet",
                Family::Inet6 => "inet6",
                Family::Unix => "unix",
            },
            protocol: match header.transport() {
                Transport::Unspec => "unspec",
                Transport::Stream => "stream",
                Transport::Datagram => "dgram",
            },
            src,
            dst,
            header_len,
            tlvs: (!opaque).then(|| {
                header.tlvs().map(|tlv| Tlv { kind: tlv.kind().0, hex: hex::format(tlv.value()) }).collect()
            }),
        }
    }
}

/// Signature, version and command, family and transport, length (§2.2).
const V2_FIXED_LEN: usize = 16;
