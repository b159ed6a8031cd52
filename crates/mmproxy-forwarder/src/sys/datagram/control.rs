//! Control messages of datagrams, read and written byte by byte (cmsg(3)).

use std::mem;
use std::net::IpAddr;

use nix::libc;

use super::{SocketFamily, array};

/// Room for control messages: addresses of both families and a segment size.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; 128]);

impl Control {
    pub(super) const EMPTY: Self = Self([0; 128]);

    /// Level, type and data of each message in the first `length` bytes.
    pub(super) fn messages(&self, length: usize) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
        let mut rest = self.0.get(..length).unwrap_or_default();
        std::iter::from_fn(move || {
            let size = control_len(rest)?;
            let message = rest.get(..size).filter(|_| size >= CONTROL_HEADER)?;
            let level = libc::c_int::from_ne_bytes(array(message, field::LEVEL)?);
            let kind = libc::c_int::from_ne_bytes(array(message, field::KIND)?);
            rest = rest.get(aligned(size)..).unwrap_or_default();
            Some((level, kind, &message[CONTROL_HEADER..]))
        })
    }

    /// Writes the messages that a datagram from `from`, in segments of `segment` bytes, needs; their length.
    pub(super) fn set(&mut self, from: Option<IpAddr>, segment: Option<u16>, family: SocketFamily) -> usize {
        let mut length = 0;
        match (from, family) {
            (Some(IpAddr::V4(ip)), SocketFamily::V4) => {
                // Interface: any. The second field is the source address.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                length = self.push(length, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            (Some(ip), _) => {
                let ip = match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                length = self.push(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            (None, _) => {}
        }
        if let Some(segment) = segment {
            length = self.push(length, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        length
    }

    fn push(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let size = CONTROL_HEADER + data.len();
        let message = &mut self.0[at..at + aligned(size)];
        message.fill(0);
        set_control_len(message, size);
        message[field::LEVEL..][..size_of::<libc::c_int>()].copy_from_slice(&level.to_ne_bytes());
        message[field::KIND..][..size_of::<libc::c_int>()].copy_from_slice(&kind.to_ne_bytes());
        message[CONTROL_HEADER..size].copy_from_slice(data);
        at + aligned(size)
    }
}

/// Byte positions in `cmsghdr`.
mod field {
    use super::{libc, mem};

    pub(super) const LEVEL: usize = mem::offset_of!(libc::cmsghdr, cmsg_level);
    pub(super) const KIND: usize = mem::offset_of!(libc::cmsghdr, cmsg_type);
}

/// The kernel's `cmsg_len` is a `size_t`, whatever a C library makes of its upper half.
fn control_len(messages: &[u8]) -> Option<usize> {
    array(messages, 0).map(usize::from_ne_bytes)
}

fn set_control_len(message: &mut [u8], length: usize) {
    message[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
}

/// CMSG_ALIGN
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

/// CMSG_LEN(0)
const CONTROL_HEADER: usize = aligned(size_of::<libc::cmsghdr>());
