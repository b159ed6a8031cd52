//! Socket addresses as the kernel has them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use nix::libc;

use super::{SocketFamily, array};
use crate::addr::unmapped;

/// Bytes of a `sockaddr_in` or `sockaddr_in6`, read and written field by field.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name([u8; size_of::<libc::sockaddr_in6>()]);

impl Name {
    pub(super) const EMPTY: Self = Self([0; size_of::<libc::sockaddr_in6>()]);

    pub(super) fn address(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        let bytes = self.0.get(..length as usize)?;
        let family = i32::from(u16::from_ne_bytes(array(bytes, field::FAMILY.start)?));
        let port = u16::from_be_bytes(array(bytes, field::PORT.start)?);
        match family {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(array::<4>(bytes, field::V4.start)?);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(array::<16>(bytes, field::V6.start)?);
                let scope = u32::from_ne_bytes(array(bytes, field::SCOPE.start)?);
                Some(unmapped(SocketAddrV6::new(ip, port, 0, scope).into()))
            }
            _ => None,
        }
    }

    /// Writes `address` as a socket of `family` takes it; its length.
    pub(super) fn set(&mut self, address: SocketAddr, family: SocketFamily) -> libc::socklen_t {
        self.0 = [0; size_of::<libc::sockaddr_in6>()];
        self.0[field::PORT].copy_from_slice(&address.port().to_be_bytes());
        match (family, address) {
            (SocketFamily::V4, SocketAddr::V4(v4)) => {
                self.0[field::FAMILY].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[field::V4].copy_from_slice(&v4.ip().octets());
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            (SocketFamily::V4 | SocketFamily::V6, address) => {
                let (ip, scope) = match address {
                    SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
                    SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
                };
                self.0[field::FAMILY].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[field::V6].copy_from_slice(&ip.octets());
                self.0[field::SCOPE].copy_from_slice(&scope.to_ne_bytes());
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// Byte positions in `sockaddr_in` and `sockaddr_in6`, the same on every Linux.
mod field {
    use super::Range;

    pub(super) const FAMILY: Range<usize> = 0..2;
    pub(super) const PORT: Range<usize> = 2..4;
    pub(super) const V4: Range<usize> = 4..8;
    pub(super) const V6: Range<usize> = 8..24;
    pub(super) const SCOPE: Range<usize> = 24..28;
}
