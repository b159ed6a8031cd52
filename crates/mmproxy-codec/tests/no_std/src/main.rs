//! Encodes and decodes a header of each format with neither std nor an allocator.
//!
//! Started by the C runtime. The exit status is 0, or the number of the step that failed.

#![no_std]
#![no_main]

use core::ffi::{c_char, c_int};
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::panic::PanicInfo;

use mmproxy_codec::{Addresses, HeaderError, TlvType, Transport, decode, decode_datagram, encode};

// The C runtime starts the program and has `memcpy` and its like; nothing else is used of it.
#[link(name = "c")]
unsafe extern "C" {}

#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let client = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 4711));
    let server = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 443));
    let came_from = |wire: &[u8]| {
        let (header, consumed) = decode(wire).ok()?.complete()?;
        (consumed == wire.len()).then_some(header.source()?)
    };

    let Ok(v1) = encode::v1(client, server) else { return 1 };
    if came_from(&v1) != Some(client) {
        return 2;
    }

    let mut buf = [0; 64];
    let header = encode::v2(&mut buf, Transport::Stream, Addresses::between(client, server))
        .and_then(|header| header.tlv(TlvType::AUTHORITY, b"example.test"))
        .and_then(encode::V2Encoder::finish_with_crc);
    let Ok(v2) = header else { return 3 };
    if came_from(v2) != Some(client) {
        return 4;
    }

    // The checksum is computed by table here; a wrong one has to be noticed all the same.
    let mut broken = [0; 64];
    let Some(copy) = broken.get_mut(..v2.len()) else { return 5 };
    copy.copy_from_slice(v2);
    copy[16] ^= 1;
    if !matches!(decode(copy), Err(HeaderError::V2Crc32c { .. })) {
        return 6;
    }

    let Ok(spp) = encode::spp(client, server) else { return 7 };
    match decode_datagram(&spp) {
        Ok((header, 38)) if header.source() == Some(client) => 0,
        _ => 8,
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
