//! What the encoder writes is accepted by the receivers that matter: a real HAProxy and a real nginx.
//!
//! They listen on UNIX sockets in a temporary folder and answer every request with what they understood of the
//! header. Both programs must be in PATH; without one of them its tests fail and say so.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mmproxy_codec::encode::{self, V2Encoder};
use mmproxy_codec::{Addresses, SslClient, TlvType, Transport};
use tempfile::TempDir;

#[test]
fn haproxy_accepts_what_the_encoder_writes() {
    let haproxy = Receiver::haproxy();
    accepts_addresses(&haproxy);
    let mut buf = [0; 512];
    let header = full(&mut buf, address("192.0.2.7:4711"), address("198.51.100.1:443"));
    assert_eq!(
        haproxy.answer(header).as_deref(),
        Some("192.0.2.7 4711 198.51.100.1 443 authority=example.test id=id-1")
    );
}

#[test]
fn haproxy_verifies_the_checksum_that_the_encoder_fills_in() {
    let haproxy = Receiver::haproxy();
    let mut buf = [0; 512];
    let mut header = full(&mut buf, address("192.0.2.7:4711"), address("198.51.100.1:443")).to_vec();
    assert!(haproxy.answer(&header).is_some());
    header[19] ^= 1;
    assert_eq!(haproxy.answer(&header), None, "another address, and the checksum of the old one");
}

#[test]
fn nginx_accepts_what_the_encoder_writes() {
    let nginx = Receiver::nginx();
    accepts_addresses(&nginx);
    let mut buf = [0; 512];
    let header = full(&mut buf, address("192.0.2.7:4711"), address("198.51.100.1:443"));
    assert_eq!(nginx.answer(header).as_deref(), Some("192.0.2.7 4711 198.51.100.1 443 authority= id="));
}

/// Every pair of families in both versions, and the headers without addresses.
fn accepts_addresses(receiver: &Receiver) {
    for (source, destination, understood) in [
        ("192.0.2.7:4711", "198.51.100.1:443", "192.0.2.7 4711 198.51.100.1 443"),
        ("0.0.0.0:1", "255.255.255.255:65535", "0.0.0.0 1 255.255.255.255 65535"),
        ("[2001:db8::7]:4711", "[2001:db8::1]:443", "2001:db8::7 4711 2001:db8::1 443"),
        ("[2001:db8::7]:4711", "198.51.100.1:443", "2001:db8::7 4711 ::ffff:198.51.100.1 443"),
        ("192.0.2.7:4711", "[2001:db8::1]:443", "::ffff:192.0.2.7 4711 2001:db8::1 443"),
    ] {
        let (source, destination) = (address(source), address(destination));
        let understood = format!("{understood} authority= id=");
        let line = encode::v1(source, destination).expect("v1 can say this");
        assert_eq!(receiver.answer(&line).as_deref(), Some(understood.as_str()), "{line:?}");
        let mut buf = [0; 64];
        let header = encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination));
        let header = header.expect("v2 can say this").finish();
        assert_eq!(receiver.answer(header).as_deref(), Some(understood.as_str()), "v2, {understood}");
    }
    assert!(receiver.answer(&encode::v1_unknown()).is_some(), "UNKNOWN");
    let mut buf = [0; 16];
    let local = encode::v2_local(&mut buf).expect("16 bytes are enough").finish();
    assert!(receiver.answer(local).is_some(), "LOCAL");
}

/// A header with TLVs of all kinds, checksum last.
fn full(buf: &mut [u8], source: SocketAddr, destination: SocketAddr) -> &[u8] {
    encode::v2(buf, Transport::Stream, Addresses::between(source, destination))
        .and_then(|header| header.tlv(TlvType::ALPN, b"http/1.1"))
        .and_then(|header| header.tlv(TlvType::NOOP, b"padding"))
        .and_then(|header| header.tlv(TlvType::AUTHORITY, b"example.test"))
        .and_then(|header| header.tlv(TlvType::UNIQUE_ID, b"id-1"))
        .and_then(|header| header.ssl(SslClient::SSL, 0, &[(TlvType::SSL_VERSION, b"TLSv1.3")]))
        .and_then(V2Encoder::finish_with_crc)
        .expect("it fits")
}

/// A running server, which is killed at the end, and its folder.
struct Receiver {
    child: Child,
    folder: TempDir,
}

impl Receiver {
    fn haproxy() -> Self {
        Self::start("haproxy", &["-f"], |socket| {
            format!(
                "defaults\n  mode http\n  timeout connect 10s\n  timeout client 10s\n  timeout server 10s\n\
                 frontend test\n  bind unix@{socket} accept-proxy\n  http-request return status 200 \
                 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port] \
                 authority=%[fc_pp_authority] id=%[fc_pp_unique_id]\"\n"
            )
        })
    }

    fn nginx() -> Self {
        Self::start("nginx", &["-e", "stderr", "-c"], |socket| {
            let folder = Path::new(socket).parent().expect("a folder").display();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
                .collect();
            format!(
                "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{\n{temporary}  access_log off;\n  server {{\n    listen unix:{socket} proxy_protocol;\n    \
                 return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr \
                 $proxy_protocol_server_port authority= id=\";\n  }}\n}}\n"
            )
        })
    }

    fn start(program: &str, arguments: &[&str], configuration: impl Fn(&str) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let socket = folder.path().join("socket");
        let file = folder.path().join("configuration");
        fs::write(&file, configuration(&socket.display().to_string())).expect("it can be written");
        // Debian keeps servers in sbin, which is not in everybody's PATH.
        let path = format!("{}:/usr/local/sbin:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new(program)
            .args(arguments)
            .arg(&file)
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        let mut this = Self { child, folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = UnixStream::connect(&socket) {
            let ended = this.child.try_wait().expect("its status can be asked for");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{program} is not ready: {error} {ended:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
        this
    }

    /// What it says it understood, or `None` if it closed the connection.
    fn answer(&self, header: &[u8]) -> Option<String> {
        let mut connection = UnixStream::connect(self.folder.path().join("socket")).expect("it listens");
        connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        // A receiver that refuses the header may be gone before the request is written.
        let sent = connection.write_all(&[header, request].concat());
        match sent.and_then(|()| connection.read_to_string(&mut answer)) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("no answer: {error}"),
        }
        let body = answer.strip_prefix("HTTP/1.1 200")?.split_once("\r\n\r\n")?.1;
        Some(body.replace("authority=-", "authority=").replace("id=-", "id=").trim().to_owned())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Nothing is left to be done if it is gone already.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
