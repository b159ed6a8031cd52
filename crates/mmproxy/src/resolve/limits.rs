//! What the flags mean for limits on connections.

use mmproxy_codec::DecodeOptions;

use crate::cli::{LimitArgs, ProtocolArg, RunArgs};
use crate::exit::{Exit, Failure};
use crate::spec::LimitsSpec;

/// The limits of the one service that flags describe.
pub(super) fn spec(args: &RunArgs) -> Result<LimitsSpec, Failure> {
    let LimitArgs {
        max_sessions: _,
        max_sessions_per_listener: per_listener,
        max_sessions_per_balancer: per_balancer,
        max_sessions_per_client: per_client,
        max_sessions_per_client_network: per_client_network,
        client_networks,
        new_sessions_per_second,
        max_header_size,
    } = args.limits;
    if args.path.protocol == ProtocolArg::Udp
        && let Some(flag) = args.limits.given()
    {
        return Err(Failure::new(
            Exit::Usage,
            format!("{flag} is about connections, and datagrams are served"),
        )
        .hint("--udp-max-flows and its like limit flows"));
    }
    if let Some(Err(error)) = max_header_size.map(|bytes| DecodeOptions::new().max_v2_len(bytes)) {
        return Err(Failure::new(Exit::Usage, format!("--max-header-size: {error}")));
    }
    Ok(LimitsSpec {
        per_listener,
        per_balancer,
        per_client,
        per_client_network,
        client_networks,
        new_sessions_per_second,
        max_header_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use mmproxy_forwarder::{ClientNetworks, SessionLimits};
    use std::num::NonZeroUsize;

    fn spec(flags: &str) -> Result<LimitsSpec, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 --allow 10.0.0.2 {flags}");
        super::spec(&Cli::try_parse_from(line.split_whitespace()).unwrap().run)
    }

    fn limits(flags: &str) -> SessionLimits {
        spec(flags).unwrap().sessions(NonZeroUsize::new(800).unwrap())
    }

    fn number(n: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(n)
    }

    #[test]
    fn without_flags_the_defaults_follow_the_total() {
        assert_eq!(limits(""), SessionLimits::new(number(800).unwrap()));
    }

    #[test]
    fn each_limit_has_its_flag() {
        let flags = "--max-sessions-per-listener 1 --max-sessions-per-balancer 2 --max-sessions-per-client off \
                     --max-sessions-per-client-network 4 --client-networks 16,48 --new-sessions-per-second off";
        let expected = SessionLimits::new(number(800).unwrap())
            .per_listener(number(1))
            .per_balancer(number(2))
            .per_client(None)
            .per_client_network(number(4))
            .client_networks(ClientNetworks::new(16, 48).unwrap())
            .pace(None);
        assert_eq!(limits(flags), expected);
    }

    #[test]
    fn a_header_size_that_no_codec_takes_is_refused_by_name() {
        for (size, fits) in [(4095, false), (4096, true), (65551, true), (65552, false)] {
            let outcome = spec(&format!("--max-header-size {size}"));
            assert_eq!(outcome.is_ok(), fits, "{size}");
            assert!(outcome.err().is_none_or(|failure| failure.to_string().contains("--max-header-size")));
        }
    }

    #[test]
    fn limits_on_sessions_are_refused_for_datagrams() {
        let failure = spec("-p udp --max-sessions-per-client 5").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--max-sessions-per-client"), "{failure}");
        assert!(spec("-p udp --deny-client 192.0.2.0/24").is_ok());
    }
}
