//! Numbers.

use std::num::NonZeroUsize;

use serde_json::{Value as Json, json};

use super::{Form, Scalar};

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

const AUTO: &str = "auto";
