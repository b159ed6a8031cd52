//! The configuration: files, drop-ins and the command line as typed, and what they mean.
//!
//! Start reading at `keys`, the table of every key. `read` fills its slots from a file and `flags` from a command line;
//! `meaning` makes a [`Spec`] of either, before anything happens. All mistakes are told at once.

pub(crate) mod default;
mod document;
mod flags;
#[cfg(test)]
mod fuzzing;
mod go_mmproxy;
mod keys;
mod meaning;
mod mistake;
mod read;
mod scalar;
mod slot;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::document::{example, manual, reference, schema, show};
pub(crate) use self::flags::{spec as of_flags, text as text_of_flags};
pub(crate) use self::go_mmproxy::text as text_of_go_mmproxy;
pub(crate) use self::mistake::Mistakes;
use self::mistake::{Mistake, Sources, Spot};
use self::read::Typed;
use crate::spec::Spec;

/// Where the file is looked for if nothing else is said.
pub(crate) const PATH: &str = "/etc/mmproxy/mmproxy.toml";

/// Reads a file and the drop-ins beside it, `conf.d/*.toml` in the order of their names.
///
/// A drop-in says what the file could have said: it adds services, and keys of `[global]` that nobody else sets. Nothing
/// overrides anything.
pub(crate) fn load(path: &Path) -> Result<Spec, Mistakes> {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    let drop_ins = drop_ins(path).unwrap_or_else(|error| {
        mistakes.push(unreadable(&path.with_file_name(DROP_INS), &error));
        Vec::new()
    });
    for file in [path.to_owned()].into_iter().chain(drop_ins) {
        match fs::read_to_string(&file) {
            Ok(text) => files.push((file, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file == path => {
                mistakes.push(
                    unreadable(&file, &error)
                        .help("`mmproxy config example` prints one, with every key and what it means"),
                );
            }
            Err(error) => mistakes.push(unreadable(&file, &error)),
        }
    }
    // An unreadable file is one mistake; that its services are missing is no second one.
    if !mistakes.is_empty() {
        return Err(Mistakes { mistakes, sources: Sources::default(), file: Some(path.to_owned()) });
    }
    understand(path, files, &|path| fs::read_to_string(path))
}

/// The same for texts that have been read; `lists` reads the files of networks that they name.
fn understand(path: &Path, files: Vec<(PathBuf, String)>, lists: &ReadList) -> Result<Spec, Mistakes> {
    let (mut typed, mut sources, mut mistakes) = (Typed::default(), Sources::default(), Vec::new());
    for (file, text) in files {
        let number = sources.add(&file, text);
        typed.read(number, &sources, &mut mistakes);
    }
    meaning::of(&typed, mistakes, sources, Some(path), lists)
}

/// Files of the directory beside `path`; none where there is no such directory.
fn drop_ins(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path.with_file_name(DROP_INS)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    // Editors leave hidden files behind.
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let wanted = |path: &PathBuf| path.extension() == Some(OsStr::new("toml")) && !hidden(path);
    let mut paths: Vec<PathBuf> = paths.into_iter().filter(wanted).collect();
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, error: &io::Error) -> Mistake {
    Mistake::new(format!("cannot read {}", path.display()), Spot::Nowhere, error.to_string())
}

/// How the text of a file of networks is had.
type ReadList = dyn Fn(&Path) -> io::Result<String>;

const DROP_INS: &str = "conf.d";

#[cfg(test)]
mod tests;
