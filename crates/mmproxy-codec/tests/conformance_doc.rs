//! `docs/conformance.md` names code, tests and vectors; they exist.

mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn everything_that_the_document_names_exists() {
    let document = Document::read();
    assert!(document.rows.len() > 60, "{} rows were found", document.rows.len());
    let complaints: Vec<String> = document.rows.iter().flat_map(|row| document.complaints(row)).collect();
    assert!(complaints.is_empty(), "docs/conformance.md:\n{}", complaints.join("\n"));
}

#[test]
fn every_reading_is_in_the_document_and_in_its_test() {
    let document = Document::read();
    let listed: HashSet<&str> = document.rows.iter().flat_map(|row| &row.tests).map(String::as_str).collect();
    let readings = fs::read_to_string(document.root.join("crates/mmproxy-codec/tests/readings.rs"));
    let readings = readings.expect("the readings are there");
    let names: Vec<&str> = readings
        .lines()
        .filter_map(|line| line.strip_prefix("fn reading_"))
        .filter_map(|line| line.split('(').next())
        .collect();
    assert_eq!(names.len(), 20);
    for name in names {
        assert!(
            listed.contains(format!("codec-tests/readings.rs::reading_{name}").as_str()),
            "reading_{name}"
        );
    }
}

/// The document, as far as it can be checked.
struct Document {
    root: PathBuf,
    /// What the first column of the table of prefixes stands for.
    prefixes: HashMap<String, String>,
    rows: Vec<Row>,
    vectors: HashSet<String>,
}

/// One rule, or one reading.
struct Row {
    line: usize,
    /// `None` for a reading, which names no code.
    code: Option<Vec<String>>,
    tests: Vec<String>,
}

impl Document {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = fs::read_to_string(root.join("docs/conformance.md")).expect("the document is there");
        let vectors = support::all().into_iter().map(|vector| vector.name).collect();
        let mut document = Self { root, prefixes: HashMap::new(), rows: Vec::new(), vectors };
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                ["prefix" | "§" | "reading" | "---", ..] => {}
                [prefix, directory] => {
                    document.prefixes.insert(only(prefix), only(directory));
                }
                [_section, _level, _rule, code, tests] => {
                    document.rows.push(Row { line: at + 1, code: Some(quoted(code)), tests: quoted(tests) });
                }
                [number, _what, _why, tests] if number.parse::<u8>().is_ok() => {
                    document.rows.push(Row { line: at + 1, code: None, tests: quoted(tests) });
                }
                _ => panic!("line {}: a row of {} cells", at + 1, cells.len()),
            }
        }
        document
    }

    fn complaints(&self, row: &Row) -> Vec<String> {
        let mut complaints = Vec::new();
        let code = row.code.as_deref().unwrap_or_default();
        complaints.extend(code.iter().filter(|name| !self.defines(name)).map(|name| format!("no {name}")));
        complaints
            .extend(row.tests.iter().filter(|name| !self.tests(name)).map(|name| format!("no test {name}")));
        if row.tests.is_empty() || row.code.as_ref().is_some_and(Vec::is_empty) {
            complaints.push("a cell that names nothing".to_owned());
        }
        complaints.into_iter().map(|complaint| format!("line {}: {complaint}", row.line)).collect()
    }

    /// Whether the file has an item of this name.
    fn defines(&self, reference: &str) -> bool {
        let Some((text, name)) = self.resolve(reference) else { return false };
        text.lines().any(|line| defined(line).is_some_and(|found| found == name))
    }

    /// Whether there is a test, or a vector, of this name.
    fn tests(&self, reference: &str) -> bool {
        if !reference.contains('/') {
            return self.vectors.contains(reference);
        }
        let Some((text, name)) = self.resolve(reference) else { return false };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| defined(line).is_some_and(|found| found == name));
        at.is_some_and(|at| {
            let attributes =
                lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
            attributes.into_iter().any(|line| line.starts_with("#[test]") || line.contains("::test"))
        })
    }

    /// The text of the file in `prefix/file.rs::name`, and the name.
    fn resolve<'r>(&self, reference: &'r str) -> Option<(String, &'r str)> {
        let (path, name) = reference.split_once("::")?;
        let (prefix, file) = path.split_once('/')?;
        let directory = self.prefixes.get(&format!("{prefix}/"))?;
        Some((fs::read_to_string(self.root.join(directory).join(file)).ok()?, name))
    }
}

/// The name of the function, type or constant that a line begins to define.
fn defined(line: &str) -> Option<&str> {
    let mut words = line.trim_start().split([' ', '(', '<', ':', '{', ';']);
    let keyword = words.find(|word| !matches!(*word, "pub" | "crate)" | "super)" | "async" | ""))?;
    let name = match (keyword, words.next()?) {
        ("const", "fn") => words.next()?,
        ("fn" | "struct" | "enum" | "const" | "static" | "mod", name) => name,
        _ => return None,
    };
    Some(name)
}

/// What stands between back quotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn only(cell: &str) -> String {
    quoted(cell).pop().unwrap_or_else(|| panic!("nothing between back quotes in {cell:?}"))
}

#[test]
fn definitions_are_recognised_and_mentions_are_not() {
    assert_eq!(defined("    pub(crate) const fn local<'a>(header: &[u8])"), Some("local"));
    assert_eq!(defined("pub const MAX_V1_LEN: usize = 107;"), Some("MAX_V1_LEN"));
    assert_eq!(defined("pub enum Outcome<T> {"), Some("Outcome"));
    assert_eq!(defined("async fn flow(gateway: &Shared)"), Some("flow"));
    assert_eq!(defined("    local(header, options)"), None);
    assert_eq!(defined("// fn local is elsewhere"), None);
}
