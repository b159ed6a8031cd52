//! Kernel switches, read and written below `/proc/sys`.
//!
//! `/proc/sys/net` shows the network namespace of the thread that opens a file in it.

use std::fs;
use std::io;

use nix::errno::Errno;

use crate::error::RoutingError;
use crate::step::Sysctl;

/// The value of a switch, 0 being off; `None` if this kernel has no such switch.
pub(crate) fn read(sysctl: Sysctl) -> Result<Option<u32>, RoutingError> {
    let failed = |source| RoutingError::kernel(format!("read sysctl {sysctl}"), source);
    match fs::read_to_string(path(sysctl)) {
        Ok(text) => text.trim().parse().map(Some).map_err(|error| failed(io::Error::other(error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Turns a switch on (1) or off (0).
pub(crate) fn write(sysctl: Sysctl, on: bool) -> Result<(), RoutingError> {
    let name = sysctl.to_string();
    let value = u8::from(on);
    fs::write(path(sysctl), value.to_string()).map_err(|source| {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EROFS) => RoutingError::SysctlReadOnly { name, source },
            Some(Errno::ENOENT) => RoutingError::SysctlAbsent { name, source },
            _ => RoutingError::change(&format!("sysctl -w {sysctl}={value}"), source),
        }
    })
}

fn path(sysctl: Sysctl) -> String {
    match sysctl {
        Sysctl::RouteLocalnet(device) => format!("/proc/sys/net/ipv4/conf/{device}/route_localnet"),
        Sysctl::TcpFwmarkAccept | Sysctl::FwmarkReflectV4 | Sysctl::FwmarkReflectV6 => {
            format!("/proc/sys/{}", sysctl.to_string().replace('.', "/"))
        }
    }
}
