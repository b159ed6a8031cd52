//! No files, and connections to the targets' ports alone: what the kernel refuses however the process asks for it.
//!
//! The seccomp filter sees numbers, not what a pointer leads to; it cannot tell one port from another. Landlock can.
//! Ports to bind to are left alone: a spoofed connection is bound to its client's port, which may be any. Datagrams
//! are not covered before Linux 7.2, and after it a rule for ports would also apply to replies, which go to whatever
//! port a balancer uses; so a worker that forwards none cannot make a socket for any, by the filter.

use std::ops::RangeInclusive;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, RestrictSelf, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use serde::{Deserialize, Serialize};

use super::{ConnectPorts, MayLack};

/// What Landlock keeps a process from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restricted {
    /// The interface's version that is used; 0: Landlock is not.
    pub(super) abi: u32,
    /// Opening, making, removing or running any file. Version 1, Linux 5.13.
    pub(super) files: bool,
    /// Connecting to other ports than the targets'. Version 4, Linux 6.7; and only where the targets are known.
    pub(super) ports: bool,
    /// Signals and connections by abstract Unix sockets to processes outside. Version 6, Linux 6.12.
    pub(super) scopes: bool,
}

/// Why there is no Landlock, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LandlockError {
    #[error("this kernel cannot {0}")]
    Lacks(&'static str),
    #[error("the kernel refuses to apply Landlock's rules")]
    Refused(#[from] RulesetError),
}

/// Applies all that the kernel has of this, to the calling thread and those that it will start.
pub(super) fn restrict(connect: &ConnectPorts, may_lack: MayLack) -> Result<Restricted, LandlockError> {
    // What a later kernel knows beside this is taken where it is there and not missed elsewhere: device ioctls
    // (version 5) and Unix sockets by path (version 9) take a file or a socket that cannot be had.
    let mut ruleset =
        Ruleset::default().handle_access(AccessFs::from_all(ABI::V9))?.scope(Scope::from_all(ABI::V6))?;
    let only = only(connect);
    if only.is_some() {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut ruleset = ruleset.create()?;
    for port in only.into_iter().flatten().cloned().flatten() {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    let abi = version(ruleset.restrict_self()?.landlock);
    let restricted =
        Restricted { abi, files: abi >= FILES, ports: abi >= PORTS && only.is_some(), scopes: abi >= SCOPES };
    match (restricted.lack(only.is_some()), may_lack) {
        (Some(missing), MayLack::Nothing) => Err(LandlockError::Lacks(missing)),
        (_, MayLack::Nothing | MayLack::Landlock | MayLack::Anything) => Ok(restricted),
    }
}

impl Restricted {
    /// The first thing that is not in force, of those that should be.
    pub(super) const fn lack(self, ports_are_known: bool) -> Option<&'static str> {
        if !self.files {
            return Some("keep a process from files: it has no Landlock, or it is not enabled (lsm=)");
        }
        if !self.ports && ports_are_known {
            return Some("keep connections to the targets' ports: that takes Linux 6.7");
        }
        if !self.scopes {
            return Some(
                "keep signals and abstract Unix sockets from other processes: that takes Linux 6.12",
            );
        }
        None
    }
}

/// The interface's version that this kernel and this program both know; 0: none. Changes nothing.
pub(super) fn available() -> u32 {
    // Without a flag that would have to be set this only asks for the version.
    let asked = RestrictSelf::default().no_new_privs(false).apply();
    asked.map_or(0, |status| version(status.landlock))
}

const fn version(status: LandlockStatus) -> u32 {
    match status {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

/// The ports, if not every one is allowed: then there is nothing to refuse.
pub(super) fn only(connect: &ConnectPorts) -> Option<&[RangeInclusive<u16>]> {
    match connect {
        ConnectPorts::Any => None,
        ConnectPorts::Only(ports)
            if ports.iter().any(|range| *range.start() <= 1 && *range.end() == u16::MAX) =>
        {
            None
        }
        ConnectPorts::Only(ports) => Some(ports),
    }
}

pub(super) const FILES: u32 = 1;
pub(super) const PORTS: u32 = 4;
pub(super) const SCOPES: u32 = 6;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use super::*;

    /// Landlock is a thread's: the test that asks for it can go on without.
    fn inside<T: Send>(connect: &ConnectPorts, body: impl FnOnce(Restricted) -> T + Send) -> T {
        thread::scope(|scope| {
            let inside =
                || body(restrict(connect, MayLack::Landlock).expect("Landlock's rules can be applied"));
            scope.spawn(inside).join().expect("the body does not panic")
        })
    }

    #[test]
    fn inside_no_file_opens_and_connections_go_to_the_listed_ports_alone() {
        let listeners = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [listed, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let only = ConnectPorts::Only(vec![listed.port()..=listed.port()]);
        let (restricted, file, allowed, denied) = inside(&only, |restricted| {
            let connect = |address| TcpStream::connect(address).map(drop);
            (restricted, File::open("/proc/self/status").map(drop), connect(listed), connect(other))
        });
        assert_eq!(restricted.abi, available());
        if restricted.files {
            assert_eq!(file.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        allowed.unwrap();
        if restricted.ports {
            assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn where_a_header_may_name_any_port_none_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for any in [ConnectPorts::Any, ConnectPorts::Only(vec![1..=u16::MAX])] {
            let connected = inside(&any, |restricted| {
                assert!(!restricted.ports);
                TcpStream::connect(address).map(drop)
            });
            connected.unwrap();
        }
    }

    #[test]
    fn inside_nobody_outside_is_reached_by_an_abstract_unix_socket() {
        let name = SocketAddr::from_abstract_name(format!("mmproxy/test/{}", std::process::id())).unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        UnixStream::connect_addr(&name).unwrap();
        inside(&ConnectPorts::Any, |restricted| {
            if restricted.scopes {
                let refused = UnixStream::connect_addr(&name).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
            }
        });
    }

    #[test]
    fn what_a_kernel_lacks_is_named_oldest_first() {
        let of = |abi| {
            let restricted =
                Restricted { abi, files: abi >= FILES, ports: abi >= PORTS, scopes: abi >= SCOPES };
            restricted.lack(true).map(|lack| lack.split_once(':').expect("with a reason").0)
        };
        assert_eq!(of(0), Some("keep a process from files"));
        assert_eq!(of(3), Some("keep connections to the targets' ports"));
        assert_eq!(of(4), Some("keep signals and abstract Unix sockets from other processes"));
        assert_eq!(of(6), None);
        let without_ports = Restricted { abi: 6, files: true, ports: false, scopes: true };
        assert_eq!(without_ports.lack(false), None);
    }
}
