//! One rule, as iptables-save(8) prints it.

/// A rule of a mangle table: its chain, what it asks of a packet, and what it does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The whole line.
    pub(super) text: String,
    pub(super) chain: String,
    pub(super) conditions: Vec<Condition>,
    pub(super) target: Target,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// As it is written.
    pub(super) text: String,
    /// Whether it has to be false.
    pub(super) not: bool,
    pub(super) asks: Asks,
}

/// The conditions that are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// `-m mark`
    Mark(Masked),
    /// `-m connmark`
    ConnectionMark(Masked),
    /// `-i`
    Input(String),
    /// `-p`
    Protocol(String),
    /// `--ctstate`, `--state`
    State(Vec<String>),
    /// `-m socket`, which is about sockets like ours with every option but those that are somebody else's business.
    Socket,
    /// Anything else.
    Other,
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `CONNMARK --save-mark`: to the connection, of the packet.
    SaveMark { packet: u32, connection: u32 },
    /// `CONNMARK --restore-mark`: to the packet, of the connection.
    RestoreMark { packet: u32, connection: u32 },
    /// `CONNMARK --set-xmark`
    SetConnectionMark(Masked),
    /// `MARK --set-xmark`
    SetMark(Masked),
    /// Another chain, which comes back.
    Chain(String),
    /// `RETURN`
    Return,
    /// The way through this table ends here.
    End,
    /// The packet goes on as it is.
    Nothing,
}

/// A number, and which of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) value: u32,
    pub(super) mask: u32,
}

impl Masked {
    /// What setting it (`--set-xmark`) makes of a mark.
    pub(super) const fn set(self, mark: u32) -> u32 {
        (mark & !self.mask) ^ self.value
    }

    fn read(text: &str) -> Option<Self> {
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        Some(Self { value: number(value)?, mask: number(mask)? })
    }
}

impl Line {
    /// The rules in the output of iptables-save(8), in order.
    pub(super) fn read_all(saved: &str) -> Vec<Self> {
        saved.lines().filter_map(Self::read).collect()
    }

    fn read(text: &str) -> Option<Self> {
        let words = words(text);
        let mut words = words.iter().map(String::as_str).peekable();
        if words.next() != Some("-A") {
            return None;
        }
        let chain = words.next()?.to_owned();
        let mut conditions: Vec<Condition> = Vec::new();
        let mut target = Target::Nothing;
        let mut module = "";
        let mut not = false;
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            let (written, asks) = match word {
                "!" => {
                    not = true;
                    continue;
                }
                "-j" | "-g" => {
                    let name = value().to_owned();
                    let options: Vec<&str> = words.by_ref().collect();
                    target = Target::read(&name, &options);
                    continue;
                }
                "-m" => {
                    module = value();
                    match module {
                        "socket" => ("-m socket".to_owned(), Asks::Socket),
                        "mark" | "connmark" | "comment" | "conntrack" | "state" | "tcp" | "udp" => continue,
                        other => (format!("-m {other}"), Asks::Other),
                    }
                }
                "--comment" => {
                    value();
                    continue;
                }
                "--transparent" | "--nowildcard" if module == "socket" => continue,
                "--mark" => {
                    let text = value();
                    let asks = match (module, Masked::read(text)) {
                        ("mark", Some(mark)) => Asks::Mark(mark),
                        ("connmark", Some(mark)) => Asks::ConnectionMark(mark),
                        _ => Asks::Other,
                    };
                    (format!("-m {module} --mark {text}"), asks)
                }
                "-i" => {
                    let name = value();
                    (format!("-i {name}"), Asks::Input(name.to_owned()))
                }
                "-p" => {
                    let name = value();
                    (format!("-p {name}"), Asks::Protocol(name.to_owned()))
                }
                "--ctstate" | "--state" => {
                    let states = value();
                    (format!("{word} {states}"), Asks::State(states.split(',').map(str::to_owned).collect()))
                }
                other => (other.to_owned(), Asks::Other),
            };
            let mut condition = Condition { text: written, not, asks };
            not = false;
            if condition.asks == Asks::Other {
                while let Some(more) = words.next_if(|word| !word.starts_with('-') && *word != "!") {
                    condition.text.push(' ');
                    condition.text.push_str(more);
                }
            }
            if condition.not {
                condition.text.insert_str(0, "! ");
            }
            conditions.push(condition);
        }
        Some(Self { text: text.to_owned(), chain, conditions, target })
    }
}

impl Target {
    fn read(name: &str, options: &[&str]) -> Self {
        let value = |option: &str| {
            let at = options.iter().position(|found| *found == option)?;
            options.get(at + 1).copied()
        };
        let mask = |option: &str| value(option).and_then(number).unwrap_or(u32::MAX);
        let set = || value("--set-xmark").and_then(Masked::read);
        match name {
            "CONNMARK" if options.contains(&"--save-mark") => {
                Self::SaveMark { packet: mask("--nfmask"), connection: mask("--ctmask") }
            }
            "CONNMARK" if options.contains(&"--restore-mark") => {
                Self::RestoreMark { packet: mask("--nfmask"), connection: mask("--ctmask") }
            }
            "CONNMARK" => set().map_or(Self::Nothing, Self::SetConnectionMark),
            "MARK" => set().map_or(Self::Nothing, Self::SetMark),
            "RETURN" => Self::Return,
            "ACCEPT" | "DROP" | "QUEUE" | "NFQUEUE" | "TPROXY" => Self::End,
            // The targets that let a packet go on are written in capitals; what is left is a chain.
            _ if is_extension(name) => Self::Nothing,
            _ => Self::Chain(name.to_owned()),
        }
    }
}

/// Targets of the mangle table that change neither a mark nor the way.
fn is_extension(name: &str) -> bool {
    [
        "AUDIT",
        "CHECKSUM",
        "CLASSIFY",
        "CONNSECMARK",
        "CT",
        "DSCP",
        "ECN",
        "HL",
        "HMARK",
        "IDLETIMER",
        "LED",
        "LOG",
        "NFLOG",
        "RATEEST",
        "SECMARK",
        "SET",
        "TCPMSS",
        "TCPOPTSTRIP",
        "TEE",
        "TOS",
        "TRACE",
        "TTL",
        "ULOG",
    ]
    .contains(&name)
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The words of a line; one in quotes may hold blanks, and a backslash takes the next character as it is.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut started = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            '\\' => word.extend(characters.next()),
            blank if blank.is_whitespace() && !quoted => {
                if started || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            other => word.push(other),
        }
    }
    if started || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_quotes_are_one() {
        assert_eq!(
            words(r#"-A X --comment "two \"words\"" -j Y "" "#),
            ["-A", "X", "--comment", "two \"words\"", "-j", "Y", ""]
        );
    }

    #[test]
    fn a_rule_is_read_as_it_is_saved() {
        let saved = "*mangle\n:OUTPUT ACCEPT [0:0]\n\
             -A OUTPUT ! -s 10.0.0.0/8 -p tcp -m tcp --dport 80 -m connmark ! --mark 0x7b/0xff -m comment \
             --comment \"-j DROP\" -j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff\nCOMMIT\n";
        let lines = Line::read_all(saved);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(line.chain, "OUTPUT");
        assert_eq!(line.target, Target::RestoreMark { packet: 0xf, connection: 0xff });
        let conditions: Vec<&str> = line.conditions.iter().map(|condition| condition.text.as_str()).collect();
        assert_eq!(conditions, ["! -s 10.0.0.0/8", "-p tcp", "--dport 80", "! -m connmark --mark 0x7b/0xff"]);
        assert_eq!(line.conditions[3].asks, Asks::ConnectionMark(Masked { value: 0x7b, mask: 0xff }));
    }

    #[test]
    fn targets_are_told_from_chains() {
        for (name, options, target) in [
            ("ACCEPT", &[][..], Target::End),
            ("RETURN", &[], Target::Return),
            ("LOG", &["--log-prefix", "x"], Target::Nothing),
            ("cali-PREROUTING", &[], Target::Chain("cali-PREROUTING".to_owned())),
            (
                "MARK",
                &["--set-xmark", "0x7b/0xffffffff"],
                Target::SetMark(Masked { value: 123, mask: u32::MAX }),
            ),
            ("CONNMARK", &["--save-mark"], Target::SaveMark { packet: u32::MAX, connection: u32::MAX }),
        ] {
            assert_eq!(Target::read(name, options), target, "{name}");
        }
    }
}
