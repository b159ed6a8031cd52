//! A place for the value of one key: empty, or filled by a file or a flag.

use std::ops::Range;

use serde_json::{Value as Json, json};
use toml::Spanned;
use toml::de::DeValue;

use super::mistake::{Mistake, Spot};
use toml_writer::ToTomlValue;

use super::scalar::{Form, Scalar};

/// The value of one key, and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T> {
    state: State<T>,
    default: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum State<T> {
    Absent,
    /// What was written is a mistake, which has been told.
    Broken(Spot),
    Given(Setting<T>),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) spot: Spot,
}

impl<T: Value> Slot<T> {
    /// An empty slot; `default` is the text that an absent key stands for.
    pub(crate) const fn new(default: Option<&'static str>) -> Self {
        Self { state: State::Absent, default }
    }

    /// Fills it.
    pub(crate) fn set(&mut self, value: T, spot: Spot) {
        self.state = State::Given(Setting { value, spot });
    }

    /// What was written, if anything usable was.
    pub(crate) const fn given(&self) -> Option<&Setting<T>> {
        match &self.state {
            State::Given(setting) => Some(setting),
            State::Absent | State::Broken(_) => None,
        }
    }

    /// The value, if there is one.
    pub(crate) fn get(&self) -> Option<T> {
        self.given().map(|setting| setting.value.clone()).or_else(|| self.default())
    }

    /// What an absent key stands for.
    pub(crate) fn default(&self) -> Option<T> {
        self.default.and_then(T::from_text)
    }

    /// The value of a key that has a default.
    pub(crate) fn value(&self) -> T {
        self.get().expect("keys without default are asked for with `get`, and every default parses: tested")
    }

    /// Whether nothing was written, not even a mistake.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent)
    }

    /// Where it was written.
    pub(crate) fn spot(&self) -> Spot {
        self.given().map_or(Spot::Nowhere, |setting| setting.spot.clone())
    }
}

impl<T: Scalar> Slot<T> {
    /// Fills it with what a flag said, through the same checks that a file's text goes through.
    pub(crate) fn flag(&mut self, value: &T, flag: &'static str, mistakes: &mut Vec<Mistake>) {
        match T::parse(&value.text()) {
            Ok(value) => self.set(value, Spot::Flag(flag)),
            Err(problem) => {
                self.state = State::Broken(Spot::Flag(flag));
                mistakes.push(Mistake::new(format!("{flag}: {problem}"), Spot::Flag(flag), ""));
            }
        }
    }
}

/// A slot whose type does not matter.
pub(crate) trait AnySlot {
    /// Fills it from a file.
    fn read(&mut self, from: &Spanned<DeValue<'_>>, at: &mut Reading<'_>);
    /// Where it was filled, usably or not.
    fn place(&self) -> Option<Spot>;
    /// What was written, as TOML.
    fn written(&self) -> Option<String>;
}

impl<T: Value> AnySlot for Slot<T> {
    fn read(&mut self, from: &Spanned<DeValue<'_>>, at: &mut Reading<'_>) {
        self.state = match T::read(from, at) {
            Some(value) => State::Given(Setting { value, spot: at.spot(from.span()) }),
            None => State::Broken(at.spot(from.span())),
        };
    }

    fn place(&self) -> Option<Spot> {
        match &self.state {
            State::Absent => None,
            State::Broken(spot) | State::Given(Setting { spot, .. }) => Some(spot.clone()),
        }
    }

    fn written(&self) -> Option<String> {
        self.given().map(|setting| setting.value.toml())
    }
}

/// One value of one file, while it is read.
pub(crate) struct Reading<'a> {
    pub(crate) key: &'a str,
    pub(crate) file: usize,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

impl Reading<'_> {
    fn spot(&self, span: Range<usize>) -> Spot {
        Spot::File { file: self.file, span }
    }

    fn wrong(&mut self, span: Range<usize>, problem: String) {
        let mistake = Mistake::new(format!("wrong value for `{}`", self.key), self.spot(span), problem);
        self.mistakes.push(mistake);
    }
}

/// What the value of a key may be: one [`Scalar`], or a list of them.
pub(crate) trait Value: Clone {
    /// In words, behind "expected".
    fn expected() -> String;
    /// `None` after at least one mistake was told.
    fn read(from: &Spanned<DeValue<'_>>, at: &mut Reading<'_>) -> Option<Self>;
    /// From the text of a default.
    fn from_text(text: &str) -> Option<Self>;
    /// As a TOML value.
    fn toml(&self) -> String;
    /// As JSON schema.
    fn schema() -> Json;
}

impl<T: Scalar> Value for T {
    fn expected() -> String {
        T::EXPECTED.to_owned()
    }

    fn read(from: &Spanned<DeValue<'_>>, at: &mut Reading<'_>) -> Option<Self> {
        let value = from.get_ref();
        let text = if let Some(text) = value.as_str().filter(|_| T::FORM.takes_text()) {
            text.to_owned()
        } else if let Some(value) = value.as_bool().filter(|_| T::FORM == Form::Boolean) {
            value.to_string()
        } else if let Some(number) = value.as_integer().filter(|_| T::FORM.takes_numbers()) {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => number.to_string(),
                // Too large, or without digits: as it was written.
                Err(_) => format!("{}{}", prefix(number.radix()), number.as_str()),
            }
        } else {
            at.wrong(from.span(), format!("expected {}, found {}", T::EXPECTED, article(value.type_str())));
            return None;
        };
        T::parse(&text).map_err(|problem| at.wrong(from.span(), problem)).ok()
    }

    fn from_text(text: &str) -> Option<Self> {
        T::parse(text).ok()
    }

    fn toml(&self) -> String {
        let text = self.text();
        match T::FORM {
            Form::Boolean | Form::Number => text,
            Form::NumberOrText if text.bytes().all(|byte| byte.is_ascii_digit()) => text,
            Form::NumberOrText | Form::Text => quoted(&text),
        }
    }

    fn schema() -> Json {
        T::schema()
    }
}

/// Each with its place. One value needs no brackets.
impl<T: Scalar> Value for Vec<Setting<T>> {
    fn expected() -> String {
        format!("{}, or a list of them", T::EXPECTED)
    }

    fn read(from: &Spanned<DeValue<'_>>, at: &mut Reading<'_>) -> Option<Self> {
        let items = from.get_ref().as_array().map_or_else(|| vec![from], |items| items.iter().collect());
        let read: Vec<Option<Setting<T>>> = items
            .into_iter()
            .map(|item| Some(Setting { value: T::read(item, at)?, spot: at.spot(item.span()) }))
            .collect();
        read.into_iter().collect()
    }

    fn from_text(text: &str) -> Option<Self> {
        let items = text.split(',').filter(|item| !item.is_empty());
        items.map(|item| T::from_text(item).map(|value| Setting { value, spot: Spot::Nowhere })).collect()
    }

    fn toml(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| item.value.toml()).collect();
        let line = format!("[{}]", items.join(", "));
        if line.len() <= LINE { line } else { format!("[\n    {},\n]", items.join(",\n    ")) }
    }

    fn schema() -> Json {
        json!({ "anyOf": [T::schema(), { "type": "array", "items": T::schema() }] })
    }
}

fn quoted(text: &str) -> String {
    toml_writer::TomlStringBuilder::new(text).as_basic().to_toml_value()
}

pub(super) fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// How TOML begins a number that is not decimal.
const fn prefix(radix: u32) -> &'static str {
    match radix {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    }
}

/// Lists that are longer have a line for each item.
const LINE: usize = 90;
