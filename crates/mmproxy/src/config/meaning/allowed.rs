//! Who may connect, and for whom: the networks of keys, flags and files.

use std::path::PathBuf;

use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, parse_networks};

use super::{Meaning, values};
use crate::config::keys::{List, ServiceKeys};
use crate::config::mistake::{Mistake, Spot};
use crate::config::read::TypedService;
use crate::config::slot::Slot;
use crate::spec::ClientsSpec;

impl Meaning<'_> {
    /// The networks of every file and key together. Neither given is a refusal: an open gateway would let anybody take
    /// any address. `None` after a mistake.
    pub(super) fn allowed(&mut self, typed: &TypedService) -> Option<Vec<IpNet>> {
        let (allow, files) = (&typed.keys.allow, &typed.keys.allowed_subnets);
        if allow.is_absent() && files.is_absent() {
            let (title, help) = if self.flags {
                (
                    "nobody may connect: neither --allowed-subnets nor --allow is given",
                    "name your load balancers: --allow 10.0.0.2, or --allowed-subnets FILE with one network per line",
                )
            } else {
                (
                    "nobody may connect: neither `allow` nor `allowed-subnets` is given",
                    "name your load balancers: `allow = [\"10.0.0.2\"]`, or `allowed-subnets = [\"FILE\"]` with one network \
                     per line",
                )
            };
            let label = if self.flags { "" } else { "this service lets nobody in" };
            self.mistakes.push(Mistake::new(title, typed.spot.clone(), label).help(help));
            return None;
        }
        let allowed: AllowList = self.together(allow, files)?.into_iter().collect();
        Some(allowed.iter().collect())
    }

    /// The lists of clients. `None` after a mistake.
    pub(super) fn clients(&mut self, keys: &ServiceKeys) -> Option<ClientsSpec> {
        let limited = !keys.allow_client.is_absent() || !keys.allow_client_file.is_absent();
        let allowed = self.together(&keys.allow_client, &keys.allow_client_file);
        let denied = self.together(&keys.deny_client, &keys.deny_client_file);
        Some(ClientsSpec { allowed: allowed.map(|allowed| limited.then_some(allowed))?, denied: denied? })
    }

    /// The networks of a key and of files. `None` after a mistake.
    fn together(&mut self, here: &Slot<List<IpNet>>, files: &Slot<List<PathBuf>>) -> Option<Vec<IpNet>> {
        let mut networks = values(here);
        let mut all_read = true;
        for file in files.given().map_or(&[][..], |given| given.value.as_slice()) {
            let path = self.sources.directory(&file.spot).join(&file.value);
            match self.read(&path, &file.spot) {
                Some(listed) => networks.extend(listed),
                None => all_read = false,
            }
        }
        all_read.then_some(networks)
    }

    fn read(&mut self, path: &std::path::Path, named_at: &Spot) -> Option<Vec<IpNet>> {
        let text = match (self.lists)(path) {
            Ok(text) => text,
            Err(error) => {
                let title = format!("cannot read {}: {error}", path.display());
                self.mistakes.push(Mistake::new(title, named_at.clone(), "named here").in_file().help(
                    "correct the path or the file's permissions; in a configuration file a relative path is meant from \
                     that file's directory",
                ));
                return None;
            }
        };
        let error = match parse_networks(&text) {
            Ok(networks) => return Some(networks),
            Err(error) => error,
        };
        let lines: Vec<(usize, &str)> = text
            .split_inclusive('\n')
            .scan(0, |next, line| {
                let start = *next;
                *next += line.len();
                Some((start, line))
            })
            .collect();
        let found: Vec<(std::ops::Range<usize>, String, String)> = error
            .mistakes()
            .iter()
            .map(|mistake| {
                let (start, line) = lines.get(mistake.line.get() - 1).copied().unwrap_or((text.len(), ""));
                let start = start + line.find(mistake.text.as_str()).unwrap_or(0);
                let title = format!("`{}` is no network", mistake.text);
                (start..start + mistake.text.len(), title, mistake.problem.to_string())
            })
            .collect();
        let file = self.sources.add(path, text);
        for (span, title, problem) in found {
            let mistake = Mistake::new(title, Spot::File { file, span }, problem);
            self.mistakes
                .push(mistake.help("each line is one network or address; text behind # or ; is a comment"));
        }
        None
    }
}
