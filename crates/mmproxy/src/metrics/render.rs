//! Counters as text for Prometheus and whatever else reads its formats.

use std::collections::BTreeMap;
use std::fmt;

use mmproxy_forwarder::CloseReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::{BOUNDS, Times};
use super::{ServiceSnapshot, Snapshot};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The format of before, for everybody else.
    Prometheus,
}

impl Format {
    /// What a client takes by its `Accept` header.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes `snapshot`, every metric and label that there is, also those at 0.
pub(crate) fn render(snapshot: Snapshot, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposed(snapshot)));
    let mut text = String::new();
    let written = match format {
        Format::OpenMetrics => text::encode(&mut text, &registry),
        Format::Prometheus => prometheus_text::encode(&mut text, &registry),
    };
    // A String takes everything.
    written.expect("writing to a string does not fail");
    text
}

#[derive(Debug)]
struct Exposed(Snapshot);

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(snapshot) = self;
        let mut out = Out(&mut encoder);
        out.info("mmproxy_build_info", "Version of the program.", &[("version", env!("CARGO_PKG_VERSION"))])?;
        services(snapshot, &mut out)?;
        flows(snapshot, &mut out)?;
        host(snapshot, &mut out)
    }
}

fn services(snapshot: &Snapshot, out: &mut Out<'_, '_>) -> fmt::Result {
    let each = || snapshot.services.iter();
    out.counter(
        "mmproxy_sessions_opened_total",
        "Connections accepted.",
        each().map(|(name, service)| (labels([("service", name)]), service.opened)),
    )?;
    out.gauge(
        "mmproxy_sessions_active",
        "Sessions that live.",
        each().map(|(name, service)| (labels([("service", name)]), service.active() as f64)),
    )?;
    out.counter(
        "mmproxy_sessions_closed_total",
        "Sessions that ended, by reason and by whose fault it was.",
        each().flat_map(|(name, service)| blamed(name, &service.closed)),
    )?;
    out.counter(
        "mmproxy_sessions_refused_total",
        "Those of them that never reached the target.",
        each().flat_map(|(name, service)| blamed(name, &service.refused)),
    )?;
    out.counter(
        "mmproxy_headers_total",
        "Headers read, by version.",
        by(snapshot, "version", |service| &service.headers),
    )?;
    type Of = fn(&ServiceSnapshot) -> &Times;
    let times: [(_, _, Of); 3] = [
        ("mmproxy_header_duration_seconds", "From accept to the end of the header.", |service| {
            &service.header_time
        }),
        (
            "mmproxy_dial_duration_seconds",
            "From the end of the header to the connection to the target.",
            |service| &service.dial_time,
        ),
        (
            "mmproxy_first_byte_duration_seconds",
            "From the connection to the target to its first byte, of sessions that ended.",
            |service| &service.first_byte_time,
        ),
    ];
    for (name, help, of) in times {
        out.histogram(
            name,
            help,
            each().map(|(service, counted)| (labels([("service", service)]), of(counted))),
        )?;
    }
    out.counter(
        "mmproxy_bytes_total",
        "Payload delivered, by direction and by the way it took through the gateway.",
        each().flat_map(|(name, service)| {
            service.bytes.iter().filter_map(move |(kind, bytes)| {
                let (direction, path) = kind.split_once('/')?;
                Some((labels([("service", name), ("direction", direction), ("path", path)]), *bytes))
            })
        }),
    )?;
    out.counter(
        "mmproxy_port_fallbacks_total",
        "Client ports that the target does not see, by cause.",
        by(snapshot, "cause", |service| &service.port_fallbacks),
    )?;
    out.counter(
        "mmproxy_accept_pauses_total",
        "Times that accepting waited because the machine was out of something.",
        each().map(|(name, service)| (labels([("service", name)]), service.accept_pauses)),
    )?;
    out.gauge(
        "mmproxy_target_up",
        "Whether the target answered when it was asked last.",
        each().flat_map(|(name, service)| {
            service.targets.iter().map(move |(target, up)| {
                (labels([("service", name), ("target", target)]), f64::from(u8::from(*up)))
            })
        }),
    )
}

fn flows(snapshot: &Snapshot, out: &mut Out<'_, '_>) -> fmt::Result {
    let each = || snapshot.services.iter();
    out.counter(
        "mmproxy_flows_opened_total",
        "Flows of datagrams that began.",
        each().map(|(name, service)| (labels([("service", name)]), service.flows_opened)),
    )?;
    out.gauge(
        "mmproxy_flows_active",
        "Flows that live.",
        each().map(|(name, service)| (labels([("service", name)]), service.flows_active() as f64)),
    )?;
    out.counter(
        "mmproxy_flows_closed_total",
        "Flows that ended, by reason; evicted ones had to make room.",
        by(snapshot, "reason", |service| &service.flows_closed),
    )?;
    out.counter(
        "mmproxy_datagrams_total",
        "Datagrams forwarded, by direction.",
        by(snapshot, "direction", |service| &service.datagrams),
    )?;
    out.counter(
        "mmproxy_datagrams_dropped_total",
        "Datagrams that went nowhere, by reason.",
        by(snapshot, "reason", |service| &service.dropped),
    )?;
    out.counter(
        "mmproxy_replies_fragmented_total",
        "Replies that went in fragments because of the header in front of them.",
        each().map(|(name, service)| (labels([("service", name)]), service.replies_fragmented)),
    )
}

fn host(snapshot: &Snapshot, out: &mut Out<'_, '_>) -> fmt::Result {
    let processes = || snapshot.processes.iter();
    let number = |number: u64| number as f64;
    out.gauge(
        "mmproxy_open_descriptors",
        "Descriptors in use.",
        processes()
            .filter_map(|(name, process)| Some((labels([("process", name)]), number(process.descriptors?)))),
    )?;
    out.gauge(
        "mmproxy_descriptor_limit",
        "Descriptors that there may be.",
        processes().map(|(name, process)| (labels([("process", name)]), number(process.descriptor_limit))),
    )?;
    out.gauge(
        "mmproxy_start_time_seconds",
        "When the process started, in seconds since 1970.",
        processes().map(|(name, process)| (labels([("process", name)]), number(process.started))),
    )?;
    out.gauge("mmproxy_worker_threads", "Threads that serve.", [(Vec::new(), number(snapshot.threads))])?;
    out.counter(
        "mmproxy_worker_restarts_total",
        "Worker processes that ended without being told to.",
        [(Vec::new(), snapshot.worker_restarts)],
    )?;
    out.counter(
        "mmproxy_reloads_total",
        "Attempts to take up a changed configuration, by outcome.",
        snapshot.reloads.iter().map(|(outcome, times)| (labels([("outcome", outcome)]), *times)),
    )?;
    out.gauge(
        "mmproxy_return_path_intact",
        "Whether everything of the return path is there.",
        snapshot
            .return_path
            .iter()
            .map(|(place, intact)| (labels([("place", place)]), f64::from(u8::from(*intact)))),
    )
}

/// Values of a label that each service has its own of.
fn by<'a>(
    snapshot: &'a Snapshot,
    label: &'static str,
    of: impl Fn(&'a ServiceSnapshot) -> &'a BTreeMap<String, u64> + 'a,
) -> impl Iterator<Item = (Labels, u64)> + 'a {
    snapshot.services.iter().flat_map(move |(name, service)| {
        of(service).iter().map(move |(value, count)| (labels([("service", name), (label, value)]), *count))
    })
}

fn blamed<'a>(name: &'a str, counts: &'a BTreeMap<String, u64>) -> impl Iterator<Item = (Labels, u64)> + 'a {
    counts.iter().map(move |(reason, count)| {
        let known = CloseReason::ALL.into_iter().find(|known| known.label() == reason);
        let blame = known.map_or("gateway", |known| known.blame().label());
        (labels([("service", name), ("reason", reason), ("blame", blame)]), *count)
    })
}

type Labels = Vec<(&'static str, String)>;

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.into_iter().map(|(label, value)| (label, value.to_owned())).collect()
}

/// Writes one metric after the other. A metric without values is left out.
struct Out<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Out<'_, '_> {
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        // The encoder writes the ending itself.
        let name = name.trim_end_matches("_total");
        self.family(name, help, MetricType::Counter, values, |mut encoder, value| {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, values, |mut encoder, value| encoder.encode_gauge(&value))
    }

    fn histogram<'t>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, &'t Times)>,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, values, |mut encoder, times| {
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let counts = times.buckets.iter().copied().chain(std::iter::repeat(0));
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let sum = times.nanos as f64 / 1e9;
            encoder.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
        })
    }

    fn info(&mut self, name: &str, help: &str, pairs: &[(&'static str, &str)]) -> fmt::Result {
        let labels = pairs.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        // As a gauge that is 1, which both formats know.
        self.gauge(name, help, [(labels, 1.0)])
    }

    fn family<T>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels, T)>,
        encode: impl Fn(MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                // A metric without labels has one value.
                return encode(metric, value);
            }
            encode(metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ServiceMetrics;

    /// Everything there is.
    fn full() -> Snapshot {
        let mut service = ServiceMetrics::new().snapshot();
        service.bytes.insert("up/copy".to_owned(), 7);
        service.targets.insert("127.0.0.1:22".to_owned(), true);
        let mut snapshot = Snapshot { threads: 2, ..Snapshot::default() };
        snapshot.services.insert("a \"quoted\"\nname".to_owned(), service);
        snapshot.return_path.insert("host".to_owned(), false);
        snapshot.reloads.insert("applied".to_owned(), 1);
        snapshot
    }

    #[test]
    fn openmetrics_ends_as_it_has_to_and_keeps_hostile_names_in_their_labels() {
        let text = render(full(), Format::OpenMetrics);
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains(
            "mmproxy_bytes_total{service=\"a \\\"quoted\\\"\\nname\",direction=\"up\",path=\"copy\"} 7\n"
        ));
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("mmproxy_")), "{text}");
    }

    #[test]
    fn the_older_format_names_counters_as_they_are_sampled() {
        let text = render(full(), Format::Prometheus);
        assert!(text.contains("# TYPE mmproxy_sessions_opened_total counter\n"), "{text}");
        assert!(!text.contains("# EOF"));
        let infinite =
            "mmproxy_dial_duration_seconds_bucket{service=\"a \\\"quoted\\\"\\nname\",le=\"+Inf\"} 0\n";
        assert_eq!(text.matches(infinite).count(), 1, "{text}");
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
