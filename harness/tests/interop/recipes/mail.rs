//! The recipe for mail, before Postfix and Dovecot: what both think of a client goes by its address.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::expect::eventually;
use harness::{
    Balancer, Connection, Family, Program, Topology, Version, installed, isolated, ordinary_user, run,
    scratch, shell,
};

use super::serve;
use crate::haproxy::{HaProxy, frontend};
use crate::mail::{answers, say};

/// Starts the gateway of the recipe, which has one port for each of the three services.
#[track_caller]
fn gateway(net: &Topology) -> Program {
    serve(net, "mail.toml", &[], &["[::]:2525", "[::]:2587", "[::]:2993"])
}

/// A directory in the test's own, which everybody may write to.
#[track_caller]
fn directory(name: &str) -> PathBuf {
    let directory = scratch().join(name);
    fs::create_dir_all(&directory).expect("the test's own directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("the test's own directory");
    directory
}

/// Starts Postfix with the services of SMTP, of submission, and of delivery to bob@example.net, whose mailbox is returned.
/// Whoever is at 127.0.0.1 or ::1 may relay, as Debian has it.
///
/// It logs to what is its standard output, and looks no name up: nobody would answer.
#[track_caller]
fn start_postfix(net: &Topology) -> (Program, PathBuf) {
    let root = directory("postfix");
    for name in ["config", "queue", "data", "mail"] {
        fs::create_dir(root.join(name)).expect("the test's own directory");
    }
    // Its own user has its data, nobody the mailbox.
    chown(root.join("data"), Some(user("postfix")), None).expect("the machine's root");
    chown(root.join("mail"), Some(NOBODY), None).expect("the machine's root");
    let at = root.display();
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\n\
         maillog_file = /dev/stdout\nmyhostname = mail.example.net\nmydestination =\nalias_maps =\n\
         mynetworks = 127.0.0.0/8 [::1]/128\ninet_interfaces = 127.0.0.1, [::1]\nsmtpd_peername_lookup = no\n\
         smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
         virtual_mailbox_domains = example.net\nvirtual_mailbox_base = {at}/mail\n\
         virtual_mailbox_maps = static:bob\nvirtual_uid_maps = static:{NOBODY}\n\
         virtual_gid_maps = static:{NOBODY}\n"
    );
    let master = "smtp inet n - n - - smtpd\n\
                  submission inet n - n - - smtpd -o syslog_name=postfix/submission\n\
                  cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
                  bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
                  virtual unix - n n - - virtual\nproxymap unix - - n - - proxymap\nanvil unix - - n - 1 anvil\n\
                  tlsmgr unix - - n - 1 tlsmgr\npostlog unix-dgram n - n - 1 postlogd\n";
    fs::write(root.join("config/main.cf"), main).expect("the test's own directory");
    fs::write(root.join("config/master.cf"), master).expect("the test's own directory");
    let mut postfix = Command::new(installed("postfix", "postfix"));
    postfix.arg("-c").arg(root.join("config")).arg("start-fg");
    let program = Program::start(&net.gateway, &mut postfix);
    for port in [25, 587] {
        program.expect_listener(&net.gateway, port);
    }
    (program, root.join("mail/bob"))
}

/// The number of a user of this machine.
#[track_caller]
fn user(name: &str) -> u32 {
    let users = fs::read_to_string("/etc/passwd").expect("every machine has one");
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let of = fields.into_iter().find(|fields| fields[0] == name);
    of.unwrap_or_else(|| panic!("there is no user {name}"))[2].parse().expect("a number")
}

/// Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// Whether user 0 here is the machine's, so that there are other users to become.
fn machine_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("proc is mounted");
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Waits for a mail in `mailbox` whose first "Received:" names `client`.
#[track_caller]
fn expect_received(mailbox: &Path, client: SocketAddr) {
    let shown = match client {
        SocketAddr::V4(v4) => format!("[{}]", v4.ip()),
        SocketAddr::V6(v6) => format!("[IPv6:{}]", v6.ip()),
    };
    let line = format!("Received: from client.example (unknown {shown})");
    eventually(&line, || fs::read_to_string(mailbox).ok()?.contains(&line).then_some(()));
}

#[test]
fn the_recipe_for_mail_serves_postfix_which_goes_by_the_clients_address() {
    isolated(|| {
        // Its programs become users of their own.
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        let net = Topology::new();
        let clients = net.clients();
        let (postfix, mailbox) = start_postfix(&net);
        let gateway = gateway(&net);
        let _haproxy = HaProxy::start(&net, "10.0.0.1:2525 send-proxy-v2");
        let balancer = Balancer::of(&net);
        for family in Family::BOTH {
            let client = Connection::open(&clients, frontend(family));
            let ip = client.local().ip();
            postfix.expect_line(&["postfix/smtpd", &format!("connect from unknown[{ip}]")]);
            answers(&client, "220 mail.example.net ESMTP Postfix");
            say(&client, "EHLO client.example", "250");
            say(&client, "MAIL FROM:<alice@example.org>", "250");
            // Anybody from 127.0.0.1 or ::1 might.
            say(&client, "RCPT TO:<carol@example.com>", "554 5.7.1 <carol@example.com>: Relay access denied");
            postfix.expect_line(&["NOQUEUE: reject: RCPT from", &format!("[{ip}]"), "Relay access denied"]);
            say(&client, "RCPT TO:<bob@example.net>", "250");
            say(&client, "DATA", "354");
            say(&client, "Subject: hello\r\n\r\nHello, Bob.\r\n.", "250");
            say(&client, "QUIT", "221");
            expect_received(&mailbox, client.local());

            let user = SocketAddr::new(family.client(), 50_587);
            let header = Version::V2.header(user, SocketAddr::new(family.frontend(), 587));
            let at = |port| SocketAddr::new(family.gateway(), port);
            let submission = balancer.announce(at(2587), &header, b"");
            answers(&submission, "220");
            let connects = ["postfix/submission/smtpd", &format!("connect from unknown[{}]", user.ip())];
            postfix.expect_line(&connects);
            say(&submission, "QUIT", "221");

            // Postfix greets whoever connects; nobody greets a health check.
            for port in [2525, 2587] {
                balancer.announce(at(port), &Version::V2.local(), b"").expect_end();
            }
        }
        gateway.stop().expect_code(0);
    });
}

/// Starts Dovecot as an ordinary user, with IMAP over TLS, a password for everybody, and its log on standard error.
///
/// The configuration is in the language of Dovecot 2.3, which Debian 12 and Ubuntu 24.04 have; that of 2.4 is another.
#[track_caller]
fn start_dovecot(net: &Topology) -> Program {
    installed("openssl", "openssl");
    let root = directory("dovecot");
    let home = directory("dovecot/home");
    let (at, base) = (root.display(), directory("dovecot/base"));
    shell(
        &net.gateway,
        &format!(
            "cd {at}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch \
             -keyout key.pem -out certificate.pem -subj /CN=mail.example.net; chmod 644 key.pem"
        ),
    );
    let (base, home) = (base.display(), home.display());
    let text = format!(
        "base_dir = {base}\nstate_dir = {base}\nlog_path = /dev/stderr\nprotocols = imap\n\
         listen = 127.0.0.1, ::1\nssl = required\nssl_cert = <{at}/certificate.pem\nssl_key = <{at}/key.pem\n\
         default_login_user = nobody\ndefault_internal_user = nobody\ndefault_internal_group = nogroup\n\
         first_valid_uid = 1\nauth_failure_delay = 0\nmail_location = maildir:{home}/mail\n\
         service imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = 0\n  }}\n}}\n\
         service anvil {{\n  chroot =\n}}\n\
         passdb {{\n  driver = static\n  args = password=secret\n}}\n\
         userdb {{\n  driver = static\n  args = uid={NOBODY} gid={NOBODY} home={home}\n}}\n"
    );
    let config = root.join("dovecot.conf");
    fs::write(&config, text).expect("the test's own directory");
    // An ordinary user may listen on port 993 of this namespace alone.
    net.gateway.set_sysctl("net.ipv4.ip_unprivileged_port_start", "0");
    let mut dovecot = Command::new(installed("dovecot", "dovecot-core dovecot-imapd"));
    dovecot.arg("-F").arg("-c").arg(&config);
    let program = Program::start(&net.gateway, &mut ordinary_user(&dovecot));
    program.expect_listener(&net.gateway, 993);
    program
}

#[test]
fn the_recipe_for_mail_serves_dovecot_which_logs_the_clients_address() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let dovecot = start_dovecot(&net);
        let gateway = gateway(&net);
        let _haproxy = HaProxy::start(&net, "10.0.0.1:2993 send-proxy-v2");
        for (family, password) in [(Family::V4, "secret"), (Family::V6, "secret"), (Family::V4, "guessed")] {
            let mut client = Command::new(installed("openssl", "openssl"));
            client.args(["s_client", "-quiet", "-connect", &frontend(family).to_string()]);
            let said = format!("a LOGIN alice {password}\r\nb LOGOUT\r\n");
            run(&clients, &mut client, said.as_bytes()).expect_text(&["b OK Logout completed"]);
            // What fail2ban acts on, and who is in the mail's own log.
            let end = if password == "secret" { "Login: user=<alice>" } else { "auth failed" };
            let (rip, lip) = (family.client(), family.loopback());
            dovecot.expect_line(&["imap-login", end, &format!("rip={rip}, lip={lip}"), "TLS"]);
        }
        gateway.stop().expect_code(0);
    });
}
