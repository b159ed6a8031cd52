//! What the gateway says about its targets before it serves.

use harness::{Gateway, addr, isolated};

use crate::host::Host;

#[test]
fn without_a_return_path_the_self_check_says_what_is_lost_and_what_to_do() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start_with(&["--routing", "off"]);
        let target = host.v4.address().to_string();
        gateway.expect_log(&["[+] OK.", &target, "using conventional connection"]);
        gateway.expect_log(&["[!] FAILED", &target, "using spoofed connection", "mmproxy setup"]);
        gateway.expect_log(&["[!] `mmproxy check` with the same targets"]);
    });
}

#[test]
fn the_self_check_names_each_target_as_ok_in_the_words_of_the_original() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        for target in [&host.v4, &host.v6] {
            let address = target.address();
            let ip = address.ip();
            for line in [
                format!("[+] OK. Routing to {ip} points to a local machine."),
                format!("[+] OK. Target server {address} is up and reachable using conventional connection."),
                format!("[+] OK. Target server {address} is up and reachable using spoofed connection."),
            ] {
                assert_eq!(gateway.expect_log(&[&line]), line);
            }
        }
        let ready = format!("[+] Listening on {}", gateway.listening());
        let stopped = gateway.stop();
        assert_eq!(
            stopped.stdout.lines().last(),
            Some(ready.as_str()),
            "the last line is the one that means ready"
        );
    });
}

#[test]
fn a_target_on_another_host_is_named_with_the_way_that_leads_there() {
    isolated(|| {
        let host = Host::new();
        let flags = Gateway::to(&host.net, addr("10.0.0.2:22"));
        let gateway = flags.clone().with(["--return-path", "fwmark"]).start();
        gateway.expect_log(&["[!] FAILED: Routing to 10.0.0.2", "lb0", "--return-path"]);
        // Left to itself it takes the mode that serves such targets.
        flags.start().expect_log(&["[+] OK. Routing to 10.0.0.2 leads away from this host."]);
    });
}

#[test]
fn quiet_leaves_out_all_that_is_well() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start_with(&["--quiet"]);
        let ready = format!("[+] Listening on {}\n", gateway.listening());
        host.expect_served(&gateway);
        let finished = gateway.stop();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), (ready.as_str(), ""));
    });
}
