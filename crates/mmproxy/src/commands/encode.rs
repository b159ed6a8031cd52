//! `mmproxy encode`: a header's bytes from its fields.

use std::io::{self, Write};
use std::net::SocketAddr;

use mmproxy_codec::encode::{self, EncodeError};
use mmproxy_codec::{Addresses, MAX_V2_LEN, Transport};

use crate::cli::{self, EncodeArgs, VersionArgs};
use crate::exit::{Exit, Failure};
use crate::hex;

/// Writes the header to standard output and nothing else.
pub(crate) fn run(args: &EncodeArgs) -> Result<Exit, Failure> {
    let header = encode(args)?;
    let mut out = io::stdout().lock();
    let written = if args.hex { writeln!(out, "{}", hex::format(&header)) } else { out.write_all(&header) };
    written.and_then(|()| out.flush()).map_err(|error| Failure::new(Exit::Unavailable, error))?;
    Ok(Exit::Ok)
}

/// The header of a proxied TCP connection, as a load balancer sends it.
pub(crate) fn proxied(
    version: VersionArgs,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<Vec<u8>, EncodeError> {
    if version.v1 {
        return encode::v1(source, destination).map(|line| line.to_vec());
    }
    let mut buf = vec![0; MAX_V2_LEN];
    let header = encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination))?.finish();
    Ok(header.to_vec())
}

fn encode(args: &EncodeArgs) -> Result<Vec<u8>, Failure> {
    let unrepresentable = |error: EncodeError| Failure::new(Exit::Usage, error);
    if args.version.v1 {
        if args.transport == cli::Transport::Datagram || args.crc32c || !args.tlv.is_empty() {
            return Err(Failure::new(Exit::Usage, "a version 1 header has no datagrams, TLVs or checksum")
                .hint("leave them out, or write --v2"));
        }
        return match (args.source, args.destination) {
            (Some(source), Some(destination)) => {
                proxied(args.version, source, destination).map_err(unrepresentable)
            }
            _ => Ok(encode::v1_unknown().to_vec()),
        };
    }
    let mut buf = vec![0; MAX_V2_LEN];
    let transport = match args.transport {
        cli::Transport::Stream => Transport::Stream,
        cli::Transport::Datagram => Transport::Datagram,
    };
    let mut header = match (args.source, args.destination) {
        (Some(source), Some(destination)) => {
            encode::v2(&mut buf, transport, Addresses::between(source, destination))
        }
        _ => encode::v2_local(&mut buf),
    }
    .map_err(unrepresentable)?;
    for (kind, value) in &args.tlv {
        header = header.tlv(*kind, value).map_err(unrepresentable)?;
    }
    let header =
        if args.crc32c { header.finish_with_crc().map_err(unrepresentable)? } else { header.finish() };
    Ok(header.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use mmproxy_codec::{Outcome, TlvType, decode};

    fn encoded(line: &str) -> Result<Vec<u8>, Failure> {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Some(Command::Encode(args)) => encode(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_version_1_line_reads_as_the_specification_writes_it() {
        let line =
            encoded("mmproxy encode --v1 --source 192.0.2.7:4711 --destination 203.0.113.1:22").unwrap();
        assert_eq!(line, b"PROXY TCP4 192.0.2.7 203.0.113.1 4711 22\r\n");
        assert_eq!(encoded("mmproxy encode --v1 --local").unwrap(), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn a_version_2_header_carries_tlvs_in_order_and_its_checksum_last() {
        let header = encoded(
            "mmproxy encode --source [2001:db8::7]:1 --destination [2001:db8::1]:22 --tlv 02=61 --tlv ea=01ff --crc32c",
        )
        .unwrap();
        let Ok(Outcome::Complete { header, consumed: 68 }) = decode(&header) else { panic!("{header:02x?}") };
        assert_eq!(header.source(), Some("[2001:db8::7]:1".parse().unwrap()));
        let kinds: Vec<TlvType> = header.tlvs().map(|tlv| tlv.kind()).collect();
        assert_eq!(kinds, [TlvType::AUTHORITY, TlvType(0xea), TlvType::CRC32C]);
    }

    #[test]
    fn what_version_1_cannot_say_is_refused() {
        for extra in ["--crc32c", "--tlv 02=61", "--transport datagram"] {
            let line = format!("mmproxy encode --v1 --source 192.0.2.7:1 --destination 192.0.2.8:2 {extra}");
            assert_eq!(encoded(&line).unwrap_err().exit(), Exit::Usage, "{extra}");
        }
    }
}
