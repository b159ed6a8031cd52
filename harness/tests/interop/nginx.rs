//! nginx on either side: as a balancer that announces with `proxy_protocol on`, and as the server whose access log has the
//! client.

use std::fs;
use std::process::Command;

use harness::{Connection, Family, Namespace, Program, Topology, installed, isolated, run, scratch};

use crate::haproxy::frontend;
use crate::redis;
use crate::scene::{Scene, gateway};

/// Starts nginx in `namespace` with what `text` adds to the top of its configuration.
#[track_caller]
pub(crate) fn start(namespace: &Namespace, text: &str) -> Program {
    let directory = scratch().join(format!("nginx-{}", namespace.name()));
    fs::create_dir(&directory).expect("the test's own directory");
    let config = directory.join("nginx.conf");
    let top = "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr notice;\n\
               events { worker_connections 256; }\n";
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if text.contains("stream {") { format!("load_module {module};\n") } else { String::new() };
    fs::write(&config, format!("{load}{top}{text}")).expect("the test's own directory");
    let mut nginx = Command::new(installed("nginx", "nginx"));
    nginx.args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(&config);
    Program::start(namespace, &mut nginx)
}

/// Starts a web server on both loopback addresses, which prints a line for each request; `listen` is added to its
/// addresses, and `more` to its settings.
#[track_caller]
pub(crate) fn web_server(net: &Topology, listen: &str, more: &str) -> Program {
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {name};\n"))
        .concat();
    let text = format!(
        "http {{\n{paths}    log_format seen '$remote_addr $remote_port $server_addr \"$request\" $status \
         cn=[$ssl_client_s_dn]';\n    access_log /dev/stdout seen;\n    server {{\n        \
         listen 127.0.0.1:{WEB} {listen};\n        listen [::1]:{WEB} {listen};\n{more}        \
         location / {{ return 200 \"$remote_addr\\n\"; }}\n    }}\n}}\n"
    );
    start(&net.gateway, &text)
}

/// The port of the web server.
pub(crate) const WEB: u16 = 8080;

/// curl with a URL of HAProxy's address of `family`.
pub(crate) fn curl(scheme: &str, family: Family) -> Command {
    let mut curl = Command::new(installed("curl", "curl"));
    curl.args(["--silent", "--show-error", "--noproxy", "*"])
        .arg(format!("{scheme}://{}/", frontend(family)));
    curl
}

#[test]
fn nginx_logs_the_client_of_each_request() {
    isolated(|| {
        let scene = Scene::before(WEB, |net| web_server(net, "", ""));
        for family in Family::BOTH {
            // What it answers is what it saw.
            let said = run(&scene.clients, &mut curl("http", family), b"").expect_code(0).stdout;
            assert_eq!(said, format!("{}\n", family.client()));
            // The second request of a connection is the same client's.
            let client = scene.connect(family);
            let request = b"GET /by-hand HTTP/1.1\r\nHost: server.example\r\n\r\n";
            client.send(request);
            client.expect(b"HTTP/1.1 200 OK\r\n");
            let (ip, port) = (client.local().ip(), client.local().port());
            let line = scene.server.expect_line(&[&format!("{ip} {port} "), "GET /by-hand"]);
            assert!(line.contains(&format!(" {} ", family.loopback())), "{line}");
        }
    });
}

#[test]
fn the_server_sees_the_clients_of_an_nginx_that_announces_them() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let server = redis::start(&net, false);
        server.expect_listener(&net.gateway, redis::PORT);
        let gateway = gateway(&net, redis::PORT);
        let servers: String = Family::BOTH
            .map(|family| {
                // Each family by way of the other, too.
                let listen = frontend(family);
                let upstream = gateway.address(if family == Family::V4 { Family::V6 } else { Family::V4 });
                format!("    server {{ listen {listen}; proxy_pass {upstream}; proxy_protocol on; }}\n")
            })
            .concat();
        let nginx = start(&net.balancer, &format!("stream {{\n{servers}}}\n"));
        nginx.expect_listener(&net.balancer, frontend(Family::V4).port());
        for family in Family::BOTH {
            let client = Connection::open(&clients, frontend(family));
            let line = redis::own_line(&client);
            assert!(line.contains(&format!(" addr={} ", client.local())), "{line}");
        }
    });
}

/// curl announces itself: the balancer is a client of its own here.
#[test]
fn curl_with_haproxy_protocol_is_seen_as_itself() {
    isolated(|| {
        let net = Topology::new();
        let server = web_server(&net, "", "");
        server.expect_listener(&net.gateway, WEB);
        let gateway = gateway(&net, WEB);
        for family in Family::BOTH {
            let mut curl = Command::new(installed("curl", "curl"));
            curl.args(["--silent", "--show-error", "--noproxy", "*", "--haproxy-protocol"]);
            curl.arg(format!("http://{}/announced", gateway.address(family)));
            let said = run(&net.balancer, &mut curl, b"").expect_code(0).stdout;
            assert_eq!(said, format!("{}\n", family.balancer()));
            server.expect_line(&[&format!("{} ", family.balancer()), "GET /announced", "200"]);
            gateway.expect_log(&["session closed", "client=", "header=v1"]);
        }
    });
}
