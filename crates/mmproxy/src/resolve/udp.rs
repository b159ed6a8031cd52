//! What the flags mean for datagrams.

use std::num::NonZeroUsize;

use mmproxy_forwarder::{DatagramFormat, FlowLimits, HeaderRule, UdpOptions, flows_within};

use super::{beside, too_short};
use crate::cli::{HeaderArg, ProtocolArg, RunArgs, SourceArg, UdpHeaderArg};
use crate::exit::{Exit, Failure};

/// What is served with `-p udp`. The two protocols share most flags; what makes no sense for one is refused.
pub(super) fn options(
    args: &RunArgs,
    workers: NonZeroUsize,
    descriptors: u64,
) -> Result<Option<UdpOptions>, Failure> {
    let flags = args.udp;
    match (args.path.protocol, flags.given()) {
        (ProtocolArg::Tcp, None) => return Ok(None),
        (ProtocolArg::Tcp, Some(flag)) => {
            return Err(Failure::new(
                Exit::Usage,
                format!("{flag} is about datagrams, and connections are served"),
            )
            .hint("add -p udp, or leave the flag out"));
        }
        (ProtocolArg::Udp, _) => {}
    }
    if args.listen_transparent {
        return Err(Failure::new(
            Exit::Usage,
            "--listen-transparent is for connections: a reply could not leave from the port that a datagram was sent to",
        )
        .hint("listen on each port with -l"));
    }
    if !args.tproxy.tproxy_ports.is_empty() {
        return Err(Failure::new(Exit::Usage, "--tproxy-ports is for connections, and datagrams are served")
            .hint("listen on each port with -l"));
    }
    let first_only = flags.udp_header == Some(UdpHeaderArg::FirstDatagram);
    if first_only && flags.header == Some(HeaderArg::Spp) {
        return Err(Failure::new(
            Exit::Usage,
            "--udp-header first-datagram is for version 2: with SPP every datagram has a header",
        )
        .hint("leave --udp-header out"));
    }
    if args.source == SourceArg::Peer && (flags.header.is_some() || flags.udp_header.is_some()) {
        return Err(Failure::new(
            Exit::Usage,
            "--header and --udp-header mean nothing with --source peer, which asks for none",
        )
        .hint("leave out one or the other"));
    }
    let listeners = NonZeroUsize::new(args.listen.len()).unwrap_or(NonZeroUsize::MIN);
    // A socket, an epoll, a bell and an io_uring for each worker and address.
    let descriptors = beside(workers, 4 * args.listen.len(), descriptors);
    let allowed = flows_within(descriptors, listeners);
    let mut limits = FlowLimits::new(flags.udp_max_flows.unwrap_or(allowed));
    if let Some(flows) = flags.udp_max_flows_per_balancer {
        limits = limits.per_balancer(flows);
    }
    if let Some(flows) = flags.udp_max_flows_per_network {
        limits = limits.per_network(flows);
    }
    if limits.total() > allowed {
        return Err(Failure::new(
            Exit::Config,
            format!(
                "--udp-max-flows {} is more than the limit on open files allows: {allowed}",
                limits.total()
            ),
        )
        .hint("raise the limit (ulimit -n, LimitNOFILE=), or ask for fewer"));
    }
    let mut options = UdpOptions::new(limits)
        .format(match flags.header {
            None | Some(HeaderArg::V2) => DatagramFormat::V2,
            Some(HeaderArg::Spp) => DatagramFormat::Spp,
        })
        .header(if first_only { HeaderRule::FirstDatagram } else { HeaderRule::EveryDatagram });
    if let Some(idle) = flags.udp_idle_timeout {
        options = options.idle(idle).map_err(|error| too_short("--udp-idle-timeout", error))?;
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn resolve(flags: &str) -> Result<Option<UdpOptions>, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -l 127.0.0.2:0 -4 127.0.0.1:53 {flags}");
        let args = Cli::try_parse_from(line.split_whitespace()).unwrap().run;
        options(&args, NonZeroUsize::new(2).unwrap(), 10_268)
    }

    #[test]
    fn each_address_has_its_share_of_the_descriptors() {
        let options = resolve("-p udp").unwrap();
        // Two workers with three runtime descriptors and eight for two addresses, 256 kept, halved.
        let share = FlowLimits::new(NonZeroUsize::new((10_268 - 2 * 11 - 256) / 2).unwrap());
        assert_eq!(options, Some(UdpOptions::new(share)));
        assert_eq!(resolve("").unwrap(), None);
    }

    #[test]
    fn what_is_for_the_other_protocol_is_refused_by_name() {
        for (flags, named) in [
            ("--udp-idle-timeout 5s", "--udp-idle-timeout"),
            ("--header v2", "--header"),
            ("-p udp --listen-transparent", "--listen-transparent"),
        ] {
            let failure = resolve(flags).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
