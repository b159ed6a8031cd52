//! An sshd that knows nothing of PROXY logs the client, which is what people run mmproxy for.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use harness::{
    Connection, Family, Gateway, Program, Topology, installed, isolated, ordinary_user, run, scratch,
};

use crate::haproxy::{HaProxy, frontend};

/// Starts sshd on port 22 of both loopback addresses of the gateway's namespace.
///
/// As an ordinary user: then it is the same with root and without, and it needs no account but `nobody`.
#[track_caller]
pub(crate) fn start_sshd(net: &Topology) -> Program {
    let directory = scratch().join("sshd");
    fs::create_dir(&directory).expect("the test's own directory");
    // The user makes its own key: sshd wants the owner of a key to be its only reader.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("the test's own directory");
    let key = directory.join("host_key");
    let mut keygen = Command::new(installed("ssh-keygen", "openssh-client"));
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    run(&net.gateway, &mut ordinary_user(&keygen), b"").expect_code(0);
    let config = directory.join("sshd_config");
    let listen: String =
        Family::BOTH.map(|family| format!("ListenAddress {}\n", sshd_address(family))).concat();
    let text = format!("{listen}HostKey {}\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n", key.display());
    fs::write(&config, text).expect("the test's own directory");

    // An ordinary user may listen on port 22 of this namespace alone.
    net.gateway.set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
    let mut sshd = Command::new(installed("sshd", "openssh-server"));
    sshd.args(["-D", "-e", "-f"]).arg(&config);
    let program = Program::start(&net.gateway, &mut ordinary_user(&sshd));
    program.expect_listener(&net.gateway, 22);
    program
}

fn sshd_address(family: Family) -> SocketAddr {
    SocketAddr::new(family.loopback(), 22)
}

/// A chain of client, HAProxy, gateway and sshd: sshd logs each client's address and port.
fn sshd_logs_the_client(haproxys_option: &str) {
    let net = Topology::new();
    let clients = net.clients();
    let sshd = start_sshd(&net);
    let gateway = Gateway::to(&net, sshd_address(Family::V4)).and_to(sshd_address(Family::V6)).start();
    let _haproxy = HaProxy::start(&net, &format!("{} {haproxys_option}", gateway.address(Family::V4)));
    for family in Family::BOTH {
        let client = Connection::open(&clients, frontend(family));
        client.expect(b"SSH-2.0-");
        let (ip, port) = (client.local().ip(), client.local().port());
        assert_eq!(ip, family.client());
        let on = format!("on {} port 22", family.loopback());
        sshd.expect_line(&[&format!("Connection from {ip} port {port} "), &on]);
    }
}

#[test]
fn sshd_logs_the_client_that_haproxy_announced_with_send_proxy() {
    isolated(|| sshd_logs_the_client("send-proxy"));
}

#[test]
fn sshd_logs_the_client_that_haproxy_announced_with_send_proxy_v2() {
    isolated(|| sshd_logs_the_client("send-proxy-v2"));
}

#[test]
fn a_login_that_fails_is_logged_with_the_clients_address() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let sshd = start_sshd(&net);
        let gateway = Gateway::to(&net, sshd_address(Family::V4)).and_to(sshd_address(Family::V6)).start();
        let _haproxy = HaProxy::start(&net, &format!("{} send-proxy-v2", gateway.address(Family::V4)));
        for family in Family::BOTH {
            let mut ssh = Command::new(installed("ssh", "openssh-client"));
            ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
            ssh.args(["-o", "BatchMode=yes", "-l", "intruder"]).arg(frontend(family).ip().to_string());
            run(&clients, &mut ssh, b"").expect_code(255);
            // The line that fail2ban and its like act on.
            sshd.expect_line(&[&format!("Invalid user intruder from {} port", family.client())]);
        }
    });
}
