//! What can be tried inside the jail.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use mmproxy_forwarder::{Forbidden, OwnAddresses};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::{Uid, getppid, setuid};
use socket2::{Domain, Protocol, Socket, Type};

use crate::cli::Attempt;
use crate::runtime;

/// Gets what takes a file, before there is none to be had; what it returns makes the attempt.
///
/// # Errors
///
/// /proc is not mounted.
pub(super) fn prepare(what: Attempt, to: SocketAddr) -> io::Result<impl FnOnce() -> io::Result<()>> {
    let namespace = File::open("/proc/self/ns/net")?;
    Ok(move || attempt(what, to, &namespace))
}

/// `to` is for those that connect, `namespace` for the one that enters one.
fn attempt(what: Attempt, to: SocketAddr, namespace: &File) -> io::Result<()> {
    match what {
        Attempt::Threads => threads(),
        Attempt::Timers => timers(),
        Attempt::OwnAddresses => OwnAddresses::of_this_host().map(drop),
        Attempt::Panic => {
            thread::spawn(|| panic!("told to")).join().map_or(Ok(()), |()| unreachable!("it panics"))
        }
        Attempt::Abort => process::abort(),

        Attempt::BindToDevice => tcp_socket()?.bind_device(Some(b"lo")),
        Attempt::Capset => {
            let sets = rustix::thread::capabilities(None)?;
            Ok(rustix::thread::set_capabilities(None, sets)?)
        }
        Attempt::Connect => TcpStream::connect_timeout(&to, PATIENCE).map(drop),
        Attempt::CurrentDirectory => env::current_dir().map(drop),
        Attempt::Exec => Err(Command::new("/bin/true").exec()),
        Attempt::FastOpen => tcp_socket()?.send_to_with_flags(b"x", &to.into(), libc::MSG_FASTOPEN).map(drop),
        Attempt::FileStatus => fs::metadata("/etc/passwd").map(drop),
        Attempt::Fork => Command::new("/bin/true").spawn()?.wait().map(drop),
        Attempt::KillParent => Ok(kill(getppid(), None)?),
        Attempt::Listen => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
        Attempt::Memfd => Ok(memfd_create(c"probe", MFdFlags::empty()).map(drop)?),
        Attempt::Mount => {
            Ok(mount::<str, str, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?)
        }
        Attempt::OpenFile => File::open("/etc/passwd").map(drop),
        Attempt::Ptrace => Ok(ptrace::traceme()?),
        Attempt::RaiseLimit => Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?),
        Attempt::Setns => Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?),
        Attempt::Setuid => Ok(setuid(Uid::from_raw(0))?),
        Attempt::UnixConnect => UnixStream::connect("/run/nobody-listens-here").map(drop),
        Attempt::Unshare => Ok(unshare(CloneFlags::CLONE_NEWUSER)?),

        Attempt::IcmpSocket => made(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4)),
        Attempt::MptcpSocket => made(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
        Attempt::PacketSocket => made(Domain::PACKET, Type::RAW, None),
        Attempt::RawSocket => made(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
        Attempt::UdpSocket => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
        Attempt::VsockSocket => made(Domain::VSOCK, Type::STREAM, None),

        Attempt::Bpf => Forbidden::Bpf.attempt(),
        Attempt::IoUring => Forbidden::IoUring.attempt(),
        Attempt::Keyring => Forbidden::Keyring.attempt(),
        Attempt::PerfEvent => Forbidden::PerfEvent.attempt(),
        Attempt::ProcessInNamespace => Forbidden::ProcessInNamespace.attempt(),
        Attempt::ProcessMemory => Forbidden::ProcessMemory.attempt(),
        Attempt::UserFaults => Forbidden::UserFaults.attempt(),
        Attempt::WritableCode => Forbidden::WritableCode.attempt(),
        Attempt::WrittenCode => Forbidden::WrittenCode.attempt(),
    }
}

/// Threads with names that allocate, wait for each other and end, more than once on the same stacks.
fn threads() -> io::Result<()> {
    for round in 0..8 {
        let start = |number| {
            let body = move || (0..1000).map(|size| vec![number; size].len()).sum::<usize>();
            thread::Builder::new().name(format!("probe-{round}-{number}")).spawn(body)
        };
        let threads = (0..4).map(start).collect::<io::Result<Vec<_>>>()?;
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
        }
    }
    Ok(())
}

/// A runtime of its own, its timer and its wheel, and a plain sleep.
fn timers() -> io::Result<()> {
    runtime::block_on(async { tokio::time::sleep(Duration::from_millis(20)).await })
        .map_err(|_| io::Error::other("no runtime"))?;
    thread::sleep(Duration::from_millis(1));
    Ok(())
}

fn made(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<()> {
    Socket::new(domain, kind, protocol).map(drop)
}

fn tcp_socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

/// For a connection to somebody on the same machine.
const PATIENCE: Duration = Duration::from_secs(5);
