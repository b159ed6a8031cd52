//! What tables of networks cost: time to load, to look up and to change, and memory for each entry.
//!
//! `cargo run --release -p mmproxy-forwarder --example tables [NETWORKS]`. Figures of one machine stand in
//! docs/operations.md.

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, ClientLists, DenyChange, DenyList, DenyTable};
use nix::time::{ClockId, clock_gettime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.first().map_or(100_000, |text| text.parse().expect("a number of networks"));
    if let [_, table, family] = arguments.as_slice() {
        let network = if family == "IPv4" { v4 } else { v6 };
        return measure(table, family, count, network);
    }
    // Each in a process of its own: memory that another one gave back would hide what it takes.
    let program = std::env::current_exe().expect("/proc is mounted");
    for family in ["IPv4", "IPv6"] {
        for table in ["allow-list", "client lists", "deny list", "deny table"] {
            let arguments = [&count.to_string(), table, family];
            let status = Command::new(&program).args(arguments).status().expect("it ran before");
            assert!(status.success(), "{table} {family}");
        }
    }
}

fn measure(table: &str, family: &str, count: u32, network: fn(u32) -> IpNet) {
    let networks: Vec<IpNet> = (0..count).map(network).collect();
    // Half of them are in no network.
    let probes: Vec<IpAddr> = (0..2 * count).map(|number| network(number).addr()).collect();
    let now = SystemTime::now();
    let name = format!("{family}: {table}");
    match table {
        "allow-list" => {
            let text: String = networks.iter().map(|network| format!("{network}\n")).collect();
            let list = loaded(&name, count, || AllowList::parse(&text).expect("networks"));
            lookups(&name, &probes, |ip| list.contains(ip));
        }
        "client lists" => {
            let none = None::<Vec<IpNet>>;
            let lists = loaded(&name, count, || ClientLists::new(none, networks.iter().copied()));
            lookups(&name, &probes, |ip| lists.check(ip).is_ok());
        }
        "deny list" => drop(loaded(&name, count, || {
            let mut list = DenyList::new();
            for network in &networks {
                list.add(*network, None, Some("fail2ban sshd"), now).expect("room");
            }
            list
        })),
        "deny table" => {
            let add = |network| DenyChange::Add { network, until: None, close: false };
            let mut denied = loaded(&name, count, || {
                let mut table = DenyTable::default();
                networks.iter().for_each(|network| table.apply(&add(*network), now));
                table
            });
            lookups(&name, &probes, |ip| denied.denies(ip, now));
            let changes: Vec<DenyChange> = (count..count + 1000).map(|number| add(network(number))).collect();
            let start = processor_time();
            changes.iter().for_each(|change| denied.apply(change, now));
            println!(
                "{name}: a change: {:.0} ns",
                (processor_time() - start).as_secs_f64() * 1e9 / changes.len() as f64
            );
        }
        _ => panic!("no such table: {table}"),
    }
}

/// Sizes as they are in the wild: between /8 and /24, or /32; IPv6 /32 to /64. Multiplication by an odd number scatters them.
fn v4(number: u32) -> IpNet {
    let address = Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761));
    let prefix = if number.is_multiple_of(4) { 24 } else { 32 };
    IpNet::new(address.into(), prefix).expect("at most 32")
}

fn v6(number: u32) -> IpNet {
    let scattered = u128::from(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let address = Ipv6Addr::from_bits(0x2001 << 112 | scattered << 48);
    IpNet::new(address.into(), if number.is_multiple_of(4) { 56 } else { 64 }).expect("at most 128")
}

fn loaded<T>(name: &str, count: u32, make: impl FnOnce() -> T) -> T {
    let (before, start) = (resident(), processor_time());
    let made = black_box(make());
    let millis = (processor_time() - start).as_secs_f64() * 1e3;
    let bytes = resident().saturating_sub(before);
    println!("{name}: {count} networks in {millis:.0} ms, {} bytes each", bytes / u64::from(count));
    made
}

fn lookups(name: &str, probes: &[IpAddr], look_up: impl Fn(IpAddr) -> bool) {
    const ROUNDS: usize = 10;
    let start = processor_time();
    for _ in 0..ROUNDS {
        black_box(probes.iter().filter(|ip| look_up(black_box(**ip))).count());
    }
    let each = (processor_time() - start).as_secs_f64() * 1e9 / (ROUNDS * probes.len()) as f64;
    println!("{name}: a lookup: {each:.0} ns");
}

/// Whatever else runs on the machine takes none of it.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has it").into()
}

/// Memory of this process, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = pages.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("proc(5)");
    pages * 4096
}
