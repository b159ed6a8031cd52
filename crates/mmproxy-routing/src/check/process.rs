//! Which process holds a socket.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// As in `/proc/PID/comm`: at most 15 characters.
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
}

impl Process {
    /// The value of a command line option, written `-option value`.
    pub(super) fn option(&self, option: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter().map(String::as_str);
        arguments.find(|argument| argument.trim_start_matches('-') == option && argument.starts_with('-'))?;
        arguments.next()
    }

    fn read(pid: u32, directory: &Path) -> Option<Self> {
        let name = fs::read_to_string(directory.join("comm")).ok()?.trim_end().to_owned();
        let line = fs::read(directory.join("cmdline")).unwrap_or_default();
        let arguments = line
            .split(|&byte| byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        Some(Self { pid, name, arguments })
    }
}

/// `sshd (process 812)`
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The processes that hold these sockets, by the sockets' inodes.
///
/// Other users' processes need CAP_SYS_PTRACE to look into, and those outside of our pid namespace do not show: they
/// are left out.
pub(super) fn holders(inodes: &[u32]) -> HashMap<u32, Process> {
    let mut found = HashMap::new();
    let wanted: HashMap<String, u32> = inodes
        .iter()
        .filter(|&&inode| inode != 0)
        .map(|&inode| (format!("socket:[{inode}]"), inode))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for entry in processes.flatten() {
        if found.len() == wanted.len() {
            break;
        }
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Ok(link) = fs::read_link(file.path()) else { continue };
            if let Some(inode) = link.to_str().and_then(|link| wanted.get(link))
                && !found.contains_key(inode)
                && let Some(process) = Process::read(pid, &entry.path())
            {
                found.insert(*inode, process);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn this_process_holds_its_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let inode = u32::try_from(fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino()).unwrap();
        let found = holders(&[inode, 0]);
        assert_eq!(found[&inode].pid, std::process::id());
        assert!(!found[&inode].arguments.is_empty());
        assert_eq!(holders(&[0]), HashMap::new());
    }

    #[test]
    fn options_are_found_on_the_command_line() {
        let arguments =
            ["docker-proxy", "-proto", "tcp", "--container-ip", "172.17.0.2", "-container-port", "80"];
        let process = Process {
            pid: 7,
            name: "docker-proxy".to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
        };
        assert_eq!(process.option("container-ip"), Some("172.17.0.2"));
        assert_eq!(process.option("container-port"), Some("80"));
        assert_eq!(process.option("host-ip"), None);
        assert_eq!(process.to_string(), "docker-proxy (process 7)");
    }
}
