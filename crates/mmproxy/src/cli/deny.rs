//! The command line of the deny list of a running gateway.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use mmproxy_forwarder::parse_network;

use super::values::duration;

/// Look at, and change, which clients a running gateway denies.
#[derive(Args, Clone, Debug)]
pub(crate) struct DenyArgs {
    #[command(subcommand)]
    pub(crate) action: DenyAction,

    /// The gateway's control socket
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

/// What to do with the deny list.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DenyAction {
    /// Refuse the sessions of a client, or of all clients in a network, from now on
    ///
    /// What is denied already is denied for the new time, whether that is longer or shorter.
    Add(DenyAddArgs),
    /// Show who is denied, for how long, and why
    List(DenyListArgs),
    /// Deny a client no longer; it is no mistake if it was not denied
    Remove(DenyRemoveArgs),
}

/// Whom to deny, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct DenyAddArgs {
    /// Address or network
    #[arg(value_name = "CIDR", value_parser = parse_network)]
    pub(crate) network: IpNet,

    /// How long, such as `10m`, `1h` or `7days`; a bare number is seconds, `forever` and -1 are without end [default: forever]
    #[arg(long = "for", value_name = "TIME", value_parser = term, allow_hyphen_values = true)]
    pub(crate) term: Option<Term>,

    /// Why, in one line of text of at most 200 bytes: shown by `list`
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,

    /// End the sessions that these clients have; without it they go on, and new ones are refused
    #[arg(long)]
    pub(crate) close: bool,
}

/// How to show the list.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DenyListArgs {
    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whom to deny no longer.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DenyRemoveArgs {
    /// Address or network, as it was denied
    #[arg(value_name = "CIDR", value_parser = parse_network)]
    pub(crate) network: IpNet,
}

/// A time, or for ever: an `Option` would mean to clap that the flag may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term(pub(crate) Option<Duration>);

fn term(text: &str) -> Result<Term, String> {
    // fail2ban writes -1.
    if matches!(text, "forever" | "-1") {
        return Ok(Term(None));
    }
    duration(text).map(|time| Term(Some(time))).map_err(|error| format!("{error}, or forever"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        deny: DenyArgs,
    }

    fn parse(line: &str) -> Result<DenyArgs, clap::Error> {
        Alone::try_parse_from(format!("deny {line}").split(' ')).map(|alone| alone.deny)
    }

    fn added(line: &str) -> DenyAddArgs {
        match parse(line).unwrap().action {
            DenyAction::Add(args) => args,
            DenyAction::List(_) | DenyAction::Remove(_) => panic!("{line} adds"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Alone::command().debug_assert();
    }

    #[test]
    fn a_ban_is_for_a_time_or_for_ever() {
        for (flag, term) in [
            ("--for 1h", Some(3600)),
            ("--for 600", Some(600)),
            ("--for=600", Some(600)),
            ("--for forever", None),
            ("--for -1", None),
            ("--for=-1", None),
        ] {
            let args = added(&format!("add 203.0.113.7 {flag} --close"));
            assert_eq!(args.term, Some(Term(term.map(Duration::from_secs))), "{flag}");
            assert!(args.close);
        }
        assert_eq!(added("add 203.0.113.7").term, None);
        for wrong in ["add 203.0.113.7 --for -2", "add 203.0.113.7 --for soon", "add", "add client.example"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_socket_may_be_named_behind_any_of_them() {
        for line in ["add 2001:db8::7/64 --reason x", "list --json", "remove 203.0.113.7"] {
            let args = parse(&format!("{line} --control /run/mmproxy.sock")).unwrap();
            assert_eq!(args.control, Some(PathBuf::from("/run/mmproxy.sock")));
        }
        assert_eq!(added("add 2001:db8::7/64").network.to_string(), "2001:db8::/64");
    }
}
