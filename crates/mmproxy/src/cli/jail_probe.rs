//! The command line of `jail-probe`, which is the tests' and in no help.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use clap::{Args, Subcommand, ValueEnum};

use super::SandboxArgs;

/// `mmproxy jail-probe`.
#[derive(Args, Debug)]
pub(crate) struct JailProbeArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArgs,

    /// Ports that may be connected to; all, if none is given
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub(crate) connect_port: Vec<RangeInclusive<u16>>,

    /// Allow what forwarding datagrams takes
    #[arg(long)]
    pub(crate) datagrams: bool,

    /// Start itself anew as a keeper starts a worker, and do it there
    #[arg(long)]
    pub(crate) as_keeper: bool,

    /// Refuse capset(2) first, as systemd's filter for services does
    #[arg(long)]
    pub(crate) refuse_capset: bool,

    #[command(subcommand)]
    pub(crate) action: ProbeAction,
}

/// What to do inside.
#[derive(Debug, Subcommand)]
pub(crate) enum ProbeAction {
    /// One thing, which the exit status tells about: 0 it worked, 77 it was refused; or death by SIGSYS
    Try {
        #[arg(value_enum)]
        what: Attempt,
        /// Whom to connect to
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9")]
        to: SocketAddr,
    },
    /// Say what this kernel has of the jail, and which system calls are on its lists
    List,
}

/// Things to try. The first ones a worker needs, the others it must not be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attempt {
    Threads,
    Timers,
    OwnAddresses,
    Panic,
    Abort,

    Bpf,
    BindToDevice,
    Capset,
    Connect,
    CurrentDirectory,
    Exec,
    FastOpen,
    FileStatus,
    Fork,
    IcmpSocket,
    IoUring,
    KillParent,
    Keyring,
    Listen,
    Memfd,
    Mount,
    MptcpSocket,
    OpenFile,
    PacketSocket,
    PerfEvent,
    ProcessInNamespace,
    ProcessMemory,
    Ptrace,
    RaiseLimit,
    RawSocket,
    Setns,
    Setuid,
    UdpSocket,
    UnixConnect,
    Unshare,
    UserFaults,
    VsockSocket,
    WritableCode,
    WrittenCode,
}

fn port(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port: u16 = text.parse().map_err(|_| "expected a port".to_owned())?;
    Ok(port..=port)
}
