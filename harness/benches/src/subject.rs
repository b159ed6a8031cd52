//! What is measured: no gateway at all, ours, and its peers, each set up for the same job.

use std::env::{current_exe, var};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Family, Version};

use crate::case::{Case, Protocol};
use crate::gateway::{Gateway, NotServing};
use crate::stage::{ReturnPath, Stage};

/// A subject of the bench, which may be missing here.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    kind: Kind,
    /// The executable; `None` for [`Kind::Direct`].
    program: Option<PathBuf>,
    /// As the program says.
    pub(crate) version: String,
    /// Why it has no UDP, if so.
    without_udp: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Direct,
    Mmproxy,
    GoMmproxy,
    MmproxyRs,
    Haproxy,
    Nginx,
    /// A command line with placeholders.
    Other(String),
}

/// A subject that was asked for and cannot be measured.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) why: String,
}

impl Subject {
    /// All that the bench knows by itself, in the order of the report; `mmproxy` is the executable to measure.
    pub(crate) fn all(mmproxy: &Path) -> Vec<Result<Self, Missing>> {
        let direct = Self {
            name: DIRECT.to_owned(),
            kind: Kind::Direct,
            program: None,
            version: "no gateway: the generator connects to the target".to_owned(),
            without_udp: None,
        };
        let peers = peers_folder().join("bin/mmproxy");
        vec![
            Ok(direct),
            Self::known(OURS, Kind::Mmproxy, Ok(mmproxy.to_owned()), &["--version"]),
            Self::known("go-mmproxy", Kind::GoMmproxy, installed("go-mmproxy"), &[]),
            Self::known(
                "mmproxy-rs",
                Kind::MmproxyRs,
                if peers.is_file() { Ok(peers) } else { Err("not built; run ci/bench-peers.sh".to_owned()) },
                &[],
            ),
            Self::known("haproxy", Kind::Haproxy, installed("haproxy"), &["-v"]),
            Self::known("nginx", Kind::Nginx, installed("nginx"), &["-v"]),
        ]
    }

    /// Another gateway, as `NAME=COMMAND` describes it.
    pub(crate) fn other(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, command)| !name.is_empty() && command.contains("{listen}"))
            .ok_or_else(|| format!("{text:?} is no NAME=COMMAND with {{listen}} in the command"))?;
        let program = command.split_whitespace().next().unwrap_or_default();
        let program = if program.contains('/') { PathBuf::from(program) } else { installed(program)? };
        let kind = Kind::Other(command.to_owned());
        Ok(Self {
            name: name.to_owned(),
            kind,
            program: Some(program),
            version: "given on the command line".to_owned(),
            without_udp: (!command.contains("{protocol}")).then_some("its command has no {protocol}"),
        })
    }

    fn known(
        name: &str,
        kind: Kind,
        program: Result<PathBuf, String>,
        version: &[&str],
    ) -> Result<Self, Missing> {
        let missing = |why| Missing { name: name.to_owned(), why };
        let program = program.map_err(missing)?;
        if !program.is_file() {
            return Err(missing(format!("there is no {}", program.display())));
        }
        let version = if version.is_empty() {
            package_version(&kind)
        } else {
            first_line(Command::new(&program).args(version))
        };
        let without_udp = match kind {
            Kind::Haproxy | Kind::Nginx => Some("no UDP with PROXY headers"),
            Kind::Mmproxy if !help(&program).contains("--udp-header") => Some("this build has no UDP"),
            Kind::Direct | Kind::Mmproxy | Kind::GoMmproxy | Kind::MmproxyRs | Kind::Other(_) => None,
        };
        Ok(Self { name: name.to_owned(), kind, program: Some(program), version, without_udp })
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.kind == Kind::Direct
    }

    /// A fault of these two fails the bench; a peer's is reported.
    pub(crate) fn must_be_right(&self) -> bool {
        matches!(self.kind, Kind::Direct | Kind::Mmproxy)
    }

    /// Why the subject cannot do what the case asks, if so.
    pub(crate) fn cannot(&self, case: &Case) -> Option<&'static str> {
        match case.load.protocol() {
            Protocol::Tcp => None,
            Protocol::Udp => self.without_udp,
        }
    }

    /// How its sessions announce their clients.
    pub(crate) fn announce(&self, version: Version) -> Option<Version> {
        (!self.is_direct()).then_some(version)
    }

    pub(crate) const fn return_path(&self) -> ReturnPath {
        match self.kind {
            Kind::Direct | Kind::Mmproxy => ReturnPath::Own,
            Kind::GoMmproxy | Kind::MmproxyRs | Kind::Haproxy | Kind::Nginx | Kind::Other(_) => {
                ReturnPath::Operators
            }
        }
    }

    /// Starts it on `stage`; `None` for the subject that has no process.
    pub(crate) fn start(
        &self,
        stage: &Stage,
        family: Family,
        protocol: Protocol,
    ) -> Result<Option<Gateway>, NotServing> {
        let Some((mut command, files)) = self.command(family, protocol) else { return Ok(None) };
        let folder = harness::scratch();
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("the bench's own tmpfs");
        }
        let ready = (self.kind == Kind::Mmproxy).then_some("Listening on");
        Gateway::start(&stage.network.gateway, &mut command, Stage::listen(family), protocol, ready).map(Some)
    }

    /// The command line as it is run, and the files that it reads, for the record.
    pub(crate) fn describe(&self, protocol: Protocol) -> Option<(String, Vec<(&'static str, String)>)> {
        let (command, files) = self.command(Family::V4, protocol)?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={} ", name.to_str()?, value?.to_str()?)));
        let name = Path::new(command.get_program()).file_name().unwrap_or_default();
        let words: Vec<_> = std::iter::once(name.to_string_lossy().into_owned()).chain(words).collect();
        Some((environment.collect::<String>() + &words.join(" "), files))
    }

    fn command(&self, family: Family, protocol: Protocol) -> Option<(Command, Vec<(&'static str, String)>)> {
        let program = self.program.as_ref()?;
        let listen = Stage::listen(family).to_string();
        let (v4, v6) = (Stage::target(Family::V4).to_string(), Stage::target(Family::V6).to_string());
        let mut command = Command::new(program);
        let mut files = Vec::new();
        let udp = protocol == Protocol::Udp;
        match &self.kind {
            Kind::Direct => return None,
            Kind::Mmproxy => {
                // Otherwise it writes a line for each connection, which of the others only those do that are told not to.
                command.args(["--quiet", "--listen", &listen, "-4", &v4, "-6", &v6]);
                command.args(["--allow", "10.0.0.0/24", "--allow", "fd00::/64"]).env_remove("RUST_LOG");
                if udp {
                    command.args(["-p", "udp"]);
                }
            }
            Kind::GoMmproxy => {
                command.args(["-l", &listen, "-4", &v4, "-6", &v6, "-listeners", "2"]);
                command.args(["-p", if udp { "udp" } else { "tcp" }]);
            }
            Kind::MmproxyRs => {
                // Otherwise it writes a line for each connection.
                command.env("RUST_LOG", "error");
                command.args(["-l", &listen, "-4", &v4, "-6", &v6]);
                // Its backlog, whatever the name says. Over UDP it is the number of sockets.
                command.args(if udp { ["-p", "udp"] } else { ["--listeners", "1024"] });
            }
            Kind::Haproxy => {
                command.args(["-db", "-f"]).arg(harness_file("haproxy.cfg"));
                files.push(("haproxy.cfg", haproxy(family)));
            }
            Kind::Nginx => {
                command.arg("-c").arg(harness_file("nginx.conf"));
                files.push(("nginx.conf", nginx(family)));
            }
            Kind::Other(template) => {
                let filled = template
                    .replace("{listen}", &listen)
                    .replace("{target4}", &v4)
                    .replace("{target6}", &v6)
                    .replace("{protocol}", if udp { "udp" } else { "tcp" });
                command.args(filled.split_whitespace().skip(1));
            }
        }
        Some((command, files))
    }
}

/// The subject that all ratios refer to.
pub(crate) const DIRECT: &str = "direct";
/// The subject that this is about.
pub(crate) const OURS: &str = "mmproxy";

/// Where `ci/bench-peers.sh` puts what no Debian package brings: beside the profiles' folders.
fn peers_folder() -> PathBuf {
    let here = current_exe().unwrap_or_default();
    here.ancestors().nth(2).unwrap_or_else(|| Path::new("")).join("bench-peers")
}

fn harness_file(name: &str) -> PathBuf {
    Path::new("/run/scratch").join(name)
}

/// Two threads, as there are workers elsewhere; limits and time-outs out of the way; else HAProxy's defaults.
fn haproxy(family: Family) -> String {
    let (listen, target) = (Stage::listen(family), Stage::target(family));
    let any = match family {
        Family::V4 => "0.0.0.0",
        Family::V6 => "[::]",
    };
    // Two descriptors a session; the pipes are for `splice`, and what is left for HAProxy itself.
    let most = (crate::usage::descriptor_limit().min(1 << 16).saturating_sub(400)) / 2;
    format!(
        "global\n    nbthread 2\n    maxconn {most}\n    maxpipes 64\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
         \x20   option splice-auto\n\
         listen bench\n    bind {listen} accept-proxy backlog 4096\n    source {any} usesrc client\n\
         \x20   server target {target}\n"
    )
}

/// Two workers; no access log; else nginx's defaults.
fn nginx(family: Family) -> String {
    let (listen, target) = (Stage::listen(family), Stage::target(family));
    let client = match family {
        Family::V4 => "$proxy_protocol_addr:$proxy_protocol_port",
        Family::V6 => "[$proxy_protocol_addr]:$proxy_protocol_port",
    };
    let module = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"]
        .map(|folder| format!("{folder}/ngx_stream_module.so"))
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let module = module.map_or_else(String::new, |path| format!("load_module {path};\n"));
    format!(
        "{module}user root;\ndaemon off;\nworker_processes 2;\nworker_rlimit_nofile {};\n\
         pid {};\nerror_log stderr error;\n\
         events {{ worker_connections 20000; }}\n\
         stream {{\n    server {{\n        listen {listen} proxy_protocol reuseport backlog=4096;\n\
         \x20       proxy_bind {client} transparent;\n        proxy_timeout 1h;\n        proxy_pass {target};\n    }}\n}}\n",
        crate::usage::descriptor_limit().min(1 << 20),
        harness_file("nginx.pid").display(),
    )
}

/// A program of a package, in the folders where daemons are.
fn installed(name: &str) -> Result<PathBuf, String> {
    let path = var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"])
        .map(|folder| Path::new(folder).join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("{name} is not installed; run ci/bench-peers.sh"))
}

/// What a program without a version flag was installed as.
fn package_version(kind: &Kind) -> String {
    match kind {
        Kind::GoMmproxy => {
            let version =
                first_line(Command::new("dpkg-query").args(["-W", "-f", "${Version}", "go-mmproxy"]));
            format!("Debian package {version}")
        }
        Kind::MmproxyRs => {
            let list = fs::read_to_string(peers_folder().join(".crates.toml")).unwrap_or_default();
            let version = list
                .lines()
                .find_map(|line| line.split_whitespace().nth(1).filter(|_| line.contains("mmproxy ")));
            format!("crate mmproxy {}", version.unwrap_or("of an unknown version"))
        }
        Kind::Direct | Kind::Mmproxy | Kind::Haproxy | Kind::Nginx | Kind::Other(_) => String::new(),
    }
}

fn help(program: &Path) -> String {
    let output = Command::new(program).arg("--help").output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first line that a command prints, on standard output or else error.
pub(crate) fn first_line(command: &mut Command) -> String {
    let text = |output: io::Result<std::process::Output>| {
        let output = output.ok()?;
        let lines = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&lines).lines().next().map(str::to_owned)
    };
    text(command.output()).unwrap_or_else(|| "unknown".to_owned())
}
