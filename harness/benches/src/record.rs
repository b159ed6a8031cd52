//! A record: what was measured, on what, with what; written to a folder and read back.

use std::env::args;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::case::{CASES, Case, Protocol};
use crate::charts;
use crate::machine::Machine;
use crate::measure::Pace;
use crate::measured::Measured;
use crate::subject::{Missing, Subject};
use crate::summary;

/// Everything a run found out.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) about: About,
    pub(crate) lines: Vec<Measured>,
}

/// What the lines were measured with and on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) date: String,
    /// How the bench was called.
    pub(crate) command: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) measured_ms: u64,
    pub(crate) warm_up_ms: u64,
    pub(crate) took_s: u64,
    /// Names of the cases, in order.
    pub(crate) cases: Vec<String>,
    pub(crate) subjects: Vec<SubjectRecord>,
    pub(crate) missing: Vec<(String, String)>,
}

/// A subject as it was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SubjectRecord {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) must_be_right: bool,
    pub(crate) commands: Vec<String>,
    pub(crate) files: Vec<(String, String)>,
}

impl Record {
    pub(crate) fn new(
        lines: Vec<Measured>,
        cases: &[&Case],
        subjects: &[Subject],
        missing: Vec<Missing>,
        pace: &Pace,
        took: Duration,
        machine: Machine,
    ) -> Self {
        let about = About {
            date: crate::machine::now_utc(),
            command: args()
                .map(|word| word.rsplit_once('/').map_or_else(|| word.clone(), |(_, name)| name.to_owned()))
                .collect::<Vec<_>>()
                .join(" "),
            commit: crate::machine::commit(),
            machine,
            rounds: pace.rounds,
            measured_ms: millis(pace.measure),
            warm_up_ms: millis(pace.warm_up),
            took_s: took.as_secs(),
            cases: cases.iter().map(|case| case.name.to_owned()).collect(),
            subjects: subjects.iter().map(|subject| describe(subject, cases)).collect(),
            missing: missing.into_iter().map(|missing| (missing.name, missing.why)).collect(),
        };
        Self { about, lines }
    }

    /// # Errors
    ///
    /// When the folder has no record.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let named = |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let about = fs::read_to_string(folder.join(ABOUT)).map_err(|error| named(ABOUT, error))?;
        let raw = fs::File::open(folder.join(RAW)).map_err(|error| named(RAW, error))?;
        let lines = csv::Reader::from_reader(raw).into_deserialize().collect::<Result<_, _>>();
        Ok(Self { about: serde_json::from_str(&about)?, lines: lines.map_err(io::Error::other)? })
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(ABOUT), serde_json::to_string_pretty(&self.about)? + "\n")?;
        let mut raw = csv::Writer::from_path(folder.join(RAW)).map_err(io::Error::other)?;
        for line in &self.lines {
            raw.serialize(line).map_err(io::Error::other)?;
        }
        raw.flush()?;
        charts::draw_all(self, folder).map_err(io::Error::other)?;
        fs::write(folder.join("README.md"), summary::page(self))
    }

    /// The cases, in order.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(|case| self.about.cases.iter().any(|name| name == case.name))
    }

    /// Lines that say that something was wrong, of the subjects for which `wanted` holds.
    pub(crate) fn faults(&self, wanted: impl Fn(&SubjectRecord) -> bool) -> impl Iterator<Item = &Measured> {
        self.lines.iter().filter(move |line| {
            let of_wanted = |subject: &SubjectRecord| subject.name == line.subject && wanted(subject);
            !line.faults.is_empty() && self.about.subjects.iter().any(of_wanted)
        })
    }
}

/// `docs/benchmarks/DATE`, in the repository that this is run in.
pub(crate) fn default_folder() -> Result<PathBuf, String> {
    let documents = Path::new("docs");
    if !documents.is_dir() {
        return Err(
            "there is no folder docs here: run this in the repository, or give --record FOLDER".to_owned()
        );
    }
    let date = crate::machine::now_utc();
    Ok(documents.join("benchmarks").join(date.split('T').next().unwrap_or(&date)))
}

fn describe(subject: &Subject, cases: &[&Case]) -> SubjectRecord {
    let (mut commands, mut files) = (Vec::new(), Vec::new());
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let measured =
            cases.iter().any(|case| case.load.protocol() == protocol && subject.cannot(case).is_none());
        if let Some((command, of_command)) = subject.describe(protocol).filter(|_| measured) {
            commands.push(command);
            files = of_command;
        }
    }
    SubjectRecord {
        name: subject.name.clone(),
        version: subject.version.clone(),
        must_be_right: subject.must_be_right(),
        commands,
        files: files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const ABOUT: &str = "record.json";
const RAW: &str = "raw.csv";
