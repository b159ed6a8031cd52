//! The server: a few short requests at a time.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::AdminState;
use super::history::{EVERY, History};
use super::page;
use crate::metrics::{Format, render};

/// Answers on `listener` for as long as the future it returns is polled; no peer can end it.
///
/// # Errors
///
/// The runtime cannot watch the listener.
pub(crate) fn serve(
    listener: StdListener,
    state: Arc<dyn AdminState>,
) -> io::Result<impl Future<Output = ()> + Send> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let desk = Arc::new(Desk { state, history: Mutex::default() });
    Ok(async move {
        tokio::select! {
            () = remember(&desk) => {}
            () = accept(&listener, &desk) => {}
        }
    })
}

/// What answers are made of.
struct Desk {
    state: Arc<dyn AdminState>,
    history: Mutex<History>,
}

/// Looks at the counters now and then, so that the page has charts.
async fn remember(desk: &Desk) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = desk.state.snapshot();
        desk.history.lock().unwrap_or_else(PoisonError::into_inner).note(&snapshot, clock());
    }
}

async fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // More wait in the backlog.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(desk);
                tokio::spawn(async move {
                    // However a client behaves, it has its place for this long.
                    timeout(LIFETIME, converse(stream, desk)).await.ok();
                    drop(place);
                });
            }
            // One that has gone, or want of descriptors: the others are served all the same.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// One connection: one request, one answer.
async fn converse(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // What a client does wrong is its own affair.
    drop(served);
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
                let format = Format::accepted(accept);
                let text = render(self.state.snapshot(), format);
                answer(StatusCode::OK, format.content_type(), text)
            }
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/" => self.page().await,
            _ => plain(StatusCode::NOT_FOUND, "there are /, /metrics, /healthz and /readyz\n"),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let checks = self.state.snapshot().checks();
        let ready = checks.iter().all(|check| check.holds);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut text = String::from(if ready { "ready\n" } else { "not ready\n" });
        for check in checks {
            text.push_str(if check.holds { "ok: " } else { "not so: " });
            text.push_str(&check.what);
            text.push('\n');
        }
        plain(status, text)
    }

    async fn page(&self) -> Response<Full<Bytes>> {
        // A keeper that is stuck must not keep the page from those who want to know why.
        let sessions = timeout(PATIENCE, self.state.sessions(page::SESSIONS + 1)).await.unwrap_or_default();
        let snapshot = self.state.snapshot();
        let html = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            page::render(&snapshot, &sessions, &history)
        };
        let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", html.into_string());
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
        response
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The shell's clock: pure code is given the time.
fn clock() -> Instant {
    Instant::now()
}

/// Connections at a time.
const CONNECTIONS: usize = 64;

/// How long a client may take for its request's headers.
const HEADERS: Duration = Duration::from_secs(5);

/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(15);

/// How long the page waits for sessions: longer than the keeper waits for a worker that is stuck.
const PATIENCE: Duration = Duration::from_secs(8);

/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Most bytes of a request that are kept; hyper's least.
const REQUEST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::NamedSession;
    use crate::metrics::{ServiceSnapshot, Snapshot};
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::pin::Pin;
    use tokio::sync::oneshot;

    /// One service, whose target is up or not.
    struct Staged {
        up: bool,
    }

    impl AdminState for Staged {
        fn snapshot(&self) -> Snapshot {
            let targets = BTreeMap::from([("127.0.0.1:22".to_owned(), self.up)]);
            let service = ServiceSnapshot { opened: 3, targets, ..ServiceSnapshot::default() };
            Snapshot { services: BTreeMap::from([("ssh".to_owned(), service)]), ..Snapshot::default() }
        }

        fn sessions(&self, _at_most: usize) -> Pin<Box<dyn Future<Output = Vec<NamedSession>> + Send + '_>> {
            Box::pin(async { Vec::new() })
        }
    }

    /// Calls `visit` with the address of a server.
    fn visiting(up: bool, visit: impl FnOnce(SocketAddr) + Send + 'static) {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let visitor = std::thread::spawn(move || {
            visit(address);
            drop(stop);
        });
        runtime.block_on(async {
            let server = serve(listener, Arc::new(Staged { up })).unwrap();
            tokio::select! {
                () = server => {}
                _ = stopped => {}
            }
        });
        visitor.join().unwrap();
    }

    fn request(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(address: SocketAddr, path: &str) -> String {
        request(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    #[test]
    fn each_path_has_its_answer_and_a_connection_has_one() {
        visiting(true, |address| {
            let metrics = get(address, "/metrics");
            assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
            assert!(metrics.contains("\r\nconnection: close\r\n"), "{metrics}");
            assert!(metrics.contains("mmproxy_sessions_opened_total{service=\"ssh\"} 3\n"), "{metrics}");
            assert!(get(address, "/healthz").ends_with("\r\n\r\nok\n"));
            assert!(get(address, "/readyz").starts_with("HTTP/1.1 200 OK\r\n"));
            assert!(get(address, "/etc/passwd").starts_with("HTTP/1.1 404 "));
            let page = get(address, "/");
            assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
            assert!(request(address, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
            assert!(request(address, b"\x16\x03\x01 what is this\r\n\r\n").starts_with("HTTP/1.1 400 "));
        });
    }

    #[test]
    fn a_target_that_is_down_is_not_ready_and_named() {
        visiting(false, |address| {
            let answer = get(address, "/readyz");
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.ends_with("not ready\nnot so: target 127.0.0.1:22 of service ssh is reachable\n"));
            assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
        });
    }

    #[test]
    fn clients_that_say_nothing_keep_nobody_out_for_longer_than_the_time_for_headers() {
        visiting(true, |address| {
            let silent: Vec<_> =
                (0..CONNECTIONS + 8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
            drop(silent);
        });
    }
}
