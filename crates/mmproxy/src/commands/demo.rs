//! `mmproxy demo`: the main job, shown in a private network namespace on a machine with nothing installed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::cli::{Cli, RunArgs, VersionArgs};
use crate::commands::encode;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::keeper::{self, Source, Until};
use crate::loopback;
use crate::namespace::{self, NamespaceError, Private};

/// Runs the demonstration; success only when the target saw every announced client.
pub(crate) fn run() -> Result<Exit, Failure> {
    let private = namespace::enter_private().map_err(no_namespace)?;
    loopback::up().map_err(|error| Failure::new(Exit::Software, error))?;
    println!("{INTRODUCTION}\n");
    println!("A private network namespace, {}; it vanishes with this program.\n", made(private));

    let target_v4 = greet(Ipv4Addr::LOCALHOST.into())?;
    let target_v6 = greet(Ipv6Addr::LOCALHOST.into())?;
    println!(
        "The target, a plain TCP server on {target_v4} and {target_v6}, greets each client by the address it sees."
    );
    println!(
        "The gateway starts as `mmproxy --allow 127.0.0.1 -l 127.0.0.1:0 -4 {target_v4} -6 {target_v6}`:\n"
    );

    let gateway = Gateway::start(target_v4, target_v6)?;
    println!();
    let mut seen = 0;
    for (number, scene) in SCENES.iter().enumerate() {
        println!("{}. {}", number + 1, scene.title);
        println!("   the load balancer announces   {}", scene.client);
        match scene.play(gateway.address) {
            Ok(greeting) => {
                let right = greeting == scene.client;
                println!(
                    "   the target saw                {greeting}   {}",
                    if right { "[+] OK" } else { "[!] FAILED" }
                );
                seen += usize::from(right);
            }
            Err(error) => println!("   the target saw                nobody: {error}   [!] FAILED"),
        }
        println!();
    }
    gateway.stop()?;

    println!("{seen} of {} clients were seen by the target with their own address.", SCENES.len());
    if seen == SCENES.len() {
        Ok(Exit::Ok)
    } else {
        Err(Failure::new(Exit::Software, "the target did not see every client; the lines above show which"))
    }
}

/// One connection of the load balancer.
struct Scene {
    title: &'static str,
    client: &'static str,
    destination: &'static str,
    version: VersionArgs,
}

impl Scene {
    /// Connects to the gateway as a load balancer does and returns the address that the target greeted.
    fn play(&self, gateway: SocketAddr) -> Result<String, Failure> {
        let broken = |error: io::Error| Failure::new(Exit::Software, error);
        let client = self.client.parse().expect("the scenes hold addresses");
        let destination = self.destination.parse().expect("the scenes hold addresses");
        let header = encode::proxied(self.version, client, destination)
            .map_err(|error| Failure::new(Exit::Software, error))?;

        let mut balancer = TcpStream::connect_timeout(&gateway, PATIENCE).map_err(broken)?;
        balancer.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        balancer.write_all(&header).map_err(broken)?;
        balancer.shutdown(Shutdown::Write).map_err(broken)?;
        let mut greeting = String::new();
        balancer.read_to_string(&mut greeting).map_err(broken)?;
        match greeting.trim_end().strip_prefix("hello ") {
            Some(client) => Ok(client.to_owned()),
            None => Err(Failure::new(Exit::Software, format!("the greeting was {greeting:?}"))),
        }
    }
}

/// The real gateway, on a thread of its own.
struct Gateway {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<(), Failure>>,
}

impl Gateway {
    /// Starts it on a free port and returns when it listens, its self-check printed.
    fn start(target_v4: SocketAddr, target_v6: SocketAddr) -> Result<Self, Failure> {
        let (target_v4, target_v6) = (target_v4.to_string(), target_v6.to_string());
        let line =
            ["mmproxy", "--allow", "127.0.0.1", "-l", "127.0.0.1:0", "-4", &target_v4, "-6", &target_v6];
        let cli: Cli =
            clap::Parser::try_parse_from(line).map_err(|error| Failure::new(Exit::Software, error))?;
        // What its worker logs about sessions would stand in the middle of the scenes.
        let source = Source::Flags(Box::new(RunArgs { quiet: true, ..cli.run }));
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                keeper::run(&source, &mut Console::indented("   "), Until::Told { ready, stopped })
            })
            .map_err(|error| Failure::new(Exit::Software, error))?;
        match listening.recv() {
            Ok(address) => Ok(Self { address, stop, thread }),
            // The gateway dropped its end without listening: it knows why.
            Err(mpsc::RecvError) => Err(ended(thread)
                .err()
                .unwrap_or_else(|| Failure::new(Exit::Software, "the gateway ended before it listened"))),
        }
    }

    /// Stops it the way SIGTERM does: sessions end, what it installed is removed.
    fn stop(self) -> Result<(), Failure> {
        // A gateway that has ended already is not there to be told; its result says why.
        self.stop.send(()).ok();
        ended(self.thread)
    }
}

fn ended(thread: thread::JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    thread.join().unwrap_or_else(|_| Err(Failure::new(Exit::Software, "the gateway panicked")))
}

/// A target like any TCP server: it knows of no PROXY protocol and says whom it sees.
fn greet(address: IpAddr) -> Result<SocketAddr, Failure> {
    let unavailable = |error: io::Error| Failure::new(Exit::Unavailable, error);
    let listener = TcpListener::bind((address, 0)).map_err(unavailable)?;
    let address = listener.local_addr().map_err(unavailable)?;
    thread::Builder::new()
        .name("target".to_owned())
        .spawn(move || {
            for client in listener.incoming() {
                // One client that is gone already (the self-check closes at once) does not end the server.
                client.and_then(greet_client).ok();
            }
        })
        .map_err(unavailable)?;
    Ok(address)
}

fn greet_client(mut client: TcpStream) -> io::Result<()> {
    writeln!(client, "hello {}", client.peer_addr()?)
}

fn made(private: Private) -> String {
    match private {
        Private::WithoutRoot(uid) => format!("made by user {uid} without root"),
        Private::AsRoot => "made as root".to_owned(),
    }
}

fn no_namespace(error: NamespaceError) -> Failure {
    Failure::new(Exit::NoPermission, error)
        .hint("run it with sudo: sudo mmproxy demo; root needs no user namespace")
        .hint(
            "or allow user namespaces: sysctl user.max_user_namespaces=15000, and, where they exist, \
               kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0",
        )
}

/// How long one answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(10);

const V1: VersionArgs = VersionArgs { v1: true, v2: false };
const V2: VersionArgs = VersionArgs { v1: false, v2: true };

/// Addresses from the ranges for documentation (RFC 5737, RFC 3849).
const SCENES: [Scene; 4] = [
    Scene {
        title: "IPv4 client, PROXY v1",
        client: "192.0.2.7:4711",
        destination: "203.0.113.1:22",
        version: V1,
    },
    Scene {
        title: "IPv6 client, PROXY v1",
        client: "[2001:db8::7]:4712",
        destination: "[2001:db8:1::1]:22",
        version: V1,
    },
    Scene {
        title: "IPv4 client, PROXY v2",
        client: "198.51.100.42:4713",
        destination: "203.0.113.1:22",
        version: V2,
    },
    Scene {
        title: "IPv6 client, PROXY v2",
        client: "[2001:db8::42]:4714",
        destination: "[2001:db8:1::1]:22",
        version: V2,
    },
];

const INTRODUCTION: &str = "\
mmproxy demo: whom does a server behind a load balancer see?

   load balancer ── PROXY header, then bytes ──▶ mmproxy ── from the client's own address ──▶ target";
