//! Where the log goes and in which form.

use std::io::{self, IsTerminal};

use nix::sys::stat::fstat;
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::LogFormat;

/// Starts logging. `asked` is what the operator asked for, if they did.
///
/// # Errors
///
/// Journald was asked for and is not there.
pub(super) fn start(level: LevelFilter, asked: Option<LogFormat>) -> io::Result<()> {
    let format = asked.unwrap_or_else(|| {
        if is_the_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
            LogFormat::Journald
        } else {
            LogFormat::Text
        }
    });
    // Only the demonstration and tests call this twice; the first subscriber stays.
    match format {
        LogFormat::Text => text(level, io::stderr().is_terminal(), io::stderr).try_init().ok(),
        LogFormat::Json => json(level, io::stderr).try_init().ok(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => {
                let journal = journal
                    .with_field_prefix(Some("MMPROXY".to_owned()))
                    .with_syslog_identifier("mmproxy".to_owned());
                tracing_subscriber::registry().with(journal).with(level).try_init().ok()
            }
            Err(error) if asked.is_some() => return Err(error),
            // What is written to standard error gets there, too, without fields.
            Err(_) => text(level, false, io::stderr).try_init().ok(),
        },
    };
    Ok(())
}

/// Lines for people.
pub(super) fn text<W>(level: LevelFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(colours)
        .with_writer(writer)
        .finish()
}

/// One object a line; the fields of an event are the object's.
pub(super) fn json<W>(level: LevelFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer::<Registry>()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(lines).with(level)
}

/// Whether systemd says that standard error is its journal (systemd.exec(5)).
fn is_the_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else { return false };
    let Ok(here) = fstat(io::stderr()) else { return false };
    device.parse() == Ok(here.st_dev) && inode.parse() == Ok(here.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_is_the_journal_only_where_the_numbers_are_its_own() {
        let here = fstat(io::stderr()).unwrap();
        let (device, inode) = (here.st_dev, here.st_ino);
        assert!(is_the_journal(Some(&format!("{device}:{inode}"))));
        assert!(!is_the_journal(Some(&format!("{device}:{}", inode + 1))));
        for wrong in [None, Some(""), Some("1"), Some("a:b")] {
            assert!(!is_the_journal(wrong));
        }
    }
}
