//! What a single value may be: how it is read, checked and written. Flags and files share it.

mod address;
mod name;
mod number;
mod time;

use std::net::SocketAddr;

use clap::ValueEnum;
use mmproxy_forwarder::AllowedTarget;
use mmproxy_routing::{Mark, Ports, Priority, SettingError, Table};
use serde_json::{Value as Json, json};

pub(crate) use self::address::{Endpoint, Target};
pub(crate) use self::name::{Name, UserName};
pub(crate) use self::number::{Number, Workers};
pub(crate) use self::time::{Time, TimeOrOff};
use super::mistake::closest;
use crate::cli::{
    Ceiling, HeaderArg, HealthCheckArg, IoUringArg, LogFormat, MissingArg, Prefixes, ProtocolArg, Rate,
    ReturnPathMode, Routing, SandboxArg, SourceArg, SourceKind, SourcePortArg, UdpHeaderArg,
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

const OFF: &str = "off";
