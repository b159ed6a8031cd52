//! What is made of the table of keys: files, the example, the schema, the reference page.

mod manual;
mod shown;

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

pub(crate) use self::manual::manual;
use super::keys::{Absent, GlobalKeys, Key, Keys, ServiceKeys};
use super::read::Typed;
use crate::spec::Spec;

/// A file of what was typed, and of nothing that was not.
pub(super) fn write(typed: &Typed) -> String {
    annotated(typed, &[])
}

/// The same, with lines in front of keys or, where those are not there, in their places.
pub(super) fn annotated(typed: &Typed, notes: &[Note]) -> String {
    let mut text = String::new();
    let global = table(&typed.global, notes);
    if !global.is_empty() {
        text.push_str(&format!("{GLOBAL}\n{global}\n"));
    }
    for service in &typed.services {
        text.push_str(&format!("{SERVICE}\n{}\n", table(&service.keys, notes)));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Lines of comment that belong to a key.
pub(super) struct Note {
    pub(super) key: &'static str,
    pub(super) lines: Vec<String>,
}

/// What is meant, with every default and every network.
pub(crate) fn show(spec: &Spec) -> String {
    let typed = shown::typed(spec);
    let mut text = format!("{GLOBAL}\n{}", table(&typed.global, &[]));
    for service in &typed.services {
        text.push_str(&format!("\n{SERVICE}\n{}", table(&service.keys, &[])));
    }
    text
}

/// A file with every key, what it means, and what it is where it is left out.
pub(crate) fn example() -> String {
    let mut text = format!("{EXAMPLE_HEAD}\n{GLOBAL}\n");
    example_table(GlobalKeys::KEYS, &mut text);
    text.push_str(&format!("\n{SERVICE}\n"));
    example_table(ServiceKeys::KEYS, &mut text);
    text
}

/// A JSON schema of configuration files, for editors.
pub(crate) fn schema() -> String {
    let required: Vec<&str> = ServiceKeys::KEYS
        .iter()
        .filter(|key| matches!(key.absent, Absent::Required { .. }))
        .map(|key| key.name)
        .collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mmproxy configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "global": {
                "description": "What all services share.",
                "type": "object",
                "additionalProperties": false,
                "properties": properties(GlobalKeys::KEYS),
            },
            "service": {
                "type": "array",
                "items": {
                    "description": "One kind of connection or datagram, and where it goes.",
                    "type": "object",
                    "additionalProperties": false,
                    "required": required,
                    "properties": properties(ServiceKeys::KEYS),
                },
            },
        },
    });
    format!("{schema:#}\n")
}

/// The reference of all keys, as Markdown.
pub(crate) fn reference() -> String {
    let mut text = format!("### `{GLOBAL}`\n\n");
    reference_table(GlobalKeys::KEYS, &mut text);
    for (index, key) in ServiceKeys::KEYS.iter().enumerate() {
        if index == 0 || ServiceKeys::KEYS[index - 1].subject != key.subject {
            let keys: Vec<Key> =
                ServiceKeys::KEYS.iter().filter(|other| other.subject == key.subject).copied().collect();
            text.push_str(&format!("\n### `{SERVICE}`: {}\n\n", lower(key.subject)));
            reference_table(&keys, &mut text);
        }
    }
    text
}

/// `key = value` lines of a table; a blank line between subjects.
fn table<K: Keys>(keys: &K, notes: &[Note]) -> String {
    let mut text = String::new();
    let mut subject = "";
    for (key, slot) in K::KEYS.iter().zip(keys.slots()) {
        let value = slot.written();
        let note = notes.iter().find(|note| note.key == key.name);
        if value.is_none() && note.is_none() {
            continue;
        }
        if !subject.is_empty() && subject != key.subject {
            text.push('\n');
        }
        subject = key.subject;
        for line in note.iter().flat_map(|note| &note.lines) {
            text.push_str(&format!("{line}\n"));
        }
        if let Some(value) = value {
            text.push_str(&format!("{} = {value}\n", key.name));
        }
    }
    text
}

/// Keys that a service cannot do without are there, all others behind a `#` without a blank.
fn example_table(keys: &[Key], text: &mut String) {
    let mut subject = "";
    for key in keys {
        if key.subject != subject {
            subject = key.subject;
            text.push_str(&format!("\n# --- {subject} ---\n"));
        }
        text.push('\n');
        for line in key.doc {
            text.push_str(&format!("#{line}\n"));
        }
        let (value, off) = match key.absent {
            Absent::Default(text) => ((key.toml)(text).unwrap_or_default(), "#"),
            Absent::Required { example } => (example.to_owned(), ""),
            Absent::Means { meaning, example } => {
                text.push_str(&format!("# Left out: {meaning}.\n"));
                (example.to_owned(), if IN_EXAMPLE.contains(&key.name) { "" } else { "#" })
            }
        };
        text.push_str(&format!("{off}{} = {value}\n", key.name));
    }
}

fn properties(keys: &[Key]) -> Json {
    let properties = keys.iter().map(|key| {
        let mut schema = (key.schema)();
        if let Json::Object(schema) = &mut schema {
            schema.insert("description".to_owned(), prose(key).replace('`', "").into());
            // Strings, numbers and lists without dates and odd escapes are the same in TOML and JSON.
            if let Some(default) = default(key).and_then(|toml| serde_json::from_str::<Json>(&toml).ok()) {
                schema.insert("default".to_owned(), default);
            }
        }
        (key.name.to_owned(), schema)
    });
    Json::Object(properties.collect::<Map<_, _>>())
}

fn reference_table(keys: &[Key], text: &mut String) {
    text.push_str("| key | value | where it is left out | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let absent = match key.absent {
            Absent::Default(_) => format!("`{}`", default(key).unwrap_or_default()),
            Absent::Required { .. } => "required".to_owned(),
            Absent::Means { meaning, .. } => meaning.to_owned(),
        };
        // Writing to a string cannot fail.
        writeln!(text, "| `{}` | {} | {absent} | {} |", key.name, (key.expected)(), prose(key)).ok();
    }
}

/// The default of a key that has one, as TOML.
fn default(key: &Key) -> Option<String> {
    match key.absent {
        Absent::Default(text) => (key.toml)(text),
        Absent::Required { .. } | Absent::Means { .. } => None,
    }
}

/// Its description as one paragraph.
fn prose(key: &Key) -> String {
    key.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn lower(subject: &str) -> String {
    let mut letters = subject.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

const GLOBAL: &str = "[global]";
const SERVICE: &str = "[[service]]";

/// What the example's service needs besides the required keys, so that the file can be started from.
const IN_EXAMPLE: [&str; 3] = ["target-v4", "target-v6", "allow"];

const EXAMPLE_HEAD: &str = "\
# mmproxy's configuration: every key, what it means, and its default.
#
# Lines that begin with `#` and no blank are keys as they are where they are left out, or examples of keys that have
# no default. `mmproxy config check` finds every mistake in this file and in conf.d/*.toml beside it, which may add
# services and keys of [global] that are not set here.
";
