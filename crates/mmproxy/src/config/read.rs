//! A file's text as typed: every key in its slot, every mistake told.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::keys::{GlobalKeys, Keys, ServiceKeys};
use super::mistake::{Mistake, Sources, Spot, closest};
use super::slot::{AnySlot, Reading, article};

/// What files or flags say, before anything is made of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed {
    pub(crate) global: GlobalKeys,
    pub(crate) services: Vec<TypedService>,
}

/// A `[[service]]` and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct TypedService {
    pub(crate) keys: ServiceKeys,
    pub(crate) spot: Spot,
}

impl Typed {
    /// Adds what a file says to what others said.
    pub(crate) fn read(&mut self, file: usize, sources: &Sources, mistakes: &mut Vec<Mistake>) {
        let text = sources.text(file);
        let (document, errors) = DeTable::parse_recoverable(text);
        let broken = syntax(text, file, errors, mistakes);
        let mut found = Vec::new();
        self.document(document.get_ref(), file, &mut found);
        // What was put in place of something that cannot be read says nothing about what was meant.
        let beside_broken = |mistake: &Mistake| match mistake.spot() {
            Spot::File { span, .. } => broken.contains(&line_of(text, span.start)),
            Spot::Flag(_) | Spot::Nowhere => false,
        };
        mistakes.extend(found.into_iter().filter(|mistake| !beside_broken(mistake)));
    }

    fn document(&mut self, document: &DeTable<'_>, file: usize, mistakes: &mut Vec<Mistake>) {
        for (key, value) in in_order(document) {
            match (key.get_ref().as_ref(), value.get_ref()) {
                (GLOBAL, DeValue::Table(table)) => {
                    read_table(&mut self.global, table, "[global]", file, mistakes);
                }
                (SERVICE, DeValue::Array(services)) => {
                    for service in services.iter() {
                        self.service(service, file, mistakes);
                    }
                }
                (GLOBAL | SERVICE, value) => {
                    let name = key.get_ref();
                    let heading = if name == GLOBAL { "[global]" } else { "[[service]]" };
                    let found =
                        if value.is_table() { "[service]".to_owned() } else { article(value.type_str()) };
                    let mistake = Mistake::new(
                        format!("`{name}` is a table of its own"),
                        Spot::File { file, span: key.span() },
                        format!("expected {heading}, found {found}"),
                    );
                    mistakes.push(mistake.help(format!("write its heading, {heading}, and its keys below")));
                }
                (name, _) => mistakes.push(unknown_at_top(name, file, key.span())),
            }
        }
    }

    fn service(&mut self, from: &Spanned<DeValue<'_>>, file: usize, mistakes: &mut Vec<Mistake>) {
        let DeValue::Table(table) = from.get_ref() else {
            mistakes.push(Mistake::new(
                "`service` is a table of its own",
                Spot::File { file, span: from.span() },
                format!("expected [[service]], found {}", article(from.get_ref().type_str())),
            ));
            return;
        };
        let mut keys = ServiceKeys::default();
        read_table(&mut keys, table, "[[service]]", file, mistakes);
        self.services.push(TypedService { keys, spot: Spot::File { file, span: from.span() } });
    }
}

fn read_table<K: Keys>(
    keys: &mut K,
    table: &DeTable<'_>,
    heading: &str,
    file: usize,
    mistakes: &mut Vec<Mistake>,
) {
    let mut slots = keys.slots_mut();
    for (key, value) in in_order(table) {
        let name = key.get_ref().as_ref();
        match K::KEYS.iter().position(|known| known.name == name) {
            Some(index) => {
                let mut reading = Reading { key: name, file, mistakes: &mut *mistakes };
                read_once(&mut *slots[index], key, value, &mut reading);
            }
            None => mistakes.push(unknown::<K>(name, heading, file, key.span())),
        }
    }
}

/// A key that several files may set is set once: none overrides another.
fn read_once(
    slot: &mut dyn AnySlot,
    key: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    at: &mut Reading<'_>,
) {
    if let Some(first) = slot.place() {
        let spot = Spot::File { file: at.file, span: key.span() };
        let mistake = Mistake::new(format!("`{}` is set twice", at.key), spot, "set again here");
        at.mistakes.push(
            mistake.beside(first, "set here first").help("no file overrides another: remove one of the two"),
        );
        return;
    }
    slot.read(value, at);
}

/// Syntax errors, one a line, because one often leads to others behind it. Returns their lines.
fn syntax(text: &str, file: usize, errors: Vec<Error>, mistakes: &mut Vec<Mistake>) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut errors: Vec<(Range<usize>, String)> = errors
        .into_iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message().to_owned()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, message) in errors {
        let line = line_of(text, span.start);
        if !lines.contains(&line) {
            lines.push(line);
            mistakes.push(Mistake::new("this is not TOML", Spot::File { file, span }, message));
        }
    }
    lines
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// As they stand in the file; the parser sorts them by name.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn unknown<K: Keys>(name: &str, heading: &str, file: usize, span: Range<usize>) -> Mistake {
    let mistake = Mistake::new(
        format!("unknown key `{name}`"),
        Spot::File { file, span },
        format!("not a key of {heading}"),
    );
    let similar = closest(name, K::KEYS.iter().map(|key| key.name));
    match similar {
        Some(similar) => mistake.help(format!("did you mean `{similar}`?")),
        None if GlobalKeys::KEYS.iter().any(|key| key.name == name) => {
            mistake.help("it is one of [global], which is for all services")
        }
        None if ServiceKeys::KEYS.iter().any(|key| key.name == name) => {
            mistake.help("it is one of [[service]]: each service says it for itself")
        }
        None => mistake.help("`mmproxy config example` shows all of them"),
    }
}

fn unknown_at_top(name: &str, file: usize, span: Range<usize>) -> Mistake {
    let mistake = Mistake::new(
        format!("unknown key `{name}`"),
        Spot::File { file, span },
        "not a key at the top of a file",
    );
    let known = |keys: &[super::keys::Key]| keys.iter().any(|key| key.name == name);
    if known(GlobalKeys::KEYS) {
        mistake.help("put it below [global]")
    } else if known(ServiceKeys::KEYS) {
        mistake.help("put it below the [[service]] it is about")
    } else {
        match closest(name, [GLOBAL, SERVICE]) {
            Some(GLOBAL) => mistake.help("did you mean [global]?"),
            Some(_) => mistake.help("did you mean [[service]]?"),
            None => mistake.help("a file has one [global] and any number of [[service]]"),
        }
    }
}

const GLOBAL: &str = "global";
const SERVICE: &str = "service";
