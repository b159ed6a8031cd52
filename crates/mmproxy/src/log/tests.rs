//! What is logged of hostile peers, and of honest ones.

use super::*;
use mmproxy_forwarder::{AllowList, Gateway, GatewayConfig, Listener, Shutdown, Targets};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing_subscriber::fmt::MakeWriter;

/// A log in memory.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Paper {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Says when a session has been logged.
struct Told(SessionLog, UnboundedSender<()>);

impl Observer for Told {
    fn session_closed(&self, report: &SessionReport) {
        self.0.session_closed(report);
        self.1.send(()).ok();
    }
}

/// What is logged of connections that send these bytes and leave.
fn logged(format: LogFormat, wires: &[Vec<u8>]) -> String {
    let paper = Paper::default();
    let serve = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let targets = Targets::new(Some("127.0.0.1:1".parse().unwrap()), None).unwrap();
            let config = GatewayConfig::new(AllowList::parse("127.0.0.0/8").unwrap(), targets);
            let (tell, mut told) = unbounded_channel();
            let gateway = Gateway::new(config, Told(SessionLog::new("a name"), tell)).unwrap();
            let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).unwrap();
            for wire in wires {
                TcpStream::connect(listener.local_addr()).unwrap().write_all(wire).unwrap();
            }
            let shutdown = Shutdown::new();
            let stop = shutdown.clone();
            let serving = tokio::spawn(async move { gateway.serve(listener, &stop).await });
            for _ in wires {
                told.recv().await.unwrap();
            }
            shutdown.cut();
            serving.await.unwrap().unwrap();
        });
    };
    match format {
        LogFormat::Json => {
            let lines = sink::json(LevelFilter::DEBUG, paper.clone());
            tracing::subscriber::with_default(lines, serve);
        }
        LogFormat::Text | LogFormat::Journald => {
            let lines = sink::text(LevelFilter::DEBUG, false, paper.clone());
            tracing::subscriber::with_default(lines, serve);
        }
    }
    let bytes = paper.0.lock().unwrap().clone();
    String::from_utf8(bytes).expect("a log is text")
}

/// A header that tells `text` wherever there is room for text, of a client that is refused: nothing is connected to.
fn header(text: &[u8]) -> Vec<u8> {
    let tlv = |kind: u8, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], value].concat()
    };
    let ssl = [&[7, 0, 0, 0, 0][..], &tlv(0x21, text), &tlv(0x22, text), &tlv(0x23, text)].concat();
    let aws = [&[1], text].concat();
    let tlvs = [tlv(1, text), tlv(2, text), tlv(5, text), tlv(0xea, &aws), tlv(0x20, &ssl)].concat();
    let addresses = [127, 0, 0, 9, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];
    let length = u16::try_from(addresses.len() + tlvs.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, &tlvs].concat()
}

/// Text that would do harm to a terminal or to whoever reads lines, and any bytes.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[\\x00-\\x1f\\x7f-\u{9f}\"\\\\{}=a\u{202e}\u{2028}é]{1,60}".prop_map(String::into_bytes),
        vec(any::<u8>(), 1..60),
    ]
}

fn wires() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(prop_oneof![hostile(), hostile().prop_map(|text| header(&text))], 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_line_of_json_is_one_object_whatever_peers_send(wires in wires()) {
        let log = logged(LogFormat::Json, &wires);
        let closed = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let closed = closed.filter(|object| object["message"] == "session closed").count();
        prop_assert_eq!(closed, wires.len());
        prop_assert!(!log.contains(|symbol: char| symbol.is_control() && symbol != '\n'), "{:?}", log);
    }

    #[test]
    fn no_control_character_reaches_a_terminal_and_nobody_writes_lines_but_the_program(wires in wires()) {
        let log = logged(LogFormat::Text, &wires);
        prop_assert!(log.lines().all(|line| line.contains(" session ") || line.contains(" accepting ")), "{}", log);
        prop_assert_eq!(log.lines().filter(|line| line.contains("session closed")).count(), wires.len());
        prop_assert!(log.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{:?}", log);
    }
}

#[test]
fn a_record_has_what_the_header_told() {
    let log = logged(LogFormat::Json, &[header(b"example.org")]);
    let record = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let record = record.into_iter().find(|object| object["message"] == "session closed").unwrap();
    for (field, value) in [
        ("authority", "example.org"),
        ("unique_id", "example.org"),
        ("alpn", "example.org"),
        ("aws_vpc_endpoint", "example.org"),
        ("tls_version", "example.org"),
        ("tls_client_cn", "example.org"),
        ("client", "127.0.0.9:4711"),
        ("header", "v2"),
        ("service", "a name"),
    ] {
        assert_eq!(record[field], value, "{record}");
    }
    assert_eq!((&record["tls"], &record["tls_client_verified"]), (&true.into(), &true.into()));
    assert!(record["header_ms"].is_f64() && record["id"] == 1, "{record}");
}

#[test]
fn a_missing_header_is_told_with_what_came_instead() {
    let log = logged(LogFormat::Text, &[b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()]);
    assert!(log.contains("looks like an SSH banner"), "{log}");
}
