//! PostgreSQL lets clients in by their network, and tells where each is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::{Family, Finished, Program, Topology, isolated, ordinary_user, run, scratch};

use crate::haproxy::frontend;
use crate::scene::Scene;

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

/// Asks, as a client does.
fn ask(scene: &Scene, family: Family, question: &str) -> Finished {
    let address = frontend(family);
    let mut psql = Command::new(server_program("psql"));
    psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username=alice", "--dbname=postgres"]);
    psql.arg(format!("--host={}", address.ip())).arg(format!("--port={}", address.port()));
    run(&scene.clients, psql.arg("--command").arg(question), b"")
}

#[test]
fn postgresql_lets_clients_in_by_their_network_and_tells_where_they_are() {
    isolated(|| {
        let scene = Scene::before(PORT, start);
        let question = "select client_addr, client_port from pg_stat_activity where pid = pg_backend_pid()";
        let said = ask(&scene, Family::V4, question).expect_code(0).stdout;
        let (address, port) = said.trim().split_once('|').expect("two columns");
        assert_eq!(address, Family::V4.client().to_string());
        scene.server.expect_line(&["connection received:", &format!("host={address} port={port}")]);
        // HAProxy saw it at that port.
        scene.haproxy.program().expect_line(&[&format!("{address}:{port} [")]);

        // The other network is not in its rules.
        let refused = format!("no pg_hba.conf entry for host \"{}\"", Family::V6.client());
        ask(&scene, Family::V6, "select 1").expect_code(2).expect_text(&[&refused]);
        scene.server.expect_line(&["FATAL", &refused]);
        scene.gateway.stop();
    });
}
