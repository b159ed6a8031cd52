//! Manual pages, made of what the program knows of itself: mmproxy(8) of the command line's definition; the table of keys
//! makes mmproxy.toml(5) with the same [`Page`].

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use roff::{Inline, Roff, bold, roman};

use crate::cli::Cli;
use crate::config;

/// mmproxy(8): every flag, and a subsection for each command.
pub(crate) fn program() -> String {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut page = Page::new(NAME, "8");
    page.name(NAME, &root.get_about().map(ToString::to_string).unwrap_or_default());
    page.heading("SYNOPSIS");
    page.lines(
        [" [OPTIONS]", " run [--config FILE]", " COMMAND [OPTIONS]"]
            .map(|form| vec![bold(NAME), roman(form)]),
    );
    page.heading("DESCRIPTION");
    page.generated(&root, Man::render_description_section);
    page.heading("OPTIONS");
    page.generated(&root, Man::render_options_section);
    page.heading("COMMANDS");
    page.commands(&root);
    for (title, text) in sections(&root.get_after_long_help().map(ToString::to_string).unwrap_or_default()) {
        page.heading(&title.to_uppercase());
        page.verbatim(&text);
    }
    page.heading("FILES");
    page.item([bold(config::PATH)], "The configuration file of `mmproxy run`.");
    page.heading("SEE ALSO");
    page.paragraph("`mmproxy.toml`(5), `ip-rule`(8), `haproxy`(1)");
    page.finish()
}

/// A manual page as it grows.
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// A page with a title and nothing else. It has no date, so that it is the same whenever it is made.
    pub(crate) fn new(title: &str, section: &str) -> Self {
        let version = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
        // By hand: roff leaves the empty date out, and what follows would be taken for it.
        let head = format!(".TH \"{title}\" {section} \"\" \"{version}\" \"System Administration\"\n");
        Self { text: format!("{QUOTES}{head}") }
    }

    /// What whatis(1) and apropos(1) know of the page.
    pub(crate) fn name(&mut self, name: &str, about: &str) {
        self.heading("NAME");
        self.append(Roff::new().text([roman(format!("{name} - {about}"))]));
    }

    pub(crate) fn heading(&mut self, title: &str) {
        self.append(Roff::new().control("SH", [title]));
    }

    pub(crate) fn subheading(&mut self, title: &str) {
        self.append(Roff::new().control("SS", [title]));
    }

    /// Text in which what stands between back-quotes is bold.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.gap();
        self.append(Roff::new().text(prose(text)));
    }

    /// A term, and what it means.
    pub(crate) fn item<const N: usize>(&mut self, term: [Inline; N], text: &str) {
        self.append(Roff::new().control("TP", []).text(term).text(prose(text)));
    }

    /// One more paragraph of the item before.
    pub(crate) fn item_goes_on(&mut self, text: &str) {
        self.append(Roff::new().control("br", []).text(prose(text)));
    }

    /// Lines that stay as they are.
    pub(crate) fn verbatim(&mut self, text: &str) {
        self.gap();
        self.lines(text.lines().map(|line| vec![roman(line)]));
    }

    /// The page, as roff.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = Vec<Inline>>) {
        let mut roff = Roff::new();
        roff.control("nf", []);
        for line in lines {
            roff.text(line);
        }
        roff.control("fi", []);
        self.append(&roff);
    }

    /// A subsection for each command that help shows, and for theirs.
    fn commands(&mut self, parent: &Command) {
        for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
            self.subheading(command.get_bin_name().unwrap_or_else(|| command.get_name()));
            self.generated(command, Man::render_description_section);
            self.gap();
            self.generated(command, Man::render_synopsis_section);
            self.generated(command, Man::render_options_section);
            self.commands(command);
        }
    }

    /// What clap_mangen writes of a command, without the headings that it puts above.
    fn generated(&mut self, command: &Command, render: Render) {
        let mut rendered = Vec::new();
        // Writing to a vector cannot fail.
        render(&Man::new(command.clone()), &mut rendered).ok();
        let text = String::from_utf8_lossy(&rendered);
        self.body(text.lines().filter(|line| !line.starts_with(".SH ")));
    }

    /// A new paragraph; below a heading there is one anyway.
    fn gap(&mut self) {
        let last = self.text.lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.append(Roff::new().control("PP", []));
        }
    }

    fn append(&mut self, roff: &Roff) {
        self.body(roff.render().lines());
    }

    /// Without the definitions that begin a page: this one has them.
    fn body<'a>(&mut self, lines: impl Iterator<Item = &'a str>) {
        for line in lines.filter(|line| !line.starts_with(".ie ") && !line.starts_with(".el ")) {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }
}

/// One of clap_mangen's parts of a page.
type Render = fn(&Man, &mut dyn std::io::Write) -> std::io::Result<()>;

/// Text as it stands in doc comments: what is between back-quotes is bold.
fn prose(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

/// The sections of help's last part, each a title with a colon and indented lines.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (line.strip_suffix(':'), sections.last_mut()) {
            (Some(title), _) if !line.starts_with(' ') => sections.push((title.to_owned(), String::new())),
            (_, Some((_, body))) => {
                body.push_str(line);
                body.push('\n');
            }
            (_, None) => {}
        }
    }
    sections
}

const NAME: &str = "mmproxy";

/// What roff begins all that it writes with: apostrophes stay what they are, so that examples can be copied.
const QUOTES: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// As the page spells it.
    fn escaped(flag: &str) -> String {
        flag.replace('-', "\\-")
    }

    fn names_all(page: &str, command: &Command) {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                assert!(page.contains(&escaped(&format!("--{long}"))), "{}: --{long}", command.get_name());
            }
        }
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let heading = format!(".SS \"{}\"", command.get_bin_name().unwrap());
            assert!(page.contains(&heading), "{heading}");
            names_all(page, command);
        }
    }

    #[test]
    fn the_programs_page_names_every_flag_and_command_that_help_shows() {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let page = program();
        names_all(&page, &root);
        assert!(!page.contains("jail"), "a hidden command");
    }

    #[test]
    fn what_help_ends_with_becomes_sections_of_the_page() {
        let titles: Vec<String> = sections(&Cli::command().get_after_long_help().unwrap().to_string())
            .into_iter()
            .map(|(title, _)| title)
            .collect();
        assert_eq!(titles, ["Examples", "Exit status"]);
    }

    #[test]
    fn back_quotes_make_bold() {
        assert_eq!(prose("`auto` is one"), [bold("auto"), roman(" is one")]);
    }
}
