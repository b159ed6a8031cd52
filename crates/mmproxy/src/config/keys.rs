//! Every key of a configuration file: one table, from which files are read and written, and which the example, the
//! schema and the reference page are made of.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use ipnet::IpNet;
use mmproxy_forwarder::AllowedTarget;
use mmproxy_routing::{Mark, Ports, Priority, Table};
use serde_json::Value as Json;

use super::default;
use super::scalar::{Endpoint, Name, Number, Target, Time, TimeOrOff, UserName, Workers};
use super::slot::{AnySlot, Setting, Slot, Value};
use crate::cli::{
    Ceiling, HeaderArg, HealthCheckArg, IoUringArg, LogFormat, MissingArg, Prefixes, Probing, ProtocolArg,
    Rate, ReturnPathMode, Routing, SandboxArg, SourceArg, SourceKind, SourcePortArg, UdpHeaderArg,
};
use crate::log::Verbosity;
use crate::target_netns::NamespaceName;

/// One key, as the documents describe it.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The keys of one subject stand together under it.
    pub(crate) subject: &'static str,
    /// Lines, each with the blank before it that a doc comment has.
    pub(crate) doc: &'static [&'static str],
    /// What the key is where it is left out.
    pub(crate) absent: Absent,
    pub(crate) expected: fn() -> String,
    pub(crate) schema: fn() -> Json,
    /// As TOML, from the text of a default.
    pub(crate) toml: fn(&str) -> Option<String>,
}

/// What the absence of a key means.
#[derive(Clone, Copy)]
pub(crate) enum Absent {
    /// The same as this text.
    Default(&'static str),
    /// It has to be there, and could be this TOML.
    Required { example: &'static str },
    /// What the words say; it could be this TOML.
    Means { meaning: &'static str, example: &'static str },
}

/// A table of a configuration file: its keys and a [`Slot`] for each.
pub(crate) trait Keys {
    const KEYS: &'static [Key];

    /// In the order of [`Keys::KEYS`].
    fn slots(&self) -> Vec<&dyn AnySlot>;
    /// The same.
    fn slots_mut(&mut self) -> Vec<&mut dyn AnySlot>;
}

macro_rules! keys {
    (
        $(#[doc = $type_doc:literal])*
        $type:ident {
            $($subject:literal: {
                $( $(#[doc = $doc:literal])* $name:literal $field:ident: $value:ty, $absent:expr; )*
            })*
        }
    ) => {
        $(#[doc = $type_doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $type {
            $($( pub(crate) $field: Slot<$value>, )*)*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($( $field: Slot::new(match $absent {
                    Absent::Default(text) => Some(text),
                    Absent::Required { .. } | Absent::Means { .. } => None,
                }), )*)* }
            }
        }

        impl Keys for $type {
            const KEYS: &'static [Key] = &[$($( Key {
                name: $name,
                subject: $subject,
                doc: &[$($doc),*],
                absent: $absent,
                expected: <$value as Value>::expected,
                schema: <$value as Value>::schema,
                toml: |text| <$value as Value>::from_text(text).map(|value| value.toml()),
            }, )*)*];

            fn slots(&self) -> Vec<&dyn AnySlot> {
                vec![$($( &self.$field, )*)*]
            }

            fn slots_mut(&mut self) -> Vec<&mut dyn AnySlot> {
                vec![$($( &mut self.$field, )*)*]
            }
        }
    };
}

/// A list, each item with its place.
pub(crate) type List<T> = Vec<Setting<T>>;

keys! {
    /// `[global]`: what all services share.
    GlobalKeys {
        "Process": {
            /// Threads that serve, each with a listener of its own on every address. `auto` is one for each processor
            /// that the process may run on.
            "workers" workers: Workers, Absent::Default("auto");
            /// How long sessions may go on after SIGTERM or SIGINT.
            "drain" drain: Time<0>, Absent::Default(default::DRAIN);
            /// Sessions of all services together, in each worker process.
            "max-sessions" max_sessions: NonZeroUsize, Absent::Means { meaning: "what the limit on open files allows", example: "100000" };
            /// How much is said: `quiet`, what is wrong and the addresses listened on; `normal`; or `verbose`, what happens inside
            /// each session too.
            "verbosity" verbosity: Verbosity, Absent::Default("normal");
        }
        "Eyes": {
            /// Form of the log on standard error: `text`, `json` or `journald`.
            "log-format" log_format: LogFormat, Absent::Means { meaning: "`text`, or `journald` where systemd says that standard error is the journal", example: "\"json\"" };
            /// Where metrics, health and a status page are served by HTTP. Whoever reaches it sees the clients' addresses: it has
            /// neither password nor encryption.
            "admin" admin: SocketAddr, Absent::Means { meaning: "nowhere", example: "\"127.0.0.1:9100\"" };
            /// Where `mmproxy status`, `sessions`, `kill`, `trace`, `deny`, `reload` and the like find this one: a Unix socket, for the
            /// user that starts it alone.
            "control" control: PathBuf, Absent::Means { meaning: "nowhere", example: "\"/run/mmproxy/control.sock\"" };
        }
        "Denied clients": {
            /// File that keeps what `mmproxy deny` has been told from one start to the next; it is read at the start, and written
            /// by mmproxy.
            "deny-state" deny_state: PathBuf, Absent::Means { meaning: "a restart forgets", example: "\"/var/lib/mmproxy/denied.txt\"" };
        }
        "Least privilege": {
            /// User, and group if not its own, that workers run as, such as `mmproxy` or `990:990`; or `keep` for the user that
            /// starts them.
            "user" user: UserName, Absent::Means { meaning: "`nobody` for root, else `keep`", example: "\"nobody\"" };
            /// What happens to a worker that makes a system call which is not on its list: `kill` it, `log` it and do it, or `off`.
            "sandbox" sandbox: SandboxArg, Absent::Default(default::SANDBOX);
            /// What the kernel may lack of the sandbox: `nothing`, `landlock` or `anything`; the start fails for what else it lacks.
            "sandbox-missing" sandbox_missing: MissingArg, Absent::Default(default::SANDBOX_MISSING);
            /// Workers keep CAP_NET_ADMIN: a client's port that a listener of this host has on all addresses can be kept then.
            "keep-net-admin" keep_net_admin: bool, Absent::Default("false");
        }
    }
}

keys! {
    /// `[[service]]`: one kind of connection or datagram, and where it goes.
    ServiceKeys {
        "Service": {
            /// What logs, metrics and messages call the service; no two have the same.
            "name" name: Name, Absent::Required { example: "\"ssh\"" };
            /// What the targets speak: `tcp` or `udp`.
            "protocol" protocol: ProtocolArg, Absent::Default(default::PROTOCOL);
            /// Addresses and ports, or ranges of ports such as `0.0.0.0:20000-20100`, that load balancers connect to; `[::]`
            /// takes IPv4 as well, unless an IPv4 address has the same port, here or in another service.
            "listen" listen: List<Endpoint>, Absent::Required { example: "[\"[::]:2222\"]" };
            /// Connections that may wait to be accepted, for each worker; the kernel caps it at net.core.somaxconn.
            "backlog" backlog: Number<1, 65535>, Absent::Default(default::BACKLOG);
        }
        "Targets": {
            /// Target for IPv4 clients. A range of ports, `127.0.0.1:20000-20100`, gives each port listened on a target
            /// port of its own; the ranges are equally long.
            "target-v4" target_v4: Target<false>, Absent::Means { meaning: "IPv4 clients are refused", example: "\"127.0.0.1:22\"" };
            /// Target for IPv6 clients.
            "target-v6" target_v6: Target<true>, Absent::Means { meaning: "IPv6 clients are refused", example: "\"[::1]:22\"" };
            /// Connect to the destination that the header names, if `allow-target` allows it. `target-v4` and `target-v6`
            /// are then for headers that name none, such as those of health checks.
            "target-from-header" target_from_header: bool, Absent::Default("false");
            /// Destinations that a header may name, such as `10.0.0.5:22`, `10.0.0.0/24:20000-20100` or `[2001:db8::5]:22`.
            "allow-target" allow_target: List<AllowedTarget>, Absent::Means { meaning: "none", example: "[\"10.0.0.0/24:20000-20100\"]" };
            /// Network namespace of the targets: `docker:CONTAINER`, a name that `ip netns` knows, a path, or a process
            /// number. The return path is installed there.
            "target-netns" target_netns: NamespaceName, Absent::Means { meaning: "this host's", example: "\"docker:web\"" };
        }
        "Who may connect": {
            /// Networks and addresses of the load balancers. This or `allowed-subnets` has to be there; both are one list.
            "allow" allow: List<IpNet>, Absent::Means { meaning: "this or `allowed-subnets` is required", example: "[\"10.0.0.2\", \"2001:db8::/64\"]" };
            /// Files with the load balancers' networks, one a line; `#` and `;` start comments. A relative path is meant from
            /// the directory of this file.
            "allowed-subnets" allowed_subnets: List<PathBuf>, Absent::Means { meaning: "this or `allow` is required", example: "[\"balancers.txt\"]" };
            /// Where the client's address comes from: the `header`, without which a connection is refused, or the `peer`
            /// itself, whose every byte is payload.
            "source" source: SourceArg, Absent::Default(default::SOURCE);
            /// Formats of headers that are accepted: `v1` and `v2` in front of connections; in front of datagrams one of `v2` and
            /// `spp`, Cloudflare's Simple Proxy Protocol.
            "header" header: List<HeaderArg>, Absent::Means { meaning: "`v1` and `v2`, of datagrams `v2`", example: "[\"v2\"]" };
            /// Kinds of client address that a header may claim although they are refused by default: `loopback`,
            /// `unspecified`, `multicast`, `broadcast`, `link-local`, `own`.
            "allow-source" allow_source: List<SourceKind>, Absent::Default("");
            /// Clients that are served, and no others then. Where networks lie within each other, the smallest that contains a
            /// client decides between `allow-client` and `deny-client`; the same one in both is denied.
            "allow-client" allow_client: List<IpNet>, Absent::Means { meaning: "everybody", example: "[\"192.0.2.0/24\"]" };
            /// Files with such networks, one a line, as in `allowed-subnets`.
            "allow-client-file" allow_client_file: List<PathBuf>, Absent::Means { meaning: "none", example: "[\"clients.txt\"]" };
            /// Clients that are not served.
            "deny-client" deny_client: List<IpNet>, Absent::Means { meaning: "nobody", example: "[\"198.51.100.0/24\"]" };
            /// Files with such networks, one a line, as in `allowed-subnets`.
            "deny-client-file" deny_client_file: List<PathBuf>, Absent::Means { meaning: "none", example: "[\"denied.txt\"]" };
        }
        "Return path": {
            /// How replies of the target come back: `auto`, `fwmark`, `source`, `port`, `connmark` or `socket`.
            "return-path" return_path: ReturnPathMode, Absent::Default(default::RETURN_PATH);
            /// `auto` installs what is missing and removes it at the end, `check` only looks, `off` leaves it alone.
            "routing" routing: Routing, Absent::Default(default::ROUTING);
            /// Firewall mark (SO_MARK) of the connections to the target; with a mask, `"0x7b/0xff"`, only those bits are
            /// looked at and changed.
            "mark" mark: Mark, Absent::Default(default::MARK);
            /// Routing table that brings replies back.
            "table" table: Table, Absent::Default(default::TABLE);
            /// Priority of the routing rule, from 1 to 32765.
            "priority" priority: Priority, Absent::Default(default::PRIORITY);
        }
        "Transparent listener": {
            /// Take connections to other addresses and ports too, which TPROXY rules made by somebody else send here.
            "listen-transparent" listen_transparent: bool, Absent::Default("false");
            /// Ports to hand to the listener too, such as `20000-20100`; the TPROXY rules are installed and removed with the
            /// return path.
            "tproxy-ports" tproxy_ports: List<Ports>, Absent::Default("");
            /// Firewall mark of what is handed over, on its way in.
            "tproxy-mark" tproxy_mark: Mark, Absent::Default(default::TPROXY_MARK);
            /// Routing table that what is marked so is looked up in.
            "tproxy-table" tproxy_table: Table, Absent::Default(default::TPROXY_TABLE);
        }
        "Connections": {
            /// Port of the spoofed connection: `keep` the client's or refuse, `prefer` it where it is free, or any
            /// (`ephemeral`).
            "source-port" source_port: SourcePortArg, Absent::Default(default::SOURCE_PORT);
            /// What becomes of connections that speak for no client, as balancers' health checks do (LOCAL, UNKNOWN): they `pass`
            /// to the target from the gateway's own address, or the gateway may `answer` them itself, by an end in order while
            /// the target is up and a reset while it is down, or `refuse` them.
            "health-checks" health_checks: HealthCheckArg, Absent::Default(default::HEALTH_CHECKS);
            /// How long a load balancer may take to send its whole header, from accept; at least 3s.
            "header-timeout" header_timeout: Time<3000>, Absent::Default(default::HEADER_TIMEOUT);
            /// How long the target may take to accept a connection.
            "connect-timeout" connect_timeout: Time<1>, Absent::Default(default::CONNECT_TIMEOUT);
            /// How long a session may live without a byte that moves, at least 100ms, or `off`; then both sides are reset.
            "idle-timeout" idle_timeout: TimeOrOff<100>, Absent::Default(default::IDLE_TIMEOUT);
            /// The same for a session of which one side has ended.
            "half-closed-timeout" half_closed_timeout: TimeOrOff<100>, Absent::Default(default::HALF_CLOSED_TIMEOUT);
            /// How long what was sent may stay unacknowledged before the kernel gives a connection up (TCP_USER_TIMEOUT), at
            /// least 100ms, or `off`: the kernel's own, about 15 minutes.
            "tcp-user-timeout" tcp_user_timeout: TimeOrOff<100>, Absent::Default(default::TCP_USER_TIMEOUT);
            /// When silent connections are probed, on both sides: after IDLE, then every INTERVAL, PROBES times; or `off`.
            "keepalive" keepalive: Probing, Absent::Default(default::KEEPALIVE);
        }
        "Limits": {
            /// Sessions that each address listened on may have.
            "max-sessions-per-listener" max_sessions_per_listener: NonZeroUsize, Absent::Means { meaning: "all", example: "50000" };
            /// Sessions that one balancer's address may have.
            "max-sessions-per-balancer" max_sessions_per_balancer: NonZeroUsize, Absent::Means { meaning: "all", example: "50000" };
            /// Sessions that one client, an IPv4 address or an IPv6 /64, may have, or `off`.
            "max-sessions-per-client" max_sessions_per_client: Ceiling, Absent::Means { meaning: "an eighth of all", example: "100" };
            /// Sessions that the clients in one network may have, or `off`.
            "max-sessions-per-client-network" max_sessions_per_client_network: Ceiling, Absent::Means { meaning: "a quarter of all", example: "1000" };
            /// What a network of clients is: lengths of the prefix, IPv4 and IPv6.
            "client-networks" client_networks: Prefixes, Absent::Default(default::CLIENT_NETWORKS);
            /// New sessions per second of the clients in one network, and how many may begin at once, four times as many unless
            /// it is said; or `off`.
            "new-sessions-per-second" new_sessions_per_second: Rate, Absent::Default(default::NEW_SESSIONS);
            /// Largest header in bytes, from 4096 to 65551.
            "max-header-size" max_header_size: Number<4096, 65551>, Absent::Default(default::MAX_HEADER_SIZE);
        }
        "Datagrams": {
            /// Which datagrams have a header: `every`, or the `first-datagram` from each of the balancer's ports.
            "udp-header" udp_header: UdpHeaderArg, Absent::Default(default::UDP_HEADER);
            /// How long a flow may be without a datagram either way before it ends; at least 1s.
            "udp-idle-timeout" udp_idle_timeout: Time<1000>, Absent::Default(default::UDP_IDLE_TIMEOUT);
            /// Flows, each with a descriptor, at a time on each address listened on.
            "udp-max-flows" udp_max_flows: NonZeroUsize, Absent::Means { meaning: "what the limit on open files allows", example: "10000" };
            /// How many of them the clients of one balancer's address may have.
            "udp-max-flows-per-balancer" udp_max_flows_per_balancer: NonZeroUsize, Absent::Means { meaning: "all", example: "5000" };
            /// How many of them the clients of one network, IPv4 /24 or IPv6 /56, may have.
            "udp-max-flows-per-network" udp_max_flows_per_network: NonZeroUsize, Absent::Means { meaning: "a quarter", example: "2500" };
            /// Whether datagrams of many flows share a system call (io_uring(7)): `auto`, where the kernel has it and nothing
            /// forbids it, or `never`.
            "udp-io-uring" udp_io_uring: IoUringArg, Absent::Default(default::UDP_IO_URING);
        }
    }
}
