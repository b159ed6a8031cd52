//! Recipes for balancers that one runs oneself, before sshd, which logs its clients: HAProxy and nginx with what
//! docs/recipes.md tells to write into their configurations, and Envoy's headers.

use std::net::SocketAddr;

use harness::{
    Balancer, Connection, Family, Namespace, Program, Topology, Version, executable, isolated, scratch, shell,
};

use super::{documented, folder, serve, start, text};
use crate::haproxy::{HaProxy, frontend};
use crate::nginx;
use crate::sshd::start_sshd;

/// Clients of both families reach sshd through who listens on the frontend addresses, and are in its log.
#[track_caller]
fn expect_clients(clients: &Namespace, sshd: &Program) {
    for family in Family::BOTH {
        let client = Connection::open(clients, frontend(family));
        client.expect(b"SSH-2.0-");
        assert_eq!(client.local().ip(), family.client());
        expect_in_log(sshd, client.local());
    }
}

#[track_caller]
fn expect_in_log(sshd: &Program, client: SocketAddr) {
    let on = format!("on {} port 22", Family::of(client.ip()).loopback());
    sshd.expect_line(&[&format!("Connection from {} port {} ", client.ip(), client.port()), &on]);
}

/// The second of the README's three commands, on what the package brings as /etc/mmproxy/mmproxy.toml. `ci/package.sh` runs the
/// other two.
#[test]
fn the_packages_configuration_and_the_readmes_command_make_sshd_log_its_clients() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let sshd = start_sshd(&net);
        let repository = folder().join("../..");
        let build = text(&repository.join("deploy/debian/build.sh"));
        let made = between(&build, "\"$executable\" config example | ", " | made etc/mmproxy/mmproxy.toml");
        let readme = text(&repository.join("README.md"));
        let edit = between(&readme, "```sh package\n", "```");
        let edit = between(edit, "sudo sed ", " /etc/mmproxy/mmproxy.toml");
        let config = scratch().join("mmproxy.toml");
        // The unit makes the second directory.
        let script = format!(
            "{} config example | {made} > {at}; sed {edit} {at}; mkdir /run/mmproxy",
            executable().display(),
            at = config.display()
        );
        shell(&net.gateway, &script);
        let gateway = start(&net, &config, &["[::]:2222"]);
        let _haproxy = HaProxy::start(&net, "10.0.0.1:2222 send-proxy-v2");
        expect_clients(&clients, &sshd);
        gateway.stop().expect_code(0);
    });
}

/// What stands between `before` and `behind` in `text`.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, behind: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before:?} any more"));
    let (found, _) = rest.split_once(behind).unwrap_or_else(|| panic!("there is no {behind:?} any more"));
    found
}

#[test]
fn the_recipe_for_sshd_serves_it_behind_haproxy() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let sshd = start_sshd(&net);
        let gateway = serve(&net, "sshd.toml", &[], &["[::]:2222"]);
        let _haproxy = HaProxy::start(&net, "10.0.0.1:2222 send-proxy-v2");
        expect_clients(&clients, &sshd);
        gateway.stop().expect_code(0);
    });
}

#[test]
fn the_recipe_for_haproxy_serves_the_configuration_beside_it_and_its_health_checks() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let sshd = start_sshd(&net);
        let gateway = serve(&net, "haproxy.toml", &[], &["[::]:2222"]);
        // It has clients of both families here, and checks come while the test lasts.
        let both = ("bind :22\n", "bind :22\n    bind [::]:22 v6only\n");
        let block = documented("Behind HAProxy", &[both, (" check ", " check inter 200ms ")]);
        let haproxy = HaProxy::configured(&net, &block);
        haproxy.program().expect_line(&["Health check for server ssh/ssh1 succeeded", "UP"]);
        expect_clients(&clients, &sshd);
        // Its checks were answered, not passed on: sshd has heard of clients, and of looks that said nothing.
        assert_eq!(haproxy.program().count_lines(&["ssh/ssh1", "DOWN"]), 0, "{}", haproxy.output());
        gateway.stop().expect_code(0);
    });
}

#[test]
fn the_recipe_for_nginx_serves_the_configuration_beside_it() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let sshd = start_sshd(&net);
        let gateway = serve(&net, "nginx.toml", &[], &["[::]:2222"]);
        let both = ("listen 22;", "listen 22; listen [::]:22;");
        let nginx = nginx::start(&net.balancer, &documented("Behind nginx", &[both]));
        nginx.expect_listener(&net.balancer, 22);
        expect_clients(&clients, &sshd);
        gateway.stop().expect_code(0);
    });
}

/// Envoy's transport socket writes either version; what its health checkers connect with belongs to nobody, which version 2
/// says as LOCAL, and version 1 cannot: there Envoy announces its own address (proxy_protocol.cc, `generateHeaderV1`).
#[test]
fn the_recipe_for_envoy_serves_what_it_sends_and_answers_its_health_checks() {
    isolated(|| {
        let net = Topology::new();
        let sshd = start_sshd(&net);
        let gateway = serve(&net, "envoy.toml", &[], &["[::]:2222"]);
        let envoy = Balancer::of(&net);
        let mut port = 40_000;
        for family in Family::BOTH {
            let (at, listener) =
                (SocketAddr::new(family.gateway(), 2222), SocketAddr::new(family.frontend(), 22));
            for version in Version::BOTH {
                port += 1;
                let client = SocketAddr::new(family.client(), port);
                let connection = envoy.announce(at, &version.header(client, listener), b"");
                connection.expect(b"SSH-2.0-");
                expect_in_log(&sshd, client);
            }
            let check = envoy.announce(at, &Version::V2.local(), b"");
            check.expect_end();
            let check = envoy.connect(at);
            check.send(&Version::V1.header(check.local(), at));
            check.expect(b"SSH-2.0-");
            expect_in_log(&sshd, check.local());
        }
        gateway.stop().expect_code(0);
    });
}
