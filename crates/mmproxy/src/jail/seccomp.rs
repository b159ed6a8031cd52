//! The system calls that are left. What they are, and why, stands in [`calls`].

mod arguments;
mod calls;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;

use nix::libc::{self, c_int};
use nix::unistd::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};
use serde::{Deserialize, Serialize};

use self::arguments::{is, rule};
use self::calls::Call;
use super::{MayLack, Sandbox};

/// Whether system calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Filtering {
    /// What is not on the list ends the process.
    Kill,
    /// What is not on the list is written to the kernel's log, and done.
    Log,
    /// Not at all.
    Off,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("no filter for system calls can be written for {ARCH}")]
    Compile(#[from] BackendError),
    #[error("the kernel refuses the filter for system calls")]
    Refused(#[from] seccompiler::Error),
}

/// Installs the filter for every thread, those that will be started too. Nothing takes it away again.
pub(super) fn install(
    sandbox: Sandbox,
    datagrams: bool,
    may_lack: MayLack,
) -> Result<Filtering, SeccompError> {
    let (programs, filtering) = match sandbox {
        // Of two answers the kernel takes the stricter one: what is allowed below and fails above, fails.
        Sandbox::Kill => (
            vec![
                failing(calls::files(), libc::EACCES)?,
                failing(calls::UNKNOWN.into_iter(), libc::ENOSYS)?,
                permitting(list(datagrams).chain(calls::files()), SeccompAction::KillProcess)?,
            ],
            Filtering::Kill,
        ),
        // Files are written to the log as well: what would fail is what a dry run is for.
        Sandbox::Log => (vec![permitting(list(datagrams), SeccompAction::Log)?], Filtering::Log),
        Sandbox::Off => return Ok(Filtering::Off),
    };
    for program in &programs {
        match apply_filter_all_threads(program) {
            Ok(()) => {}
            Err(_) if may_lack == MayLack::Anything => return Ok(Filtering::Off),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filtering)
}

/// Whether the kernel has filters, and the two things they do here. Changes nothing.
pub(super) fn available() -> bool {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    ["kill_process", "errno", "log"]
        .iter()
        .all(|wanted| actions.split_whitespace().any(|action| action == *wanted))
}

/// Names of the calls in the list: those that are allowed, with `true` where their arguments decide, and those that fail.
pub(crate) fn listed() -> (BTreeMap<&'static str, bool>, Vec<&'static str>) {
    let allowed = list(true).map(|call| (call.name(), !call.rules.is_empty()));
    let mut allowed: BTreeMap<_, _> = allowed.collect();
    allowed.insert("tgkill", true);
    for call in calls::UNKNOWN {
        allowed.remove(call.name());
    }
    (allowed, calls::files().chain(calls::UNKNOWN).map(|call| call.name()).collect())
}

/// Lets nobody change capabilities from now on, as a service manager may: for the tests.
pub(crate) fn refuse_capset() -> Result<(), SeccompError> {
    Ok(apply_filter_all_threads(&failing([calls::CAPSET].into_iter(), libc::EPERM)?)?)
}

/// Everything that does not end the process, files apart.
fn list(datagrams: bool) -> impl Iterator<Item = Call> {
    let datagrams = datagrams.then(calls::for_datagrams).into_iter().flatten();
    calls::allowed().chain(datagrams).chain(calls::UNKNOWN)
}

/// A filter that lets `calls` through, and does `otherwise` to everything else.
fn permitting(
    calls: impl Iterator<Item = Call>,
    otherwise: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let mut rules = rules(calls)?;
    // To itself, which is how abort(3) ends. musl's way has the thread alone, which could be anybody's: there the
    // process ends by this filter instead.
    rules.insert(libc::SYS_tgkill, vec![rule(&[is(0, getpid().as_raw())])?]);
    compile(rules, otherwise, SeccompAction::Allow)
}

/// A filter that lets `calls` fail with `error`, and everything else through.
fn failing(calls: impl Iterator<Item = Call>, error: c_int) -> Result<BpfProgram, BackendError> {
    compile(rules(calls)?, SeccompAction::Allow, SeccompAction::Errno(error.cast_unsigned()))
}

/// By number, as the library wants them. A call that is listed twice is allowed in either way.
fn rules(calls: impl Iterator<Item = Call>) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls {
        let ways = rules.entry(call.number).or_default();
        for arguments in call.rules {
            ways.push(rule(arguments)?);
        }
    }
    Ok(rules)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, mismatch, matched, TargetArch::try_from(ARCH)?)?.try_into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_call_is_either_allowed_whatever_its_arguments_are_or_only_with_some() {
        let (mut always, mut sometimes) = (BTreeSet::new(), BTreeSet::new());
        for call in list(true).chain(calls::files()) {
            let kind = if call.rules.is_empty() { &mut always } else { &mut sometimes };
            kind.insert(call.number);
        }
        assert_eq!(
            always.intersection(&sometimes).count(),
            0,
            "an empty rule would let the other's arguments through"
        );
    }

    #[test]
    fn every_filter_is_a_program_that_the_kernel_takes() {
        for datagrams in [false, true] {
            let program = permitting(list(datagrams), SeccompAction::KillProcess).unwrap();
            // BPF_MAXINSNS of linux/bpf_common.h.
            assert!(program.len() < 4096, "{} instructions", program.len());
        }
        assert!(failing(calls::files(), libc::EACCES).is_ok());
    }

    #[test]
    fn what_starts_programs_or_changes_rights_is_on_no_list() {
        let listed: BTreeSet<_> = list(true).chain(calls::files()).map(|call| call.number).collect();
        for number in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_memfd_create,
            libc::SYS_listen,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_seccomp,
            libc::SYS_personality,
        ] {
            assert!(!listed.contains(&number), "system call {number}");
        }
    }

    #[test]
    fn without_datagrams_no_call_and_no_socket_for_them_is_left() {
        let numbers = |datagrams| list(datagrams).map(|call| call.number).collect::<BTreeSet<_>>();
        let more: Vec<_> = numbers(true).difference(&numbers(false)).copied().collect();
        assert_eq!(
            more,
            BTreeSet::from([libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_io_uring_enter])
                .into_iter()
                .collect::<Vec<_>>()
        );
        let ways = |datagrams| rules(list(datagrams)).unwrap()[&libc::SYS_socket].len();
        assert_eq!((ways(false), ways(true)), (5, 9));
    }
}
