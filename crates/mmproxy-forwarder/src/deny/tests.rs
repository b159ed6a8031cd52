use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SECOND: Duration = Duration::from_secs(1);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn net(text: &str) -> IpNet {
    crate::parse_network(text).expect("test network")
}

fn shown(list: &DenyList, now: SystemTime) -> Vec<String> {
    list.iter(now).map(|denied| denied.network.to_string()).collect()
}

#[test]
fn an_entry_ends_at_its_time_and_not_a_nanosecond_before() {
    let mut list = DenyList::new();
    let change = list.add(net("203.0.113.7"), Some(SECOND), None, start()).unwrap();
    let mut table = DenyTable::default();
    table.apply(&change, start());
    let ip = "203.0.113.7".parse().unwrap();
    for (now, denied) in [
        (start(), true),
        (start() + SECOND - Duration::from_nanos(1), true),
        (start() + SECOND, false),
        (start() + 2 * SECOND, false),
    ] {
        assert_eq!(table.denies(ip, now), denied);
        assert_eq!(list.iter(now).count(), usize::from(denied));
    }
    assert_eq!((list.expire(start()), list.len()), (0, 1));
    assert_eq!((list.expire(start() + SECOND), list.len()), (1, 0));
}

#[test]
fn the_last_word_about_a_network_counts_and_networks_within_each_other_are_entries_of_their_own() {
    let mut list = DenyList::new();
    list.add(net("203.0.113.7/24"), None, Some("by hand"), start()).unwrap();
    list.add(net("203.0.113.7"), Some(60 * SECOND), Some("first"), start()).unwrap();
    list.add(net("203.0.113.7"), Some(SECOND), Some(" second "), start()).unwrap();
    assert_eq!(shown(&list, start()), ["203.0.113.0/24", "203.0.113.7/32"]);
    let denied: Vec<_> = list.covering(net("203.0.113.7"), start()).collect();
    assert_eq!((denied[0].reason.as_deref(), denied[0].remaining), (Some("by hand"), None));
    assert_eq!((denied[1].reason.as_deref(), denied[1].remaining), (Some("second"), Some(SECOND)));

    assert_eq!(list.remove(net("203.0.113.8"), start()), None);
    let removed = DenyChange::Remove { network: net("203.0.113.7") };
    assert_eq!(list.remove(net("203.0.113.7"), start()), Some(removed));
    assert_eq!(list.covering(net("203.0.113.7"), start()).count(), 1, "the /24 still has it");
}

#[test]
fn a_term_that_no_calendar_can_tell_is_for_ever() {
    let mut list = DenyList::new();
    for seconds in [u64::MAX, 1 << 40] {
        list.add(net("203.0.113.7"), Some(Duration::from_secs(seconds)), None, start()).unwrap();
        assert_eq!(list.to_string(), "203.0.113.7/32\n");
    }
    let term = Duration::from_secs(253_402_300_799 - 1_800_000_000);
    list.add(net("203.0.113.7"), Some(term), None, start()).unwrap();
    assert_eq!(list.to_string(), "203.0.113.7/32 until 9999-12-31T23:59:59Z\n");
}

#[test]
fn a_full_list_takes_nothing_more_until_something_in_it_is_over() {
    let mut list = DenyList::with_capacity(2);
    list.add(net("203.0.113.1"), Some(SECOND), None, start()).unwrap();
    list.add(net("203.0.113.2"), None, None, start()).unwrap();
    let more = |list: &mut DenyList, now| list.add(net("203.0.113.3"), None, None, now);
    assert_eq!(more(&mut list, start()), Err(DenyError::Full { capacity: 2 }));
    // One that is there already needs no room.
    assert!(list.add(net("203.0.113.2"), None, Some("again"), start()).is_ok());
    assert!(more(&mut list, start() + SECOND).is_ok());
    assert_eq!(shown(&list, start() + SECOND), ["203.0.113.2/32", "203.0.113.3/32"]);
}

#[test]
fn a_reason_is_one_line_of_text() {
    let mut list = DenyList::new();
    let long = "x".repeat(DenyList::REASON_LEN + 1);
    for reason in ["two\nlines", "\u{1b}[2J", &long] {
        assert_eq!(list.add(net("::1"), None, Some(reason), start()), Err(DenyError::Reason));
    }
    assert!(list.is_empty());
    list.add(net("::1"), None, Some("  "), start()).unwrap();
    assert_eq!(list.to_string(), "::1/128\n");
}

#[test]
fn of_two_lists_the_longer_entries_stay() {
    let now = start();
    let (mut ours, mut theirs) = (DenyList::new(), DenyList::new());
    for (address, here, there) in
        [("192.0.2.1", Some(1), Some(2)), ("192.0.2.2", Some(2), Some(1)), ("192.0.2.3", None, Some(1))]
    {
        ours.add(net(address), here.map(Duration::from_secs), None, now).unwrap();
        theirs.add(net(address), there.map(Duration::from_secs), None, now).unwrap();
    }
    theirs.add(net("192.0.2.4"), None, None, now).unwrap();
    ours.merge(&theirs, now).unwrap();
    let remaining: Vec<_> = ours.iter(now).map(|denied| denied.remaining).collect();
    assert_eq!(remaining, [Some(2 * SECOND), Some(2 * SECOND), None, None]);
}

#[test]
fn a_list_is_read_as_it_is_written() {
    let text = "198.51.100.0/24 # for ever\n\
                203.0.113.7/32 until 2027-11-27T18:00:00Z # fail2ban sshd\n\
                2001:db8::/56 until 2027-11-27T18:00:00.500000000Z\n";
    let list = DenyList::parse(text, 3, start()).unwrap();
    assert_eq!(list.to_string(), text);
    let by_hand = "\u{feff}# a comment\n\n 2001:db8::7/56   until 2027-11-27T18:00:00.5Z\r\n\
                   203.0.113.7 until 2020-01-01T00:00:00Z ; long ago\n\
                   203.0.113.7 until 2027-11-27T18:00:00Z ;fail2ban sshd\n198.51.100.0/24#for ever";
    assert_eq!(DenyList::parse(by_hand, 3, start()).unwrap(), list);
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = "203.0.113.7\nnobody\n::/129 # too many\n203.0.113.8 till 2027-11-27T18:00:00Z\n\
                203.0.113.8 until tomorrow\n203.0.113.8 until\n203.0.113.9\n";
    let error = DenyList::parse(text, 1, start()).unwrap_err();
    let lines: Vec<_> = error.mistakes().iter().map(|mistake| mistake.line.get()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6, 7]);
    assert_eq!(
        error.mistakes()[3].to_string(),
        "line 5: `203.0.113.8 until tomorrow`: expected a time such as 2026-11-27T18:00:00Z"
    );
    assert_eq!(error.mistakes()[5].problem, DenyProblem::Entry(DenyError::Full { capacity: 1 }));
}

#[test]
fn changes_survive_the_way_to_another_process() {
    let mut list = DenyList::new();
    let add = list.add(net("203.0.113.7"), Some(SECOND), Some("x"), start()).unwrap().closing(true);
    for change in [add, DenyChange::Remove { network: net("::1") }, list.snapshot(start())] {
        let json = serde_json::to_string(&change).unwrap();
        assert!(!json.contains('\n'));
        assert_eq!(serde_json::from_str::<DenyChange>(&json).unwrap(), change);
    }
}

#[test]
fn a_table_forgets_what_is_over_before_it_grows_for_ever() {
    let mut table = DenyTable::default();
    let mut now = start();
    for number in 0..100_000u32 {
        now += Duration::from_millis(1);
        let network = IpNet::from(IpAddr::V4(Ipv4Addr::from(number)));
        table.apply(&DenyChange::Add { network, until: Some(now + SECOND), close: false }, now);
        assert!(table.denies(network.addr(), now));
        assert!(table.len() <= 3000, "{} for 1,000 in force", table.len());
    }
    assert!(!table.is_empty());
}

/// What may happen to a list.
#[derive(Clone, Debug)]
enum Step {
    Add(IpNet, Option<u8>),
    Remove(IpNet),
    Wait(u8),
    Expire,
}

fn network() -> impl Strategy<Value = IpNet> {
    // Few, so that they meet again and lie within each other.
    let v4 = (0u32..8, 28u8..=32).prop_map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from(ip)), len));
    let v6 = (0u128..8, 124u8..=128).prop_map(|(ip, len)| (IpAddr::V6(Ipv6Addr::from(ip << 64 | ip)), len));
    prop_oneof![v4, v6].prop_map(|(ip, len)| IpNet::new(ip, len).expect("prefix in range"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (network(), prop::option::of(0u8..10)).prop_map(|(network, term)| Step::Add(network, term)),
        2 => network().prop_map(Step::Remove),
        2 => (0u8..6).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// The list, the table that follows it, one that starts from a snapshot and one that was written and read back
    /// all deny whom a plain list of entries denies.
    #[test]
    fn all_views_agree_with_a_plain_list(steps in prop::collection::vec(step(), 0..40)) {
        let mut now = start();
        let mut list = DenyList::with_capacity(6);
        let mut table = DenyTable::default();
        let mut model: Vec<(IpNet, Option<SystemTime>)> = Vec::new();
        let in_force = |until: &Option<SystemTime>, now| until.is_none_or(|until| now < until);
        for step in steps {
            match step {
                Step::Add(network, term) => {
                    let term = term.map(|seconds| Duration::from_secs(seconds.into()));
                    let network = network.trunc();
                    let others = model.iter().filter(|(net, until)| *net != network && in_force(until, now));
                    // What is over and was not forgotten yet may be in the way of nobody.
                    let fits = others.count() < 6;
                    let added = list.add(network, term, None, now);
                    prop_assert_eq!(added.is_ok(), fits);
                    if let Ok(change) = added {
                        table.apply(&change, now);
                        model.retain(|(net, _)| *net != network);
                        model.push((network, term.map(|term| now + term)));
                    }
                }
                Step::Remove(network) => {
                    let network = network.trunc();
                    let was = model.iter().any(|(net, until)| *net == network && in_force(until, now));
                    model.retain(|(net, _)| *net != network);
                    let removed = list.remove(network, now);
                    prop_assert_eq!(removed.is_some(), was);
                    removed.iter().for_each(|change| table.apply(change, now));
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                Step::Expire => {
                    list.expire(now);
                    // With the next change, that is.
                    table.crowded = 0;
                }
            }
            prop_assert!(list.len() <= 6);
            let mut fresh = DenyTable::default();
            fresh.apply(&list.snapshot(now), now);
            let read = DenyList::parse(&list.to_string(), 6, now).unwrap();
            prop_assert_eq!(
                read.iter(now).collect::<Vec<_>>(),
                list.iter(now).collect::<Vec<_>>()
            );
            let hosts = (0u32..10).map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
            let hosts = hosts.chain((0u128..10).map(|ip| IpAddr::V6(Ipv6Addr::from(ip << 64 | ip))));
            for ip in hosts {
                let denied = model.iter().any(|(net, until)| net.contains(&ip) && in_force(until, now));
                prop_assert_eq!(table.denies(ip, now), denied, "{}", ip);
                prop_assert_eq!(fresh.denies(ip, now), denied, "{}", ip);
                prop_assert_eq!(list.covering(IpNet::from(ip), now).next().is_some(), denied, "{}", ip);
            }
        }
    }
}
