//! What the gateway counts, as it tells Prometheus.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::expect::DEADLINE;
use crate::netns::Namespace;

/// One answer to a question for metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    said: String,
}

impl Metrics {
    /// Asks whoever listens at `admin` in `namespace`; `None` while nobody answers.
    pub fn ask(namespace: &Namespace, admin: SocketAddr) -> Option<Self> {
        let stream = namespace.run(|| TcpStream::connect(admin)).ok()?;
        get(stream).filter(|said| said.starts_with("HTTP/1.1 200")).map(|said| Self { said })
    }

    /// The sum of all samples of a metric whose labels have this part.
    pub fn sum(&self, metric: &str, label: &str) -> f64 {
        let samples = self.said.lines().filter_map(|line| line.rsplit_once(' '));
        let of_it = samples
            .filter(|(name, _)| name.split('{').next() == Some(metric) && name.contains(label))
            .filter_map(|(_, value)| value.parse::<f64>().ok());
        of_it.sum()
    }

    /// The sum of all samples of a counter.
    pub fn count(&self, metric: &str) -> u64 {
        whole(self.sum(metric, ""))
    }

    /// A counter with a label `reason`, by that; without those that are 0.
    pub fn by_reason(&self, metric: &str) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        let samples = self.said.lines().filter_map(|line| line.rsplit_once(' '));
        for (name, value) in samples.filter(|(name, _)| name.split('{').next() == Some(metric)) {
            let reason = name.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next());
            if let (Some(reason), Some(number @ 1..)) = (reason, value.parse().ok().map(whole)) {
                *reasons.entry(reason.to_owned()).or_default() += number;
            }
        }
        reasons
    }
}

fn get(mut stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter, below 2^53")]
fn whole(number: f64) -> u64 {
    number as u64
}
