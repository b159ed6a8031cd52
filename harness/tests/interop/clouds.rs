//! Headers of the clouds' load balancers, byte by byte as their documents have them, before a server that lists its clients.

use std::net::SocketAddr;

use harness::{Balancer, Family, Topology, V2, isolated};

use crate::haproxy::frontend;
use crate::redis;
use crate::scene::gateway;

/// Redis sees the client of a header with this TLV, over each family of balancer, and the log has `field`.
fn listed(kind: u8, value: &[u8], field: &str) {
    let net = Topology::new();
    let server = redis::start(&net, false);
    server.expect_listener(&net.gateway, redis::PORT);
    let gateway = gateway(&net, redis::PORT);
    for (number, (balancer, family)) in PAIRS.into_iter().enumerate() {
        let client = SocketAddr::new(family.client(), 20_000 + number as u16);
        let header = V2::proxy(client, frontend(family)).tlv(kind, value).to_bytes();
        let downstream = Balancer::of(&net).announce(gateway.address(balancer), &header, b"");
        let line = redis::own_line(&downstream);
        assert!(line.contains(&format!(" addr={client} ")), "{line}");
        drop(downstream);
        gateway.expect_log(&["session closed", &format!("client={client}"), field, "reason=finished"]);
    }
}

/// The balancer's family and the client's.
const PAIRS: [(Family, Family); 4] =
    [(Family::V4, Family::V4), (Family::V6, Family::V6), (Family::V4, Family::V6), (Family::V6, Family::V4)];

/// PP2_TYPE_AWS: a subtype, 1 for the endpoint's name in ASCII (Network Load Balancers, "Proxy protocol").
#[test]
fn an_aws_endpoint_is_logged_and_the_server_sees_the_client() {
    isolated(|| listed(0xEA, b"\x01vpce-08d2bf15fac5001c9", r#"aws_vpc_endpoint="vpce-08d2bf15fac5001c9""#));
}

/// PP2_TYPE_AZURE: a subtype, 1 for the LinkID, 32 bits with the low byte first (Private Link service).
#[test]
fn an_azure_link_is_logged_and_the_server_sees_the_client() {
    isolated(|| listed(0xEE, &[1, 0x78, 0x56, 0x34, 0x12], "azure_link=305419896"));
}

/// The pscConnectionId: 64 bits with the high byte first (Private Service Connect).
#[test]
fn a_gcp_connection_is_logged_and_the_server_sees_the_client() {
    isolated(|| listed(0xE0, &0x0001_0203_0405_0607_u64.to_be_bytes(), "gcp_psc=283686952306183"));
}

/// Numbers that the text gives to nobody in particular: what nobody knows does no harm.
#[test]
fn tlvs_of_somebody_elses_do_no_harm() {
    isolated(|| {
        listed(0x04, &[0; 700], "header_bytes=");
        listed(0xEF, b"ours", "header_bytes=");
        listed(0xF7, b"not yet", "header_bytes=");
    });
}
