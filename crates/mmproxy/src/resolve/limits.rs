//! What the flags mean for limits and for lists of clients.

use std::num::NonZeroUsize;

use mmproxy_codec::DecodeOptions;
use mmproxy_forwarder::{ClientLists, GatewayConfig, SessionLimits};
use tracing::warn;

use super::networks;
use crate::cli::{ClientArgs, LimitArgs, ProtocolArg, RunArgs};
use crate::exit::{Exit, Failure};

/// Gives `gateway` the limits and lists of the flags; `room` sessions fit the limit on descriptors.
pub(super) fn apply(
    args: &RunArgs,
    gateway: GatewayConfig,
    room: NonZeroUsize,
) -> Result<GatewayConfig, Failure> {
    if args.path.protocol == ProtocolArg::Udp
        && let Some(flag) = args.limits.given()
    {
        return Err(Failure::new(
            Exit::Usage,
            format!("{flag} is about connections, and datagrams are served"),
        )
        .hint("--udp-max-flows and its like limit flows"));
    }
    Ok(gateway
        .clients(clients(&args.clients)?)
        .limits(sessions(&args.limits, room)?)
        .decode(header(&args.limits)?))
}

/// The lists of clients.
fn clients(args: &ClientArgs) -> Result<ClientLists, Failure> {
    let limited = !args.allow_client.is_empty() || !args.allow_client_file.is_empty();
    let allowed = networks(&args.allow_client_file, &args.allow_client, "give networks with --allow-client")?;
    let denied = networks(&args.deny_client_file, &args.deny_client, "give networks with --deny-client")?;
    if limited && allowed.is_empty() {
        warn!("the list of allowed clients is empty: no client is served");
    }
    Ok(ClientLists::new(limited.then_some(allowed), denied))
}

fn sessions(args: &LimitArgs, room: NonZeroUsize) -> Result<SessionLimits, Failure> {
    let total = args.max_sessions.unwrap_or(room);
    if total > room {
        return Err(Failure::new(
            Exit::Config,
            format!("--max-sessions {total} is more than the limit on open files allows: {room}"),
        )
        .hint("raise the limit (ulimit -n, LimitNOFILE=), or ask for fewer"));
    }
    let mut limits = SessionLimits::new(total)
        .per_listener(args.max_sessions_per_listener)
        .per_balancer(args.max_sessions_per_balancer);
    if let Some(ceiling) = args.max_sessions_per_client {
        limits = limits.per_client(ceiling.0);
    }
    if let Some(ceiling) = args.max_sessions_per_client_network {
        limits = limits.per_client_network(ceiling.0);
    }
    if let Some(networks) = args.client_networks {
        limits = limits.client_networks(networks);
    }
    if let Some(rate) = args.new_sessions_per_second {
        limits = limits.pace(rate.0);
    }
    Ok(limits)
}

fn header(args: &LimitArgs) -> Result<DecodeOptions, Failure> {
    let options = DecodeOptions::new();
    match args.max_header_size {
        None => Ok(options),
        Some(bytes) => options
            .max_v2_len(bytes)
            .map_err(|error| Failure::new(Exit::Usage, format!("--max-header-size: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn args(flags: &str) -> RunArgs {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 --allow 10.0.0.2 {flags}");
        Cli::try_parse_from(line.split_whitespace()).unwrap().run
    }

    fn limits(flags: &str) -> Result<SessionLimits, Failure> {
        sessions(&args(flags).limits, NonZeroUsize::new(800).unwrap())
    }

    fn number(n: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(n)
    }

    #[test]
    fn without_flags_the_defaults_follow_the_descriptors() {
        assert_eq!(limits("").unwrap(), SessionLimits::new(number(800).unwrap()));
        assert_eq!(limits("--max-sessions 80").unwrap(), SessionLimits::new(number(80).unwrap()));
    }

    #[test]
    fn more_sessions_than_descriptors_are_refused_with_the_cure() {
        let failure = limits("--max-sessions 801").unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.to_string().contains("ulimit -n"), "{failure}");
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
            .client_networks(mmproxy_forwarder::ClientNetworks::new(16, 48).unwrap())
            .pace(None);
        assert_eq!(limits(flags).unwrap(), expected);
    }

    #[test]
    fn a_header_size_that_no_codec_takes_is_refused_by_name() {
        for (size, fits) in [(4095, false), (4096, true), (65551, true), (65552, false)] {
            let outcome = header(&args(&format!("--max-header-size {size}")).limits);
            assert_eq!(outcome.is_ok(), fits, "{size}");
            assert!(outcome.err().is_none_or(|failure| failure.to_string().contains("--max-header-size")));
        }
    }

    #[test]
    fn an_empty_file_of_allowed_clients_serves_nobody_and_no_file_serves_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# nobody yet\n").unwrap();
        let ip = "192.0.2.7".parse().unwrap();
        let lists =
            clients(&args(&format!("--allow-client-file {}", file.path().display())).clients).unwrap();
        assert!(lists.check(ip).is_err());
        assert!(clients(&args("").clients).unwrap().is_empty());
    }

    #[test]
    fn an_allowed_network_within_a_denied_one_within_an_allowed_one_is_allowed() {
        let flags = "--allow-client 10.0.0.0/8 --deny-client 10.1.0.0/16 --allow-client 10.1.2.0/24";
        let lists = clients(&args(flags).clients).unwrap();
        let served = ["10.9.9.9", "10.1.9.9", "10.1.2.9", "192.0.2.7"]
            .map(|ip| lists.check(ip.parse().unwrap()).is_ok());
        assert_eq!(served, [true, false, true, false]);
    }

    #[test]
    fn limits_on_sessions_are_refused_for_datagrams_and_lists_are_not() {
        let room = NonZeroUsize::MIN;
        let of = |flags: &str| {
            let args = args(flags);
            let targets = mmproxy_forwarder::Targets::new("127.0.0.1:22".parse().ok(), None).unwrap();
            apply(&args, GatewayConfig::new(mmproxy_forwarder::AllowList::new(), targets), room)
        };
        let failure = of("-p udp --max-sessions-per-client 5").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--max-sessions-per-client"), "{failure}");
        assert!(of("-p udp --deny-client 192.0.2.0/24").is_ok());
    }
}
