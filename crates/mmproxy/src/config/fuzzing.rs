//! What holds for every text: the body of the fuzz target `config`.

use std::io;
use std::path::Path;

use annotate_snippets::Renderer;

use super::mistake::Mistakes;
use super::{show, understand};
use crate::spec::Spec;

/// The same for bytes, which may be no text.
pub(crate) fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        text_holds(text);
    }
}

/// It is understood, and what is shown of it means the same; or it is refused, with mistakes that can be shown.
pub(crate) fn text_holds(text: &str) {
    match parse(text) {
        Ok(spec) => {
            let shown = show(&spec);
            match parse(&shown) {
                Ok(again) => assert_eq!(again, spec, "{shown}"),
                Err(mistakes) => panic!("{}\n{shown}", mistakes.text(Renderer::plain())),
            }
        }
        Err(mistakes) => {
            let told = mistakes.text(Renderer::plain());
            assert!(told.contains("error: "), "{told}");
        }
    }
}

/// Files that a text names are not read.
fn parse(text: &str) -> Result<Spec, Mistakes> {
    let path = Path::new("mmproxy.toml");
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    understand(path, vec![(path.to_owned(), text.to_owned())], &nothing)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the fuzzer has found worth keeping is run by everybody.
    #[test]
    fn every_kept_input_of_the_fuzzer_passes() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let mut inputs = 0;
        for folder in ["corpus/config", "regressions/config"] {
            let Ok(entries) = fs::read_dir(fuzz.join(folder)) else { continue };
            for entry in entries {
                let path = entry.expect("the corpus is readable").path();
                println!("{}", path.display());
                config(&fs::read(&path).expect("an input is readable"));
                inputs += 1;
            }
        }
        assert!(inputs > 0, "there is no corpus");
    }
}
