//! Follows the sessions of some clients, step by step, for as long as somebody asks for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_forwarder::{
    ClaimedSource, FlowEnd, FlowReport, Observer, PeerAddr, SessionAnnounced, SessionDialing,
    SessionEstablished, SessionHalfClosed, SessionId, SessionOpened, SessionReport, unmapped,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::exit::Chain;

/// Tells subscribers of each step of the sessions that they want to follow.
///
/// While there are none a step costs one load.
#[derive(Debug)]
pub(crate) struct Trace {
    service: String,
    listening: AtomicUsize,
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    clients: IpNet,
    to: Sender<Step>,
}

/// One step of one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) service: String,
    pub(crate) id: u64,
    /// The load balancer.
    pub(crate) peer: String,
    /// As announced; missing before the header was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) client: Option<String>,
    /// `opened`, `announced`, `dialing`, `established`, `half_closed`, `closed`; of datagrams `flow_opened` and
    /// `flow_closed`.
    pub(crate) step: String,
    /// What there is to say of it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(crate) detail: String,
}

impl Trace {
    pub(crate) fn new(service: &str) -> Self {
        Self { service: service.to_owned(), listening: AtomicUsize::new(0), subscribers: Mutex::default() }
    }

    /// Steps of sessions whose client, or whose peer as long as there is no client, is in `clients`. Ends with the
    /// receiver. A receiver that falls far behind misses steps rather than hold a session up.
    pub(crate) fn follow(&self, clients: IpNet) -> Receiver<Step> {
        let (to, steps) = channel(BACKLOG);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Subscriber { clients, to });
        self.listening.store(subscribers.len(), Ordering::Release);
        steps
    }

    fn tell(
        &self,
        (id, peer, claimed): (SessionId, PeerAddr, Option<ClaimedSource>),
        step: &str,
        detail: impl FnOnce() -> String,
    ) {
        if self.listening.load(Ordering::Acquire) == 0 {
            return;
        }
        let who: IpAddr = unmapped(claimed.map_or_else(|| peer.addr(), ClaimedSource::addr)).ip();
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| !subscriber.to.is_closed());
        self.listening.store(subscribers.len(), Ordering::Release);
        let mut interested =
            subscribers.iter().filter(|subscriber| subscriber.clients.contains(&who)).peekable();
        if interested.peek().is_none() {
            return;
        }
        let step = Step {
            service: self.service.clone(),
            id: id.0,
            peer: peer.to_string(),
            client: claimed.map(|claimed| claimed.to_string()),
            step: step.to_owned(),
            detail: detail(),
        };
        for subscriber in interested {
            // Full: it misses this one.
            subscriber.to.try_send(step.clone()).ok();
        }
    }
}

impl Observer for Trace {
    fn session_opened(&self, opened: &SessionOpened) {
        self.tell((opened.id, opened.peer, None), "opened", || format!("on {}", opened.listener));
    }

    fn session_announced(&self, announced: &SessionAnnounced<'_>) {
        self.tell((announced.id, announced.peer, announced.claimed), "announced", || {
            let header = announced
                .header
                .map_or_else(|| "no header".to_owned(), |version| format!("header {version}"));
            format!("{header} after {}", millis(announced.header_time))
        });
    }

    fn session_dialing(&self, dialing: &SessionDialing) {
        self.tell((dialing.id, dialing.peer, dialing.claimed), "dialing", || {
            format!("to {}", dialing.target)
        });
    }

    fn session_established(&self, established: &SessionEstablished) {
        self.tell((established.id, established.peer, established.claimed), "established", || {
            format!("from {} after {}", established.bound, millis(established.dial_time))
        });
    }

    fn session_half_closed(&self, half: &SessionHalfClosed) {
        self.tell((half.id, half.peer, half.claimed), "half_closed", || {
            format!("the {} has ended", half.ended)
        });
    }

    fn session_closed(&self, report: &SessionReport) {
        self.tell((report.id, report.peer, report.claimed), "closed", || {
            let why = report.error.as_ref().map_or(String::new(), |error| format!(": {}", Chain(error)));
            format!(
                "{}{why}; {} bytes up, {} down, {}",
                report.reason,
                report.bytes_up,
                report.bytes_down,
                millis(report.total_time)
            )
        });
    }

    fn flow_opened(&self, opened: &FlowReport) {
        self.tell((opened.id, opened.peer, opened.claimed), "flow_opened", || {
            format!("from {} to {}", opened.bound, opened.target)
        });
    }

    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        self.tell((report.id, report.peer, report.claimed), "flow_closed", || {
            format!("{end}; {} datagrams up, {} down", report.datagrams_up, report.datagrams_down)
        });
    }
}

fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// Steps that wait for a receiver.
const BACKLOG: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use mmproxy_forwarder::{AllowList, Gateway, GatewayConfig, Listener, Shutdown, Targets};
    use std::io::Write;
    use std::net::TcpStream;
    use std::sync::Arc;

    #[tokio::test]
    async fn whoever_follows_a_network_hears_each_step_of_its_sessions_and_of_no_others() {
        let trace = Arc::new(Trace::new("ssh"));
        let targets = Targets::new(Some("127.0.0.1:1".parse().unwrap()), None).unwrap();
        let config = GatewayConfig::new(AllowList::parse("127.0.0.0/8").unwrap(), targets);
        let gateway = Gateway::new(config, Arc::clone(&trace)).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
        peer.write_all(b"PROXY UNKNOWN\r\n").unwrap();

        let mut elsewhere = trace.follow("203.0.113.0/24".parse().unwrap());
        let mut here = trace.follow("127.0.0.0/8".parse().unwrap());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move { gateway.serve(listener, &stop).await });
        let mut steps = Vec::new();
        while steps.last().is_none_or(|step: &Step| step.step != "closed") {
            steps.push(here.recv().await.unwrap());
        }
        shutdown.cut();
        serving.await.unwrap().unwrap();
        let names: Vec<_> = steps.iter().map(|step| step.step.as_str()).collect();
        assert_eq!(names, ["opened", "announced", "dialing", "closed"]);
        assert!(steps.iter().all(|step| step.service == "ssh" && step.id == 1 && step.client.is_none()));
        assert!(steps[3].detail.starts_with("target_refused: "), "{}", steps[3].detail);
        assert!(elsewhere.try_recv().is_err());
    }
}
