//! What is wrong with a configuration, and where: told in the style of rustc.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{Annotation, AnnotationKind, Element, Group, Level, Renderer, Snippet};

use crate::exit::{Exit, Failure};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In a file: which one of the [`Sources`], and its bytes.
    File { file: usize, span: Range<usize> },
    /// On the command line.
    Flag(&'static str),
    /// Nowhere: what is wrong is that something is missing, or that a whole file cannot be read.
    Nowhere,
}

/// One mistake: what, where, and what to do about it.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    title: String,
    spot: Spot,
    /// What stands beside the marks under the text.
    label: String,
    /// Other places that have to do with it.
    others: Vec<(Spot, String)>,
    helps: Vec<String>,
    /// Whether a file is to be corrected, although a flag names it.
    in_file: bool,
}

impl Mistake {
    /// A mistake at `spot`; `label` says what is wrong there.
    pub(crate) fn new(title: impl Into<String>, spot: Spot, label: impl Into<String>) -> Self {
        let in_file = matches!(spot, Spot::File { .. });
        Self {
            title: title.into(),
            spot,
            label: label.into(),
            others: Vec::new(),
            helps: Vec::new(),
            in_file,
        }
    }

    /// Points to another place.
    pub(crate) fn beside(mut self, spot: Spot, label: impl Into<String>) -> Self {
        self.others.push((spot, label.into()));
        self
    }

    /// Adds what would cure it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }

    /// Says that not what names a file is wrong, but the file.
    pub(crate) const fn in_file(mut self) -> Self {
        self.in_file = true;
        self
    }

    /// As files are read: what is nowhere comes first.
    pub(crate) const fn place(&self) -> (usize, usize) {
        match &self.spot {
            Spot::File { file, span } => (*file + 1, span.start),
            Spot::Flag(_) | Spot::Nowhere => (0, 0),
        }
    }

    /// Where it is.
    pub(crate) const fn spot(&self) -> &Spot {
        &self.spot
    }

    /// In one line, where there is nothing to point at.
    fn line(&self) -> String {
        match &self.spot {
            Spot::Flag(_) => self.title.clone(),
            Spot::File { .. } | Spot::Nowhere if self.label.is_empty() => self.title.clone(),
            Spot::File { .. } | Spot::Nowhere => format!("{}: {}", self.title, self.label),
        }
    }
}

/// The files that were read, to be shown where a mistake is in one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Vec<(PathBuf, String)>);

impl Sources {
    /// Keeps a file and gives it a number.
    pub(crate) fn add(&mut self, path: &Path, text: String) -> usize {
        self.0.push((path.to_owned(), text));
        self.0.len() - 1
    }

    /// The text of a file.
    pub(crate) fn text(&self, file: usize) -> &str {
        self.0.get(file).map_or("", |(_, text)| text)
    }

    /// The directory that relative paths in a file are meant from; the working directory for flags.
    pub(crate) fn directory(&self, spot: &Spot) -> PathBuf {
        match spot {
            Spot::File { file, .. } => {
                self.0.get(*file).and_then(|(path, _)| path.parent()).map(Path::to_owned).unwrap_or_default()
            }
            Spot::Flag(_) | Spot::Nowhere => PathBuf::new(),
        }
    }

    fn path(&self, file: usize) -> String {
        self.0.get(file).map(|(path, _)| path.display().to_string()).unwrap_or_default()
    }
}

/// Everything that is wrong, never nothing, with the files it is about.
#[derive(Debug)]
pub(crate) struct Mistakes {
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) sources: Sources,
    /// The file that was to be loaded; `None` for a command line.
    pub(crate) file: Option<PathBuf>,
}

impl Mistakes {
    /// Writes all of them to standard error, coloured on a terminal, and makes a failure that counts them.
    pub(crate) fn report(self) -> Failure {
        let Some(file) = &self.file else { return self.of_flags() };
        let mut err = io::stderr().lock();
        let text = self.text(if err.is_terminal() { Renderer::styled() } else { Renderer::plain() });
        // Where nobody reads standard error the status says it.
        err.write_all(text.as_bytes()).ok();
        let (count, plural) = (self.mistakes.len(), if self.mistakes.len() == 1 { "" } else { "s" });
        Failure::new(Exit::Config, format!("{count} mistake{plural} in {}", file.display()))
    }

    /// All of them, in the style of rustc.
    pub(crate) fn text(&self, renderer: Renderer) -> String {
        let mut text = String::new();
        for mistake in &self.mistakes {
            let report = [self.group(mistake)];
            // Writing to a string cannot fail.
            writeln!(text, "{}\n", renderer.render(&report)).ok();
        }
        text
    }

    fn group<'a>(&'a self, mistake: &'a Mistake) -> Group<'a> {
        let title = Level::ERROR.primary_title(if matches!(mistake.spot, Spot::File { .. }) {
            mistake.title.clone()
        } else {
            mistake.line()
        });
        let mut elements: Vec<Element<'a>> = Vec::new();
        let mut left: Vec<&(Spot, String)> = mistake.others.iter().collect();
        if let Spot::File { file, span } = &mistake.spot {
            // What is in the same file is shown in one piece of it.
            let (here, elsewhere) = left.iter().partition::<Vec<_>, _>(
                |(spot, _)| matches!(spot, Spot::File { file: other, .. } if other == file),
            );
            left = elsewhere;
            let marks = here.into_iter().filter_map(|(spot, label)| match spot {
                Spot::File { span, .. } => Some(self.mark(AnnotationKind::Context, *file, span, label)),
                Spot::Flag(_) | Spot::Nowhere => None,
            });
            let primary = self.mark(AnnotationKind::Primary, *file, span, &mistake.label);
            elements.push(self.snippet(*file).annotations([primary].into_iter().chain(marks)).into());
        }
        for (spot, label) in left {
            if let Spot::File { file, span } = spot {
                let mark = self.mark(AnnotationKind::Context, *file, span, label);
                elements.push(self.snippet(*file).annotation(mark).into());
            }
        }
        elements.extend(mistake.helps.iter().map(|help| Level::HELP.message(help.as_str()).into()));
        title.elements(elements)
    }

    fn snippet(&self, file: usize) -> Snippet<'_, Annotation<'_>> {
        Snippet::source(self.sources.text(file)).path(self.sources.path(file))
    }

    fn mark<'a>(
        &'a self,
        kind: AnnotationKind,
        file: usize,
        span: &Range<usize>,
        label: &'a str,
    ) -> Annotation<'a> {
        // The renderer wants spans inside of the text.
        let end = self.sources.text(file).len();
        let span = span.start.min(end)..span.end.min(end);
        kind.span(span).label((!label.is_empty()).then_some(label))
    }

    /// The same for a command line, which has neither lines nor columns.
    fn of_flags(&self) -> Failure {
        let line = |mistake: &Mistake| match &mistake.spot {
            Spot::File { file, span } => {
                let text = self.sources.text(*file);
                let line = 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count();
                format!("{}:{line}: {}", self.sources.path(*file), mistake.line())
            }
            Spot::Flag(_) | Spot::Nowhere => mistake.line(),
        };
        let lines: Vec<String> = self.mistakes.iter().map(line).collect();
        let in_file = self.mistakes.iter().any(|mistake| mistake.in_file);
        let exit = if in_file { Exit::Config } else { Exit::Usage };
        let mut helps: Vec<&String> = self.mistakes.iter().flat_map(|mistake| &mistake.helps).collect();
        helps.dedup();
        helps.into_iter().fold(Failure::new(exit, lines.join("\n")), Failure::hint)
    }
}

/// The word of `all` that is most like `typed`, if any is like it.
pub(crate) fn closest<'a>(typed: &str, all: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = all.into_iter().map(|word| (strsim::damerau_levenshtein(typed, word), word));
    // A third of the letters may be wrong.
    alike.filter(|(distance, word)| distance * 3 <= word.len().max(3)).min().map(|(_, word)| word)
}
