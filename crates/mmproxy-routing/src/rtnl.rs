//! The rtnetlink conversation: dumps that are complete, changes that say what the kernel answered.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink names far more messages and attributes than matter here"
)]

mod conditions;
mod route;
mod rule;

use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::task::JoinHandle;

pub(crate) use self::route::{KernelRoute, local_route, prefix, question};
pub(crate) use self::rule::{Action, KernelRule, rule_message};
use crate::error::RoutingError;
use crate::mode::Family;

/// A netlink connection to the network namespace of the thread that opened it.
pub(crate) struct Rtnl {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Rtnl {
    /// Opens a connection; its background task runs on the current runtime and ends with `self`.
    pub(crate) fn open() -> Result<Self, RoutingError> {
        // Strict checking makes the kernel filter a dump by table and protocol. Kernels before 4.20 do not know it,
        // and send everything; `routes` filters again.
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()
            .or_else(|_| rtnetlink::new_connection())
            .map_err(|source| RoutingError::kernel("open a netlink socket", source))?;
        // A dump reports its failure in its last message only, and a change its success: otherwise swallowed.
        connection.set_forward_done(true);
        connection.set_forward_ack(true);
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Every policy rule, in the order in which the kernel tries those of a family.
    pub(crate) async fn all_rules(&self) -> Result<Vec<KernelRule>, RoutingError> {
        let mut rules = self.rules(Family::V4).await?;
        rules.append(&mut self.rules(Family::V6).await?);
        Ok(rules)
    }

    async fn rules(&self, family: Family) -> Result<Vec<KernelRule>, RoutingError> {
        let mut request = RuleMessage::default();
        request.header.family = family.into();
        let found = self.dump(RouteNetlinkMessage::GetRule(request), "list the policy rules").await?;
        let rules = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(rule) => KernelRule::read(rule),
            _ => None,
        });
        // Without IPv6, the kernel may answer a question about IPv6 with something about IPv4.
        Ok(rules.filter(|rule| rule.family == family).collect())
    }

    /// The routes of a family that pass the filter.
    pub(crate) async fn routes(
        &self,
        family: Family,
        filter: Filter,
    ) -> Result<Vec<KernelRoute>, RoutingError> {
        let mut request = RouteMessage::default();
        request.header.address_family = family.into();
        match filter {
            Filter::Table(table) => request.attributes.push(RouteAttribute::Table(table)),
            Filter::Protocol(protocol) => request.header.protocol = RouteProtocol::from(protocol),
        }
        let found = self.dump(RouteNetlinkMessage::GetRoute(request), "list the routes").await?;
        let routes = found.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => KernelRoute::read(route),
            _ => None,
        });
        Ok(routes
            .filter(|route| {
                route.family == family
                    && match filter {
                        Filter::Table(table) => route.table == table,
                        Filter::Protocol(protocol) => route.protocol == protocol,
                    }
            })
            .collect())
    }

    /// Where the kernel would send a packet; `None` if nowhere.
    pub(crate) async fn route_of(&self, question: RouteMessage) -> Result<Option<KernelRoute>, RoutingError> {
        let request = RouteNetlinkMessage::GetRoute(question);
        match self.request(request, NLM_F_REQUEST).await {
            Ok(reply) => Ok(reply.messages.into_iter().find_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => KernelRoute::read(route),
                _ => None,
            })),
            Err(error) if is_no_route(&error) => Ok(None),
            Err(error) => Err(RoutingError::kernel("ask the kernel for a route", error)),
        }
    }

    /// Whether lo is up. In a new network namespace it is not, and nothing can be delivered locally then.
    pub(crate) async fn loopback_is_up(&self) -> Result<bool, RoutingError> {
        let mut request = LinkMessage::default();
        request.header.index = LOOPBACK;
        let reply = self
            .request(RouteNetlinkMessage::GetLink(request), NLM_F_REQUEST)
            .await
            .map_err(|source| RoutingError::kernel("look at the loopback interface", source))?;
        Ok(reply.messages.iter().any(
            |message| matches!(message, RouteNetlinkMessage::NewLink(link) if link.header.flags.contains(LinkFlags::Up)),
        ))
    }

    /// Adds a rule or route; `command` is what an operator would type for it. What is there already stays.
    pub(crate) async fn add(
        &self,
        object: RouteNetlinkMessage,
        command: impl Display,
    ) -> Result<(), RoutingError> {
        match self.request(object, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).await {
            Ok(_) => Ok(()),
            Err(error) if errno(&error) == Some(Errno::EEXIST) => Ok(()),
            Err(error) => Err(RoutingError::change(&command, error)),
        }
    }

    /// Deletes a rule or route; `command` is what an operator would type for it. What is gone already is fine.
    pub(crate) async fn delete(
        &self,
        object: RouteNetlinkMessage,
        command: impl Display,
    ) -> Result<(), RoutingError> {
        match self.request(object, NLM_F_REQUEST | NLM_F_ACK).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(errno(&error), Some(Errno::ENOENT | Errno::ESRCH)) => Ok(()),
            Err(error) => Err(RoutingError::change(&command, error)),
        }
    }

    async fn dump(
        &self,
        request: RouteNetlinkMessage,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, RoutingError> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.request(request.clone(), NLM_F_REQUEST | NLM_F_DUMP).await {
                // Something changed under the kernel's feet, and an object may be missing from the list.
                Ok(reply) if reply.interrupted => {}
                Ok(reply) => return Ok(reply.messages),
                // The table does not exist, or the family does not: nothing is in it.
                Err(error) if matches!(errno(&error), Some(Errno::ENOENT | Errno::EAFNOSUPPORT)) => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(RoutingError::kernel(action, error)),
            }
        }
        Err(RoutingError::kernel(action, io::Error::other("they change faster than they can be listed")))
    }

    async fn request(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<Reply> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = flags;
        let replies = self.handle.clone().request(message).map_err(io::Error::other)?;
        tokio::time::timeout(ANSWER_DEADLINE, collect(replies))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer"))?
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Which routes to list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// Those of one table.
    Table(u32),
    /// Those of one maker, in all tables.
    Protocol(u8),
}

struct Reply {
    messages: Vec<RouteNetlinkMessage>,
    /// The kernel's tables changed while it was listing them.
    interrupted: bool,
}

async fn collect(
    replies: impl futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
) -> io::Result<Reply> {
    let mut replies = pin!(replies);
    let mut reply = Reply { messages: Vec::new(), interrupted: false };
    while let Some(message) = replies.next().await {
        reply.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => reply.messages.push(inner),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(-done.code));
            }
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(reply),
            _ => {}
        }
    }
    // A question without NLM_F_ACK or NLM_F_DUMP ends without a closing message. Anything else that ends so lost its
    // connection.
    if reply.messages.is_empty() { Err(io::Error::other("the netlink connection ended")) } else { Ok(reply) }
}

pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// Whether a route lookup failed because such a packet would not be sent: no route, an `unreachable` or `prohibit`
/// one, or (`EINVAL`) a `blackhole`, or a source that this host cannot send from by that way.
fn is_no_route(error: &io::Error) -> bool {
    matches!(
        errno(error),
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ESRCH | Errno::EACCES | Errno::EINVAL)
    )
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}

/// The family of a message, if it is one of ours.
fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

/// The name of a table that has one everywhere, or its number.
pub(crate) fn table_name(table: u32) -> String {
    match table {
        253 => "default".to_owned(),
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        other => other.to_string(),
    }
}

/// The index of lo: 1 in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// How often a list is asked for when it changes meanwhile.
const DUMP_ATTEMPTS: usize = 10;

/// How long the kernel may take. It answers at once; this ends a wait for an answer that got lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
