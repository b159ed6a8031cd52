//! Whose process a worker is.

use std::fmt;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups, setgroups, setresgid, setresuid};
use rustix::thread::set_keep_capabilities;
use serde::{Deserialize, Serialize};

/// A user and a group, by number: names are looked up by whoever may still read files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserSpec {
    uid: u32,
    gid: u32,
    /// As the operator wrote it, or `nobody`.
    name: String,
    /// Whether the operator asked for it. If not, and it cannot be, the user is kept.
    asked: bool,
}

impl UserSpec {
    /// Looks up `NAME`, `UID`, `NAME:GROUP` and the like. Without a group it is the user's own.
    ///
    /// # Errors
    ///
    /// No such user or group; a number without an account, and no group with it.
    pub(crate) fn find(text: &str) -> Result<Self, UserUnknown> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let number = user.parse().ok();
        let account = match number {
            Some(uid) => User::from_uid(Uid::from_raw(uid)),
            None => User::from_name(user),
        };
        // What the user database fails with is as good as not finding it.
        let account = account.ok().flatten();
        let uid = number.or_else(|| account.as_ref().map(|account| account.uid.as_raw()));
        let uid = uid.ok_or_else(|| UserUnknown::User(user.to_owned()))?;
        let gid = match (group, account) {
            (Some(group), _) => group_number(group)?,
            (None, Some(account)) => account.gid.as_raw(),
            (None, None) => return Err(UserUnknown::GroupMissing(user.to_owned())),
        };
        Ok(Self { uid, gid, name: text.to_owned(), asked: true })
    }

    /// Whom workers are when nobody says so: `nobody` for root, and for everybody else the user that started them.
    pub(crate) fn by_default() -> Option<Self> {
        geteuid().is_root().then(|| {
            let account = User::from_name(NOBODY).ok().flatten();
            let (uid, gid) =
                account.map_or((OVERFLOW, OVERFLOW), |user| (user.uid.as_raw(), user.gid.as_raw()));
            Self { uid, gid, name: NOBODY.to_owned(), asked: false }
        })
    }
}

impl UserSpec {
    /// As the operator wrote it; `None` where nobody did.
    pub(crate) fn asked(&self) -> Option<&str> {
        self.asked.then_some(self.name.as_str())
    }
}

/// The name, and the numbers where they say more.
impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.uid, self.gid)
    }
}

/// Why a user cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserUnknown {
    #[error("there is no user {0:?}")]
    User(String),
    #[error("there is no group {0:?}")]
    Group(String),
    #[error("user {0} has no account that would tell its group: write {0}:GROUP")]
    GroupMissing(String),
}

/// Whose the process is now, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups that are left.
    pub(super) groups: Vec<u32>,
    /// Why the default user could not be assumed, if it could not.
    pub(super) kept_because: Option<String>,
}

/// Becomes `user`, with its group alone. Permitted capabilities stay; the effective ones go with user 0.
///
/// Without a user, supplementary groups go all the same where the process has the right to drop them.
pub(super) fn assume(user: Option<&UserSpec>) -> Result<Identity, IdentityError> {
    let kept_because = match user {
        None => {
            // Without CAP_SETGID they are what whoever started this wanted; the report lists them.
            setgroups(&[]).ok();
            None
        }
        Some(user) => match become_user(user) {
            Ok(()) => None,
            // A container or a user namespace may have neither that user nor the right to be it.
            Err(error) if !user.asked => Some(crate::exit::Chain(&error).to_string()),
            Err(error) => return Err(error),
        },
    };
    let groups = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw);
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    Ok(Identity { uid, gid, groups: groups.filter(|group| *group != gid).collect(), kept_because })
}

/// Why the process is not whom it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} to become {user}")]
pub(crate) struct IdentityError {
    action: &'static str,
    user: UserSpec,
    #[source]
    error: Errno,
}

fn become_user(user: &UserSpec) -> Result<(), IdentityError> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let failed = |action| move |error| IdentityError { action, user: user.clone(), error };
    if (geteuid(), getegid()) == (uid, gid) {
        setgroups(&[]).ok();
        return Ok(());
    }
    // Else the permitted set goes with the last user number 0.
    set_keep_capabilities(true)
        .map_err(|error| failed("keep capabilities")(Errno::from_raw(error.raw_os_error())))?;
    // The user last: it takes the right to change the groups with it.
    setgroups(&[]).map_err(failed("drop supplementary groups"))?;
    setresgid(gid, gid, gid).map_err(failed("change the group"))?;
    setresuid(uid, uid, uid).map_err(failed("change the user"))
}

fn group_number(group: &str) -> Result<u32, UserUnknown> {
    let known = || Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
    group.parse().ok().or_else(known).ok_or_else(|| UserUnknown::Group(group.to_owned()))
}

/// The user that owns nothing.
const NOBODY: &str = "nobody";

/// Its number where no file says so, and what the kernel shows for users without one here.
const OVERFLOW: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_or_numbered_with_a_group_or_without() {
        let find = |text| UserSpec::find(text).map(|user| (user.uid, user.gid));
        assert_eq!(find("root"), Ok((0, 0)));
        assert_eq!(find("0"), Ok((0, 0)));
        assert_eq!(find("root:12345"), Ok((0, 12345)));
        assert_eq!(find("4000000000:4000000001"), Ok((4_000_000_000, 4_000_000_001)));
        assert_eq!(find("0:root"), Ok((0, 0)));
    }

    #[test]
    fn a_user_that_is_not_there_is_named_in_the_error() {
        assert_eq!(UserSpec::find("no such user"), Err(UserUnknown::User("no such user".to_owned())));
        assert_eq!(UserSpec::find("root:no such"), Err(UserUnknown::Group("no such".to_owned())));
        let error = UserSpec::find("4000000000").unwrap_err();
        assert_eq!(
            error.to_string(),
            "user 4000000000 has no account that would tell its group: write 4000000000:GROUP"
        );
    }
}
