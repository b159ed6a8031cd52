//! Recipes for clouds' load balancers: the headers and the health checks that their documents describe (docs/recipes.md has the
//! addresses of these), byte by byte, before a server that lists its clients.

use std::net::SocketAddr;

use harness::header::spp;
use harness::{Balancer, Datagrams, Echo, Family, Program, Topology, V2, Version, isolated};

use super::serve;
use crate::haproxy::frontend;
use crate::redis;

/// A cloud before the gateway of its recipe, and Redis behind that.
struct Cloud {
    net: Topology,
    gateway: Program,
    _redis: Program,
    /// Where the gateway listens.
    port: u16,
}

/// Redis in the place of the recipes' sshd.
const REDIS: [(&str, &str); 2] =
    [(SSHD_V4, r#"target-v4 = "127.0.0.1:6379""#), (SSHD_V6, r#"target-v6 = "[::1]:6379""#)];
const SSHD_V4: &str = r#"target-v4 = "127.0.0.1:22""#;
const SSHD_V6: &str = r#"target-v6 = "[::1]:22""#;

/// The balancer's family and the client's.
const PAIRS: [(Family, Family); 4] =
    [(Family::V4, Family::V4), (Family::V6, Family::V6), (Family::V4, Family::V6), (Family::V6, Family::V4)];

/// A client of `family`, each of a test with a port of its own.
fn client(family: Family, number: usize) -> SocketAddr {
    SocketAddr::new(family.client(), 20_000 + u16::try_from(number).expect("few"))
}

impl Cloud {
    /// `changes` to the recipe put our balancer in the place of the cloud's networks, and Redis in that of its target.
    #[track_caller]
    fn before(recipe: &str, changes: &[(&str, &str)], listening: &[&str], port: u16) -> Self {
        let net = Topology::new();
        let redis = redis::start(&net, false);
        redis.expect_listener(&net.gateway, redis::PORT);
        let gateway = serve(&net, recipe, changes, listening);
        Self { net, gateway, _redis: redis, port }
    }

    fn address(&self, family: Family) -> SocketAddr {
        SocketAddr::new(family.gateway(), self.port)
    }

    /// Redis sees the client of `header`, which comes over `balancer`; the log has `field`.
    #[track_caller]
    fn expect_listed(&self, balancer: Family, client: SocketAddr, header: &[u8], field: &str) {
        let downstream = Balancer::of(&self.net).announce(self.address(balancer), header, b"");
        let line = redis::own_line(&downstream);
        assert!(line.contains(&format!(" addr={client} ")), "{line}");
        drop(downstream);
        self.gateway.expect_line(&["session closed", &format!("client={client}"), field, "reason=finished"]);
    }

    /// A health check, which says `bytes` after connecting, is answered: closed in order, because the target is up.
    #[track_caller]
    fn expect_answered(&self, balancer: Family, bytes: &[u8]) {
        Balancer::of(&self.net).announce(self.address(balancer), bytes, b"").expect_end();
    }
}

/// PP2_TYPE_AWS: a subtype, 1 for the endpoint's name in ASCII. Health checks have a header without a client. Around it, as
/// the protocol allows, a checksum and padding.
#[test]
fn the_recipe_for_aws_logs_the_endpoint_and_answers_health_checks() {
    isolated(|| {
        let networks = r#"allow = ["10.0.0.0/24", "10.0.1.0/24"]"#;
        let cloud = Cloud::before(
            "aws-nlb.toml",
            &[REDIS[0], REDIS[1], (networks, r#"allow = ["10.0.0.0/24", "fd00::/64"]"#)],
            &["[::]:2222"],
            2222,
        );
        for (number, (balancer, family)) in PAIRS.into_iter().enumerate() {
            let client = client(family, number);
            let header = V2::proxy(client, frontend(family))
                .tlv(0x03, &[0; 4])
                .tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9")
                .tlv(0x04, &[0; 35])
                .to_bytes();
            let field = r#"aws_vpc_endpoint="vpce-08d2bf15fac5001c9""#;
            cloud.expect_listed(balancer, client, &checked(header), field);
            cloud.expect_answered(balancer, &V2::local().to_bytes());
        }
        cloud.gateway.stop().expect_code(0);
    });
}

/// `header` with its CRC32C in the first TLV behind the addresses (§2.2.3: computed with zeros in its place).
fn checked(mut header: Vec<u8>) -> Vec<u8> {
    let mut sum = !0u32;
    for byte in &header {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    let at = if header[13] >> 4 == 1 { 16 + 12 + 3 } else { 16 + 36 + 3 };
    header[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    header
}

/// A load balancer announces with version 1, and its checks say UNKNOWN. Private Service Connect has the pscConnectionId: 64
/// bits with the high byte first.
#[test]
fn the_recipe_for_google_cloud_serves_the_load_balancer_its_checks_and_private_service_connect() {
    isolated(|| {
        let changes = [
            REDIS[0],
            REDIS[1],
            (r#"allow = ["35.191.0.0/16", "130.211.0.0/22"]"#, r#"allow = "10.0.0.0/24""#),
            (r#"allow = ["10.10.0.0/24", "35.191.0.0/16", "130.211.0.0/22"]"#, r#"allow = "10.0.0.0/24""#),
        ];
        let listening = ["0.0.0.0:2222", "0.0.0.0:2223"];
        let mut cloud = Cloud::before("gcp.toml", &changes, &listening, 2222);
        for (number, family) in Family::BOTH.into_iter().enumerate() {
            let client = client(family, number);
            let header = Version::V1.header(client, frontend(family));
            cloud.expect_listed(Family::V4, client, &header, "header=v1");
        }
        cloud.expect_answered(Family::V4, b"PROXY UNKNOWN\r\n");
        // A check without a header, which only connects.
        drop(Balancer::of(&cloud.net).connect(cloud.address(Family::V4)));

        cloud.port = 2223;
        for (number, family) in Family::BOTH.into_iter().enumerate() {
            let client = client(family, 10 + number);
            let id = 0x0001_0203_0405_0607_u64.to_be_bytes();
            let header = V2::proxy(client, frontend(family)).tlv(0xE0, &id).to_bytes();
            cloud.expect_listed(Family::V4, client, &header, "gcp_psc=283686952306183");
        }
        cloud.expect_answered(Family::V4, b"PROXY UNKNOWN\r\n");
        cloud.gateway.stop().expect_code(0);
    });
}

/// PP2_TYPE_AZURE: a subtype, 1 for the LinkID, 32 bits with the low byte first. Probes have a header without a client.
#[test]
fn the_recipe_for_azure_logs_the_link_and_answers_probes() {
    isolated(|| {
        let networks = r#"allow = ["10.1.2.0/24", "168.63.129.16"]"#;
        let cloud = Cloud::before(
            "azure-private-link.toml",
            &[REDIS[0], (networks, r#"allow = "10.0.0.0/24""#)],
            &["0.0.0.0:2222"],
            2222,
        );
        let client = client(Family::V4, 0);
        let link = [1, 0x78, 0x56, 0x34, 0x12];
        let header = V2::proxy(client, frontend(Family::V4)).tlv(0xEE, &link).to_bytes();
        cloud.expect_listed(Family::V4, client, &header, "azure_link=305419896");
        cloud.expect_answered(Family::V4, &V2::local().to_bytes());
        drop(Balancer::of(&cloud.net).connect(cloud.address(Family::V4)));
        cloud.gateway.stop().expect_code(0);
    });
}

/// Cloudflare's networks in the recipe for Spectrum, and our balancer in their place.
const CLOUDFLARE: (&str, &str) =
    (r#"allowed-subnets = "../allow/cloudflare.txt""#, r#"allow = ["10.0.0.2", "fd00::2"]"#);

#[test]
fn the_recipe_for_cloudflare_spectrum_serves_either_version_and_its_own_header_on_datagrams() {
    isolated(|| {
        let listening = ["[::]:2222", "[::]:27016"];
        let cloud =
            Cloud::before("cloudflare-spectrum.toml", &[REDIS[0], REDIS[1], CLOUDFLARE], &listening, 2222);
        for (number, (balancer, family)) in PAIRS.into_iter().enumerate() {
            let client = client(family, number);
            let version = Version::BOTH[number % 2];
            let field = ["header=v1", "header=v2"][number % 2];
            cloud.expect_listed(balancer, client, &version.header(client, frontend(family)), field);
        }
        for family in Family::BOTH {
            let _game = Echo::start(&cloud.net.gateway, SocketAddr::new(family.loopback(), 27_015));
            let (spectrum, at) =
                (Datagrams::of(&cloud.net, family.balancer()), SocketAddr::new(family.gateway(), 27_016));
            let client = client(family, 10);
            // What goes to the client carries the same header.
            let header = spp(client, frontend(family));
            let answer = [&header[..], &Echo::answer(client, b"question")].concat();
            spectrum.ask(at, &header, b"question", &answer);
        }
        cloud.gateway.stop().expect_code(0);
    });
}

#[test]
fn with_two_lines_changed_it_serves_version_2_in_the_first_datagram_alone() {
    isolated(|| {
        let net = Topology::new();
        let first = ("header = \"spp\"\n", "header = \"v2\"\nudp-header = \"first-datagram\"\n");
        let gateway = serve(&net, "cloudflare-spectrum.toml", &[CLOUDFLARE, first], &["[::]:27016"]);
        for family in Family::BOTH {
            let _game = Echo::start(&net.gateway, SocketAddr::new(family.loopback(), 27_015));
            let (spectrum, at) =
                (Datagrams::of(&net, family.balancer()), SocketAddr::new(family.gateway(), 27_016));
            let client = client(family, 20);
            let header = V2::datagram(client, frontend(family)).to_bytes();
            spectrum.ask(at, &header, b"first", &Echo::answer(client, b"first"));
            spectrum.ask(at, b"", b"second", &Echo::answer(client, b"second"));
        }
        gateway.stop().expect_code(0);
    });
}

/// Numbers that the text gives to nobody in particular: what nobody knows does no harm.
#[test]
fn tlvs_of_somebody_elses_do_no_harm() {
    isolated(|| {
        let cloud = Cloud::before("envoy.toml", &REDIS, &["[::]:2222"], 2222);
        let tlvs = [(0x04, &[0; 700][..]), (0xEF, b"ours"), (0xF7, b"not yet")];
        for (number, (kind, value)) in tlvs.into_iter().enumerate() {
            for (balancer, family) in PAIRS {
                let client = client(family, 10 * number + usize::from(balancer == Family::V6));
                let header = V2::proxy(client, frontend(family)).tlv(kind, value).to_bytes();
                cloud.expect_listed(balancer, client, &header, "header_bytes=");
            }
        }
    });
}
