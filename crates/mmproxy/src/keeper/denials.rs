//! Who is denied: the one list, which every worker follows, and the file that it survives in.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use mmproxy_forwarder::{DenyChange, DenyError, DenyList, DenyListError};
use tracing::{debug, warn};

use crate::control::{DeniedRow, DenyReply};
use crate::exit::{Exit, Failure};

/// The deny list at work.
#[derive(Debug)]
pub(crate) struct Denials {
    list: DenyList,
    file: Option<PathBuf>,
    /// The file says something else.
    changed: bool,
    /// It could not be written the last time.
    failing: bool,
}

impl Denials {
    /// What `file` has from the last time; nothing where there is none. It is written at once, so that one that cannot be
    /// is known before anybody relies on it.
    ///
    /// # Errors
    ///
    /// The file is no list of denied clients, or cannot be read or written.
    pub(crate) fn load(file: Option<PathBuf>) -> Result<Self, Failure> {
        let list = match &file {
            None => DenyList::new(),
            Some(path) => {
                let list = read(path)?;
                write(path, &list).map_err(|error| {
                    Failure::new(Exit::Config, Unusable::new("write", path, error))
                        .hint("its directory has to be there, and be this user's: StateDirectory=mmproxy makes it in a unit")
                })?;
                list
            }
        };
        if !list.is_empty() {
            debug!(entries = list.len(), "denied since the last time");
        }
        Ok(Self { list, file, changed: false, failing: false })
    }

    /// Denies `network` for so many seconds, or for ever.
    ///
    /// # Errors
    ///
    /// No room, or a reason that is not one line of text.
    pub(crate) fn add(
        &mut self,
        network: IpNet,
        for_s: Option<u64>,
        reason: Option<&str>,
    ) -> Result<DenyChange, DenyError> {
        let change = self.list.add(network, for_s.map(Duration::from_secs), reason, SystemTime::now())?;
        self.changed = true;
        Ok(change)
    }

    /// Denies exactly `network` no longer. Without a change it was not denied.
    pub(crate) fn remove(&mut self, network: IpNet) -> (Option<DenyChange>, DenyReply) {
        let now = SystemTime::now();
        let change = self.list.remove(network, now);
        self.changed |= change.is_some();
        let still = self.list.covering(network, now).map(DeniedRow::from).collect();
        let reply = DenyReply::Removed { was_denied: change.is_some(), still };
        (change, reply)
    }

    /// Everybody who is denied.
    pub(crate) fn rows(&self) -> Vec<DeniedRow> {
        self.list.iter(SystemTime::now()).map(DeniedRow::from).collect()
    }

    /// The whole list, for a worker that has none; `None` where nobody is denied.
    pub(crate) fn snapshot(&self) -> Option<DenyChange> {
        (!self.list.is_empty()).then(|| self.list.snapshot(SystemTime::now()))
    }

    /// Forgets what is over, and writes what has changed.
    pub(crate) fn keep(&mut self) {
        self.changed |= self.list.expire(SystemTime::now()) > 0;
        let Some(path) = self.file.as_ref().filter(|_| self.changed) else { return };
        match write(path, &self.list) {
            Ok(()) => {
                self.changed = false;
                self.failing = false;
            }
            // Tried again, and told once.
            Err(error) => {
                if !self.failing {
                    warn!(path = %path.display(), %error, "the deny list cannot be written; a restart would forget what is new");
                }
                self.failing = true;
            }
        }
    }
}

fn read(path: &Path) -> Result<DenyList, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DenyList::new()),
        Err(error) => return Err(Failure::new(Exit::Config, Unusable::new("read", path, error))),
    };
    DenyList::parse(&text, DenyList::CAPACITY, SystemTime::now()).map_err(|error| {
        Failure::new(Exit::Config, described(path, &error)).hint(
            "an entry is a network, or a network and `until` with a time; text behind # or ; is its reason",
        )
    })
}

/// `FILE:LINE: …` for each mistake.
fn described(path: &Path, error: &DenyListError) -> String {
    let lines = error.mistakes().iter().map(|mistake| {
        format!("{}:{}: `{}`: {}", path.display(), mistake.line, mistake.text.escape_debug(), mistake.problem)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces the file as a whole: whatever happens meanwhile, it is the old one or the new one.
fn write(path: &Path, list: &DenyList) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file: File =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(list.to_string().as_bytes())?;
    file.sync_data()?;
    fs::rename(&new, path)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the deny list {path}")]
struct Unusable {
    what: &'static str,
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl Unusable {
    fn new(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self { what, path: path.to_owned(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        mmproxy_forwarder::parse_network(text).unwrap()
    }

    #[test]
    fn what_is_kept_is_there_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("denied.txt");
        let mut denials = Denials::load(Some(path.clone())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        denials.add(net("203.0.113.7"), None, Some("tries passwords")).unwrap();
        denials.add(net("198.51.100.0/24"), Some(3600), None).unwrap();
        denials.add(net("192.0.2.1"), Some(0), None).unwrap();
        denials.keep();
        let rows = Denials::load(Some(path)).unwrap().rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(rows[1].reason.as_deref(), Some("tries passwords"));
        assert!(rows[0].remaining_s.is_some_and(|left| (3500..=3600).contains(&left)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_mistake_of_a_broken_file_is_told_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "203.0.113.7/32\nnobody\n203.0.113.8/32 until tomorrow\n").unwrap();
        let failure = Denials::load(Some(file.path().to_owned())).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        for line in [":2: `nobody`", ":3: `203.0.113.8/32 until tomorrow`"] {
            assert!(failure.to_string().contains(line), "{failure}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_anybody_relies_on_it() {
        let failure = Denials::load(Some("/nonexistent/denied.txt".into())).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.to_string().contains("/nonexistent/denied.txt"), "{failure}");
    }

    #[test]
    fn removing_tells_what_denies_the_network_still() {
        let mut denials = Denials::load(None).unwrap();
        denials.add(net("203.0.113.0/24"), None, None).unwrap();
        let (change, reply) = denials.remove(net("203.0.113.7"));
        assert_eq!(change, None);
        let DenyReply::Removed { was_denied: false, still } = reply else { panic!("{reply:?}") };
        assert_eq!(still.iter().map(|row| row.network).collect::<Vec<_>>(), [net("203.0.113.0/24")]);
        assert!(denials.remove(net("203.0.113.0/24")).0.is_some());
        assert_eq!(denials.snapshot(), None);
    }
}
