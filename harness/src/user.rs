//! Programs as an ordinary user: no capability, and a user number other than 0.

use std::ffi::OsString;
use std::process::Command;

use crate::isolation::is_machine_root;

/// `command` as an ordinary user; arguments and environment are kept.
///
/// Where the machine's root runs the tests, that is the user `nobody`. Elsewhere user 0 is itself the only user of a
/// user namespace: then the program gets one more such namespace in which it is `nobody`, which has the same effect
/// for it: no capability in the network namespace it runs in.
pub fn ordinary_user(command: &Command) -> Command {
    let mut wrapped = if is_machine_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps=-all", "--"]);
        setpriv
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-user", NOBODY, "--map-group", NOBODY, "--"]);
        unshare
    };
    wrapped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, OsString::from(value)),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Debian's `nobody` and `nogroup`.
const NOBODY: &str = "65534";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::run;
    use crate::{Namespace, isolated};

    #[test]
    fn an_ordinary_user_has_a_number_and_no_capability() {
        isolated(|| {
            let here = Namespace::new("here");
            let mut command = Command::new("sh");
            command
                .args(["-c", "id -u; grep CapEff /proc/self/status; echo $GREETING"])
                .env("GREETING", "hello");
            let finished = run(&here, &mut ordinary_user(&command), b"").expect_code(0);
            assert_eq!(finished.stdout, "65534\nCapEff:\t0000000000000000\nhello\n");
        });
    }
}
