use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// An Engine that gives each of `answers` once, and the requests it got.
fn engine(answers: &[&str]) -> (tempfile::TempDir, Engine, thread::JoinHandle<Vec<String>>) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
    let thread = thread::spawn(move || {
        let answer = |answer: String| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                assert_ne!(stream.read_line(&mut request).unwrap(), 0, "the request ends too early");
            }
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            request
        };
        answers.into_iter().map(answer).collect()
    });
    let engine = Engine::named(Some(&format!("unix://{}", socket.display()))).unwrap();
    (directory, engine, thread)
}

/// What the Engine says about container `web`.
fn ask(answer: &str) -> Result<u32, DockerError> {
    let (_directory, engine, thread) = engine(&[answer]);
    let pid = engine.pid_of(&"web".parse().unwrap());
    let requests = thread.join().unwrap();
    assert!(requests[0].starts_with("GET /containers/web/json HTTP/1.0\r\n"), "{requests:?}");
    pid
}

fn ok(state: &str) -> String {
    let body = format!(r#"{{"Id":"8f0","Name":"/web","State":{state},"HostConfig":{{"Binds":null}}}}"#);
    format!(
        "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_running_container_has_a_first_process() {
    assert_eq!(ask(&ok(r#"{"Status":"running","Running":true,"Paused":false,"Pid":4711}"#)).unwrap(), 4711);
    // An Engine may leave the length out: the connection's end is the body's.
    let endless = ok(r#"{"Running":true,"Pid":7}"#).replace("Content-Length", "X-Length");
    assert_eq!(ask(&endless).unwrap(), 7);
}

#[test]
fn a_container_that_does_not_run_has_none() {
    for state in [
        r#"{"Status":"exited","Running":false,"Pid":0}"#,
        r#"{"Status":"restarting","Running":true,"Restarting":true,"Pid":0}"#,
    ] {
        let error = ask(&ok(state)).unwrap_err();
        assert!(matches!(&error, DockerError::NotRunning { .. }), "{error:?}");
        assert_eq!((error.exit(), error.cure().as_str()), (Exit::Unavailable, "docker start web"));
    }
}

#[test]
fn a_container_that_does_not_exist_is_named() {
    let error = ask("HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"No such container: web\"}").unwrap_err();
    assert!(matches!(&error, DockerError::NoContainer { .. }), "{error:?}");
    assert_eq!((error.exit(), error.to_string().as_str()), (Exit::Config, "there is no container web"));
}

#[test]
fn answers_that_are_none_are_not_taken_for_one() {
    let whole = ok(r#"{"Running":true,"Pid":7}"#);
    let cut = &whole[..whole.len() - 2];
    for answer in [
        "",
        "220 mail.example.org ESMTP\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nnot json",
        "HTTP/1.0 200 OK\r\n\r\n{\"State\":{}}",
        "HTTP/1.0 500 Internal Server Error\r\n\r\n{\"message\":\"oops\"}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        cut,
    ] {
        let error = ask(answer).unwrap_err();
        assert!(matches!(error, DockerError::Strange { .. }), "{answer:?}: {error:?}");
    }
}

#[test]
fn a_missing_engine_and_one_of_another_machine_are_told_apart() {
    let container = "web".parse().unwrap();
    let error =
        Engine::named(Some("unix:///nonexistent/docker.sock")).unwrap().pid_of(&container).unwrap_err();
    assert!(matches!(&error, DockerError::NoEngine { .. }), "{error:?}");
    assert!(error.cure().contains("DOCKER_HOST"), "{}", error.cure());
    for host in ["tcp://192.0.2.1:2375", "ssh://root@192.0.2.1", "unix://relative", "npipe:////./pipe/docker"]
    {
        let error = Engine::named(Some(host)).unwrap_err();
        assert!(matches!(&error, DockerError::Elsewhere { .. }), "{error:?}");
        assert_eq!(error.exit(), Exit::Config);
    }
    for host in [None, Some("")] {
        assert_eq!(Engine::named(host).unwrap().socket, PathBuf::from(SOCKET));
    }
}
