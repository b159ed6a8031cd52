//! Times.

use std::time::Duration;

use super::{Form, OFF, Scalar};
use crate::cli::{Probing, duration, keepalive};

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

/// 366 days.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
