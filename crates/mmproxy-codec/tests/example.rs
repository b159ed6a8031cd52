//! The example of a server that reads headers by itself, as its documentation runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

/// Ends with the test, however that ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_server_of_the_example_tells_clients_who_they_are() {
    // target/PROFILE/deps/TEST; cargo builds examples for tests, too.
    let test = std::env::current_exe().unwrap();
    let who = test.ancestors().nth(2).unwrap().join("examples/who");
    let mut server =
        Server(Command::new(&who).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("an example"));
    let mut said = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let address =
        said.strip_prefix("listening on ").and_then(|rest| rest.split(';').next()).expect("its address");

    for (pieces, answer) in [
        (
            &[&b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"[..]][..],
            "you are 192.0.2.7:4711 and wanted 198.51.100.1:443\n",
        ),
        // In two pieces, with something behind it.
        (
            &[b"PROXY TCP6 2001:db8::7 2001:db8::1 ", b"4711 443\r\nGET /"],
            "you are [2001:db8::7]:4711 and wanted [2001:db8::1]:443\n",
        ),
        // No header: no answer.
        (&[b"GET / HTTP/1.1\r\n\r\n"], ""),
    ] {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_nodelay(true).unwrap();
        for piece in pieces {
            connection.write_all(piece).unwrap();
        }
        connection.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        // A server that leaves bytes unread resets.
        connection.read_to_string(&mut heard).ok();
        assert_eq!(heard, answer);
    }
}
