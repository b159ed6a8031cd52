//! The command line of limits and lists of clients.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use mmproxy_forwarder::{ClientNetworks, Pace, parse_network};

use super::values::OFF;

/// Who may be a client.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who may connect")]
pub(crate) struct ClientArgs {
    /// Network or address of clients that are served; others are not then; repeatable
    ///
    /// Where networks lie within each other, the smallest that contains a client decides between --allow-client and
    /// --deny-client; the same one in both is denied.
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) allow_client: Vec<IpNet>,

    /// File with such networks, one per line; `#` and `;` start comments; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) allow_client_file: Vec<PathBuf>,

    /// Network or address of clients that are not served; repeatable
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) deny_client: Vec<IpNet>,

    /// File with such networks, one per line; `#` and `;` start comments; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) deny_client_file: Vec<PathBuf>,
}

/// How much of the gateway one may have.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Sessions at a time [default: what the limit on open files allows]
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<NonZeroUsize>,

    /// How many of them each address listened on may have [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions_per_listener: Option<NonZeroUsize>,

    /// How many of them one balancer's address may have [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions_per_balancer: Option<NonZeroUsize>,

    /// How many of them one client, an IPv4 address or an IPv6 /64, may have, or `off` [default: an eighth]
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions_per_client: Option<Ceiling>,

    /// How many of them the clients in one network may have, or `off` [default: a quarter]
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions_per_client_network: Option<Ceiling>,

    /// What a network of clients is: lengths of the prefix, IPv4 and IPv6 [default: 24,56]
    #[arg(long, value_name = "V4,V6")]
    pub(crate) client_networks: Option<Prefixes>,

    /// New sessions per second of the clients in one network, and how many may begin at once; or `off` [default: 1000,4000]
    ///
    /// Without BURST, four times as many.
    #[arg(long, value_name = "N[,BURST]")]
    pub(crate) new_sessions_per_second: Option<Rate>,

    /// Largest header in bytes, from 4096 to 65551 [default: 16384]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_header_size: Option<u32>,
}

/// A number, or none: an `Option` would mean to clap that the flag may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling(pub(crate) Option<NonZeroUsize>);

impl FromStr for Ceiling {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OFF {
            return Ok(Self(None));
        }
        text.parse().map(|number| Self(Some(number))).map_err(|_| "expected a number above zero, or off")
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str(OFF),
        }
    }
}

/// How long the prefix is that a client shares with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes(pub(crate) ClientNetworks);

impl FromStr for Prefixes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lengths = text.split_once(',').and_then(|(v4, v6)| Some((v4.parse().ok()?, v6.parse().ok()?)));
        lengths
            .and_then(|(v4, v6)| ClientNetworks::new(v4, v6))
            .map(Self)
            .ok_or("expected two lengths, for IPv4 up to 32 and for IPv6 up to 128, such as 24,56")
    }
}

impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0.v4(), self.0.v6())
    }
}

/// How fast sessions may begin, or no matter how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<Pace>);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == OFF {
            return Ok(Self(None));
        }
        let (per_second, burst) = text.split_once(',').map_or((text, None), |(n, burst)| (n, Some(burst)));
        let number = |text: &str| text.parse::<NonZeroU32>().ok();
        let four_times = |n: NonZeroU32| Some(n.saturating_mul(NonZeroU32::new(4)?));
        let pace = number(per_second).and_then(|per_second| {
            Some(Pace::new(per_second, burst.map_or_else(|| four_times(per_second), number)?))
        });
        pace.map(|pace| Self(Some(pace)))
            .ok_or("expected N[,BURST], numbers above zero, such as 100 or 100,500, or off")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pace) => write!(f, "{},{}", pace.per_second(), pace.burst()),
            None => f.write_str(OFF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    fn rate(text: &str) -> Result<Rate, &'static str> {
        read(text)
    }

    fn prefixes(text: &str) -> Result<Prefixes, &'static str> {
        read(text)
    }

    fn ceiling(text: &str) -> Result<Ceiling, &'static str> {
        read(text)
    }

    /// What is read is written so that it reads the same.
    fn read<T>(text: &str) -> Result<T, T::Err>
    where
        T: FromStr<Err: fmt::Debug + PartialEq> + fmt::Display + fmt::Debug + PartialEq,
    {
        let value: T = text.parse()?;
        assert_eq!(value.to_string().parse().as_ref(), Ok(&value));
        Ok(value)
    }

    #[test]
    fn a_rate_has_four_seconds_of_itself_as_its_burst() {
        let pace_of = |n, burst| Ok(Rate(Some(Pace::new(number(n), number(burst)))));
        assert_eq!(rate("100"), pace_of(100, 400));
        assert_eq!(rate("100,7"), pace_of(100, 7));
        assert_eq!(rate("4000000000"), pace_of(4_000_000_000, u32::MAX));
        assert_eq!(rate("1000"), Ok(Rate(Some(Pace::DEFAULT))));
        assert_eq!(rate("off"), Ok(Rate(None)));
        for wrong in ["0", "1,0", "1,2,3", "1,", ",1", "-1", "fast", "0.5"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_of_clients_are_two_lengths() {
        assert_eq!(prefixes("24,56"), Ok(Prefixes(ClientNetworks::DEFAULT)));
        for wrong in ["24", "33,56", "24,129", "24,56,1", "24/56", "", ","] {
            assert!(prefixes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ceiling_is_a_number_or_off() {
        assert_eq!(ceiling("off"), Ok(Ceiling(None)));
        assert_eq!(ceiling("7"), Ok(Ceiling(NonZeroUsize::new(7))));
        assert!(ceiling("0").is_err());
    }
}
