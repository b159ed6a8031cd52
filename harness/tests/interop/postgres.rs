//! PostgreSQL lets clients in by their network, and tells where each is.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::{Balancer, Family, Program, Topology, Version, isolated, ordinary_user, run, scratch};
use nix::sys::signal::Signal;

use crate::haproxy::{HaProxy, frontend};
use crate::recipes;

const PORT: u16 = 5432;

/// IPv4 clients are let in, nobody else; who comes from the machine itself is not either.
const RULES: &str = "host all all 192.0.2.0/24 trust\nhost all all 127.0.0.1/32 reject\n";

/// A program of PostgreSQL's server package, which Debian keeps out of PATH, the newest version's.
///
/// # Panics
///
/// If there is none.
#[track_caller]
fn server_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.is_file());
    found.max().unwrap_or_else(|| {
        panic!("{name} is missing: run `apt-get install postgresql` as root, or ci/deps.sh")
    })
}

/// Starts a fresh server as an ordinary user: it refuses to run as root.
#[track_caller]
fn start(net: &Topology) -> Program {
    let directory = scratch().join("postgres");
    fs::create_dir(&directory).expect("the test's own directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("the test's own directory");
    let data = directory.join("data");
    let mut initdb = Command::new(server_program("initdb"));
    initdb.args(["--no-sync", "--auth=trust", "--username=alice", "--locale=C", "--pgdata"]).arg(&data);
    run(&net.gateway, &mut ordinary_user(&initdb), b"").expect_code(0);
    let rules = directory.join("pg_hba.conf");
    fs::write(&rules, RULES).expect("the test's own directory");
    let mut postgres = Command::new(server_program("postgres"));
    postgres.arg("-D").arg(&data).args(["-F", "-p", &PORT.to_string()]);
    let settings = [
        "listen_addresses=127.0.0.1,::1",
        "log_connections=on",
        "log_statement=all",
        "unix_socket_directories=",
        "shared_buffers=4MB",
    ];
    for setting in settings {
        postgres.args(["-c", setting]);
    }
    postgres.arg("-c").arg(format!("hba_file={}", rules.display()));
    let server = Program::start(&net.gateway, &mut ordinary_user(&postgres));
    server.expect_line(&["database system is ready to accept connections"]);
    server
}

/// psql as `alice`, by way of HAProxy's address of `family`.
fn psql(family: Family, question: &str) -> Command {
    let address = frontend(family);
    let mut psql = Command::new(server_program("psql"));
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username=alice", "--dbname=postgres"]);
    psql.arg(format!("--host={}", address.ip())).arg(format!("--port={}", address.port()));
    psql.arg("--command").arg(question);
    psql
}

#[test]
fn the_recipe_for_postgresql_serves_it_and_it_lets_clients_in_by_their_network() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let server = start(&net);
        let gateway = recipes::serve(&net, "postgresql.toml", &[], &["[::]:6432"]);
        let haproxy = HaProxy::start(&net, "10.0.0.1:6432 send-proxy-v2");
        let question = "select client_addr, client_port from pg_stat_activity where pid = pg_backend_pid()";
        let said = run(&clients, &mut psql(Family::V4, question), b"").expect_code(0).stdout;
        let (address, port) = said.trim().split_once('|').expect("two columns");
        assert_eq!(address, Family::V4.client().to_string());
        server.expect_line(&["connection received:", &format!("host={address} port={port}")]);
        // HAProxy saw it at that port.
        haproxy.program().expect_line(&[&format!("{address}:{port} [")]);

        // The other network is not in its rules.
        let refused = format!("no pg_hba.conf entry for host \"{}\"", Family::V6.client());
        let finished = run(&clients, &mut psql(Family::V6, "select 1"), b"");
        finished.expect_code(2).expect_text(&[&refused]);
        server.expect_line(&["FATAL", &refused]);

        // A query is cancelled by a second connection, which comes from the same client.
        let before = server.count_lines(&["connection received:", &format!("host={address} ")]);
        let waiting = Program::start(&clients, &mut psql(Family::V4, "select pg_sleep(600)"));
        server.expect_line(&["statement: select pg_sleep(600)"]);
        waiting.signal(Signal::SIGINT);
        waiting.wait().expect_code(1).expect_text(&["canceling statement due to user request"]);
        let connections = server.count_lines(&["connection received:", &format!("host={address} ")]);
        assert_eq!(connections, before + 2, "{}", server.output());

        // A balancer's own connection would be one from 127.0.0.1, which many let in.
        let at = SocketAddr::new(Family::V4.gateway(), 6432);
        Balancer::of(&net).announce(at, &Version::V2.local(), b"").expect_end();
        gateway.stop().expect_code(0);
    });
}
