//! The record's front page.

use crate::record::Record;

/// Markdown: what was found, on what, with what.
pub(crate) fn page(record: &Record) -> String {
    format!("```text\n{}```\n", super::terminal(record))
}
