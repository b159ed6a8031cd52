//! fail2ban reads sshd's log and bans at the gateway: a ban in the host's firewall would do nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use harness::expect::eventually;
use harness::{
    Family, Finished, Gateway, Namespace, Program, Topology, executable, installed, isolated, mmproxy,
    ordinary_user, run, scratch, shell,
};

use crate::fail2ban::shipped;
use crate::haproxy::HaProxy;
use Family::V4;

/// Clients, HAProxy, the gateway, sshd, and fail2ban that reads sshd's log.
struct Host {
    net: Topology,
    clients: Namespace,
    gateway: Gateway,
    control: String,
    fail2ban: FailToBan,
    _sshd: Program,
    _haproxy: HaProxy,
}

/// A running fail2ban in the gateway's namespace, with a configuration of its own.
struct FailToBan {
    server: Program,
    config: PathBuf,
    socket: PathBuf,
}

impl Host {
    fn new() -> Self {
        let net = Topology::new();
        let clients = net.clients();
        shell(&clients, &format!("ip address add {HONEST}/24 dev lb0"));
        let log = scratch().join("auth.log");
        let sshd = start_sshd(&net, &log);
        let control = scratch().join("mmproxy.sock").to_str().expect("ASCII").to_owned();
        let flags = ["--verbose", "--control", &control];
        let gateway = Gateway::to(&net, SocketAddr::new(V4.loopback(), 22)).with(flags).start();
        let haproxy = HaProxy::start(&net, &format!("{} send-proxy-v2", gateway.address(V4)));
        let fail2ban = FailToBan::start(&net, &log, &control);
        Self { net, clients, gateway, control, fail2ban, _sshd: sshd, _haproxy: haproxy }
    }

    /// A login from `source` that sshd refuses, or that does not come to sshd.
    fn login(&self, source: IpAddr) -> Finished {
        let mut ssh = Command::new(installed("ssh", "openssh-client"));
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "BatchMode=yes", "-l", "intruder", "-b"]).arg(source.to_string());
        ssh.arg(V4.frontend().to_string());
        run(&self.clients, &mut ssh, b"").expect_code(255)
    }

    /// Whether sshd has answered the login from `source`.
    fn reaches_sshd(&self, source: IpAddr) -> bool {
        self.login(source).stderr.contains("Permission denied")
    }

    fn denied(&self) -> String {
        run(&self.net.gateway, &mut mmproxy(["deny", "list", "--control", &self.control]), b"")
            .expect_code(0)
            .stdout
    }
}

/// sshd on port 22 of the loopback address, with a log as syslog would write it.
fn start_sshd(net: &Topology, log: &std::path::Path) -> Program {
    let directory = scratch().join("sshd");
    fs::create_dir(&directory).expect("the test's own directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("the test's own directory");
    fs::write(log, "").expect("the test's own directory");
    fs::set_permissions(log, fs::Permissions::from_mode(0o666)).expect("the test's own file");
    let key = directory.join("host_key");
    let mut keygen = Command::new(installed("ssh-keygen", "openssh-client"));
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    run(&net.gateway, &mut ordinary_user(&keygen), b"").expect_code(0);
    let config = directory.join("sshd_config");
    let text = format!(
        "ListenAddress {}:22\nHostKey {}\nPidFile none\nUsePAM no\nMaxStartups 100\n",
        V4.loopback(),
        key.display()
    );
    fs::write(&config, text).expect("the test's own directory");
    net.gateway.set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
    let sshd = installed("sshd", "openssh-server");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!(
        "{} -D -e -f {} 2>&1 | sed -u -e 's/^/sshd[22]: /' -e 's/\\r$//' >> {}",
        sshd.display(),
        config.display(),
        log.display()
    ));
    let program = Program::start(&net.gateway, &mut ordinary_user(&shell));
    program.expect_listener(&net.gateway, 22);
    program
}

impl FailToBan {
    /// Debian's configuration, the shipped action, and one jail.
    fn start(net: &Topology, log: &std::path::Path, control: &str) -> Self {
        let (config, socket) = (scratch().join("fail2ban"), scratch().join("fail2ban.sock"));
        let folder = config.display();
        shell(
            &net.gateway,
            &format!(
                "cp -r /etc/fail2ban {folder}; rm -f {folder}/jail.d/*; cp {} {folder}/action.d/",
                shipped("action.d/mmproxy.conf").display()
            ),
        );
        let action =
            format!("mmproxy[mmproxy=\"{}\", control=\"--control {control}\"]", executable().display());
        let jail = format!(
            "[sshd]\nenabled = true\nbackend = polling\nlogpath = {}\ndatepattern = {{NONE}}\nmaxretry = 2\n\
             findtime = 10m\nbantime = 1h\nbanaction = {action}\n",
            log.display()
        );
        fs::write(config.join("jail.d/test.conf"), jail).expect("the test's own directory");
        // Its memory would be the machine's.
        fs::write(config.join("fail2ban.local"), "[DEFAULT]\ndbfile = None\n")
            .expect("the test's own directory");
        let mut command = Command::new(installed("fail2ban-server", "fail2ban"));
        command
            .arg("-f")
            .arg("-c")
            .arg(&config)
            .arg("-s")
            .arg(&socket)
            .arg("-p")
            .arg(scratch().join("fail2ban.pid"));
        command.args(["--logtarget", "STDOUT"]);
        let server = Program::start(&net.gateway, &mut command);
        server.expect_line(&["Jail 'sshd' started"]);
        Self { server, config, socket }
    }

    fn client(&self, net: &Topology, words: &[&str]) {
        let mut command = Command::new(installed("fail2ban-client", "fail2ban"));
        command.arg("-c").arg(&self.config).arg("-s").arg(&self.socket).args(words);
        run(&net.gateway, &mut command, b"").expect_code(0);
    }
}

#[test]
fn a_client_that_fail2ban_bans_is_refused_at_the_gateway_and_another_one_still_gets_in() {
    isolated(|| {
        let host = Host::new();
        let intruder = V4.client();
        for _ in 0..2 {
            assert!(host.reaches_sshd(intruder));
        }
        host.fail2ban.server.expect_line(&["[sshd]", &format!("Ban {intruder}")]);
        eventually("the intruder to be refused", || (!host.reaches_sshd(intruder)).then_some(()));
        host.gateway.expect_log(&["session closed", &format!("client={intruder}:"), "reason=client_denied"]);
        let denied = host.denied();
        assert!(denied.contains(&intruder.to_string()) && denied.contains("fail2ban sshd"), "{denied}");
        assert!(host.reaches_sshd(HONEST.parse().expect("an address")), "another client still gets in");

        host.fail2ban.client(&host.net, &["set", "sshd", "unbanip", &intruder.to_string()]);
        eventually("the intruder to be let in again", || host.reaches_sshd(intruder).then_some(()));
    });
}

/// Another client beside [`Family::client`].
const HONEST: &str = "192.0.2.8";
