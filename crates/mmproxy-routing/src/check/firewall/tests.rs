use serde_json::{Value, json};

use super::*;
use crate::check::finding::Level;
use crate::check::rules::Truth;
use crate::mode::Mode;

/// A base chain of hook `hook` in table `inet filter`, and chain `other` for jumps.
fn ruleset_of(hook: &str, policy: &str, rules: &[Value], other: &[Value]) -> Ruleset {
    let rule = |chain: &str, handle: usize, expr: &Value| json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "handle": handle, "expr": expr}});
    let mut objects = vec![
        json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        json!({"table": {"family": "inet", "name": "filter", "handle": 1}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": hook, "handle": 1,
                         "type": "filter", "hook": hook, "prio": 0, "policy": policy}}),
        json!({"chain": {"family": "inet", "table": "filter", "name": "other", "handle": 2}}),
        json!({"set": {"family": "inet", "name": "blocked", "table": "filter", "type": "ipv4_addr", "handle": 3}}),
    ];
    objects.extend(rules.iter().enumerate().map(|(at, expr)| rule(hook, 10 + at, expr)));
    objects.extend(other.iter().enumerate().map(|(at, expr)| rule("other", 50 + at, expr)));
    Ruleset::read(&json!({ "nftables": objects }).to_string()).unwrap()
}

fn equal(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn flow() -> Flow<'static> {
    Flow {
        target: Target::tcp("127.0.0.1:443".parse().unwrap()),
        client: "192.0.2.1".parse().unwrap(),
        mark: Some(0x7b),
        reply_mark: Some(0x7b),
        rerouted: false,
        device: None,
    }
}

fn met(ruleset: &Ruleset) -> Vec<(Kind, Effect, bool, Option<u64>)> {
    let obstacles = flow().obstacles(ruleset);
    obstacles.iter().map(|found| (found.packet, found.effect, found.certain, found.handle)).collect()
}

const ACCEPT: fn() -> Value = || json!({"accept": null});
const DROP: fn() -> Value = || json!({"drop": null});

/// One condition before `drop` in hook input: what becomes of the connection's first packet and of the reply.
#[test]
fn conditions_pick_what_the_firewall_lets_them_pick() {
    use Truth::{Maybe, No, Yes};
    let prefix = |addr: &str, len: u8| json!({"prefix": {"addr": addr, "len": len}});
    let flags = json!({"&": [payload("tcp", "flags"), ["fin", "syn", "rst", "ack"]]});
    let state =
        |right: Value| json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}});
    let missing = json!({"fib": {"result": "oif", "flags": ["saddr", "mark", "iif"]}});
    for (condition, request, reply) in [
        (equal(payload("ip", "saddr"), json!("192.0.2.1")), Yes, No),
        (equal(payload("ip", "saddr"), prefix("192.0.2.0", 24)), Yes, No),
        (equal(payload("ip", "saddr"), prefix("192.0.3.0", 24)), No, No),
        (equal(payload("ip", "daddr"), json!({"set": ["192.0.2.1", prefix("10.0.0.0", 8)]})), No, Yes),
        (equal(payload("ip", "saddr"), json!({"range": ["192.0.2.0", "192.0.2.9"]})), Yes, No),
        (equal(payload("ip", "saddr"), json!("@blocked")), Maybe, Maybe),
        (equal(payload("ip6", "saddr"), json!("2001:db8::1")), No, No),
        (json!({"match": {"op": "!=", "left": payload("ip6", "saddr"), "right": "2001:db8::1"}}), No, No),
        (
            json!({"match": {"op": "!=", "left": payload("ip", "saddr"), "right": prefix("127.0.0.0", 8)}}),
            Yes,
            No,
        ),
        (equal(payload("tcp", "dport"), json!(443)), Yes, Maybe),
        (equal(payload("tcp", "sport"), json!(443)), Maybe, Yes),
        (equal(payload("tcp", "dport"), json!({"set": [22, {"range": [400, 500]}]})), Yes, Maybe),
        (equal(payload("tcp", "dport"), json!({"set": [22, 80]})), No, Maybe),
        (json!({"match": {"op": "<", "left": payload("th", "dport"), "right": 1024}}), Yes, Maybe),
        (equal(payload("udp", "dport"), json!(443)), No, No),
        (equal(payload("icmp", "type"), json!("echo-request")), No, No),
        (
            equal(
                json!({"concat": [payload("ip", "saddr"), payload("tcp", "dport")]}),
                json!({"set": [{"concat": ["192.0.2.1", 443]}]}),
            ),
            Yes,
            No,
        ),
        (equal(meta("l4proto"), json!("tcp")), Yes, Yes),
        (equal(meta("l4proto"), json!({"set": ["udp", 6]})), Yes, Yes),
        (equal(meta("nfproto"), json!("ipv6")), No, No),
        (equal(meta("iifname"), json!("lo")), Yes, Yes),
        (equal(meta("iifname"), json!({"set": ["eth*", "docker0"]})), No, No),
        (equal(meta("oifname"), json!("lo")), No, No),
        (equal(meta("mark"), json!(123)), Yes, Yes),
        (equal(json!({"&": [meta("mark"), 0xff00]}), json!(0x100)), No, No),
        (equal(meta("skuid"), json!(33)), Maybe, Maybe),
        (state(json!("new")), Yes, No),
        (state(json!(["established", "related"])), No, Yes),
        (state(json!("invalid")), No, No),
        (equal(flags.clone(), json!("syn")), Yes, No),
        (equal(flags, json!(["syn", "ack"])), No, Yes),
        (json!({"match": {"op": "in", "left": payload("tcp", "flags"), "right": "ack"}}), No, Yes),
        (equal(missing, json!(false)), No, No),
        (equal(json!({"fib": {"result": "type", "flags": ["daddr"]}}), json!("local")), Yes, No),
        (equal(json!({"socket": {"key": "transparent"}}), json!(1)), Maybe, Maybe),
        (json!({"xt": {"type": "match", "name": "addrtype"}}), Maybe, Maybe),
        (json!({"xt": {"type": "match", "name": "comment"}}), Yes, Yes),
        (json!({"limit": {"rate": 5, "per": "second"}}), Maybe, Maybe),
        (json!({"a statement of the future": 1}), Maybe, Maybe),
        (json!(null), Maybe, Maybe),
    ] {
        let ruleset = ruleset_of("input", "accept", &[json!([condition, DROP()])], &[]);
        let mut expected = Vec::new();
        for (kind, truth) in [(Kind::Request, request), (Kind::Reply, reply)] {
            if truth != No {
                expected.push((kind, Effect::Dropped, truth == Yes, Some(10)));
            }
        }
        assert_eq!(met(&ruleset), expected, "{condition}");
    }
}

#[test]
fn a_policy_drops_what_no_rule_accepts() {
    let dropped = |kind, certain| (kind, Effect::Dropped, certain, None);
    let lo = equal(meta("iifname"), json!("lo"));
    let https = equal(payload("tcp", "dport"), json!(443));
    let established =
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}});
    for (rules, expected) in [
        (vec![], vec![dropped(Kind::Request, true), dropped(Kind::Reply, true)]),
        (vec![json!([lo, ACCEPT()])], vec![]),
        (vec![json!([https, ACCEPT()])], vec![dropped(Kind::Reply, false)]),
        (vec![json!([https, ACCEPT()]), json!([established, ACCEPT()])], vec![]),
        (vec![json!([established, ACCEPT()])], vec![dropped(Kind::Request, true)]),
        (
            vec![json!([{"limit": {}}, ACCEPT()])],
            vec![dropped(Kind::Request, false), dropped(Kind::Reply, false)],
        ),
        (vec![json!([{"counter": null}, {"log": null}, ACCEPT()])], vec![]),
    ] {
        assert_eq!(met(&ruleset_of("input", "drop", &rules, &[])), expected, "{rules:?}");
    }
}

#[test]
fn chains_are_followed_as_the_kernel_follows_them() {
    let from_client = equal(payload("ip", "saddr"), json!("192.0.2.1"));
    let request = |certain, handle| vec![(Kind::Request, Effect::Dropped, certain, Some(handle))];
    let jump = json!([from_client, {"jump": {"target": "other"}}]);
    let goto = json!([from_client, {"goto": {"target": "other"}}]);
    let drop_all = json!([from_client, DROP()]);
    let maybe = json!({"limit": {}});
    for (rules, other, expected) in [
        (vec![jump.clone()], vec![json!([DROP()])], request(true, 50)),
        (
            vec![jump.clone(), drop_all.clone()],
            vec![json!([{"return": null}]), json!([DROP()])],
            request(true, 11),
        ),
        (vec![jump.clone(), drop_all.clone()], vec![json!([ACCEPT()])], vec![]),
        (vec![goto, drop_all.clone()], vec![], vec![]),
        (
            vec![json!([from_client, maybe, {"goto": {"target": "other"}}]), drop_all.clone()],
            vec![],
            request(false, 11),
        ),
        (
            vec![json!([from_client, maybe, {"jump": {"target": "other"}}]), drop_all.clone()],
            vec![],
            request(false, 11),
        ),
        (
            vec![json!([from_client, maybe, {"jump": {"target": "other"}}]), drop_all.clone()],
            vec![json!([ACCEPT()])],
            request(false, 11),
        ),
        (
            vec![json!([from_client, maybe, {"jump": {"target": "other"}}])],
            vec![json!([DROP()])],
            request(false, 50),
        ),
        (vec![json!([from_client, maybe, ACCEPT()]), drop_all.clone()], vec![], request(false, 11)),
        (
            vec![json!([from_client, {"jump": {"target": "nowhere"}}]), drop_all.clone()],
            vec![],
            request(false, 11),
        ),
        (
            vec![json!([{"vmap": {"key": {"ct": {"key": "state"}},
                                  "data": {"set": [["established", ACCEPT()], ["new", {"jump": {"target": "other"}}]]}}}])],
            vec![json!([DROP()])],
            request(true, 50),
        ),
        (
            vec![
                json!([from_client, {"vmap": {"key": meta("iifname"), "data": "@zones"}}]),
                drop_all.clone(),
            ],
            vec![],
            request(false, 11),
        ),
        (
            vec![
                json!([{"vmap": {"key": meta("iifname"), "data": {"set": [["eth0", DROP()], ["*", ACCEPT()]]}}}]),
                drop_all,
            ],
            vec![],
            vec![],
        ),
    ] {
        assert_eq!(met(&ruleset_of("input", "accept", &rules, &other)), expected, "{rules:?} {other:?}");
    }
    let endless = ruleset_of("input", "accept", std::slice::from_ref(&jump), std::slice::from_ref(&jump));
    assert_eq!(met(&endless), [], "a loop, which the kernel would refuse, ends");
}

#[test]
fn a_ruleset_of_countless_ways_comes_to_an_end() {
    let maybe = json!([{"limit": {}}, {"jump": {"target": "other"}}]);
    let many = vec![maybe; 20];
    let rules = [many.clone(), vec![json!([DROP()])]].concat();
    let found = met(&ruleset_of("input", "accept", &rules, &many));
    assert!(!found.iter().any(|found| found.2), "nothing is certain behind the end of patience: {found:?}");
}

#[test]
fn marks_that_rules_set_are_seen_by_later_rules() {
    let set = |value: Value| json!([{"mangle": {"key": meta("mark"), "value": value}}]);
    let ours = json!([equal(meta("mark"), json!(123)), DROP()]);
    let certain =
        |rules: &[Value]| met(&ruleset_of("input", "accept", rules, &[])).first().map(|found| found.2);
    assert_eq!(certain(std::slice::from_ref(&ours)), Some(true));
    assert_eq!(certain(&[set(json!(1)), ours.clone()]), None);
    assert_eq!(certain(&[set(json!({"ct": {"key": "mark"}})), ours]), Some(false));
}

#[test]
fn each_hook_sees_its_own_interfaces() {
    let lo = |key: &str| vec![json!([equal(meta(key), json!("lo")), DROP()])];
    for (hook, sees_input) in
        [("output", false), ("postrouting", false), ("prerouting", true), ("input", true)]
    {
        assert_eq!(met(&ruleset_of(hook, "accept", &lo("iifname"), &[])).is_empty(), !sees_input, "{hook}");
        assert_eq!(met(&ruleset_of(hook, "accept", &lo("oifname"), &[])).is_empty(), sees_input, "{hook}");
    }
    assert_eq!(met(&ruleset_of("forward", "drop", &[], &[])), [], "nothing is forwarded");
}

#[test]
fn a_target_elsewhere_is_reached_by_its_interface() {
    let flow = Flow { device: Some("br0"), ..flow() };
    let seen = |hook: &str| flow.obstacles(&ruleset_of(hook, "drop", &[], &[]));
    assert!(seen("output").iter().all(|obstacle| obstacle.packet == Kind::Request));
    assert!(seen("input").iter().all(|obstacle| obstacle.packet == Kind::Reply));
    assert_eq!((seen("output").len(), seen("input").len(), seen("forward").len()), (1, 1, 0));
    let finding = flow.finding(&seen("input")[0], None);
    assert_eq!(
        finding.cure.as_deref(),
        Some("`nft insert rule inet filter input ip saddr 127.0.0.1 accept`")
    );
}

#[test]
fn without_connection_tracking_its_state_is_unknown() {
    let rules = [
        json!([{"notrack": null}]),
        json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}, DROP()]),
    ];
    let found = met(&ruleset_of("input", "accept", &rules, &[]));
    assert_eq!(found.iter().map(|found| found.2).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn what_stops_a_packet_is_told_with_the_cure() {
    let reset = json!([equal(payload("tcp", "dport"), json!(443)), {"reject": {"type": "tcp reset"}}]);
    let ruleset = ruleset_of("input", "accept", &[reset], &[]);
    let obstacle = &flow().obstacles(&ruleset)[0];
    let finding = flow().finding(obstacle, Some("tcp dport 443 reject with tcp reset".to_owned()));
    assert_eq!((finding.fact, finding.level), (Fact::FirewallRejects, Level::Failed));
    assert_eq!(
        finding.found,
        "rule `tcp dport 443 reject with tcp reset` (inet filter input, handle 10) rejects the connection from \
         192.0.2.1 to the target"
    );
    assert_eq!(finding.cure.as_deref(), Some("`nft insert rule inet filter input iifname lo accept`"));

    let policy = ruleset_of("output", "drop", &[], &[]);
    let finding = flow().finding(&flow().obstacles(&policy)[0], None);
    assert!(finding.found.starts_with("the policy of chain inet filter output drops"), "{finding}");
    assert_eq!(finding.cure.as_deref(), Some("`nft insert rule inet filter output oifname lo accept`"));

    let redirect = ruleset_of("output", "accept", &[json!([{"redirect": {"port": 8080}}])], &[]);
    let finding = flow().finding(&flow().obstacles(&redirect)[0], None);
    assert_eq!(finding.fact, Fact::FirewallRedirects);
    assert_eq!(finding.cure.as_deref(), Some("`nft insert rule inet filter output meta mark 0x7b accept`"));

    let maybe = ruleset_of("input", "accept", &[json!([{"limit": {}}, DROP()])], &[]);
    let finding = flow().finding(&flow().obstacles(&maybe)[0], None);
    assert_eq!((finding.fact, finding.level, finding.exit), (Fact::FirewallMayDrop, Level::Note, None));
}

#[test]
fn targets_of_iptables_are_known_by_name() {
    let target = |name: &str| vec![json!([{"xt": {"type": "target", "name": name}}])];
    let effect =
        |name: &str| met(&ruleset_of("input", "accept", &target(name), &[])).first().map(|found| found.1);
    assert_eq!(effect("REJECT"), Some(Effect::Rejected));
    assert_eq!(effect("DNAT"), Some(Effect::Redirected));
    assert_eq!(effect("MASQUERADE"), Some(Effect::Disguised));
    assert_eq!(effect("LOG"), None);
}

fn effects(mode: Mode, rules: &[Value], foreign_rules: &[&str]) -> Vec<(Fact, Level)> {
    let ruleset = ruleset_of("prerouting", "accept", rules, &[]);
    let marks = Marks { mode, mark: 123, foreign_rules };
    side_effects::find(Some(&ruleset), &marks).iter().map(|finding| (finding.fact, finding.level)).collect()
}

#[test]
fn others_who_mark_packets_are_named() {
    let sets = |value: Value| vec![json!([{"mangle": {"key": meta("mark"), "value": value}}])];
    let iptables = vec![json!([{"xt": {"type": "target", "name": "CONNMARK"}}])];
    assert_eq!(effects(Mode::Fwmark, &[], &[]), []);
    assert_eq!(effects(Mode::Fwmark, &sets(json!(1)), &[]), [(Fact::ForeignMarks, Level::Note)]);
    assert_eq!(effects(Mode::Fwmark, &iptables, &[]), [(Fact::ForeignMarks, Level::Note)]);
    let rule = "99: from all fwmark 0x1 lookup 7";
    assert_eq!(effects(Mode::Fwmark, &[], &[rule]), [(Fact::ForeignMarkRules, Level::Note)]);
    let taken = (Fact::MarkTaken, Level::Warning);
    assert_eq!(effects(Mode::Socket, &sets(json!(123)), &[]), [taken]);
    assert_eq!(effects(Mode::Socket, &sets(json!({"|": [{"&": [meta("mark"), 65280]}, 123]})), &[]), [taken]);
    let typed = json!([equal(json!({"socket": {"key": "transparent"}}), json!(1)), sets(json!(123))[0][0]]);
    assert_eq!(effects(Mode::Socket, &[typed], &[]), [], "what mode socket needs, by hand");
    assert_eq!(effects(Mode::Source, &sets(json!(123)), &[rule]), [], "no marks, nothing to disturb");
}

#[test]
fn redirected_loopback_ports_are_named_in_mode_source() {
    let nat = |rule: Value| {
        let ruleset = ruleset_of("output", "accept", &[rule], &[]);
        let marks = Marks { mode: Mode::Source, mark: 123, foreign_rules: &[] };
        side_effects::find(Some(&ruleset), &marks)
    };
    let dnat = json!({"dnat": {"addr": "10.0.0.2", "port": 80}});
    let port = equal(payload("tcp", "dport"), json!(8080));
    let findings = nat(json!([port, dnat]));
    assert_eq!((findings[0].fact, findings[0].level), (Fact::LocalhostRedirected, Level::Warning));
    let elsewhere = equal(payload("ip", "daddr"), json!("10.0.0.1"));
    assert_eq!(nat(json!([elsewhere, port, dnat])), []);
}

#[test]
fn what_is_no_ruleset_is_refused_in_words() {
    for (json, says) in [
        ("", "EOF"),
        ("{}", "no list"),
        (r#"{"nftables": [{"chain": {"family": "ip"}}]}"#, "chain is incomplete"),
        (
            r#"{"nftables": [{"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 1, "expr": []}}]}"#,
            "in no chain",
        ),
    ] {
        let error = Ruleset::read(json).unwrap_err();
        assert!(error.contains(says), "{json}: {error}");
    }
}
