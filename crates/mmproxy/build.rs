//! Tells the program which commit it is built from, where that is known.
//!
//! `MMPROXY_COMMIT` says it for builds from an archive; else git is asked, if this is its working tree. Without either the
//! program is built all the same, and says so.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MMPROXY_COMMIT");
    let given = env::var("MMPROXY_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(of_git).unwrap_or_else(|| "unknown: not built from git".to_owned());
    println!("cargo::rustc-env=MMPROXY_COMMIT={commit}");
    let features =
        env::vars().filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase));
    let mut features: Vec<String> = features.collect();
    features.sort_unstable();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    println!("cargo::rustc-env=MMPROXY_FEATURES={features}");
    // Cargo sets both for build scripts.
    for name in ["TARGET", "PROFILE"] {
        println!("cargo::rustc-env=MMPROXY_{name}={}", env::var(name).unwrap_or_default());
    }
}

fn of_git() -> Option<String> {
    let workspace = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?).join("../..").canonicalize().ok()?;
    // Below another project's working tree its commit is not ours.
    if Path::new(&git(&workspace, &["rev-parse", "--show-toplevel"])?) != workspace {
        return None;
    }
    // Each commit and each checkout adds a line to this.
    let log = workspace.join(git(&workspace, &["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&workspace, &["rev-parse", "--short=12", "HEAD"])
}

fn git(workspace: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(workspace).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
