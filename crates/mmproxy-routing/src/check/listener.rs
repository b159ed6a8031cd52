//! The target's socket: whether there is one, where it is bound, and who holds it.

use std::net::SocketAddr;

use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};
use super::process::Process;
use super::sockets::{Bound, Serves};
use crate::mode::{Mode, Transport};

/// The sockets that have the target's port, those that serve its address first, the kernel's choice in front.
pub(super) fn with_port(target: Target, waiting: &[Bound]) -> Vec<&Bound> {
    let mut bound: Vec<_> =
        waiting.iter().filter(|socket| socket.address.port() == target.address.port()).collect();
    bound.sort_by_key(|socket| match socket.serves(target.address.ip()) {
        Some(Serves::Exactly) => 0,
        Some(Serves::Everywhere) => 1,
        None => 2,
    });
    bound
}

/// What the sockets with the target's port, from [`with_port`], mean for it.
pub(super) fn judge<'a>(
    target: Target,
    mode: Mode,
    bound: &[&Bound],
    holder: impl Fn(&Bound) -> Option<&'a Process>,
) -> Vec<Finding> {
    let chosen = bound.first().and_then(|socket| Some((*socket, socket.serves(target.address.ip())?)));
    let Some((socket, serves)) = chosen else {
        return vec![not_served(target, bound, holder)];
    };
    let process = holder(socket);
    let who = process.map_or_else(|| "somebody".to_owned(), ToString::to_string);
    let place = match serves {
        Serves::Exactly => (Fact::Listens, format!("{who} has that address")),
        Serves::Everywhere => (Fact::ListensEverywhere, format!("{who} has that port on every address")),
    };
    let mut findings = match process {
        Some(process) if is_forwarder(&process.name) => vec![forwarder(target, process)],
        Some(process) if process.name == "mmproxy" => vec![
            Finding::warning(Subject::Listener, Fact::TargetIsMmproxy, format!("{who} has that port"))
                .because(
                    "the target is an mmproxy itself: it waits for a PROXY header that this one takes away",
                )
                .cured_by("name the server behind it as the target")
                .at(target),
        ],
        _ => vec![Finding::ok(Subject::Listener, place.0, place.1).at(target)],
    };
    if target.transport == Transport::Udp && serves == Serves::Everywhere {
        findings.extend(wildcard_udp(target, mode, &who));
    }
    findings
}

fn not_served<'a>(
    target: Target,
    bound: &[&Bound],
    holder: impl Fn(&Bound) -> Option<&'a Process>,
) -> Finding {
    let Some(elsewhere) = bound.first() else {
        return Finding::failed(
            Subject::Listener,
            Fact::NobodyListens,
            ExitKind::Unavailable,
            format!("no program has {} port {}", target.transport, target.address.port()),
        )
        .because("there is nothing to connect to")
        .cured_by("start the server, or correct the target's port")
        .at(target);
    };
    let who = holder(elsewhere).map_or_else(|| "a program".to_owned(), ToString::to_string);
    let (place, cure) = match &elsewhere.device {
        Some(device) => (
            format!("{} on interface {device}", elsewhere.address),
            "bind the server to no interface, or to lo".to_owned(),
        ),
        None if elsewhere.address.ip().is_unspecified() && elsewhere.v6_only => (
            format!("{}, for IPv6 alone", elsewhere.address),
            format!(
                "use {} as IPv6 target only, or let the server listen on {} too",
                elsewhere.address, target.address
            ),
        ),
        None => (
            elsewhere.address.to_string(),
            format!(
                "name that address as the target, `-{} {}`, or let the server listen on {}",
                if elsewhere.address.is_ipv4() { 4 } else { 6 },
                elsewhere.address,
                target.address
            ),
        ),
    };
    let more = match bound.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Finding::failed(
        Subject::Listener,
        Fact::BoundElsewhere,
        ExitKind::Unavailable,
        format!("{who} has that port on {place}{more}, not here"),
    )
    .because("connections to the target's address are refused")
    .cured_by(cure)
    .at(target)
}

/// Programs that take a published port and make a connection of their own to the container.
fn is_forwarder(name: &str) -> bool {
    // As /proc cuts them off.
    ["docker-proxy", "rootlesskit-doc", "rootlesskit", "rootlessport", "slirp4netns", "pasta", "pasta.avx2"]
        .contains(&name)
}

fn forwarder(target: Target, process: &Process) -> Finding {
    let container = process.option("container-ip").and_then(|ip| {
        let port = process.option("container-port")?.parse().ok()?;
        Some(SocketAddr::new(ip.parse().ok()?, port))
    });
    let name = &process.name;
    let address = container.map_or_else(
        || "the container's own address".to_owned(),
        |address| {
            format!("the container's own address, `-{} {address}`", if address.is_ipv4() { 4 } else { 6 })
        },
    );
    let forwards = container.map_or_else(String::new, |address| format!(", which forwards to {address}"));
    Finding::failed(
        Subject::Listener,
        Fact::PortForwarder,
        ExitKind::Configuration,
        format!("{process} stands in front{forwards}"),
    )
    .because(format!(
        "{name} connects to the container by itself: the container sees an address of this host, not the client's"
    ))
    .cured_by(format!("`--target-netns docker:NAME`, or `--return-path socket` with {address}"))
    .at(target)
}

fn wildcard_udp(target: Target, mode: Mode, who: &str) -> Option<Finding> {
    let (ip, port) = (target.address.ip(), target.address.port());
    let cure = format!("bind the server to {ip}, or use `--return-path port`");
    let finding = match mode {
        Mode::Port => Finding::warning(
            Subject::Listener,
            Fact::WildcardAnswers,
            format!("{who} also serves clients that come directly, on port {port} of every address"),
        )
        .because(
            "the rule picks all it sends from that port: direct clients elsewhere get no answer any more",
        )
        .cured_by(format!("bind the server to {ip} if it should serve mmproxy alone")),
        Mode::Source => Finding::failed(
            Subject::Listener,
            Fact::WildcardAnswers,
            ExitKind::Configuration,
            format!(
                "{who} is bound to every address, so its answers have no source yet when they are routed"
            ),
        )
        .because("the rules of mode source pick answers from loopback addresses")
        .cured_by(cure),
        Mode::Connmark => Finding::warning(
            Subject::Listener,
            Fact::WildcardAnswers,
            format!("{who} is bound to every address and answers from the one that the default route names"),
        )
        .because(format!("a client that expects answers from {ip} does not take those from another address"))
        .cured_by(cure),
        // Mode fwmark does not serve UDP, and the sockets of a target elsewhere are not here.
        Mode::Fwmark | Mode::Socket => return None,
    };
    Some(finding.at(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level;

    fn bound(address: &str, inode: u32) -> Bound {
        Bound { address: address.parse().unwrap(), v6_only: false, device: None, uid: 0, inode }
    }

    fn process(name: &str, arguments: &[&str]) -> Process {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Process { pid: 812, name: name.to_owned(), arguments }
    }

    fn judged(target: Target, mode: Mode, waiting: &[Bound], holder: Option<&Process>) -> Vec<Finding> {
        judge(target, mode, &with_port(target, waiting), |_| holder)
    }

    fn tcp() -> Target {
        Target::tcp("127.0.0.1:443".parse().unwrap())
    }

    #[test]
    fn the_socket_that_the_kernel_would_choose_is_named() {
        let sockets = [bound("0.0.0.0:443", 1), bound("127.0.0.1:443", 2), bound("127.0.0.1:80", 3)];
        let found = with_port(tcp(), &sockets);
        assert_eq!(found.iter().map(|socket| socket.inode).collect::<Vec<_>>(), [2, 1]);
        let findings = judged(tcp(), Mode::Fwmark, &sockets, Some(&process("sshd", &[])));
        assert_eq!((findings.len(), findings[0].fact, findings[0].level), (1, Fact::Listens, Level::Ok));
        assert_eq!(findings[0].found, "sshd (process 812) has that address");
        let findings = judged(tcp(), Mode::Fwmark, &sockets[..1], None);
        assert_eq!(findings[0].fact, Fact::ListensEverywhere);
        assert_eq!(findings[0].found, "somebody has that port on every address");
    }

    #[test]
    fn a_server_that_is_down_or_elsewhere_is_unavailable() {
        let down = judged(tcp(), Mode::Fwmark, &[bound("127.0.0.1:80", 1)], None);
        assert_eq!((down[0].fact, down[0].exit), (Fact::NobodyListens, Some(ExitKind::Unavailable)));

        let elsewhere =
            judged(tcp(), Mode::Fwmark, &[bound("10.0.0.5:443", 1)], Some(&process("nginx", &[])));
        assert_eq!(
            (elsewhere[0].fact, elsewhere[0].exit),
            (Fact::BoundElsewhere, Some(ExitKind::Unavailable))
        );
        assert_eq!(elsewhere[0].found, "nginx (process 812) has that port on 10.0.0.5:443, not here");
        assert!(elsewhere[0].cure.as_deref().unwrap().contains("`-4 10.0.0.5:443`"));

        let mut v6 = bound("[::]:443", 1);
        v6.v6_only = true;
        let elsewhere = judged(tcp(), Mode::Fwmark, &[v6], None);
        assert!(elsewhere[0].found.contains("[::]:443, for IPv6 alone"), "{elsewhere:?}");

        let mut device = bound("0.0.0.0:443", 1);
        device.device = Some("eth0".to_owned());
        let elsewhere = judged(tcp(), Mode::Fwmark, &[device], None);
        assert!(elsewhere[0].found.contains("on interface eth0"), "{elsewhere:?}");
    }

    #[test]
    fn docker_proxy_hides_the_client_and_the_cure_names_the_container() {
        let proxy = process(
            "docker-proxy",
            &["docker-proxy", "-container-ip", "172.17.0.2", "-container-port", "80"],
        );
        let findings = judged(tcp(), Mode::Fwmark, &[bound("0.0.0.0:443", 1)], Some(&proxy));
        assert_eq!(
            (findings[0].fact, findings[0].exit),
            (Fact::PortForwarder, Some(ExitKind::Configuration))
        );
        assert!(findings[0].found.contains("forwards to 172.17.0.2:80"), "{findings:?}");
        let cure = findings[0].cure.as_deref().unwrap();
        assert!(cure.contains("--target-netns docker:NAME") && cure.contains("`-4 172.17.0.2:80`"), "{cure}");
        let unknown =
            judged(tcp(), Mode::Fwmark, &[bound("0.0.0.0:443", 1)], Some(&process("rootlessport", &[])));
        assert!(unknown[0].cure.as_deref().unwrap().ends_with("with the container's own address"));
    }

    #[test]
    fn another_mmproxy_is_no_target() {
        let findings =
            judged(tcp(), Mode::Fwmark, &[bound("0.0.0.0:443", 1)], Some(&process("mmproxy", &[])));
        assert_eq!((findings[0].fact, findings[0].level), (Fact::TargetIsMmproxy, Level::Warning));
    }

    #[test]
    fn what_a_udp_server_on_every_address_means_depends_on_the_mode() {
        let udp = Target::udp("127.0.0.1:53".parse().unwrap());
        let everywhere = [bound("0.0.0.0:53", 1)];
        for (mode, level) in
            [(Mode::Port, Level::Warning), (Mode::Source, Level::Failed), (Mode::Connmark, Level::Warning)]
        {
            let findings = judged(udp, mode, &everywhere, None);
            assert_eq!(findings[0].fact, Fact::ListensEverywhere);
            assert_eq!((findings[1].fact, findings[1].level), (Fact::WildcardAnswers, level), "{mode:?}");
            assert_eq!(
                judged(udp, mode, &[bound("127.0.0.1:53", 1)], None).len(),
                1,
                "{mode:?}, bound to its address"
            );
        }
        let tcp = Target::tcp("127.0.0.1:53".parse().unwrap());
        assert_eq!(
            judged(tcp, Mode::Source, &everywhere, None).len(),
            1,
            "TCP answers from where it was asked"
        );
    }
}
