//! The body of `differential`, which needs crates that the product does not: two other decoders as oracles.
//!
//! The bodies of all other targets are beside the code they are about.

mod disagreements;
mod oracles;

pub use disagreements::{DISAGREEMENTS, Disagreement};
pub use oracles::{Answer, Oracle, ours};

/// A stream of these bytes gets the same answer from each oracle, apart from the listed disagreements.
pub fn differential(data: &[u8]) {
    let ours = ours(data);
    for oracle in Oracle::ALL {
        let theirs = oracle.answer(data);
        if ours.agrees_with(&theirs) {
            continue;
        }
        let listed = DISAGREEMENTS.iter().any(|listed| listed.covers(oracle, data, &ours, &theirs));
        assert!(listed, "{oracle:?} says {theirs:?}, we say {ours:?}, and this is not listed");
    }
}
