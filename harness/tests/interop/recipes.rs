//! The files of deploy/recipes: each is right, and each is run as it stands in the tree.
//!
//! Where a Debian package has the server or the balancer, it is the real one; elsewhere the test sends what the vendor's
//! document says. docs/recipes.md tells which.

mod clouds;
mod dns;
mod game;
mod mail;
mod proxies;

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Program, Topology, isolated, mmproxy, run, scratch};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy/recipes")
}

fn page() -> String {
    text(&folder().join("../../docs/recipes.md"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs the gateway of a recipe, as it is in the tree, until it listens on all of `listening`.
///
/// `changes` are what of it cannot be had here, addresses of a cloud for one, and what stands for it. Each must be there.
#[track_caller]
pub(crate) fn serve(net: &Topology, recipe: &str, changes: &[(&str, &str)], listening: &[&str]) -> Program {
    let mut path = folder().join(recipe);
    if !changes.is_empty() {
        let mut file = text(&path);
        for (theirs, ours) in changes {
            assert!(file.contains(theirs), "{recipe} has no {theirs} any more");
            file = file.replace(theirs, ours);
        }
        path = scratch().join(recipe);
        fs::write(&path, file).expect("the test's own directory");
    }
    start(net, &path, listening)
}

/// Runs the gateway of a configuration file until it listens on all of `listening`.
#[track_caller]
fn start(net: &Topology, config: &Path, listening: &[&str]) -> Program {
    let mut command = mmproxy(["run", "--config", config.to_str().expect("ASCII")]);
    let program = Program::start(&net.gateway, &mut command);
    for address in listening {
        program.expect_line(&[&format!("Listening on {address}")]);
    }
    program
}

/// The first block of code below `heading` in docs/recipes.md, with `changes` as for [`serve`].
#[track_caller]
fn documented(heading: &str, changes: &[(&str, &str)]) -> String {
    let page = page();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the heading is there");
    let (_, block) = section.split_once("\n```\n").expect("a block of code is below it");
    let (block, _) = block.split_once("```\n").expect("it ends");
    changes.iter().fold(block.to_owned(), |block, (theirs, ours)| {
        assert!(block.contains(theirs), "{heading}: there is no {theirs} any more");
        block.replace(theirs, ours)
    })
}

#[test]
fn every_recipe_is_a_right_configuration_and_is_described() {
    isolated(|| {
        let net = Topology::new();
        let page = page();
        let mut names = Vec::new();
        for entry in fs::read_dir(folder()).expect("deploy/recipes is there") {
            let path = entry.expect("an entry").path();
            let shown = path.to_str().expect("ASCII");
            run(&net.gateway, &mut mmproxy(["config", "check", "--config", shown]), b"").expect_code(0);
            let name = path.file_name().expect("a file").to_str().expect("ASCII").to_owned();
            assert!(page.contains(&format!("(../deploy/recipes/{name})")), "docs/recipes.md: {name}");
            names.push(name);
        }
        assert!(names.len() >= 12, "{names:?}");
    });
}
