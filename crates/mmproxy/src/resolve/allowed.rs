//! Who may connect: the networks of files and flags.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, AllowListError};

use crate::cli::RunArgs;
use crate::exit::{Exit, Failure};

/// The networks of every file and flag together. Neither given is a refusal: an open gateway would let anybody
/// take any address.
pub(super) fn networks(args: &RunArgs) -> Result<Vec<IpNet>, Failure> {
    if args.allowed_subnets.is_empty() && args.allow.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "nobody may connect: neither --allowed-subnets nor --allow is given",
        )
        .hint(
            "name your load balancers: --allow 10.0.0.2, or --allowed-subnets FILE with one network per line",
        ));
    }
    let mut allowed = AllowList::new();
    let mut problems = Vec::new();
    for path in &args.allowed_subnets {
        match read(path) {
            Ok(networks) => networks.iter().for_each(|network| allowed.insert(network)),
            Err(problem) => problems.push(problem),
        }
    }
    args.allow.iter().for_each(|network| allowed.insert(*network));
    if problems.is_empty() {
        return Ok(allowed.iter().collect());
    }
    let text: Vec<String> = problems.iter().map(AllowFileError::describe).collect();
    let failure = Failure::new(Exit::Config, text.join("\n"));
    Err(if problems.iter().any(|problem| matches!(problem, AllowFileError::Parse { .. })) {
        failure.hint("each line is one network or address; text behind # or ; is a comment")
    } else {
        failure.hint("correct the path or the file's permissions, or name the load balancers with --allow")
    })
}

fn read(path: &Path) -> Result<AllowList, AllowFileError> {
    let text = fs::read_to_string(path).map_err(|error| AllowFileError::Read { path: path.into(), error })?;
    AllowList::parse(&text).map_err(|error| AllowFileError::Parse { path: path.into(), error })
}

/// Why a file of networks cannot be used.
#[derive(Debug)]
enum AllowFileError {
    Read { path: PathBuf, error: io::Error },
    Parse { path: PathBuf, error: AllowListError },
}

impl AllowFileError {
    /// One line for an unreadable file, `FILE:LINE: …` for each mistake in a readable one.
    fn describe(&self) -> String {
        match self {
            Self::Read { path, error } => format!("cannot read {}: {error}", path.display()),
            Self::Parse { path, error } => {
                let lines = error.mistakes().iter().map(|mistake| {
                    format!("{}:{}: `{}` is {}", path.display(), mistake.line, mistake.text, mistake.problem)
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }
}
