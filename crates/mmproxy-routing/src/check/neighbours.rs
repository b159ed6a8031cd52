//! Whether neighbours can be asked for on behalf of a client.
//!
//! Over IPv6 a question for a neighbour's address comes from the packet's own source if that is an address of the
//! interface, and else from the interface's link-local one. A spoofed packet's source never is.

use std::fs;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::fact::Fact;
use super::finding::{Finding, Subject};

/// What is wrong with the link-local address of the interface by which packets leave toward an IPv6 target.
pub(super) fn judge(device: &str) -> Option<Finding> {
    // An interface that asks for no neighbours (a tunnel) needs none; if that cannot be told, nothing is claimed.
    let asks = getifaddrs().ok()?.any(|interface| {
        interface.interface_name == device
            && !interface.flags.intersects(InterfaceFlags::IFF_NOARP | InterfaceFlags::IFF_LOOPBACK)
    });
    if !asks {
        return None;
    }
    let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
    let (found, cure) = match link_local(&addresses, device) {
        LinkLocal::Usable => return None,
        LinkLocal::Tentative => (
            format!("the link-local address of {device} has not passed duplicate address detection"),
            "wait a second or two; `ip -6 address show` says `tentative` or `dadfailed` until then"
                .to_owned(),
        ),
        LinkLocal::Missing => (
            format!("{device} has no link-local IPv6 address"),
            format!("`ip -6 address add fe80::1/64 dev {device}`, with any number that is free there"),
        ),
    };
    let finding = Finding::warning(Subject::Kernel, Fact::NoLinkLocal, found);
    let why = "neighbours are asked for from it, because a client's address is none of this host's";
    Some(finding.because(why).cured_by(cure))
}

/// An interface's link-local address.
#[derive(Debug, PartialEq, Eq)]
enum LinkLocal {
    Usable,
    Tentative,
    Missing,
}

/// The one in the lines of `/proc/net/if_inet6`: address, index, prefix, scope, flags, name; numbers in hexadecimal.
fn link_local(addresses: &str, device: &str) -> LinkLocal {
    let mut found = LinkLocal::Missing;
    for line in addresses.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, "20", flags, name] = words.as_slice() else { continue };
        if *name != device {
            continue;
        }
        // A flag that cannot be read is none.
        if u8::from_str_radix(flags, 16).unwrap_or(0) & (TENTATIVE | DAD_FAILED) == 0 {
            return LinkLocal::Usable;
        }
        found = LinkLocal::Tentative;
    }
    found
}

/// `linux/if_addr.h`
const DAD_FAILED: u8 = 0x08;
const TENTATIVE: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: &str = "\
        00000000000000000000000000000001 01 80 10 80       lo\n\
        fd000000000000000000000000000001 02 40 00 80     eth0\n\
        fe800000000000000000000000000001 02 40 20 40     eth0\n\
        fe800000000000000000000000000002 03 40 20 80     eth1\n\
        fd070000000000000000000000000001 04 40 00 80     eth2\n\
        fe800000000000000000000000000003 05 40 20 c8     eth3\n\
        fe800000000000000000000000000004 05 40 20 80     eth3\n";

    #[test]
    fn a_link_local_address_counts_once_nobody_else_has_it() {
        for (device, found) in [
            ("eth0", LinkLocal::Tentative),
            ("eth1", LinkLocal::Usable),
            ("eth2", LinkLocal::Missing),
            ("eth3", LinkLocal::Usable),
            ("lo", LinkLocal::Missing),
        ] {
            assert_eq!(link_local(ADDRESSES, device), found, "{device}");
        }
    }
}
