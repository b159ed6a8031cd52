//! TLS with client certificates: ended by HAProxy, which tells of it, and ended by the server behind the gateway.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use harness::{
    Family, Finished, Gateway, Namespace, Target, Topology, installed, isolated, run, scratch, shell,
};

use crate::haproxy::{HaProxy, frontend};
use crate::nginx::{WEB, curl, web_server};
use crate::scene::Scene;

/// An authority, and what it has signed: a server's certificate and the client's, whose name is `alice`.
struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    #[track_caller]
    fn new() -> Self {
        let directory = scratch().join("certificates");
        fs::create_dir(&directory).expect("the test's own directory");
        installed("openssl", "openssl");
        let script = format!(
            "cd {}
             new='req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -batch'
             openssl $new -keyout ca.key -out ca.pem -subj /CN=authority
             for name in server.example alice; do
                 openssl $new -CA ca.pem -CAkey ca.key -keyout $name.key -out $name.crt -subj /CN=$name \
                     -addext basicConstraints=critical,CA:FALSE
                 cat $name.crt $name.key > $name.pem
             done",
            directory.display()
        );
        shell(&Namespace::new("authority"), &script);
        Self { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// A client that has shown its certificate, or none, to HAProxy, which ends TLS and announces with `options`.
fn ended_by_haproxy(options: &str, certificate: bool, said: &[&str]) {
    let certificates = Certificates::new();
    for family in Family::BOTH {
        let net = Topology::new();
        let clients = net.clients();
        let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
        let gateway = Gateway::before(&net, &target).start();
        let bind = format!(
            "ssl crt {} ca-file {} verify optional",
            certificates.path("server.example.pem"),
            certificates.path("ca.pem")
        );
        let server = format!("{} {options}", gateway.address(Family::V4));
        let haproxy = HaProxy::listening(&net, &bind, &server);
        let mut client = Command::new(installed("openssl", "openssl"));
        client.args(["s_client", "-quiet", "-servername", "server.example", "-connect"]);
        client.arg(frontend(family).to_string());
        if certificate {
            client.arg("-cert").arg(certificates.path("alice.pem"));
        }
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                let upstream = target.accept();
                upstream.expect(b"question\n");
                upstream.send(b"answer\n");
                upstream.finish();
                upstream.peer()
            });
            run(&clients, &mut client, b"question\n").expect_text(&["answer"]);
            assert_eq!(
                server.join().expect("it has shown why").ip(),
                family.client(),
                "{}",
                haproxy.output()
            );
        });
        let parts = [&["session closed", "reason=finished"], said].concat();
        let line = gateway.expect_log(&parts);
        // Both saw the same client, down to its port.
        let client = line.split_whitespace().find_map(|word| word.strip_prefix("client=")).expect("a client");
        let (_, port) = client.rsplit_once(':').expect("an address");
        haproxy.program().expect_line(&[&format!("{}:{port} [", family.client())]);
        gateway.stop();
    }
}

#[test]
fn haproxy_tells_the_name_in_a_clients_certificate_and_it_is_logged() {
    isolated(|| {
        let said =
            ["tls=true", r#"tls_version="TLSv1.3""#, r#"tls_client_cn="alice""#, "tls_client_verified=true"];
        ended_by_haproxy("send-proxy-v2-ssl-cn", true, &said);
    });
}

#[test]
fn haproxy_tells_of_tls_without_a_certificate() {
    isolated(|| ended_by_haproxy("send-proxy-v2-ssl", false, &["tls=true", r#"tls_version="TLSv1.3""#]));
}

#[test]
fn haproxys_checksum_unique_id_and_authority_are_logged_together() {
    isolated(|| {
        let options = "send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn,cert-key";
        let said = [r#"authority="server.example""#, "unique_id=", r#"tls_client_cn="alice""#];
        ended_by_haproxy(options, true, &said);
    });
}

#[test]
fn a_server_that_asks_for_client_certificates_logs_the_name_and_the_address() {
    isolated(|| {
        let certificates = Certificates::new();
        let settings = format!(
            "        ssl_certificate {};\n        ssl_certificate_key {};\n        ssl_client_certificate {};\n        \
             ssl_verify_client on;\n",
            certificates.path("server.example.crt"),
            certificates.path("server.example.key"),
            certificates.path("ca.pem")
        );
        let scene = Scene::before(WEB, |net| web_server(net, "ssl", &settings));
        let ask = |family, certificate: &[&str]| -> Finished {
            let mut curl = curl("https", family);
            run(&scene.clients, curl.arg("--insecure").args(certificate), b"").expect_code(0)
        };
        let (certificate, key) = (certificates.path("alice.crt"), certificates.path("alice.key"));
        for family in Family::BOTH {
            let said = ask(family, &["--cert", &certificate, "--key", &key]).stdout;
            assert_eq!(said, format!("{}\n", family.client()));
            scene.server.expect_line(&[&format!("{} ", family.client()), " 200 ", "cn=[CN=alice]"]);
            assert!(ask(family, &[]).stdout.contains("No required SSL certificate was sent"));
            scene.server.expect_line(&[&format!("{} ", family.client()), " 400 ", "cn=[-]"]);
        }
    });
}
