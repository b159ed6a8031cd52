//! Reads the vector files. Strict: a typing error must not turn a vector into one that checks less.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Endpoint, Expect, Expected, ExpectedSsl, Transport, Vector, bytes};

/// All vectors of all files, in the order of the files' names.
///
/// # Panics
///
/// If a file cannot be read or is not in the format of `tests/vectors/README.md`.
pub(crate) fn all() -> Vec<Vector> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let entries = fs::read_dir(&directory).expect("the directory of the vectors is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files.iter().flat_map(|path| file(&fs::read_to_string(path).expect("vectors are ASCII text"))).collect()
}

/// The vectors of one file.
fn file(text: &str) -> Vec<Vector> {
    let mut vectors: Vec<Fields<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with(' ') {
            let (_, value) =
                vectors.last_mut().and_then(|fields| fields.0.last_mut()).expect("a value to continue");
            value.push('\n');
            value.push_str(line);
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key in {line:?}"));
        if key == "name" {
            vectors.push(Fields(Vec::new()));
        }
        let fields = vectors.last_mut().unwrap_or_else(|| panic!("{line:?} before the first name"));
        fields.0.push((key, value.trim().to_owned()));
    }
    vectors.into_iter().map(Fields::into_vector).collect()
}

/// Keys and values of one vector that have not been understood yet.
struct Fields<'t>(Vec<(&'t str, String)>);

impl Fields<'_> {
    fn into_vector(mut self) -> Vector {
        let name = self.one("name");
        assert!(self.maybe("why").is_some(), "{name}: every vector says why");
        drop(self.maybe("note"));
        let transport = match self.one("transport").as_str() {
            "stream" => Transport::Stream,
            "datagram" => Transport::Datagram,
            other => panic!("{name}: transport {other:?}"),
        };
        let max_v2_len = self.maybe("max_v2_len").map(|text| number(&text));
        let bytes = bytes(&self.one("bytes"));
        let expect = match self.one("expect").as_str() {
            "ok" => Expect::Ok(Box::new(self.expected())),
            "incomplete" => Expect::Incomplete,
            "error" => Expect::Error(self.one("error")),
            "not_proxy" => Expect::NotProxy,
            other => panic!("{name}: expect {other:?}"),
        };
        assert!(self.0.is_empty(), "{name}: unknown or repeated {:?}", self.0);
        Vector { name, transport, max_v2_len, bytes, expect }
    }

    fn expected(&mut self) -> Expected {
        Expected {
            version: self.one("version"),
            command: self.one("command"),
            family: self.one("family"),
            protocol: self.one("protocol"),
            source: endpoint(&self.one("src")),
            destination: endpoint(&self.one("dst")),
            header_len: number(&self.one("header_len")),
            tlvs: self.tlvs(),
            ssl: self.ssl(),
            vendor: self.many("vendor").iter().map(|text| pair(text)).collect(),
        }
    }

    fn tlvs(&mut self) -> Option<Vec<(u8, Vec<u8>)>> {
        let listed = self.many("tlv");
        match self.maybe("tlvs").as_deref() {
            None => {
                assert!(!listed.is_empty(), "neither tlv nor tlvs");
                Some(listed.iter().map(|text| tlv(text)).collect())
            }
            Some("none") if listed.is_empty() => Some(Vec::new()),
            Some("opaque") if listed.is_empty() => None,
            Some(other) => panic!("tlvs {other:?} and {} times tlv", listed.len()),
        }
    }

    fn ssl(&mut self) -> Option<ExpectedSsl> {
        let tlvs = self.many("ssl_tlv").iter().map(|text| tlv(text)).collect();
        let text = self.maybe("ssl")?;
        if text == "malformed" {
            return Some(ExpectedSsl::Malformed);
        }
        let words: Vec<&str> = text.split(' ').collect();
        let ["client", client, "verify", verify] = words[..] else { panic!("ssl {text:?}") };
        let client = u8::from_str_radix(client, 16).expect("client bits are hexadecimal");
        Some(ExpectedSsl::Sound { client, verify: verify.parse().expect("verify is a number"), tlvs })
    }

    fn one(&mut self, key: &str) -> String {
        self.maybe(key).unwrap_or_else(|| panic!("no {key} beside {:?}", self.0))
    }

    fn maybe(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(name, _)| *name == key)?;
        Some(self.0.remove(at).1)
    }

    fn many(&mut self, key: &str) -> Vec<String> {
        std::iter::from_fn(|| self.maybe(key)).collect()
    }
}

/// A type and a value; the value may be empty.
fn tlv(text: &str) -> (u8, Vec<u8>) {
    let mut bytes = bytes(text);
    let kind = bytes.remove(0);
    (kind, bytes)
}

fn endpoint(text: &str) -> Endpoint {
    if text == "none" {
        return Endpoint::None;
    }
    match text.strip_prefix("unix ") {
        Some(raw) => Endpoint::Unix(bytes(raw).try_into().expect("a UNIX address has 108 bytes")),
        None => Endpoint::Inet(text.parse().unwrap_or_else(|_| panic!("address {text:?}"))),
    }
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once(' ').expect("a name and a value");
    (name.to_owned(), value.to_owned())
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("number {text:?}"))
}
