//! What an operator is told before connections are taken.

use mmproxy_forwarder::TargetChoice;
use tracing::warn;

use super::ground::Ground;
use super::service::{Group, Service};
use crate::console::Console;
use crate::selfcheck::Step;

/// Tells what the targets answer and who may connect. A target that is down now may come up later, so nothing
/// here keeps the gateway from serving.
pub(crate) async fn announce(ground: &Ground, groups: &[Group], console: &mut Console) {
    let several = groups.iter().map(|group| group.services.len()).sum::<usize>() > 1;
    for (number, group) in groups.iter().enumerate() {
        for service in &group.services {
            if several {
                console.fine(format_args!("[+] Service {}:", service.spec.name));
            }
            let findings = ground.examine(number, service).await;
            for finding in &findings {
                if finding.passed() {
                    console.fine(finding);
                } else {
                    console.always(finding);
                }
            }
            if findings.iter().any(|finding| finding.step == Step::Spoofed && !finding.passed()) {
                console.always(
                    "[!] `mmproxy check` with the same targets says where the connection dies, and what cures it.",
                );
            }
            policy(service, console);
        }
    }
}

fn policy(service: &Service, console: &mut Console) {
    if let TargetChoice::FromHeader { allowed, .. } = &service.targets {
        for target in allowed.iter() {
            console.fine(format_args!("[+] A header may name as its target: {target}"));
        }
    }
    if service.allowed.is_empty() {
        warn!("the list of allowed networks is empty: nobody may connect");
        console.always("[!] The list of allowed networks is empty: nobody may connect.");
    }
    if service.spec.clients.serves_nobody() {
        warn!("the list of allowed clients is empty: no client is served");
        console.always("[!] The list of allowed clients is empty: no client is served.");
    }
    for network in service.allowed.iter().take(SHOWN_NETWORKS) {
        console.fine(format_args!("[+] Allowed to connect: {network}"));
    }
    if let more @ 1.. = service.allowed.len().saturating_sub(SHOWN_NETWORKS) {
        console.fine(format_args!("[+] Allowed to connect: {more} more networks"));
    }
}

/// A list of every cloud's balancers would push the findings off the screen.
const SHOWN_NETWORKS: usize = 40;
