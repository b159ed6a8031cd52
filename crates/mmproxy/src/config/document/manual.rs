//! The manual page of configuration files.

use roff::{bold, roman};

use super::{GLOBAL, SERVICE, default, prose};
use crate::config::PATH;
use crate::config::keys::{Absent, GlobalKeys, Key, Keys, ServiceKeys};
use crate::man::Page;

/// mmproxy.toml(5), as roff.
pub(crate) fn manual() -> String {
    let mut page = Page::new("mmproxy.toml", "5");
    page.name("mmproxy.toml", "configuration of mmproxy");
    page.heading("DESCRIPTION");
    for paragraph in DESCRIPTION {
        page.paragraph(paragraph);
    }
    page.heading(GLOBAL);
    for key in GlobalKeys::KEYS {
        item(&mut page, key);
    }
    page.heading(SERVICE);
    let mut subject = "";
    for key in ServiceKeys::KEYS {
        if key.subject != subject {
            subject = key.subject;
            page.subheading(subject);
        }
        item(&mut page, key);
    }
    page.heading("EXAMPLE");
    page.verbatim(EXAMPLE);
    page.heading("FILES");
    page.item([bold(PATH)], "Where `mmproxy run` looks for it.");
    page.item([bold("/etc/mmproxy/conf.d/*.toml")], "What belongs to it too.");
    page.heading("SEE ALSO");
    page.paragraph("`mmproxy`(8)");
    page.finish()
}

fn item(page: &mut Page, key: &Key) {
    page.item([bold(key.name), roman(" = "), roman((key.expected)())], &prose(key));
    let absent = match key.absent {
        Absent::Default(_) => format!("Left out: `{}`.", default(key).unwrap_or_default()),
        Absent::Required { .. } => "It has to be there.".to_owned(),
        Absent::Means { meaning, .. } => format!("Left out: {meaning}."),
    };
    page.item_goes_on(&absent);
}

const DESCRIPTION: [&str; 3] = [
    "A TOML file with one table `[global]` and a table `[[service]]` for each kind of connection or datagram. `mmproxy run` \
     reads it, and reads it again on SIGHUP; `mmproxy config check` tells every mistake in it.",
    "`conf.d/*.toml` in its directory belong to it, in the order of their names: they may add services, and set keys of \
     `[global]` that nobody else sets. Relative paths are meant from the directory of the file.",
    "Times are \"5s\", \"500ms\", \"1m 30s\"; a bare number is seconds. Where a list may stand, one value needs no brackets. \
     Keys of datagrams are a mistake where connections are served, and the other way round.",
];

const EXAMPLE: &str = r#"[[service]]
name = "ssh"
listen = "[::]:2222"
allow = ["10.0.0.2", "2001:db8::/64"]
target-v4 = "127.0.0.1:22"
target-v6 = "[::1]:22""#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{example, understand};

    #[test]
    fn the_page_names_every_key_of_the_table() {
        let page = manual();
        let tags: Vec<&str> = page
            .lines()
            .zip(page.lines().skip(1))
            .filter(|(tag, _)| *tag == ".TP")
            .map(|(_, term)| term)
            .collect();
        for key in GlobalKeys::KEYS.iter().chain(ServiceKeys::KEYS) {
            let name = format!("\\fB{}\\fR", key.name.replace('-', "\\-"));
            assert!(tags.iter().any(|term| term.starts_with(&name)), "{}", key.name);
        }
    }

    #[test]
    fn the_pages_example_is_a_file_that_is_understood() {
        let files = |text: String| vec![(PATH.into(), text)];
        let no_list = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        assert!(understand(PATH.as_ref(), files(EXAMPLE.to_owned()), &no_list).is_ok());
        assert!(understand(PATH.as_ref(), files(example()), &no_list).is_ok());
    }
}
