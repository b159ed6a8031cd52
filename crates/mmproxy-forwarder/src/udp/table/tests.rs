use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{RULES, Step, key, run};
use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn step() -> impl Strategy<Value = Step> {
    let who = || (0u8..3, 0u8..3, 0u8..4);
    prop_oneof![
        6 => who().prop_map(Step::Up),
        4 => who().prop_map(Step::Down),
        1 => who().prop_map(Step::Close),
        4 => prop_oneof![Just(0), Just(1), Just(14), Just(15), Just(59), Just(61)].prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens in whatever order: the same flows live, the same ones go, nobody gets another one's value.
    #[test]
    fn the_table_does_what_a_plain_list_would(steps in vec(step(), 0..120)) {
        run(steps);
    }
}

#[test]
fn a_number_means_one_flow_for_ever() {
    let now = Instant::now();
    let mut table = FlowTable::new(RULES);
    let first = table.insert(key((0, 0, 0)), now, "first");
    assert_eq!(table.remove(first), Some("first"));
    let second = table.insert(key((0, 0, 1)), now, "second");
    assert_ne!(first, second);
    assert_eq!(table.get(first), None);
    assert_eq!(table.get_mut(first), None);
    assert_eq!(table.remove(first), None);
    table.touch(first, Way::Down, now + seconds(30));
    assert_eq!(table.next_expiry(), Some(now + RULES.idle));
    assert_eq!(table.get(second), Some(&"second"));
}

#[test]
fn invented_clients_push_each_other_out_and_nobody_else() {
    let mut now = Instant::now();
    let mut table = FlowTable::new(Rules { flows: 100, per_balancer: 100, per_network: 100, ..RULES });
    let honest: Vec<FlowId> = (0..10)
        .map(|client| {
            let id = table.insert(key((0, 0, client)), now, ());
            table.touch(id, Way::Down, now);
            table.touch(id, Way::Up, now);
            id
        })
        .collect();
    for invented in 0..10_000u32 {
        now += Duration::from_millis(1);
        let [_, local, network, client] = (invented + (1 << 16)).to_be_bytes();
        let key = FlowKey { local: Ipv4Addr::new(10, 0, 9, local).into(), ..key((0, network, client)) };
        while let Some(victim) = table.victim(&key, now).expect("young flows make room") {
            assert!(!honest.contains(&victim));
            table.remove(victim);
        }
        let id = table.insert(key, now, ());
        // The target answers everybody.
        table.touch(id, Way::Down, now);
    }
    assert_eq!(table.len(), 100);
    assert!(honest.iter().all(|id| table.is_established(*id)));
}

#[test]
fn an_established_flow_gives_way_when_it_was_silent_and_not_before() {
    let start = Instant::now();
    let mut table = FlowTable::new(Rules { per_network: 1, ..RULES });
    let id = table.insert(key((0, 0, 0)), start, ());
    table.touch(id, Way::Down, start);
    table.touch(id, Way::Up, start);
    let newcomer = key((0, 0, 1));
    assert_eq!(table.victim(&newcomer, start + seconds(14)), Err(Full));
    assert_eq!(table.victim(&newcomer, start + seconds(15)), Ok(Some(id)));
    assert_eq!(table.victim(&key((0, 1, 1)), start), Ok(None));
}

#[test]
fn what_a_flow_takes_beside_its_socket_is_less_than_two_kibibytes() {
    use crate::udp::core::Flow;
    use crate::udp::net::Leg;

    // In the slab, in the index by key, and in the indices by balancer and network where it is alone in both. Each of
    // them may be as much as half empty.
    let index = size_of::<(FlowKey, u32)>() + 1;
    let alone = size_of::<Scope<ClientNetwork>>() + size_of::<(ClientNetwork, u32)>() + 1;
    let claim = 2 * size_of::<std::net::SocketAddr>() + 1;
    assert!(2 * (size_of::<Entry<Flow<Leg>>>() + index + 2 * alone + claim) < 2048);
}
