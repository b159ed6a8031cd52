//! Moving over from go-mmproxy: its command line as a file of ours.
//!
//! What the two do differently is said in comments, in the places of the keys that are about it. The flags are those of
//! path-network/go-mmproxy at 006247c and of kzemek/go-mmproxy 2.3.1.

use super::document::{Note, annotated};
use super::keys::{List, ServiceKeys};
use super::mistake::Spot;
use super::read::{Typed, TypedService};
use super::scalar::{Endpoint, Name, Scalar, Target, Time};
use super::slot::{Setting, Slot};
use crate::cli::ProtocolArg;
use crate::exit::{Exit, Failure};
use crate::resolve::DEFAULT;

/// The file for these arguments of go-mmproxy.
pub(crate) fn text(args: &[String]) -> Result<String, Failure> {
    let flags = Flags::parse(args)?;
    let mut file = File::default();
    let protocol: ProtocolArg = file.parsed("-p", flags.protocol.as_deref().unwrap_or("tcp"))?;
    file.keys.name.set(Name(DEFAULT.to_owned()), Spot::Nowhere);
    file.keys.protocol.set(protocol, Spot::Nowhere);
    file.listen(&flags);
    file.targets(&flags)?;
    file.allowed(&flags)?;
    file.return_path(&flags)?;
    file.ports(&flags);
    file.datagrams(&flags, protocol)?;
    let verbosity = flags.verbosity.as_deref().unwrap_or("0");
    let mut head = vec![HEAD.to_owned()];
    if verbosity != "0" {
        head.push(format!("# -v {verbosity}: errors are always logged, and sessions when they end; --verbose logs their steps."));
    }
    let typed =
        Typed { services: vec![TypedService { keys: file.keys, spot: Spot::Nowhere }], ..Typed::default() };
    Ok(format!("{}\n\n{}", head.join("\n"), annotated(&typed, &file.notes)))
}

/// What was written behind each flag.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    listen: Option<String>,
    target_v4: Option<String>,
    target_v6: Option<String>,
    protocol: Option<String>,
    mark: Option<String>,
    verbosity: Option<String>,
    allowed_subnets: Option<String>,
    listeners: Option<String>,
    close_after: Option<String>,
    dynamic_destination: bool,
    listen_transparent: bool,
}

impl Flags {
    /// As Go's `flag` package does it: one dash or two, the value behind a `=` or in the next argument; switches take a
    /// value behind `=` only.
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut flags = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
                return Err(wrong(format!("`{arg}` is no flag of go-mmproxy")));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if let Some(switch) = flags.switch(name) {
                *switch = match value.as_deref() {
                    None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
                    Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
                    Some(other) => {
                        return Err(wrong(format!("-{name}: `{other}` is neither true nor false")));
                    }
                };
                continue;
            }
            let Some(slot) = flags.slot(name) else {
                return Err(wrong(format!("`{arg}` is no flag of go-mmproxy")));
            };
            let value = value.or_else(|| args.next().cloned());
            *slot = Some(value.ok_or_else(|| wrong(format!("-{name} needs a value")))?);
        }
        Ok(flags)
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "l" => &mut self.listen,
            "4" => &mut self.target_v4,
            "6" => &mut self.target_v6,
            "p" => &mut self.protocol,
            "mark" => &mut self.mark,
            "v" => &mut self.verbosity,
            "allowed-subnets" => &mut self.allowed_subnets,
            "listeners" => &mut self.listeners,
            "close-after" => &mut self.close_after,
            _ => return None,
        })
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "dynamic-destination" => Some(&mut self.dynamic_destination),
            "listen-transparent" => Some(&mut self.listen_transparent),
            _ => None,
        }
    }
}

/// The file while it is made.
#[derive(Default)]
struct File {
    keys: ServiceKeys,
    notes: Vec<Note>,
}

impl File {
    fn listen(&mut self, flags: &Flags) {
        let listen = flags.listen.as_deref().unwrap_or("0.0.0.0:8443");
        match Endpoint::parse(listen) {
            Ok(at) => set_list(&mut self.keys.listen, [at]),
            Err(_) => self.note(
                "listen",
                &[
                    format!("# -l {listen}: names are not looked up; write the address."),
                    "#listen = [\"0.0.0.0:8443\"]".to_owned(),
                ],
            ),
        }
        if let Some(listeners) = &flags.listeners {
            self.note("backlog", &[
                format!("# -listeners {listeners}: each worker has a listener of its own, and there is a worker for each processor;"),
                "# `workers` in [global] sets another number.".to_owned(),
            ]);
        }
    }

    fn targets(&mut self, flags: &Flags) -> Result<(), Failure> {
        let given = |flag: &Option<String>, default: &str| match flag {
            Some(target) => Some(target.clone()),
            // With a target from the header they are for headers that name none, and go-mmproxy's defaults are hardly meant.
            None => (!flags.dynamic_destination).then(|| default.to_owned()),
        };
        if let Some(target) = given(&flags.target_v4, "127.0.0.1:443") {
            match Target::parse(&target) {
                Ok(target) => self.keys.target_v4.set(target, Spot::Nowhere),
                Err(_) => self.note(
                    "target-v4",
                    &[
                        format!("# -4 {target}: names are not looked up; write the IPv4 address."),
                        "#target-v4 = \"127.0.0.1:443\"".to_owned(),
                    ],
                ),
            }
        }
        if let Some(target) = given(&flags.target_v6, "[::1]:443") {
            match Target::parse(&target) {
                Ok(target) => self.keys.target_v6.set(target, Spot::Nowhere),
                Err(_) => self.note(
                    "target-v6",
                    &[
                        format!("# -6 {target}: names are not looked up; write the IPv6 address."),
                        "#target-v6 = \"[::1]:443\"".to_owned(),
                    ],
                ),
            }
        }
        if flags.dynamic_destination {
            self.keys.target_from_header.set(true, Spot::Nowhere);
            self.note("allow-target", &[
                "# DANGER: with -dynamic-destination a header may name any address that this host reaches. Here it may name".to_owned(),
                "# what this list has; fill it in:".to_owned(),
                "#allow-target = [\"10.0.0.0/24:20000-20100\"]".to_owned(),
            ]);
        }
        Ok(())
    }

    fn allowed(&mut self, flags: &Flags) -> Result<(), Failure> {
        match &flags.allowed_subnets {
            Some(file) => {
                let file: std::path::PathBuf = self.parsed("-allowed-subnets", file)?;
                set_list(&mut self.keys.allowed_subnets, [file]);
                self.note("allowed-subnets", &[
                    "# An empty file lets everybody in with go-mmproxy, and nobody here. A relative path is meant from the".to_owned(),
                    "# directory of this file.".to_owned(),
                ]);
            }
            None => self.note("allow", &[
                "# DANGER: without -allowed-subnets go-mmproxy lets everybody in, and everybody may claim any address. Here".to_owned(),
                "# nobody may connect who is not named; fill in your load balancers:".to_owned(),
                "#allow = [\"10.0.0.2\"]".to_owned(),
            ]),
        }
        self.note("allow-source", &[
            "# go-mmproxy takes every client address, 127.0.0.1 too. Here loopback, multicast and the like are refused unless".to_owned(),
            "# they are listed:".to_owned(),
            "#allow-source = [\"loopback\"]".to_owned(),
        ]);
        Ok(())
    }

    fn return_path(&mut self, flags: &Flags) -> Result<(), Failure> {
        let mark = flags.mark.as_deref().unwrap_or("0");
        let mut lines = vec![
            "# The return path is installed at the start and removed at the end: rules and routes that were made for".to_owned(),
            "# go-mmproxy (`ip rule`, `ip route`, `iptables`) can go. `routing = \"off\"` keeps yours instead.".to_owned(),
        ];
        if mark.trim_start_matches("0x").trim_start_matches('0').is_empty() {
            lines.push(
                "# go-mmproxy sets no mark here; the return path that is installed may use one, see `mark`."
                    .to_owned(),
            );
        } else {
            let mark = self.parsed("-mark", mark)?;
            self.keys.mark.set(mark, Spot::Nowhere);
        }
        self.note("routing", &lines);
        Ok(())
    }

    fn ports(&mut self, flags: &Flags) {
        self.note("source-port", &[
            "# go-mmproxy refuses a client whose port is taken on this host; here it gets another one, unless:".to_owned(),
            "#source-port = \"keep\"".to_owned(),
        ]);
        if flags.listen_transparent {
            self.keys.listen_transparent.set(true, Spot::Nowhere);
            self.note(
                "listen-transparent",
                &["# For TPROXY rules of your own; `tproxy-ports` makes, keeps and removes them.".to_owned()],
            );
        }
    }

    fn datagrams(&mut self, flags: &Flags, protocol: ProtocolArg) -> Result<(), Failure> {
        let Some(after) = &flags.close_after else { return Ok(()) };
        if protocol == ProtocolArg::Tcp {
            self.note(
                "idle-timeout",
                &[format!("# -close-after {after} is about UDP and was without effect.")],
            );
            return Ok(());
        }
        let seconds: u64 =
            after.parse().map_err(|_| wrong(format!("-close-after: `{after}` is no number of seconds")))?;
        if seconds == 0 {
            self.note("udp-idle-timeout", &[
                "# -close-after 0 ends each flow at once with go-mmproxy; here at least a second is needed, and 1m is the default.".to_owned(),
            ]);
        } else {
            self.keys.udp_idle_timeout.set(Time(std::time::Duration::from_secs(seconds)), Spot::Nowhere);
        }
        Ok(())
    }

    fn note(&mut self, key: &'static str, lines: &[String]) {
        self.notes.push(Note { key, lines: lines.to_vec() });
    }

    fn parsed<T: Scalar>(&self, flag: &str, text: &str) -> Result<T, Failure> {
        T::parse(text).map_err(|problem| wrong(format!("{flag}: {problem}")))
    }
}

fn set_list<T: Scalar, const N: usize>(slot: &mut Slot<List<T>>, values: [T; N]) {
    let values = values.map(|value| Setting { value, spot: Spot::Nowhere });
    slot.set(values.into(), Spot::Nowhere);
}

fn wrong(what: String) -> Failure {
    Failure::new(Exit::Usage, what).hint(
        "go-mmproxy's flags are -l -4 -6 -p -mark -v -allowed-subnets -listeners -close-after -dynamic-destination \
         -listen-transparent",
    )
}

const HEAD: &str = "\
# Made from a command line of go-mmproxy. Read the comments: they say what is different, and what has to be filled in.
# `mmproxy config check --config THIS-FILE` says when it is complete.";
