//! The way in: whole ranges of ports, handed to a transparent listener by TPROXY rules of our own.

use std::net::SocketAddr;

use mmproxy_routing::{
    Families, Lease, Mark, Plan, Policy, Priority, Redirect, Settings, Transport, families_available,
};

use crate::cli::{ReturnPathArgs, TproxyArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::return_path;

/// What is to be handed over, before it is known to which listeners.
#[derive(Clone, Debug)]
pub(crate) struct WayIn {
    args: TproxyArgs,
    transport: Transport,
    priority: Priority,
}

impl WayIn {
    /// Takes the command line at its word, unless its numbers get in each other's way.
    ///
    /// # Errors
    ///
    /// Where mark or table are the return path's: what is on its way in would be taken for a reply, or the other way
    /// round.
    pub(crate) fn new(args: &TproxyArgs, path: ReturnPathArgs) -> Result<Self, Failure> {
        let way = Self { args: args.clone(), transport: path.transport(), priority: path.priority };
        if way.is_wanted() {
            let (mark, theirs) = (args.tproxy_mark, path.mark);
            if !told_apart(mark, theirs) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("--tproxy-mark {mark} and --mark {theirs} are not told apart"),
                )
                .hint("choose numbers that differ in a bit which both masks have"));
            }
            if args.tproxy_table == path.table {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("--tproxy-table {} is the return path's --table", args.tproxy_table),
                )
                .hint("choose two different tables"));
            }
        }
        Ok(way)
    }

    /// Whether any ports were named.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.args.tproxy_ports.is_empty()
    }

    /// One plan for each range of ports and listener.
    ///
    /// # Errors
    ///
    /// For two listeners of which each could be meant.
    pub(crate) fn plans(&self, listeners: &[SocketAddr]) -> Result<Vec<Plan>, Failure> {
        let mut plans = Vec::new();
        for (listener, families) in self.shares(listeners)? {
            let settings = Settings {
                mark: self.args.tproxy_mark,
                table: self.args.tproxy_table,
                priority: self.priority,
            };
            for &ports in &self.args.tproxy_ports {
                let redirect = Redirect::new(self.transport, ports, listener).map_err(|error| {
                    Failure::new(Exit::Usage, error).hint("name its port: --listen ADDR:PORT")
                })?;
                plans.push(Plan::tproxy(settings, families, redirect));
            }
        }
        Ok(plans)
    }

    /// Which families go to which listener: those of its own address, and `::` has what no other IPv4 listener takes.
    fn shares(&self, listeners: &[SocketAddr]) -> Result<Vec<(SocketAddr, Families)>, Failure> {
        if !self.is_wanted() {
            return Ok(Vec::new());
        }
        let (v4, v6): (Vec<_>, Vec<_>) = listeners.iter().copied().partition(SocketAddr::is_ipv4);
        if let [first, second, ..] =
            [v4.as_slice(), v6.as_slice()].into_iter().find(|all| all.len() > 1).unwrap_or(&[])
        {
            return Err(Failure::new(
                Exit::Usage,
                format!("--tproxy-ports could mean {first} as well as {second}"),
            )
            .hint("give one --listen for each family"));
        }
        let available = families_available();
        let shares = listeners.iter().map(|&listener| {
            let mut families = Redirect::families(listener.ip()).intersection(available);
            families.v4 &= listener.is_ipv4() || v4.is_empty();
            (listener, families)
        });
        Ok(shares.filter(|(_, families)| families.iter().next().is_some()).collect())
    }

    /// Claims the way in for this run, in the calling thread's network namespace, which is the listeners'.
    pub(crate) async fn acquire(
        &self,
        listeners: &[SocketAddr],
        policy: Policy,
        console: &mut Console,
    ) -> Result<Vec<Lease>, Failure> {
        return_path::claim_all(self.plans(listeners)?, policy, console).await
    }
}

/// Whether no packet carries both.
pub(crate) const fn told_apart(one: Mark, other: Mark) -> bool {
    (one.get() ^ other.get()) & one.mask() & other.mask() != 0
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn way(flags: &str) -> Result<WayIn, Failure> {
        let line = format!("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 {flags}");
        let args = Cli::try_parse_from(line.split_whitespace()).unwrap().run;
        WayIn::new(&args.tproxy, args.path)
    }

    fn shares(listeners: &[&str]) -> Result<Vec<(String, bool, bool)>, Failure> {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
        let shares = way("--tproxy-ports 20000-20100").unwrap().shares(&listeners)?;
        Ok(shares.into_iter().map(|(at, families)| (at.to_string(), families.v4, families.v6)).collect())
    }

    #[test]
    fn each_family_goes_to_its_listener() {
        let v6 = families_available().v6;
        assert_eq!(shares(&["0.0.0.0:1"]).unwrap(), [("0.0.0.0:1".to_owned(), true, false)]);
        assert_eq!(shares(&["[::]:1"]).unwrap(), [("[::]:1".to_owned(), true, v6)]);
        let both = shares(&["0.0.0.0:1", "[::]:2"]).unwrap();
        assert_eq!(both[0], ("0.0.0.0:1".to_owned(), true, false));
        assert!(both[1..].iter().all(|share| *share == ("[::]:2".to_owned(), false, true)), "{both:?}");
        assert_eq!(shares(&["10.0.0.1:1", "10.0.0.2:1"]).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn marks_and_tables_are_told_apart() {
        for (flags, right) in [
            ("", true),
            ("--tproxy-ports 20000", true),
            ("--tproxy-ports 20000 --mark 124", false),
            ("--mark 124", true),
            ("--tproxy-ports 20000 --table 101", false),
            ("--tproxy-ports 20000 --mark 0x7c/0xff", false),
            ("--tproxy-ports 20000 --mark 0x100/0xf00", true),
            ("--tproxy-ports 20000 --mark 0x100/0xf00 --tproxy-mark 0x200/0xf00", true),
        ] {
            assert_eq!(way(flags).is_ok(), right, "{flags}");
        }
    }
}
