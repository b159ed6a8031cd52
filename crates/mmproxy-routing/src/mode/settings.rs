//! The numbers that an operator chooses: mark, table, priority, ports.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, ParseIntError};
use std::str::FromStr;

/// The numbers a return path is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The mark on spoofed sockets (`SO_MARK`). Default 123.
    pub mark: Mark,
    /// The routing table that leads back to this machine. Default 100.
    pub table: Table,
    /// Where our rule stands among the host's policy rules. Default 100.
    pub priority: Priority,
}

impl Settings {
    /// The same for what has no use for a mark.
    pub(crate) fn without_mark(self) -> Self {
        Self { mark: Mark::default(), ..self }
    }
}

/// The firewall mark of spoofed sockets: any number but 0, written in decimal or as `0x7b`. Default 123.
///
/// With a mask, written `0x7b/0xff` as `ip rule` has it, it is those bits of a packet's mark alone: the others are
/// neither looked at nor changed, and may mean something to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    value: NonZeroU32,
    mask: u32,
}

impl Mark {
    /// A mark that is the whole of a packet's.
    ///
    /// # Errors
    ///
    /// [`SettingError::MarkZero`] for 0, which every packet without a mark carries.
    pub fn new(mark: u32) -> Result<Self, SettingError> {
        Self::masked(mark, u32::MAX)
    }

    /// A mark that is the bits of a packet's that `mask` has.
    ///
    /// # Errors
    ///
    /// [`SettingError::MarkZero`], [`SettingError::MaskZero`], and [`SettingError::MarkOutsideMask`] for a mark that no
    /// masked one can equal.
    pub fn masked(mark: u32, mask: u32) -> Result<Self, SettingError> {
        if mask == 0 {
            return Err(SettingError::MaskZero);
        }
        let value = NonZeroU32::new(mark).ok_or(SettingError::MarkZero)?;
        if mark & !mask != 0 {
            return Err(SettingError::MarkOutsideMask { mark, mask });
        }
        Ok(Self { value, mask })
    }

    /// The number, as `SO_MARK` takes it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.value.get()
    }

    /// Its bits in a packet's mark.
    #[must_use]
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// Whether it is all of a packet's mark.
    pub(crate) const fn is_whole(self) -> bool {
        self.mask == u32::MAX
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self { value: const { NonZeroU32::new(123).expect("123 is not 0") }, mask: u32::MAX }
    }
}

/// In hexadecimal, as `ip rule` prints it.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())?;
        if self.is_whole() { Ok(()) } else { write!(f, "/{:#x}", self.mask) }
    }
}

impl FromStr for Mark {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text.split_once('/') {
            Some((mark, mask)) => Self::masked(number(mark)?, number(mask)?),
            None => Self::new(number(text)?),
        }
    }
}

/// The number of a routing table of our own: 1 to 252, or above 255. Default 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(u32);

impl Table {
    /// A routing table.
    ///
    /// # Errors
    ///
    /// [`SettingError::TableReserved`] for the tables the kernel gives a meaning of their own: a `local default`
    /// route in one of them would make this machine swallow all of its traffic.
    pub fn new(table: u32) -> Result<Self, SettingError> {
        let name = match table {
            0 => "no table",
            253 => "default",
            254 => "main",
            255 => "local",
            _ => return Ok(Self(table)),
        };
        Err(SettingError::TableReserved { table, name })
    }

    /// The number, as netlink takes it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Table {
    fn default() -> Self {
        Self(100)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Table {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        Self::new(number(text)?)
    }
}

/// Where our rule stands: 1 (early) to 32765 (just before `main`). Default 100.
///
/// Early and explicit, because a rule that is added later without a priority goes in front of all others: a VPN's
/// `not fwmark X lookup Y` would otherwise catch the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u32);

impl Priority {
    /// The last place before the kernel's rule for the `main` table, which has a route for nearly everything.
    pub const LAST: u32 = 32765;

    /// A rule priority.
    ///
    /// # Errors
    ///
    /// [`SettingError::PriorityZero`], [`SettingError::PriorityAfterMain`].
    pub fn new(priority: u32) -> Result<Self, SettingError> {
        match priority {
            0 => Err(SettingError::PriorityZero),
            1..=Self::LAST => Ok(Self(priority)),
            _ => Err(SettingError::PriorityAfterMain(priority)),
        }
    }

    /// The number, as netlink takes it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(100)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Priority {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        Self::new(number(text)?)
    }
}

/// A range of ports: `20000-20100`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// The ports from `first` to `last`.
    ///
    /// # Errors
    ///
    /// [`SettingError::NotPorts`] for port 0 and where there are none.
    pub fn new(first: u16, last: u16) -> Result<Self, SettingError> {
        if first == 0 || last < first {
            return Err(SettingError::NotPorts(format!("{first}-{last}")));
        }
        Ok(Self { first, last })
    }

    /// The first.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last, which may be the first.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether this port is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for Ports {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        // `u16::from_str` takes `+8`, which is no port anywhere else.
        let port = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).ok_or_else(|| SettingError::NotPorts(text.to_owned()))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(port(first)?, port(last)?).map_err(|_| SettingError::NotPorts(text.to_owned()))
    }
}

/// Why a number is not usable as a mark, a table or a priority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Not a number of 32 bits.
    #[error("`{text}` is not a number between 0 and 4294967295, in decimal or with 0x in hexadecimal")]
    NotANumber {
        /// What was written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ParseIntError,
    },
    /// The mark 0.
    #[error("mark 0 is the mark of every unmarked packet: choose another number, such as 123")]
    MarkZero,
    /// The mask 0.
    #[error(
        "mask 0 looks at no bit of a mark, so that every packet would carry ours: leave the mask out, or name bits"
    )]
    MaskZero,
    /// A mark with bits that its mask does not have.
    #[error("mark {mark:#x} has bits that mask {mask:#x} lacks: no packet would ever carry it")]
    MarkOutsideMask {
        /// The mark.
        mark: u32,
        /// The mask.
        mask: u32,
    },
    /// A table with a meaning of its own.
    #[error(
        "table {table} is reserved ({name}): a local default route there would take over all traffic of this host; \
         choose another number, such as 100"
    )]
    TableReserved {
        /// The number.
        table: u32,
        /// What `ip` calls it.
        name: &'static str,
    },
    /// The priority 0.
    #[error("priority 0 is the kernel's own rule for local addresses: choose 1 to 32765")]
    PriorityZero,
    /// A priority behind the main table.
    #[error("priority {0} comes after the main table, which would send the replies away: choose 1 to 32765")]
    PriorityAfterMain(u32),
    /// A target without an address of its own.
    #[error(
        "{0} is not an address that answers can come from: name the one that clients are to be answered from"
    )]
    TargetUnspecified(SocketAddr),
    /// Not the name of a network interface.
    #[error("`{0}` is not the name of a network interface: 1 to 15 characters, without blanks, `/` and `:`")]
    NotADevice(String),
    /// Not a range of ports.
    #[error("`{0}` is no range of ports: expected a number from 1 to 65535, or two such as 20000-20100")]
    NotPorts(String),
    /// A listener without a port.
    #[error("{0} has no port that connections could be sent to")]
    ListenerPortZero(SocketAddr),
    /// A target without a port.
    #[error("{0} has no port to know its answers by")]
    TargetPortZero(SocketAddr),
}

fn number(text: &str) -> Result<u32, SettingError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign here, and `0x+7b` is nobody's number: `+` is no digit of its own.
        Some(digits) if digits.starts_with('+') => "+".parse(),
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|source| SettingError::NotANumber { text: text.to_owned(), source })
}

#[cfg(test)]
mod tests;
