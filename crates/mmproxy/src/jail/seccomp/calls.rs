//! The list of system calls, and why each is on it.
//!
//! What is on no list here ends the process: programs and processes (`execve`, `fork`, `kill`, `ptrace`,
//! `process_vm_*`), rights (`setuid`, `capset`, `unshare`, `setns`, `mount`), the kernel's other doors (`bpf`,
//! `io_uring_*`, `userfaultfd`, `perf_event_open`, `keyctl`, `memfd_create`), new listeners (`listen`), and whatever a
//! later kernel may add.
//!
//! The lists serve the GNU C library and musl on x86-64 and aarch64. Where the two libraries call the kernel in
//! different ways for the same function, both ways are there.

use nix::libc::{self, c_int, c_long};

use super::arguments::{Argument, is, is_with, lacks, null};

/// A system call that may be made, if the arguments are as one of `rules` says; always, if there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// As libc's constant: `SYS_read`.
    name: &'static str,
    pub(super) number: c_long,
    pub(super) rules: &'static [&'static [Argument]],
}

impl Call {
    /// As the manual has it: `read`.
    pub(super) fn name(&self) -> &'static str {
        self.name.trim_start_matches("SYS_")
    }
}

/// Calls whatever their arguments are.
macro_rules! always {
    ($($number:ident),* $(,)?) => {
        [$(Call { name: stringify!($number), number: libc::$number, rules: &[] }),*]
    };
}

/// Calls whose arguments have to be as one of the lists says.
macro_rules! when {
    ($($number:ident: $rules:expr),* $(,)?) => {
        [$(Call { name: stringify!($number), number: libc::$number, rules: &$rules }),*]
    };
}

/// What every worker may do.
pub(super) fn allowed() -> impl Iterator<Item = Call> {
    ALWAYS.iter().chain(HERE_ALONE).chain(WITH_ARGUMENTS).copied()
}

/// What a worker may do beside that if it forwards datagrams.
pub(super) fn for_datagrams() -> impl Iterator<Item = Call> {
    DATAGRAMS.iter().copied()
}

/// What fails as if there were no right to it, [`EACCES`](libc::EACCES), instead of ending the process.
///
/// Libraries look at files for what they can do without: a panic's message with `RUST_BACKTRACE` wants to name source
/// lines, and a panic ends one session, not the gateway. To whom it matters the answer is the same: no file.
pub(super) fn files() -> impl Iterator<Item = Call> {
    FILES.iter().chain(FILES_HERE_ALONE).copied()
}

/// What fails as if the kernel did not have it, [`ENOSYS`](libc::ENOSYS): its flags are behind a pointer, where no
/// filter can see them. C libraries then start a thread with `clone`, whose flags are an argument.
pub(super) const UNKNOWN: [Call; 1] = always![SYS_clone3];

/// What a service manager may refuse before a worker starts; see [`refuse_capset`](super::refuse_capset).
pub(super) const CAPSET: Call = Call { name: "SYS_capset", number: libc::SYS_capset, rules: &[] };

const ALWAYS: &[Call] = &always![
    // Bytes: connections, pipes, the log, the keeper.
    SYS_read,
    SYS_readv,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_write,
    SYS_writev,
    SYS_splice,
    SYS_pipe2,
    SYS_close,
    // Connections. What kind of socket there can be is decided by `socket`; where it may connect to, by Landlock.
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_shutdown,
    // How many descriptors there are, by a directory that was opened before the filter; no other is open.
    SYS_getdents64,
    SYS_lseek,
    // Waiting.
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_ppoll,
    // Memory; see below for what may not be made executable.
    SYS_brk,
    SYS_madvise,
    SYS_mremap,
    SYS_munmap,
    // Threads, and how they wait for each other. `membarrier` is musl's, when the first thread is started.
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_gettid,
    SYS_membarrier,
    SYS_rseq,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_set_robust_list,
    SYS_set_tid_address,
    // Signals that come in. None can be sent; see `tgkill`.
    SYS_restart_syscall,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    // The time, where the kernel gives it to a program by way of a call.
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_gettimeofday,
    SYS_nanosleep,
    // What a process may know about itself and the machine: for messages and for the allocator.
    SYS_capget,
    SYS_fstat,
    SYS_getcpu,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getrandom,
    SYS_getuid,
    SYS_sysinfo,
];

/// Older calls that later architectures do without.
#[cfg(target_arch = "x86_64")]
const HERE_ALONE: &[Call] = &always![SYS_epoll_wait, SYS_poll, SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const HERE_ALONE: &[Call] = &[];

const WITH_ARGUMENTS: &[Call] = &when![
    // No raw sockets, although CAP_NET_RAW would allow them; no packet, vsock or Unix sockets, and no other transport
    // over IP (MPTCP, SCTP, ICMP), of which Landlock's ports would know nothing. Netlink is for getifaddrs(3).
    SYS_socket: [
        &[is(0, libc::AF_INET), is_with(1, libc::SOCK_STREAM, SOCK_FLAGS), is(2, 0)],
        &[is(0, libc::AF_INET), is_with(1, libc::SOCK_STREAM, SOCK_FLAGS), is(2, libc::IPPROTO_TCP)],
        &[is(0, libc::AF_INET6), is_with(1, libc::SOCK_STREAM, SOCK_FLAGS), is(2, 0)],
        &[is(0, libc::AF_INET6), is_with(1, libc::SOCK_STREAM, SOCK_FLAGS), is(2, libc::IPPROTO_TCP)],
        &[is(0, libc::AF_NETLINK), is_with(1, libc::SOCK_RAW, SOCK_FLAGS), is(2, libc::NETLINK_ROUTE)],
    ],
    // A pair is connected to itself. The runtime wakes itself through one when a signal comes.
    SYS_socketpair: [&[is(0, libc::AF_UNIX), is_with(1, libc::SOCK_STREAM, SOCK_FLAGS), is(2, 0)]],
    // TCP Fast Open connects while sending, past Landlock.
    SYS_sendto: [&[lacks(3, libc::MSG_FASTOPEN)]],
    SYS_sendmsg: [&[lacks(2, libc::MSG_FASTOPEN)]],
    SYS_setsockopt: [
        // The connection to the target: from the client's address and port, and back to the gateway.
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_MARK)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_REUSEADDR)],
        &[is(1, libc::IPPROTO_IP), is(2, libc::IP_TRANSPARENT)],
        &[is(1, libc::IPPROTO_IP), is(2, libc::IP_BIND_ADDRESS_NO_PORT)],
        &[is(1, libc::IPPROTO_IPV6), is(2, libc::IPV6_TRANSPARENT)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_REPAIR)],
        // Every connection: delays, dead peers, resets.
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_NODELAY)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPIDLE)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPINTVL)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_KEEPCNT)],
        &[is(1, libc::IPPROTO_TCP), is(2, libc::TCP_USER_TIMEOUT)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_KEEPALIVE)],
        &[is(1, libc::SOL_SOCKET), is(2, libc::SO_LINGER)],
    ],
    // Why a connection failed, and what kind of socket a descriptor is. Tables of the firewall are read at IPPROTO_IP.
    SYS_getsockopt: [&[is(1, libc::SOL_SOCKET)], &[is(1, libc::IPPROTO_TCP)]],
    SYS_fcntl: [
        &[is(1, libc::F_DUPFD_CLOEXEC)],
        &[is(1, libc::F_GETFD)],
        &[is(1, libc::F_SETFD)],
        &[is(1, libc::F_GETFL)],
        &[is(1, libc::F_SETFL)],
        &[is(1, libc::F_GETPIPE_SZ)],
        &[is(1, libc::F_SETPIPE_SZ)],
    ],
    // How much of a connection is still under way, where its urgent byte is, non-blocking mode, and whether the log goes
    // to a terminal. TIOCSTI, which types into one, is among the others.
    SYS_ioctl: [
        &[is(1, libc::TIOCOUTQ as c_int)],
        &[is(1, SIOCATMARK)],
        &[is(1, libc::FIONREAD as c_int)],
        &[is(1, libc::FIONBIO as c_int)],
        &[is(1, libc::TCGETS as c_int)],
    ],
    // Memory is never executable, so nothing that was written can be run.
    SYS_mmap: [&[lacks(2, libc::PROT_EXEC)]],
    SYS_mprotect: [&[lacks(2, libc::PROT_EXEC)]],
    // Threads of this process: the GNU library's flags, and musl's, which has one more that means nothing. Every other
    // combination is a process or a namespace.
    SYS_clone: [&[is_with(0, THREAD, CLONE_DETACHED)]],
    // Names of threads and of memory, for whoever looks at the process; and an end when the keeper ends.
    SYS_prctl: [
        &[is(0, libc::PR_SET_NAME)],
        &[is(0, libc::PR_GET_NAME)],
        &[is(0, libc::PR_SET_VMA)],
        &[is(0, libc::PR_SET_PDEATHSIG), is(1, libc::SIGKILL)],
    ],
    // Reading its own limits: this process, and no new limit.
    SYS_prlimit64: [&[is(0, 0), null(2)]],
];

const DATAGRAMS: &[Call] = &when![
    SYS_socket: [
        &[is(0, libc::AF_INET), is_with(1, libc::SOCK_DGRAM, SOCK_FLAGS), is(2, 0)],
        &[is(0, libc::AF_INET), is_with(1, libc::SOCK_DGRAM, SOCK_FLAGS), is(2, libc::IPPROTO_UDP)],
        &[is(0, libc::AF_INET6), is_with(1, libc::SOCK_DGRAM, SOCK_FLAGS), is(2, 0)],
        &[is(0, libc::AF_INET6), is_with(1, libc::SOCK_DGRAM, SOCK_FLAGS), is(2, libc::IPPROTO_UDP)],
    ],
    SYS_sendmmsg: [&[lacks(3, libc::MSG_FASTOPEN)]],
    SYS_recvmmsg: [],
    // On a queue that was made before, and is restricted to sending and receiving.
    SYS_io_uring_enter: [],
    // Whether a reply may be cut into fragments.
    SYS_setsockopt: [
        &[is(1, libc::IPPROTO_IP), is(2, libc::IP_MTU_DISCOVER)],
        &[is(1, libc::IPPROTO_IPV6), is(2, libc::IPV6_MTU_DISCOVER)],
    ],
];

const FILES: &[Call] = &always![
    SYS_faccessat,
    SYS_faccessat2,
    SYS_getcwd,
    SYS_newfstatat,
    SYS_openat,
    SYS_openat2,
    SYS_readlinkat,
    SYS_statx,
];

#[cfg(target_arch = "x86_64")]
const FILES_HERE_ALONE: &[Call] = &always![SYS_access, SYS_lstat, SYS_open, SYS_readlink, SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const FILES_HERE_ALONE: &[Call] = &[];

/// What may be set beside a socket's type.
const SOCK_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// What pthread_create(3) asks for.
const THREAD: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// clone(2): "since Linux 2.6.2 it has no effect".
const CLONE_DETACHED: c_int = libc::CLONE_DETACHED;

/// Of asm-generic/sockios.h.
const SIOCATMARK: c_int = 0x8905;
