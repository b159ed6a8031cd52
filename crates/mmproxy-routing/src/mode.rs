//! What an operator chooses about the return path: mode, mark, table, rule priority, families.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, ParseIntError};
use std::str::FromStr;

/// How replies to a spoofed source are brought back to this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// The target's replies inherit the mark of the spoofed connection, and a rule sends whatever carries the
    /// mark back to this machine. Serves every address of this host; needs no netfilter.
    #[default]
    Fwmark,
    /// Whatever the loopback addresses send to somebody else comes back. For targets on loopback addresses.
    Source,
    /// Whatever a port sends comes back. For UDP servers, also those bound to the wildcard address.
    Port,
    /// The mark travels by way of the connection tracker. What the original mmproxy asks of its user; needs a default
    /// route and nftables.
    Connmark,
    /// Whatever arrives for one of our transparent sockets is delivered to it. For targets on other machines, in
    /// containers or virtual machines whose route back leads through this one; needs nftables.
    Socket,
}

impl Mode {
    /// Whether spoofed sockets have to carry the mark (`SO_MARK`).
    ///
    /// In mode `socket` it is given to the replies alone: a marked SYN would be delivered on this host.
    #[must_use]
    pub const fn marks_sockets(self) -> bool {
        match self {
            Self::Fwmark | Self::Connmark => true,
            Self::Source | Self::Port | Self::Socket => false,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fwmark => f.write_str("fwmark"),
            Self::Source => f.write_str("source"),
            Self::Port => f.write_str("port"),
            Self::Connmark => f.write_str("connmark"),
            Self::Socket => f.write_str("socket"),
        }
    }
}

/// The transport protocol of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The number in the IP header.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// As `ip` writes it.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

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

/// The firewall mark of spoofed sockets: any number but 0, written in decimal or as `0x7b`. Default 123.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark(NonZeroU32);

impl Mark {
    /// A mark.
    ///
    /// # Errors
    ///
    /// [`SettingError::MarkZero`] for 0, which every packet without a mark carries.
    pub fn new(mark: u32) -> Result<Self, SettingError> {
        NonZeroU32::new(mark).map(Self).ok_or(SettingError::MarkZero)
    }

    /// The number, as `SO_MARK` takes it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self(const { NonZeroU32::new(123).expect("123 is not 0") })
    }
}

/// In hexadecimal, as `ip rule` prints it.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

impl FromStr for Mark {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        Self::new(number(text)?)
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

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(crate) const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address families a return path is wanted for. Default both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Families {
    /// IPv4 targets.
    pub v4: bool,
    /// IPv6 targets.
    pub v6: bool,
}

impl Families {
    /// IPv4 and IPv6.
    pub const BOTH: Self = Self { v4: true, v6: true };
    /// IPv4 alone.
    pub const V4: Self = Self { v4: true, v6: false };
    /// IPv6 alone.
    pub const V6: Self = Self { v4: false, v6: true };

    /// Whether this family is one of them.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Those that are in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    /// The chosen families, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        [self.v4.then_some(Family::V4), self.v6.then_some(Family::V6)].into_iter().flatten()
    }
}

impl Default for Families {
    fn default() -> Self {
        Self::BOTH
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_are_read_in_decimal_and_in_hexadecimal() {
        assert_eq!("123".parse(), Ok(Mark::default()));
        assert_eq!("0x7b".parse(), Ok(Mark::default()));
        assert_eq!("0X7B".parse(), Ok(Mark::default()));
        assert_eq!(Mark::default().to_string(), "0x7b");
    }

    #[test]
    fn what_is_no_number_is_refused_as_such() {
        for text in ["", "0x", "0x+7b", "0x-1", "-1", "mark", "4294967296", "0x100000000", " 1", "1 "] {
            let error = text.parse::<Mark>().unwrap_err();
            assert!(matches!(error, SettingError::NotANumber { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn reserved_values_are_refused_with_their_reason() {
        assert_eq!(Mark::new(0), Err(SettingError::MarkZero));
        assert_eq!("0x0".parse::<Mark>(), Err(SettingError::MarkZero));
        for (table, name) in [(0, "no table"), (253, "default"), (254, "main"), (255, "local")] {
            assert_eq!(Table::new(table), Err(SettingError::TableReserved { table, name }));
        }
        assert_eq!(Priority::new(0), Err(SettingError::PriorityZero));
        assert_eq!(Priority::new(32766), Err(SettingError::PriorityAfterMain(32766)));
    }

    #[test]
    fn the_edges_of_what_is_allowed_are_allowed() {
        for table in [1, 252, 256, u32::MAX] {
            assert_eq!(Table::new(table).map(Table::get), Ok(table));
        }
        for priority in [1, Priority::LAST] {
            assert_eq!(Priority::new(priority).map(Priority::get), Ok(priority));
        }
    }

    proptest! {
        /// What is printed is read back as the same value.
        #[test]
        fn printing_and_reading_agree(mark in 1..=u32::MAX, table in 256..=u32::MAX, priority in 1..=Priority::LAST) {
            prop_assert_eq!(Mark::new(mark)?.to_string().parse(), Mark::new(mark));
            prop_assert_eq!(mark.to_string().parse(), Mark::new(mark));
            prop_assert_eq!(Table::new(table)?.to_string().parse(), Table::new(table));
            prop_assert_eq!(Priority::new(priority)?.to_string().parse(), Priority::new(priority));
        }
    }
}
