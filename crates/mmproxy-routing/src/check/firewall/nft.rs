//! The program nft, which lists the firewall.

use std::fmt;
use std::fs;

use super::ruleset::Place;
use crate::nft::{self, Refusal};

/// Runs nft in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nft;

impl Nft {
    /// What nft prints for these arguments.
    pub(super) async fn run(self, arguments: &[&str]) -> Result<String, NftError> {
        let listed = nft::ask(arguments, None).await.map_err(|refusal| match refusal {
            Refusal::NotInstalled(_) => NftError::NotInstalled,
            Refusal::NotPermitted(_) => NftError::NotPermitted,
            Refusal::Failed(error) => NftError::Failed(error.to_string()),
        })?;
        String::from_utf8(listed).map_err(|error| NftError::Failed(error.to_string()))
    }

    /// A rule as nft prints it; `None` if it is gone.
    pub(super) async fn rule_text(self, place: &Place, handle: u64) -> Option<String> {
        let Place { family, table, name } = place;
        let listing = self.run(&["-a", "-t", "list", "chain", family, table, name]).await.ok()?;
        let (text, _) = listing.lines().find_map(|line| {
            line.rsplit_once(" # handle ").filter(|(_, number)| number.trim().parse() == Ok(handle))
        })?;
        Some(text.trim().to_owned())
    }
}

/// Why the firewall cannot be listed.
#[derive(Debug)]
pub(super) enum NftError {
    NotInstalled,
    NotPermitted,
    Failed(String),
}

impl NftError {
    pub(super) const fn cure(&self) -> Option<&'static str> {
        match self {
            Self::NotInstalled => Some("install the package nftables"),
            Self::NotPermitted => Some("run the check as root"),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for NftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => {
                f.write_str("the firewall was not looked at: the program nft is not installed")
            }
            Self::NotPermitted => f.write_str("the firewall was not looked at: that takes CAP_NET_ADMIN"),
            Self::Failed(complaint) => {
                write!(f, "the firewall was not looked at: `nft list ruleset`: {complaint}")
            }
        }
    }
}

/// The tables that iptables-legacy has, which nft does not know; `None` if there are none, or it may not be seen.
pub(super) fn legacy_tables() -> Option<String> {
    let mut tables: Vec<String> = ["ip_tables_names", "ip6_tables_names"]
        .into_iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok())
        .flat_map(|names| names.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    tables.sort();
    tables.dedup();
    (!tables.is_empty()).then(|| tables.join(", "))
}
