//! What is refused, and what the operator is told.

use std::process::Command;

use mmproxy_routing::{
    Blame, Families, InUse, Outcome, Plan, RoutingError, Settings, State as Found, apply, observe, remove,
};

use crate::namespace::{alone, ip, run, sysctl};
use crate::state::{State, assert_same};

fn plan() -> Plan {
    Plan::fwmark(Settings::default(), Families::BOTH)
}

async fn conflict(plan: &Plan) -> String {
    let before = State::now();
    let error = apply(plan).await.unwrap_err();
    assert_same(&State::now(), &before, "after a refusal");
    assert!(matches!(error, RoutingError::Conflict { .. }), "{error}");
    assert_eq!(error.blame(), Blame::Configuration);
    error.to_string()
}

#[test]
fn a_table_that_leads_elsewhere_is_refused_by_name() {
    alone("refusals::a_table_that_leads_elsewhere_is_refused_by_name", || async {
        ip("link add east type veth peer name west");
        ip("link set east up");
        ip("addr add 10.8.0.1/24 dev east");
        ip("route add default via 10.8.0.2 table 100 proto dhcp");
        let error = conflict(&plan()).await;
        assert!(error.contains("`default via 10.8.0.2 dev east table 100 proto dhcp`"), "{error}");
        assert!(error.contains("--table"), "{error}");
        ip("route flush table 100");

        ip("-6 route add unreachable 2001:db8::/32 table 100 proto static");
        let error = conflict(&plan()).await;
        assert!(error.contains("`unreachable 2001:db8::/32"), "{error}");
        assert!(error.contains("proto static"), "{error}");
    });
}

#[test]
fn a_table_that_others_look_into_is_refused_by_name() {
    alone("refusals::a_table_that_others_look_into_is_refused_by_name", || async {
        ip("rule add from all lookup 100 priority 5270 protocol bird");
        let error = conflict(&plan()).await;
        assert!(error.contains("`5270: from all lookup 100 proto bird`"), "{error}");
        assert!(error.contains("--table"), "{error}");
    });
}

#[test]
fn a_mark_that_is_taken_is_refused_by_name() {
    alone("refusals::a_mark_that_is_taken_is_refused_by_name", || async {
        ip("rule add fwmark 0x7b/0xff lookup 200 priority 100 protocol static");
        let error = conflict(&plan()).await;
        assert!(error.contains("`100: from all fwmark 0x7b/0xff lookup 200 proto static`"), "{error}");
        assert!(error.contains("--mark"), "{error}");
        ip("rule del fwmark 0x7b/0xff lookup 200");

        // Behind ours it does no harm.
        ip("rule add fwmark 0x7b lookup 200 priority 101");
        apply(&plan()).await.unwrap();
    });
}

#[test]
fn a_rule_that_would_catch_the_replies_first_is_named() {
    alone("refusals::a_rule_that_would_catch_the_replies_first_is_named", || async {
        ip("link add east type veth peer name west");
        ip("link set east up");
        ip("addr add 10.8.0.1/24 dev east");
        ip("route add default via 10.8.0.2 table 51820");
        ip("rule add not fwmark 0xca6c lookup 51820 priority 99");
        let plan = Plan::fwmark(Settings::default(), Families::V4);
        let error = conflict(&plan).await;
        assert!(error.contains("a reply to 192.0.2.1 would leave by east (table 51820)"), "{error}");
        assert!(error.contains("`99: not from all fwmark 0xca6c lookup 51820"), "{error}");

        // Where it stands behind us, it does no harm; what was made by hand behind it does not help.
        ip("rule del not fwmark 0xca6c lookup 51820");
        ip("rule add not fwmark 0xca6c lookup 51820 priority 20000");
        ip("rule add fwmark 0x7b lookup 100 priority 30000");
        ip("route add local default dev lo table 100");
        let before = State::now();
        let applied = apply(&plan).await.unwrap();
        let added: Vec<String> =
            applied.iter().filter(|a| a.outcome == Outcome::Added).map(|a| a.step.to_string()).collect();
        assert!(added.contains(&"ip rule add fwmark 0x7b lookup 100 priority 100".to_owned()), "{added:?}");
        assert!(observe(&plan).await.unwrap().iter().all(|o| matches!(o.state, Found::Present(_))));
        remove(&plan, InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

#[test]
fn without_ipv6_the_error_says_so_and_ipv4_works() {
    alone("refusals::without_ipv6_the_error_says_so_and_ipv4_works", || async {
        sysctl("net.ipv6.conf.lo.disable_ipv6", 1);
        assert_eq!(mmproxy_routing::families_available(), Families::V4);
        let before = State::now();
        let error = apply(&plan()).await.unwrap_err();
        assert!(matches!(error, RoutingError::Ipv6Off(_)), "{error}");
        assert!(error.to_string().contains("net.ipv6.conf.lo.disable_ipv6=0"), "{error}");
        assert_same(&State::now(), &before, "after the refusal");
        assert!(observe(&plan()).await.unwrap().iter().all(|observed| observed.state == Found::Missing));
        apply(&Plan::fwmark(Settings::default(), Families::V4)).await.unwrap();
        remove(&plan(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown of both families");
    });
}

#[test]
fn a_namespace_without_loopback_is_refused_with_the_cure() {
    alone("refusals::a_namespace_without_loopback_is_refused_with_the_cure", || async {
        ip("link set lo down");
        let error = apply(&Plan::fwmark(Settings::default(), Families::V4)).await.unwrap_err();
        assert!(matches!(error, RoutingError::LoopbackDown), "{error}");
        assert!(error.to_string().contains("ip link set lo up"));
    });
}

#[test]
fn a_read_only_proc_is_named_and_leaves_nothing_behind() {
    alone("refusals::a_read_only_proc_is_named_and_leaves_nothing_behind", || async {
        let before = State::now();
        run("mount", "--bind /proc/sys /proc/sys");
        run("mount", "-o remount,bind,ro /proc/sys");
        let error = apply(&plan()).await.unwrap_err();
        assert!(matches!(error, RoutingError::SysctlReadOnly { .. }), "{error}");
        assert_eq!(error.blame(), Blame::Permission);
        assert!(error.to_string().contains("--sysctl net.ipv4.tcp_fwmark_accept=1"), "{error}");
        assert_same(&State::now(), &before, "after the refusal");
    });
}

#[test]
fn without_the_capability_the_error_names_it() {
    alone("refusals::without_the_capability_the_error_names_it", || async {
        if std::env::var_os("WITHOUT_CAPABILITY").is_none() {
            let exe = std::env::current_exe().unwrap();
            let status = Command::new("setpriv")
                .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"])
                .arg(exe)
                .args(["--exact", "refusals::without_the_capability_the_error_names_it", "--nocapture"])
                .env("WITHOUT_CAPABILITY", "1")
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        let error = apply(&plan()).await.unwrap_err();
        assert!(matches!(error, RoutingError::Permission { .. }), "{error}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        assert_eq!(error.blame(), Blame::Permission);
        // Looking needs none.
        assert!(observe(&plan()).await.unwrap().iter().all(|observed| observed.state == Found::Missing));
    });
}
