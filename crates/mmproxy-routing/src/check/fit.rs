//! Which mode serves which targets.

use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};
use crate::mode::{Mode, Transport};

/// Whether a mode can bring back the replies of such a target at all.
///
/// `local` says whether packets to the target are delivered on this host; `None` if that could not be told.
pub(super) fn suits(mode: Mode, target: Target, local: Option<bool>) -> Finding {
    let unfit = |found: String, why: &str, cure: String| {
        Finding::failed(Subject::ReturnPath, Fact::ModeUnfit, ExitKind::Configuration, found)
            .at(target)
            .because(why)
            .cured_by(cure)
    };
    let best = match (local, target.transport) {
        (Some(false), _) => Mode::Socket,
        (_, Transport::Tcp) => Mode::Fwmark,
        (_, Transport::Udp) => Mode::Port,
    };
    let another = format!("use `--return-path {best}`");
    let elsewhere = local == Some(false);
    match (mode, target.transport) {
        (Mode::Fwmark | Mode::Source | Mode::Port | Mode::Connmark, _) if elsewhere => unfit(
            format!("mode {mode} serves targets of this host, and {} is elsewhere", target.address.ip()),
            "it catches replies where they are sent, on this host",
            format!(
                "{another} if the target's route back leads through this host, `--target-netns` if it is a \
                 container of this host, or run mmproxy on the target's own host"
            ),
        ),
        (Mode::Fwmark, Transport::Udp) => unfit(
            "mode fwmark cannot bring UDP replies back".to_owned(),
            "a UDP server has one socket for all clients, and its replies inherit no mark",
            another,
        ),
        (Mode::Source, _) if !target.address.ip().is_loopback() => unfit(
            format!("mode source serves loopback targets, and {} is none", target.address.ip()),
            "its rules pick replies that are sent from a loopback address",
            another,
        ),
        (Mode::Socket, _) if local == Some(true) => unfit(
            format!("mode socket serves targets behind this host, and {} is its own", target.address.ip()),
            "its nftables rule sees replies that come in from the network; those of this host never do",
            another,
        ),
        (Mode::Fwmark | Mode::Connmark | Mode::Source | Mode::Port | Mode::Socket, _) => {
            Finding::ok(Subject::ReturnPath, Fact::ModeServes, format!("mode {mode} serves such targets"))
                .at(target)
        }
    }
}

/// Whether replies carry the mark when they are routed.
pub(super) const fn marks_replies(mode: Mode) -> bool {
    match mode {
        Mode::Fwmark | Mode::Connmark | Mode::Socket => true,
        Mode::Source | Mode::Port => false,
    }
}

/// Whether the target has to be an address of this host.
pub(super) const fn wants_local_target(mode: Mode) -> bool {
    match mode {
        Mode::Fwmark | Mode::Source | Mode::Port | Mode::Connmark => true,
        Mode::Socket => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn target(address: &str, transport: Transport) -> Target {
        Target { address: address.parse::<SocketAddr>().unwrap(), transport }
    }

    #[test]
    fn each_mode_serves_its_own_targets() {
        use Mode::{Connmark, Fwmark, Port, Socket, Source};
        use Transport::{Tcp, Udp};
        let (lo, own, far) = ("127.0.0.1:1", "10.0.0.1:1", "10.0.0.9:1");
        let here = Some(true);
        let there = Some(false);
        for (mode, address, transport, local, serves, instead) in [
            (Fwmark, lo, Tcp, here, true, ""),
            (Fwmark, own, Tcp, here, true, ""),
            (Fwmark, lo, Udp, here, false, "--return-path port"),
            (Fwmark, far, Tcp, there, false, "--return-path socket"),
            (Fwmark, own, Tcp, None, true, ""),
            (Source, lo, Tcp, here, true, ""),
            (Source, "[::1]:1", Udp, here, true, ""),
            (Source, own, Tcp, here, false, "--return-path fwmark"),
            (Source, own, Udp, here, false, "--return-path port"),
            (Port, own, Udp, here, true, ""),
            (Port, own, Tcp, here, true, ""),
            (Port, far, Udp, there, false, "--return-path socket"),
            (Connmark, lo, Tcp, here, true, ""),
            (Connmark, lo, Udp, here, true, ""),
            (Connmark, far, Tcp, there, false, "--return-path socket"),
            (Socket, far, Tcp, there, true, ""),
            (Socket, far, Udp, there, true, ""),
            (Socket, lo, Udp, here, false, "--return-path port"),
        ] {
            let finding = suits(mode, target(address, transport), local);
            let case = format!("{mode} {address} {transport} {local:?}: {finding}");
            assert_eq!(finding.fact == Fact::ModeServes, serves, "{case}");
            assert!(finding.cure.unwrap_or_default().contains(instead), "{case}");
        }
    }
}
