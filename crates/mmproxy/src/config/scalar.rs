//! What a single value may be: how it is read, checked and written. Flags and files share it.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use mmproxy_forwarder::{AllowedTarget, parse_network};
use mmproxy_routing::{Mark, Ports, Priority, SettingError, Table};
use serde_json::{Value as Json, json};

use super::mistake::closest;
use crate::cli::{
    Ceiling, HeaderArg, HealthCheckArg, IoUringArg, LogFormat, MissingArg, Prefixes, Probing, ProtocolArg,
    Rate, ReturnPathMode, Routing, SandboxArg, SourceArg, SourceKind, SourcePortArg, UdpHeaderArg, duration,
    keepalive,
};
use crate::log::Verbosity;
use crate::target_netns::NamespaceName;

/// One value, which has a text.
pub(crate) trait Scalar: Clone {
    /// Which TOML types it may have.
    const FORM: Form = Form::Text;
    /// In words, behind "expected".
    const EXPECTED: &'static str;

    /// Reads it, or says what is wrong with it.
    fn parse(text: &str) -> Result<Self, String>;
    /// The text that [`Scalar::parse`] reads as this value.
    fn text(&self) -> String;

    /// As JSON schema.
    fn schema() -> Json {
        match Self::FORM {
            Form::Text => json!({ "type": "string" }),
            Form::Number => json!({ "type": "integer", "minimum": 0 }),
            Form::NumberOrText => json!({ "type": ["integer", "string"] }),
            Form::Boolean => json!({ "type": "boolean" }),
        }
    }
}

/// The TOML types of a [`Scalar`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Number,
    /// A number where it is enough, else text.
    NumberOrText,
    Boolean,
}

impl Form {
    pub(crate) const fn takes_text(self) -> bool {
        matches!(self, Self::Text | Self::NumberOrText)
    }

    pub(crate) const fn takes_numbers(self) -> bool {
        matches!(self, Self::Number | Self::NumberOrText)
    }
}

/// A time of at least `LEAST` milliseconds: `5s`, `500ms`, `2m`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time<const LEAST: u64>(pub(crate) Duration);

impl<const LEAST: u64> Scalar for Time<LEAST> {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a time such as \"5s\", \"500ms\" or \"2m\"";

    fn parse(text: &str) -> Result<Self, String> {
        let (time, least) = (duration(text)?, Duration::from_millis(LEAST));
        if time < least {
            return Err(format!("{time:?} is too short, at least {least:?} is needed"));
        }
        // Clocks are not asked to count further, and nobody means it.
        if time > LONGEST {
            return Err("more than a year is too long".to_owned());
        }
        Ok(Self(time))
    }

    fn text(&self) -> String {
        humantime::format_duration(self.0).to_string()
    }
}

/// The same, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeOrOff<const LEAST: u64>(pub(crate) Option<Duration>);

impl<const LEAST: u64> Scalar for TimeOrOff<LEAST> {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a time such as \"5s\", \"500ms\" or \"2m\", or \"off\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text == OFF {
            return Ok(Self(None));
        }
        Time::<LEAST>::parse(text)
            .map(|Time(time)| Self(Some(time)))
            .map_err(|problem| format!("{problem}, or off"))
    }

    fn text(&self) -> String {
        self.0.map_or_else(|| OFF.to_owned(), |time| Time::<LEAST>(time).text())
    }
}

impl Scalar for Probing {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "\"IDLE[,INTERVAL[,PROBES]]\" such as \"60s,15s,4\", or \"off\"";

    fn parse(text: &str) -> Result<Self, String> {
        keepalive(text)
    }

    fn text(&self) -> String {
        let Some(keepalive) = self.0 else { return OFF.to_owned() };
        format!("{}s,{}s,{}", keepalive.idle.as_secs(), keepalive.interval.as_secs(), keepalive.probes)
    }
}

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number<const LEAST: u32, const MOST: u32>(pub(crate) u32);

impl<const LEAST: u32, const MOST: u32> Scalar for Number<LEAST, MOST> {
    const FORM: Form = Form::Number;
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
        number.map(Self).ok_or_else(|| format!("{text} is not a number from {LEAST} to {MOST}"))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// A number of things, at least one.
impl Scalar for NonZeroUsize {
    const FORM: Form = Form::Number;
    const EXPECTED: &'static str = "a whole number above 0";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text} is not a whole number above 0"))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": 1 })
    }
}

/// Threads that serve; `auto` is one for each processor that the process may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workers(pub(crate) Option<NonZeroUsize>);

impl Scalar for Workers {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a number from 1 to 1024, or \"auto\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text == AUTO {
            return Ok(Self(None));
        }
        let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 1024);
        number
            .map(|number| Self(Some(number)))
            .ok_or_else(|| format!("`{text}` is neither a number from 1 to 1024 nor auto"))
    }

    fn text(&self) -> String {
        self.0.map_or_else(|| AUTO.to_owned(), |number| number.to_string())
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 1024 }, { "const": AUTO }] })
    }
}

impl Scalar for bool {
    const FORM: Form = Form::Boolean;
    const EXPECTED: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// What logs and metrics call a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl Scalar for Name {
    const EXPECTED: &'static str = "a name such as \"ssh\"";

    fn parse(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
            return Err("a name has 1 to 64 letters, digits, `-`, `_`, `.` and `:`".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$" })
    }
}

/// Whom workers run as, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserName(pub(crate) String);

impl Scalar for UserName {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a user such as \"mmproxy\", \"990:990\" or \"keep\"";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            Err("this names no user".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err("this names no file".to_owned());
        }
        Ok(text.into())
    }

    fn text(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl Scalar for IpNet {
    const EXPECTED: &'static str = "a network or an address such as \"192.0.2.0/24\"";

    fn parse(text: &str) -> Result<Self, String> {
        parse_network(text).map_err(|problem| problem.to_string())
    }

    /// An address without the length that it has anyway.
    fn text(&self) -> String {
        if self.prefix_len() == self.max_prefix_len() { self.addr().to_string() } else { self.to_string() }
    }
}

impl Scalar for Mark {
    const FORM: Form = Form::NumberOrText;
    const EXPECTED: &'static str = "a firewall mark such as 123 or \"0x100/0xff00\"";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|problem: SettingError| problem.to_string())
    }

    /// As flags and documents have it: hexadecimal where there is a mask.
    fn text(&self) -> String {
        if self.mask() == u32::MAX { self.get().to_string() } else { self.to_string() }
    }
}

/// An address and a port, or a range of ports: `0.0.0.0:20000-20100`, `[::]:22`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) first: SocketAddr,
    /// The last port; the first's where it is one alone.
    pub(crate) last: u16,
}

impl Endpoint {
    /// How many ports.
    pub(crate) const fn len(self) -> u32 {
        self.last as u32 - self.first.port() as u32 + 1
    }

    /// Each address.
    pub(crate) fn addresses(self) -> impl Iterator<Item = SocketAddr> {
        (self.first.port()..=self.last).map(move |port| {
            let mut address = self.first;
            address.set_port(port);
            address
        })
    }

    /// Whether this address is the next one behind it.
    pub(crate) fn precedes(self, next: SocketAddr) -> bool {
        let mut expected = self.first;
        expected.set_port(self.last.saturating_add(1));
        self.last < u16::MAX && next == expected
    }

    /// Whether an address and port is in both; port 0 is a free one each time.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first.ip() == other.first.ip()
            && self.first.port() <= other.last
            && other.first.port() <= self.last
            && self.last != 0
    }

    fn parse_as(text: &str, example: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected an IP address and a port or a range of them, such as {example}; names are not looked up"
            )
        };
        let (first, last) = match text.rsplit_once('-') {
            Some((first, last)) => (first, Some(last)),
            None => (text, None),
        };
        let first: SocketAddr = first.parse().map_err(|_| wrong())?;
        let last = match last {
            None => first.port(),
            Some(last) => match last.parse() {
                Ok(last) if first.port() > 0 && last >= first.port() => last,
                Ok(_) => return Err(format!("there are no ports from {} to {last}", first.port())),
                Err(_) => return Err(wrong()),
            },
        };
        Ok(Self { first, last })
    }
}

impl Scalar for Endpoint {
    const EXPECTED: &'static str = "an address and a port or a range of ports, such as \"0.0.0.0:2222\"";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as(text, "0.0.0.0:2222, [::]:2222 or 0.0.0.0:20000-20100")
    }

    fn text(&self) -> String {
        if self.first.port() == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        }
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^.+:[0-9]+(-[0-9]+)?$" })
    }
}

/// The target of one family's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<const V6: bool>(pub(crate) Endpoint);

impl<const V6: bool> Scalar for Target<V6> {
    const EXPECTED: &'static str = if V6 {
        "an IPv6 address and a port, such as \"[::1]:22\""
    } else {
        "an IPv4 address and a port, such as \"127.0.0.1:22\""
    };

    fn parse(text: &str) -> Result<Self, String> {
        let endpoint = Endpoint::parse_as(text, if V6 { "[::1]:22" } else { "127.0.0.1:22" })?;
        match (V6, endpoint.first) {
            (true, SocketAddr::V4(_)) => Err("this is IPv4, which `target-v4` takes".to_owned()),
            (false, SocketAddr::V6(_)) => Err("this is IPv6, which `target-v6` takes".to_owned()),
            (true, SocketAddr::V6(_)) | (false, SocketAddr::V4(_)) => Ok(Self(endpoint)),
        }
    }

    fn text(&self) -> String {
        self.0.text()
    }

    fn schema() -> Json {
        Endpoint::schema()
    }
}

/// Values that other crates read and write.
macro_rules! by_text {
    ($($type:ty, $form:expr, $expected:literal;)*) => {$(
        impl Scalar for $type {
            const FORM: Form = $form;
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|problem| problem.to_string())
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

/// Words from a list, which clap knows.
macro_rules! by_word {
    ($($type:ty, $expected:literal;)*) => {$(
        impl Scalar for $type {
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, String> {
                word(text)
            }

            fn text(&self) -> String {
                name(self)
            }

            fn schema() -> Json {
                json!({ "enum": <$type>::value_variants().iter().map(name).collect::<Vec<_>>() })
            }
        }
    )*};
}

by_text! {
    SocketAddr, Form::Text, "an address and a port such as \"127.0.0.1:9100\"";
    NamespaceName, Form::NumberOrText, "a network namespace: \"docker:NAME\", a name, a path or a process number";
    AllowedTarget, Form::Text, "a destination such as \"10.0.0.5:22\" or \"10.0.0.0/24:20000-20100\"";
    Ceiling, Form::NumberOrText, "a whole number above 0, or \"off\"";
    Prefixes, Form::Text, "lengths of two prefixes, IPv4 and IPv6, such as \"24,56\"";
    Rate, Form::NumberOrText, "\"N[,BURST]\" such as 100 or \"100,500\", or \"off\"";
    Table, Form::Number, "the number of a routing table";
    Priority, Form::Number, "the priority of a routing rule";
    Ports, Form::NumberOrText, "a port or a range such as \"20000-20100\"";
}

by_word! {
    LogFormat, "\"text\", \"json\" or \"journald\"";
    HealthCheckArg, "\"pass\", \"answer\" or \"refuse\"";
    SandboxArg, "\"kill\", \"log\" or \"off\"";
    MissingArg, "\"nothing\", \"landlock\" or \"anything\"";
    Verbosity, "\"quiet\", \"normal\" or \"verbose\"";
    ProtocolArg, "\"tcp\" or \"udp\"";
    SourceArg, "\"header\" or \"peer\"";
    SourcePortArg, "\"keep\", \"prefer\" or \"ephemeral\"";
    SourceKind, "\"loopback\", \"unspecified\", \"multicast\", \"broadcast\", \"link-local\" or \"own\"";
    ReturnPathMode, "\"auto\", \"fwmark\", \"source\", \"port\", \"connmark\" or \"socket\"";
    Routing, "\"auto\", \"check\" or \"off\"";
    HeaderArg, "\"v1\", \"v2\" or \"spp\"";
    IoUringArg, "\"auto\" or \"never\"";
    UdpHeaderArg, "\"every\" or \"first-datagram\"";
}

fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn word<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let words: Vec<String> = T::value_variants().iter().map(name).collect();
        match closest(text, words.iter().map(String::as_str)) {
            Some(word) => format!("`{text}` is none of {}; did you mean `{word}`?", words.join(", ")),
            None => format!("`{text}` is none of {}", words.join(", ")),
        }
    })
}

/// 366 days.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const OFF: &str = "off";
const AUTO: &str = "auto";
