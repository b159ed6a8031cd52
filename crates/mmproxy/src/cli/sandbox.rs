//! The command line of what workers are kept from.

use clap::{Args, ValueEnum};

use crate::config::default;
use crate::jail::{MayLack, Sandbox, UserSpec, UserUnknown};

/// Whose processes the workers are, and what happens to what they may not do.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Least privilege")]
pub(crate) struct SandboxArgs {
    /// User, and group if not its own, that workers run as, such as `mmproxy` or `990:990`; or `keep` for the user that
    /// starts them [default: nobody for root, else keep]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// What happens to a worker that makes a system call which is not on its list
    #[arg(long, value_enum, default_value = default::SANDBOX, value_name = "ACTION")]
    pub(crate) sandbox: SandboxArg,

    /// The same as --sandbox off
    #[arg(short = 'N', long, conflicts_with = "sandbox")]
    pub(crate) do_not_sandbox: bool,

    /// What the kernel may lack of the sandbox; the start fails for what else it lacks
    #[arg(long, value_enum, default_value = default::SANDBOX_MISSING, value_name = "WHAT")]
    pub(crate) sandbox_missing: MissingArg,

    /// Workers keep CAP_NET_ADMIN: a client's port that a listener of this host has on all addresses can be kept then
    #[arg(long)]
    pub(crate) keep_net_admin: bool,
}

/// What happens to what is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SandboxArg {
    /// The worker ends and is started anew
    Kill,
    /// The kernel logs it and does it: a dry run
    Log,
    /// System calls are not filtered, and Landlock is not used
    Off,
}

/// What a kernel may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingArg {
    /// It must have seccomp filters and all of Landlock that is used, which takes Linux 6.12
    Nothing,
    /// Landlock, or the parts of it that came later
    Landlock,
    /// Whatever it lacks
    Anything,
}

impl SandboxArg {
    /// The same for the jail.
    pub(crate) const fn sandbox(self) -> Sandbox {
        match self {
            Self::Kill => Sandbox::Kill,
            Self::Log => Sandbox::Log,
            Self::Off => Sandbox::Off,
        }
    }
}

impl MissingArg {
    /// The same for the jail.
    pub(crate) const fn may_lack(self) -> MayLack {
        match self {
            Self::Nothing => MayLack::Nothing,
            Self::Landlock => MayLack::Landlock,
            Self::Anything => MayLack::Anything,
        }
    }
}

impl SandboxArgs {
    /// Whom workers become; `None` for whoever starts them. Looks names up, so it is for whoever may read files.
    ///
    /// # Errors
    ///
    /// No such user or group.
    pub(crate) fn user(&self) -> Result<Option<UserSpec>, UserUnknown> {
        match self.user.as_deref() {
            None => Ok(UserSpec::by_default()),
            Some(KEEP) => Ok(None),
            Some(user) => UserSpec::find(user).map(Some),
        }
    }

    /// What happens to what is not allowed.
    pub(crate) const fn sandbox(&self) -> Sandbox {
        if self.do_not_sandbox { Sandbox::Off } else { self.sandbox.sandbox() }
    }

    /// What may be left out.
    pub(crate) const fn may_lack(&self) -> MayLack {
        self.sandbox_missing.may_lack()
    }
}

/// In the place of a user.
pub(crate) const KEEP: &str = "keep";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sandbox: SandboxArgs,
    }

    fn line(text: &str) -> Result<SandboxArgs, clap::Error> {
        Line::try_parse_from(text.split_whitespace()).map(|line| line.sandbox)
    }

    #[test]
    fn by_default_a_worker_is_killed_and_only_landlock_may_be_missing() {
        let args = line("mmproxy").unwrap();
        assert_eq!((args.sandbox(), args.may_lack()), (Sandbox::Kill, MayLack::Landlock));
    }

    #[test]
    fn the_originals_flag_turns_the_sandbox_off_and_contradicts_the_other_one() {
        for text in ["mmproxy -N", "mmproxy --do-not-sandbox", "mmproxy --sandbox off"] {
            assert_eq!(line(text).unwrap().sandbox(), Sandbox::Off, "{text}");
        }
        assert!(line("mmproxy -N --sandbox log").is_err());
    }

    #[test]
    fn the_user_can_be_kept_and_one_that_is_not_there_is_an_error() {
        assert_eq!(line("mmproxy --user keep").unwrap().user(), Ok(None));
        assert!(line("mmproxy --user root:0").unwrap().user().unwrap().is_some());
        assert!(line("mmproxy --user nobody-of-that-name").unwrap().user().is_err());
    }
}
