//! `mmproxy completions` and `mmproxy man`: what the program knows of itself, for shells and for man(1).

use std::io::{self, Write};

use clap::{Command, CommandFactory};

use crate::cli::{Cli, CompletionsArgs, ManArgs, ManualPage};
use crate::exit::Exit;
use crate::{config, man};

/// Prints what a shell completes command lines with.
pub(crate) fn completions(args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "mmproxy", &mut script);
    print(&script)
}

/// Prints a manual page.
pub(crate) fn page(args: &ManArgs) -> Exit {
    let page = match args.page {
        ManualPage::Mmproxy => man::program(),
        ManualPage::MmproxyToml => config::manual(),
    };
    print(page.as_bytes())
}

/// The command line without hidden commands, which generators would complete like others.
fn shown() -> Command {
    let all = Cli::command();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("mmproxy")
        .args(all.get_arguments().cloned())
        .subcommands(commands)
        .version(env!("CARGO_PKG_VERSION"))
}

fn print(text: &[u8]) -> Exit {
    // Whoever stops reading early, as `head` does, has seen what they wanted.
    io::stdout().lock().write_all(text).ok();
    Exit::Ok
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_completes_what_help_shows_and_nothing_that_is_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(), "mmproxy", &mut script);
            let script = String::from_utf8(script).unwrap();
            for wanted in ["teardown", "from-flags", "target-from-header", "hex"] {
                assert!(script.contains(wanted), "{shell}: {wanted}");
            }
            for hidden in ["jail-probe", "worker "] {
                assert!(
                    !script.contains(&format!("mmproxy {hidden}"))
                        && !script.contains(&format!("'{hidden}'")),
                    "{shell}: {hidden}"
                );
            }
        }
    }
}
