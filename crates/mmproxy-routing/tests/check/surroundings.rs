//! Port forwarders, missing privileges and programs, and hosts with much on them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use mmproxy_routing::apply;
use mmproxy_routing::check::{ExitKind, Fact, Level, Strangers, Target, examine};

use crate::diagnosis::{StandIn, diagnose, facts, fwmark, one, working};
use crate::namespace::{alone, default_routes, ip_batch, run};

fn docker_proxy(directory: &std::path::Path, address: &str) -> StandIn {
    let program = directory.join("docker-proxy");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    StandIn::start(
        &mut Command::new(program),
        address,
        &["-container-ip", "172.17.0.2", "-container-port", "80"],
    )
}

#[test]
fn docker_proxy_is_the_reason_why_a_container_does_not_see_the_client() {
    alone("surroundings::docker_proxy_is_the_reason_why_a_container_does_not_see_the_client", || async {
        default_routes();
        apply(&fwmark()).await.unwrap();
        let directory = std::env::temp_dir().join(format!("mmproxy-check-{}-{}", std::process::id(), PORT));
        std::fs::create_dir(&directory).unwrap();
        let proxy = docker_proxy(&directory, &format!("0.0.0.0:{PORT}"));
        let target = Target::tcp(SocketAddr::from(([127, 0, 0, 1], PORT)));
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        let named = format!("docker-proxy (process {})", proxy.id());
        drop(proxy);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(facts(&findings, Level::Failed), [Fact::PortForwarder]);
        let found = one(&findings, Fact::PortForwarder);
        assert!(found.found.contains(&named), "{found}");
        assert!(found.cure.as_deref().unwrap().contains("`-4 172.17.0.2:80`"), "{found:?}");
        assert_eq!(verdict.fact, Fact::Connected, "it connects, and yet does not serve");
    });
}

#[test]
fn without_privileges_all_but_the_firewall_is_told() {
    alone("surroundings::without_privileges_all_but_the_firewall_is_told", || async {
        const CHECK: &str = "surroundings::without_privileges_all_but_the_firewall_is_told";
        if std::env::var_os("WITHOUT_PRIVILEGES").is_none() {
            default_routes();
            apply(&fwmark()).await.unwrap();
            let status = Command::new("setpriv")
                .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", CHECK, "--nocapture"])
                .env("WITHOUT_PRIVILEGES", "1")
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (findings, verdict) = diagnose(&fwmark(), Target::tcp(listener.local_addr().unwrap())).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::MayNotSpoof]);
        one(&findings, Fact::ReplyReturns);
        one(&findings, Fact::Listens);
        assert!(one(&findings, Fact::FirewallUnseen).found.contains("CAP_NET_ADMIN"));
        assert_eq!((verdict.fact, verdict.exit), (Fact::NotPermitted, Some(ExitKind::Permission)));
    });
}

#[test]
fn without_nft_a_note_says_what_was_not_looked_at() {
    alone("surroundings::without_nft_a_note_says_what_was_not_looked_at", || async {
        let (_listener, target) = working().await;
        run("mount", "-t tmpfs tmpfs /usr/sbin");
        let findings = examine(&fwmark(), &[target], Strangers::default()).await;
        let note = one(&findings, Fact::FirewallUnseen);
        assert_eq!((note.level, note.cure.as_deref()), (Level::Note, Some("install the package nftables")));
        assert_eq!(facts(&findings, Level::Failed), []);
    });
}

#[test]
fn ten_thousand_foreign_rules_and_routes_take_less_than_a_second() {
    alone("surroundings::ten_thousand_foreign_rules_and_routes_take_less_than_a_second", || async {
        let (_listener, target) = working().await;
        let second: IpAddr = "127.0.0.1".parse().unwrap();
        let mut batch = String::new();
        for n in 0..10_000 {
            let (high, low) = (n / 256, n % 256);
            batch.push_str(&format!(
                "rule add from 10.{high}.{low}.1 lookup {} priority {}\n",
                1000 + n,
                200 + n
            ));
            batch.push_str(&format!("route add 172.{}.{low}.0/24 dev east\n", 16 + high));
        }
        ip_batch("-4", &batch);
        let targets =
            [target, Target::tcp(SocketAddr::new(second, 1)), Target::tcp("[::1]:1".parse().unwrap())];
        // The best of three: this is about the work, not about what else the machine does.
        let mut took = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            let findings = examine(&fwmark(), &targets, Strangers::default()).await;
            took.push(start.elapsed());
            one(&findings, Fact::ReplyReturns);
        }
        assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
    });
}

const PORT: u16 = 8443;
