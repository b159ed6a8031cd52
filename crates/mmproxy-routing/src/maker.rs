//! Who makes rules and routes, as far as the number says that they carry.

use std::fs;
use std::path::Path;

use crate::ledger::Lifetime;

/// The maker of a rule or route, as `ip` prints it.
pub(crate) fn protocol_name(protocol: u8) -> String {
    let name = match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Who made a rule or route of this number, to stand behind it in a sentence.
pub(crate) fn made_by(protocol: u8) -> String {
    match Lifetime::of_protocol(protocol) {
        Some(Lifetime::Leased) => return "of a running mmproxy".to_owned(),
        Some(Lifetime::Permanent) => return "of `mmproxy setup`".to_owned(),
        None => {}
    }
    let maker = match protocol {
        // What ip(8) gives to all it makes, unless told otherwise.
        0 | 3 => "made by hand or by a script",
        2 => "of the kernel",
        4 => "made by an administrator or a network manager",
        9 => "from a router advertisement",
        11 => "of FRRouting or Quagga",
        12 => "of BIRD",
        16 => "of a DHCP client",
        18 => "of keepalived",
        other => {
            return match registered(other) {
                Some(name) => format!("of {name}"),
                None => format!("of whoever uses protocol number {other}"),
            };
        }
    };
    maker.to_owned()
}

/// The name that this host's iproute2 knows for a number.
fn registered(protocol: u8) -> Option<String> {
    let known = protocol_name(protocol);
    if known != protocol.to_string() {
        return Some(known);
    }
    REGISTERS.iter().find_map(|file| named(&fs::read_to_string(Path::new(file)).ok()?, protocol))
}

/// The name in a file of lines `NUMBER NAME`, numbers also in hexadecimal.
fn named(register: &str, protocol: u8) -> Option<String> {
    register.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next()?;
        let number = match number.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16),
            None => number.parse(),
        };
        (number == Ok(protocol)).then(|| words.next().map(str::to_owned))?
    })
}

/// Where an administrator names numbers, and where iproute2 does.
const REGISTERS: [&str; 2] = ["/etc/iproute2/rt_protos", "/usr/share/iproute2/rt_protos"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_makers() {
        for (protocol, maker) in [
            (2, "of the kernel"),
            (3, "made by hand or by a script"),
            (12, "of BIRD"),
            (42, "of babel"),
            (77, "of `mmproxy setup`"),
            (109, "of a running mmproxy"),
            (251, "of whoever uses protocol number 251"),
        ] {
            assert_eq!(made_by(protocol), maker);
        }
    }

    #[test]
    fn a_register_names_numbers() {
        let register = "# local\n200\tours\n0xc9 theirs\n";
        assert_eq!(named(register, 200).as_deref(), Some("ours"));
        assert_eq!(named(register, 0xc9).as_deref(), Some("theirs"));
        assert_eq!(named(register, 202), None);
    }
}
