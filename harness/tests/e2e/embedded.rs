//! The gateway as a library: the example that has it in itself, as its documentation runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use harness::{Balancer, Family, Program, Topology, Version, isolated, mmproxy, run};

use crate::support::{client, header};

#[test]
fn a_program_that_embeds_the_gateway_serves_clients_by_their_own_addresses() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
            let listen = SocketAddr::new(family.gateway(), 2222).to_string();
            let server = SocketAddr::new(family.loopback(), 2223).to_string();
            let balancers = family.balancer().to_string();
            let program = Program::start(
                &net.gateway,
                Command::new(example("embed")).args([&listen, &server, &balancers]),
            );
            program.expect_line(&[&format!("listening on {listen}")]);

            let header = header(Version::V2, family);
            let downstream =
                Balancer::of(&net).announce(SocketAddr::new(family.gateway(), 2222), &header, b"hello\n");
            downstream.expect(format!("you are {}\nhello\n", client(family)).as_bytes());
            downstream.finish();
            downstream.expect_end();
            program.expect_line(&["session 1:", &client(family).to_string(), "finished"]);
            program.kill();
        }
    });
}

/// What cargo built of an example, beside the executable under test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("/proc names this executable");
    // target/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("test executables are two folders deep");
    let path = profile.join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p mmproxy-forwarder --example {name}` first",
        path.display()
    );
    path
}
