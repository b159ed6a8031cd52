//! The command lines that packages are made with.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// `mmproxy completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// `mmproxy man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Which page
    #[arg(value_name = "PAGE", default_value = "mmproxy")]
    pub(crate) page: ManualPage,
}

/// A manual page, by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ManualPage {
    /// mmproxy(8)
    Mmproxy,
    /// mmproxy.toml(5)
    #[value(name = "mmproxy.toml")]
    MmproxyToml,
}
