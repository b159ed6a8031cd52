//! What the flags mean for datagrams.

use crate::cli::{HeaderArg, ProtocolArg, RunArgs, SourceArg, UdpHeaderArg};
use crate::exit::{Exit, Failure};
use crate::spec::UdpSpec;

/// What is said about datagrams. The two protocols share most flags; what makes no sense for one is refused.
pub(super) fn spec(args: &RunArgs) -> Result<UdpSpec, Failure> {
    let flags = args.udp;
    match (args.path.protocol, flags.given()) {
        (ProtocolArg::Tcp, None) => return Ok(UdpSpec::default()),
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
    let default = UdpSpec::default();
    Ok(UdpSpec {
        header: flags.header.unwrap_or(default.header),
        which: flags.udp_header.unwrap_or(default.which),
        idle: flags.udp_idle_timeout.unwrap_or(default.idle),
        max_flows: flags.udp_max_flows,
        max_flows_per_balancer: flags.udp_max_flows_per_balancer,
        max_flows_per_network: flags.udp_max_flows_per_network,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::resolve;
    use crate::spec::{Budget, Invalid};
    use clap::Parser;
    use mmproxy_forwarder::{FlowLimits, UdpOptions};
    use std::num::NonZeroUsize;

    fn resolve(flags: &str) -> Result<UdpSpec, Failure> {
        spec(&Cli::try_parse_from(line(flags).split_whitespace()).unwrap().run)
    }

    fn line(flags: &str) -> String {
        format!("mmproxy --allow 10.0.0.2 -l 127.0.0.1:0 -l 127.0.0.2:0 -4 127.0.0.1:53 {flags}")
    }

    #[test]
    fn each_address_has_its_share_of_the_descriptors() {
        let args = Cli::try_parse_from(line("-p udp --workers 2").split_whitespace()).unwrap().run;
        let spec = resolve::run(&args).unwrap();
        let budget = Budget::within(&spec, 10_268);
        // Two workers with three runtime descriptors and six for two addresses, 256 kept, halved.
        let share = FlowLimits::new(NonZeroUsize::new((10_268 - 2 * 9 - 256) / 2).unwrap());
        assert_eq!(spec.services[0].datagrams(budget.flows).unwrap(), UdpOptions::new(share));
    }

    #[test]
    fn more_flows_than_descriptors_are_refused() {
        let few = NonZeroUsize::new(100).unwrap();
        let args = line("-p udp --udp-max-flows 101");
        let spec = resolve::run(&Cli::try_parse_from(args.split_whitespace()).unwrap().run).unwrap();
        assert!(matches!(spec.services[0].datagrams(few), Err(Invalid::TooManyFlows { .. })));
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
