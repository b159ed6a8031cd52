//! The command line as meant: files read, networks merged, defaults applied. Nothing is bound or changed here.

use mmproxy_forwarder::{Targets, TargetsInvalid};

use crate::cli::{RunArgs, TargetArgs};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::spec::Spec;

/// Turns the flags into what they mean, or tells every mistake in them at once.
pub(crate) fn run(args: &RunArgs) -> Result<Spec, Failure> {
    config::of_flags(args).map_err(config::Mistakes::report)
}

/// Name of the one service that flags describe.
pub(crate) const DEFAULT: &str = "default";

/// The targets, each a possible one.
pub(crate) fn targets(args: TargetArgs) -> Result<Targets, Failure> {
    Targets::new(args.target_v4, args.target_v6).map_err(not_targets)
}

/// The failure of a service without a target that could be one.
pub(crate) fn not_targets(error: TargetsInvalid) -> Failure {
    Failure::new(Exit::Usage, error)
        .hint("give the server's own address, such as -4 127.0.0.1:22 or -6 '[::1]:22'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::spec::{Budget, Invalid, Marks};
    use clap::Parser;
    use mmproxy_forwarder::{
        ClientLists, ClientNetworks, FlowLimits, SessionLimits, TargetHealth, UdpOptions,
    };
    use std::fs;
    use std::num::NonZeroUsize;

    fn resolve(line: &str) -> Result<Spec, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 {line}");
        parsed(&line)
    }

    fn parsed(line: &str) -> Result<Spec, Failure> {
        run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run)
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn without_any_allow_list_it_refuses_and_names_both_flags() {
        let failure = resolve("").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(text.contains("--allowed-subnets") && text.contains("--allow"), "{text}");
    }

    #[test]
    fn one_target_is_needed_and_enough() {
        let failure = parsed("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("-4 127.0.0.1:22"), "{failure}");
        assert!(parsed("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -6 [::1]:22").is_ok());
    }

    #[test]
    fn a_connection_without_header_names_no_target() {
        let line = "mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 --target-from-header --allow-target 10.0.0.0/8 --source peer";
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }

    #[test]
    fn files_and_flags_are_one_list() {
        let file = file("# balancers\n10.0.0.5/8\n\n2001:db8::7 ; a bare address\n");
        let spec = resolve(&format!("-a {} --allow 192.0.2.0/24", file.path().display())).unwrap();
        let allowed = spec.services[0].allow_list();
        for ip in ["10.9.9.9", "192.0.2.200", "2001:db8::7"] {
            assert!(allowed.contains(ip.parse().unwrap()), "{ip}");
        }
        assert!(!allowed.contains("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn every_mistake_of_every_file_is_told_with_its_line() {
        let (one, two) = (file("10.0.0.0/8\n10.0.0.0/33\n"), file("nonsense\n"));
        let (one, two) = (one.path().display().to_string(), two.path().display().to_string());
        let failure = resolve(&format!("-a {one} -a {two} -a /nonexistent/ranges.txt")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        let text = failure.to_string();
        assert!(text.contains(&format!("{one}:2: ")), "{text}");
        assert!(text.contains(&format!("{two}:1: ")), "{text}");
        assert!(text.contains("cannot read /nonexistent/ranges.txt"), "{text}");
    }

    #[test]
    fn an_empty_file_allows_nobody_but_is_no_mistake() {
        let file = file("# nobody yet\n");
        let spec = resolve(&format!("-a {}", file.path().display())).unwrap();
        assert!(spec.services[0].allowed.is_empty());
    }

    #[test]
    fn what_is_meant_survives_the_way_to_a_worker() {
        let line = "mmproxy -p udp --allow 10.0.0.2 -l [::]:1 -4 127.0.0.1:53 --header spp --mark 0x7/0xff \
                    --target-netns docker:web --target-from-header --allow-target 10.0.0.0/8:20-30 --keepalive off \
                    --allow-client 192.0.2.0/24";
        let limits = "mmproxy --allow 10.0.0.2 -l [::]:1 -4 127.0.0.1:22 --max-sessions 9 --max-sessions-per-client off \
                      --max-sessions-per-client-network 4 --client-networks 16,48 --new-sessions-per-second 5,6";
        for line in [line, limits] {
            let spec = parsed(line).unwrap();
            let sent = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&sent).unwrap(), spec);
        }
    }

    fn datagrams(flags: &str) -> String {
        format!("mmproxy --allow 10.0.0.2 -l 127.0.0.1:0 -l 127.0.0.2:0 -4 127.0.0.1:53 {flags}")
    }

    #[test]
    fn each_address_has_its_share_of_the_descriptors() {
        let spec = parsed(&datagrams("-p udp --workers 2")).unwrap();
        let budget = Budget::within(&spec, 10_268);
        // Two workers with three runtime descriptors and eight for two addresses, 256 kept, halved.
        let share = FlowLimits::new(NonZeroUsize::new((10_268 - 2 * 11 - 256) / 2).unwrap());
        assert_eq!(spec.services[0].datagrams(budget.flows).unwrap(), UdpOptions::new(share));
    }

    #[test]
    fn more_flows_than_descriptors_are_refused() {
        let few = NonZeroUsize::new(100).unwrap();
        let spec = parsed(&datagrams("-p udp --udp-max-flows 101")).unwrap();
        assert!(matches!(spec.services[0].datagrams(few), Err(Invalid::TooManyFlows { .. })));
    }

    #[test]
    fn what_is_for_the_other_protocol_is_refused_by_name() {
        for (flags, named) in [
            ("--udp-idle-timeout 5s", "--udp-idle-timeout"),
            ("--header spp", "--header"),
            ("-p udp --listen-transparent", "--listen-transparent"),
            ("-p udp --max-sessions 5", "--max-sessions"),
            ("-p udp --max-sessions-per-client 5", "--max-sessions-per-client"),
            ("-p udp --max-header-size 4096", "--max-header-size"),
        ] {
            let failure = parsed(&datagrams(flags)).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }

    fn limits(flags: &str) -> SessionLimits {
        resolve(&format!("--allow 10.0.0.2 {flags}")).unwrap().services[0]
            .limits
            .sessions(number(800).unwrap())
    }

    fn number(n: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(n)
    }

    #[test]
    fn without_flags_limits_follow_the_total() {
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
    fn more_sessions_than_descriptors_are_refused() {
        let spec = resolve("--allow 10.0.0.2 --max-sessions 801").unwrap();
        let gateway = |most| {
            let dial = spec.services[0].dial(Marks::default(), None).unwrap();
            spec.services[0].gateway(&spec.global, dial, number(most).unwrap(), TargetHealth::new())
        };
        assert!(matches!(gateway(800), Err(Invalid::TooManySessions { .. })));
        assert!(gateway(801).is_ok());
    }

    #[test]
    fn a_header_size_that_no_codec_takes_is_refused_by_name() {
        for (size, fits) in [(4095, false), (4096, true), (65551, true), (65552, false)] {
            let outcome = resolve(&format!("--allow 10.0.0.2 --max-header-size {size}"));
            assert_eq!(outcome.is_ok(), fits, "{size}");
            assert!(outcome.err().is_none_or(|failure| failure.to_string().contains("--max-header-size")));
        }
    }

    fn clients(flags: &str) -> ClientLists {
        resolve(&format!("--allow 10.0.0.2 {flags}")).unwrap().services[0].clients.lists()
    }

    #[test]
    fn an_empty_file_of_allowed_clients_serves_nobody_and_no_file_serves_everybody() {
        let file = file("# nobody yet\n");
        let lists = clients(&format!("--allow-client-file {}", file.path().display()));
        assert!(lists.check("192.0.2.7".parse().unwrap()).is_err());
        assert!(clients("").is_empty());
    }

    #[test]
    fn an_allowed_network_within_a_denied_one_within_an_allowed_one_is_allowed() {
        let flags = "--allow-client 10.0.0.0/8 --deny-client 10.1.0.0/16 --allow-client 10.1.2.0/24";
        let lists = clients(flags);
        let served = ["10.9.9.9", "10.1.9.9", "10.1.2.9", "192.0.2.7"]
            .map(|ip| lists.check(ip.parse().unwrap()).is_ok());
        assert_eq!(served, [true, false, true, false]);
    }
}
