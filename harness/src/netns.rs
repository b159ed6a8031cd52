//! A network namespace, and code and programs that run in it.

use std::fs::{File, create_dir_all, read_to_string, remove_file, write};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::isolation::is_inside;
use crate::netlink;

/// A network namespace; clones are the same one.
///
/// It exists as long as a clone, a socket or a process in it. Only threads made for it ever enter it: the
/// thread that runs a test stays where it is.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: &'static str,
    handle: Arc<File>,
}

impl Namespace {
    /// A fresh one, its loopback interface up.
    ///
    /// # Panics
    ///
    /// Outside [`isolated`](crate::isolated): on a developer's machine that would be somebody else's business.
    pub fn new(name: &'static str) -> Self {
        assert!(is_inside(), "namespaces are made inside `isolated` only");
        let handle = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("process 1 of a test has CAP_SYS_ADMIN");
            // Not /proc/self: that is the process's first thread, which stayed behind.
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        })
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic));

        let namespace = Self { name, handle: Arc::new(handle) };
        // Duplicate address detection would make an IPv6 address unusable for its first second.
        namespace.set_sysctl("net.ipv6.conf.default.accept_dad", "0");
        netlink::in_namespace(&namespace, async |net| net.set_up("lo").await);
        namespace
    }

    /// The name given to it, for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs `code` in the namespace. Sockets it makes stay there, wherever they are used afterwards, and so do
    /// threads that it starts.
    pub fn run<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&*self.handle, CloneFlags::CLONE_NEWNET).expect("process 1 of a test has CAP_SYS_ADMIN");
            code()
        };
        // Named, because a panic's message begins with its thread.
        let thread = thread::Builder::new().name(format!("in the {}'s namespace", self.name));
        thread::scope(|scope| thread.spawn_scoped(scope, inside).expect("a thread to spare").join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Makes its name known to programs, as `ip netns add` does: a file below /run/netns, which is this test's own.
    pub fn publish(&self) -> PathBuf {
        let path = published(self.name);
        create_dir_all(PUBLISHED).expect("/run is this test's own tmpfs");
        File::create_new(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let handle = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        mount(Some(handle.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("mounting in a mount namespace of our own");
        path
    }

    /// Takes the name away, as `ip netns delete` does. The namespace goes on as long as anything uses it.
    pub fn unpublish(&self) {
        let path = published(self.name);
        umount2(&path, MntFlags::MNT_DETACH).expect("it was published");
        remove_file(&path).expect("it was published");
    }

    /// Starts a program in the namespace.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Hands the namespace's own descriptor to code that moves something into it.
    pub(crate) fn with_handle<T>(&self, code: impl FnOnce(&File) -> T) -> T {
        code(&self.handle)
    }

    /// The value of a sysctl of this namespace, such as `net.ipv4.fwmark_reflect`; `None` where there is none.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let path = sysctl_path(name);
        self.run(|| read_to_string(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Sets a sysctl of this namespace.
    pub fn set_sysctl(&self, name: &str, value: &str) {
        let path = sysctl_path(name);
        self.run(|| write(path, value))
            .unwrap_or_else(|error| panic!("{}: sysctl {name}={value}: {error}", self.name));
    }
}

fn published(name: &str) -> PathBuf {
    Path::new(PUBLISHED).join(name)
}

/// Where ip-netns(8) keeps the names of namespaces.
const PUBLISHED: &str = "/run/netns";

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::isolated;

    #[test]
    fn two_namespaces_have_the_same_port_and_neither_sees_the_other() {
        isolated(|| {
            let [one, two] = [Namespace::new("one"), Namespace::new("two")];
            let listen = || TcpListener::bind("127.0.0.1:4711");
            let listening = one.run(listen).expect("a fresh namespace has a loopback address");
            assert!(two.run(|| TcpStream::connect("127.0.0.1:4711")).is_err());
            two.run(listen).expect("nobody listens here");
            assert!(TcpStream::connect("127.0.0.1:4711").is_err(), "the test's own namespace is a third one");
            one.run(|| TcpStream::connect("127.0.0.1:4711")).expect("somebody listens here");
            drop(listening);
        });
    }

    #[test]
    fn sysctls_are_the_namespaces_own() {
        isolated(|| {
            let [one, two] = [Namespace::new("one"), Namespace::new("two")];
            one.set_sysctl("net.ipv4.fwmark_reflect", "1");
            assert_eq!(one.sysctl("net.ipv4.fwmark_reflect").as_deref(), Some("1"));
            assert_eq!(two.sysctl("net.ipv4.fwmark_reflect").as_deref(), Some("0"));
            assert_eq!(one.sysctl("net.ipv4.there_is_no_such"), None);
        });
    }

    #[test]
    fn programs_run_in_the_namespace_they_are_started_in() {
        isolated(|| {
            let namespace = Namespace::new("one");
            let link = || std::fs::read_link("/proc/thread-self/ns/net").expect("/proc is mounted");
            let output = namespace
                .run(|| Command::new("readlink").arg("/proc/self/ns/net").output())
                .expect("coreutils");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), namespace.run(link).to_string_lossy());
            assert_ne!(namespace.run(link), link());
        });
    }
}
