//! The command line of the deny list of a running mmproxy.

use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use mmproxy_forwarder::parse_network;

use super::control::ControlArgs;
use super::values::duration;

/// `mmproxy deny`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DenyCommand {
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
    #[command(flatten)]
    pub(crate) control: ControlArgs,

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
#[derive(Args, Clone, Debug)]
pub(crate) struct DenyListArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// One JSON object a line instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whom to deny no longer.
#[derive(Args, Clone, Debug)]
pub(crate) struct DenyRemoveArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

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
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(subcommand)]
        deny: DenyCommand,
    }

    fn parse(line: &str) -> Result<DenyCommand, clap::Error> {
        Alone::try_parse_from(format!("deny {line}").split(' ')).map(|alone| alone.deny)
    }

    fn added(line: &str) -> DenyAddArgs {
        match parse(line).unwrap() {
            DenyCommand::Add(args) => args,
            DenyCommand::List(_) | DenyCommand::Remove(_) => panic!("{line} adds"),
        }
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
        assert_eq!(added("add 2001:db8::7/64").network.to_string(), "2001:db8::/64");
        for wrong in ["add 203.0.113.7 --for -2", "add 203.0.113.7 --for soon", "add", "add client.example"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
