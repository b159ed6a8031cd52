//! The command lines of `probe`, `decode` and `encode`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use mmproxy_codec::TlvType;

use super::values::{Transport, address, duration, tlv};

/// `mmproxy probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The gateway to connect to
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) via: SocketAddr,

    /// The client address to announce
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    pub(crate) source: SocketAddr,

    /// The destination to announce; by default the gateway's address
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    pub(crate) destination: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) version: VersionArgs,

    /// Text to send behind the header; \n, \r, \t, \0, \\ and \xHH are understood
    #[arg(long, value_name = "TEXT")]
    pub(crate) send: Option<String>,

    /// How long to wait for the connection, and then for each answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) wait: Duration,
}

/// Which version of the header to write.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub(crate) struct VersionArgs {
    /// Write a version 1 header (text)
    #[arg(long)]
    pub(crate) v1: bool,

    /// Write a version 2 header (binary); the default
    #[arg(long)]
    pub(crate) v2: bool,
}

/// `mmproxy decode`.
#[derive(Args, Debug)]
pub(crate) struct DecodeArgs {
    /// The input is text in hexadecimal; blanks and `#` comments are ignored
    #[arg(long)]
    pub(crate) hex: bool,

    /// What carried the bytes
    #[arg(long, value_enum, default_value = "stream")]
    pub(crate) transport: Transport,
}

/// `mmproxy encode`.
#[derive(Args, Debug)]
pub(crate) struct EncodeArgs {
    #[command(flatten)]
    pub(crate) version: VersionArgs,

    /// The client address
    #[arg(long, value_name = "IP:PORT", value_parser = address, required_unless_present = "local", requires = "destination")]
    pub(crate) source: Option<SocketAddr>,

    /// The address the client connected to
    #[arg(long, value_name = "IP:PORT", value_parser = address, required_unless_present = "local", requires = "source")]
    pub(crate) destination: Option<SocketAddr>,

    /// The balancer's own connection: LOCAL in version 2, UNKNOWN in version 1
    #[arg(long, conflicts_with_all = ["source", "destination"])]
    pub(crate) local: bool,

    /// Transport to announce; version 1 knows only `stream`
    #[arg(long, value_enum, default_value = "stream")]
    pub(crate) transport: Transport,

    /// A TLV of a version 2 header, its type and value in hexadecimal, such as 02=6578616d706c65; repeatable
    #[arg(long, value_name = "TYPE=HEX", value_parser = tlv)]
    pub(crate) tlv: Vec<(TlvType, Vec<u8>)>,

    /// Add a CRC32C checksum to a version 2 header
    #[arg(long)]
    pub(crate) crc32c: bool,

    /// Print hexadecimal text instead of bytes
    #[arg(long)]
    pub(crate) hex: bool,
}
