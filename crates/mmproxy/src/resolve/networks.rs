//! Who may connect, and for whom: the networks of files and flags.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, AllowListError, parse_networks};

use crate::cli::{ClientArgs, RunArgs};
use crate::exit::{Exit, Failure};
use crate::spec::ClientsSpec;

/// The load balancers: the networks of every file and flag together. Neither given is a refusal: an open gateway would
/// let anybody take any address.
pub(super) fn allowed(args: &RunArgs) -> Result<Vec<IpNet>, Failure> {
    if args.allowed_subnets.is_empty() && args.allow.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "nobody may connect: neither --allowed-subnets nor --allow is given",
        )
        .hint(
            "name your load balancers: --allow 10.0.0.2, or --allowed-subnets FILE with one network per line",
        ));
    }
    let cure = "name the load balancers with --allow";
    let allowed: AllowList = together(&args.allowed_subnets, &args.allow, cure)?.into_iter().collect();
    Ok(allowed.iter().collect())
}

/// The lists of clients.
pub(super) fn clients(args: &ClientArgs) -> Result<ClientsSpec, Failure> {
    let limited = !args.allow_client.is_empty() || !args.allow_client_file.is_empty();
    let allowed = together(&args.allow_client_file, &args.allow_client, "give networks with --allow-client")?;
    let denied = together(&args.deny_client_file, &args.deny_client, "give networks with --deny-client")?;
    Ok(ClientsSpec { allowed: limited.then_some(allowed), denied })
}

/// The networks of `files` and `flags` together, or every mistake in all of them; `cure` is what would do without a file.
fn together(files: &[PathBuf], flags: &[IpNet], cure: &str) -> Result<Vec<IpNet>, Failure> {
    let mut networks = flags.to_vec();
    let mut problems = Vec::new();
    for path in files {
        match read(path) {
            Ok(listed) => networks.extend(listed),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(networks);
    }
    let text: Vec<String> = problems.iter().map(NetworkFileError::describe).collect();
    let failure = Failure::new(Exit::Config, text.join("\n"));
    Err(if problems.iter().any(|problem| matches!(problem, NetworkFileError::Parse { .. })) {
        failure.hint("each line is one network or address; text behind # or ; is a comment")
    } else {
        failure.hint(format!("correct the path or the file's permissions, or {cure}"))
    })
}

fn read(path: &Path) -> Result<Vec<IpNet>, NetworkFileError> {
    let text =
        fs::read_to_string(path).map_err(|error| NetworkFileError::Read { path: path.into(), error })?;
    parse_networks(&text).map_err(|error| NetworkFileError::Parse { path: path.into(), error })
}

/// Why a file of networks cannot be used.
#[derive(Debug)]
enum NetworkFileError {
    Read { path: PathBuf, error: io::Error },
    Parse { path: PathBuf, error: AllowListError },
}

impl NetworkFileError {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn clients(flags: &str) -> ClientsSpec {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 --allow 10.0.0.2 {flags}");
        super::clients(&Cli::try_parse_from(line.split_whitespace()).unwrap().run.clients).unwrap()
    }

    #[test]
    fn an_empty_file_of_allowed_clients_serves_nobody_and_no_file_serves_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# nobody yet\n").unwrap();
        let spec = clients(&format!("--allow-client-file {}", file.path().display()));
        assert!(spec.lists().check("192.0.2.7".parse().unwrap()).is_err());
        assert!(clients("").lists().is_empty());
    }

    #[test]
    fn an_allowed_network_within_a_denied_one_within_an_allowed_one_is_allowed() {
        let flags = "--allow-client 10.0.0.0/8 --deny-client 10.1.0.0/16 --allow-client 10.1.2.0/24";
        let lists = clients(flags).lists();
        let served = ["10.9.9.9", "10.1.9.9", "10.1.2.9", "192.0.2.7"]
            .map(|ip| lists.check(ip.parse().unwrap()).is_ok());
        assert_eq!(served, [true, false, true, false]);
    }
}
