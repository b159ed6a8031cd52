//! An SMTP server speaks first, and notes whom each message is from.

use std::process::Command;

use harness::{Connection, Family, Program, Topology, installed, isolated};

use crate::scene::Scene;

const PORT: u16 = 8025;

/// Starts aiosmtpd on the loopback address of `family`; it prints every message with the address it came from.
#[track_caller]
fn start(net: &Topology, family: Family) -> Program {
    let mut server = Command::new(installed("aiosmtpd", "python3-aiosmtpd"));
    let address = format!("{}:{PORT}", family.loopback());
    server.args(["-n", "-d", "-l", &address, "-c", "aiosmtpd.handlers.Debugging", "stdout"]);
    let server = Program::start(&net.gateway, server.env("PYTHONUNBUFFERED", "1"));
    // It listens before it says so.
    server.expect_line(&["Server is listening on"]);
    server
}

/// Says `command`, and expects an answer that begins with `code`.
#[track_caller]
pub(crate) fn say(client: &Connection, command: &str, code: &str) {
    client.send(format!("{command}\r\n").as_bytes());
    answers(client, code);
}

/// Expects an answer that begins with `code`, of one line or of several.
#[track_caller]
pub(crate) fn answers(client: &Connection, code: &str) {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.receive(1));
    }
    let line = String::from_utf8(line).expect("ASCII");
    assert!(line.starts_with(code), "{line} is not {code}");
    if line.as_bytes()[code.len()] == b'-' {
        answers(client, code);
    }
}

#[test]
fn a_mail_server_greets_first_and_notes_the_client_of_a_message() {
    isolated(|| {
        let mut v6 = None;
        let scene = Scene::before(PORT, |net| {
            v6 = Some(start(net, Family::V6));
            start(net, Family::V4)
        });
        let v6 = v6.expect("it was started");
        for (family, server) in [(Family::V4, &scene.server), (Family::V6, &v6)] {
            let client = scene.connect(family);
            answers(&client, "220");
            say(&client, "EHLO client.example", "250");
            say(&client, "MAIL FROM:<alice@example.org>", "250");
            say(&client, "RCPT TO:<bob@example.net>", "250");
            say(&client, "DATA", "354");
            say(&client, "Subject: hello\r\n\r\nHello, Bob.\r\n.", "250");
            say(&client, "QUIT", "221");
            let (ip, port) = (client.local().ip(), client.local().port());
            server.expect_line(&["X-Peer:", &ip.to_string(), &port.to_string()]);
        }
    });
}
