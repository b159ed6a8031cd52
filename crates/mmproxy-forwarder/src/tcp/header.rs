//! The header, read from a peer however its segments fall.

use std::io;

use bytes::{Buf, BytesMut};
use mmproxy_codec::{Command, DecodeOptions, Header, HeaderError, Outcome, Transport, Version, decode_with};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::time::{Instant, timeout_at};

use crate::addr::{ClaimedSource, PeerAddr};
use crate::destination::ClaimedDestination;
use crate::details::HeaderDetails;
use crate::errno;
use crate::report::CloseReason;
use crate::tcp::socket::Watched;

/// What is known of a client before it is dialed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// `None`: no header was asked for.
    pub(crate) version: Option<Version>,
    /// Of the header, in bytes.
    pub(crate) length: u32,
    /// What it told beside addresses.
    pub(crate) details: Option<Box<HeaderDetails>>,
    /// `None`: the connection is the balancer's own, or its client has no address that TCP could carry.
    pub(crate) client: Option<ClaimedSource>,
    /// Where the client connected to; `None` wherever `client` is.
    pub(crate) destination: Option<ClaimedDestination>,
}

/// What one look at a fresh connection told.
pub(crate) enum Glance {
    /// All that was asked for, and the bytes behind it.
    Complete(Announcement, BytesMut),
    /// The beginning of a header, or nothing yet.
    More(BytesMut),
}

/// Reads what is there already, without waiting: most balancers send the header with the first segment, and a
/// connection whose header was there is not watched for it.
///
/// # Errors
///
/// Those of [`read`]; the buffer holds what came instead of a header.
pub(crate) fn glance(
    peer: &std::net::TcpStream,
    options: &DecodeOptions,
) -> Result<Glance, (HeaderReadError, BytesMut)> {
    let mut room = [0; READ_AHEAD];
    let bytes = match recv(peer, &mut room, RecvFlags::empty()) {
        Ok((0, _)) => return Err((HeaderReadError::ConnectOnly, BytesMut::new())),
        Ok((length, _)) => &room[..length],
        Err(Errno::AGAIN) => return Ok(Glance::More(BytesMut::new())),
        Err(error) => return Err((broken(error.into(), true), BytesMut::new())),
    };
    match decode_with(bytes, options) {
        Ok(Outcome::Complete { header, consumed }) => {
            Ok(Glance::Complete(Announcement::of(&header, consumed), BytesMut::from(&bytes[consumed..])))
        }
        Ok(Outcome::NeedMore(_)) => Ok(Glance::More(BytesMut::from(bytes))),
        Err(error) => Err((error.into(), BytesMut::from(bytes))),
    }
}

/// Reads up to and including the header; what arrived behind it stays in `buffer`, which holds what
/// [`glance`] has read.
///
/// Allocates only once bytes are there, and never more than the header needs and a small read-ahead. After an
/// error `buffer` holds what came instead of a header.
pub(crate) async fn read(
    peer: &Watched,
    buffer: &mut BytesMut,
    options: &DecodeOptions,
    deadline: Instant,
) -> Result<Announcement, HeaderReadError> {
    let read = timeout_at(deadline, read_unhurried(peer, buffer, options)).await;
    read.unwrap_or_else(|_| Err(HeaderReadError::TimedOut { received: buffer.len() }))
}

async fn read_unhurried(
    peer: &Watched,
    buffer: &mut BytesMut,
    options: &DecodeOptions,
) -> Result<Announcement, HeaderReadError> {
    let mut missing = READ_AHEAD;
    loop {
        receive(peer, buffer, missing).await?;
        match decode_with(buffer, options)? {
            Outcome::Complete { header, consumed } => {
                let announcement = Announcement::of(&header, consumed);
                buffer.advance(consumed);
                if buffer.is_empty() {
                    // The session may idle for days: the memory of its header must not.
                    *buffer = BytesMut::new();
                }
                return Ok(announcement);
            }
            Outcome::NeedMore(more) => missing = more.get().max(READ_AHEAD),
        }
    }
}

/// Appends what has arrived, at least one byte and about `wanted` bytes at most.
async fn receive(peer: &Watched, buffer: &mut BytesMut, wanted: usize) -> Result<(), HeaderReadError> {
    loop {
        let mut ready = peer.readable().await?;
        let received = buffer.len();
        buffer.resize(received + wanted, 0);
        let more = recv(peer, &mut buffer[received..], RecvFlags::empty());
        buffer.truncate(received + more.map_or(0, |(length, _)| length));
        match more {
            Ok((0, _)) if received == 0 => return Err(HeaderReadError::ConnectOnly),
            Ok((0, _)) => return Err(HeaderReadError::Incomplete { received }),
            Ok(_) => return Ok(()),
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(broken(error.into(), received == 0)),
        }
    }
}

fn broken(error: io::Error, nothing_came: bool) -> HeaderReadError {
    // HAProxy's and others' connection checks reset instead of closing in order.
    if nothing_came && errno::is_reset(&error) { HeaderReadError::ConnectOnly } else { error.into() }
}

impl Announcement {
    fn of(header: &Header<'_>, length: usize) -> Self {
        let (client, destination) = match (header.command(), header.transport()) {
            (Command::Proxy, Transport::Stream) => {
                (header.source().map(ClaimedSource::new), header.destination().map(ClaimedDestination::new))
            }
            // LOCAL: "must use the real connection endpoints". Transports a TCP listener does not carry: "must
            // fall back" to the same (§2.2), as must UNKNOWN, UNSPEC and UNIX, which have no source.
            (Command::Local, _) | (Command::Proxy, Transport::Unspec | Transport::Datagram) => (None, None),
        };
        Self {
            version: Some(header.version()),
            // At most MAX_V2_LEN.
            length: u32::try_from(length).unwrap_or(u32::MAX),
            details: HeaderDetails::of(&header.tlvs()),
            client,
            destination,
        }
    }

    /// The peer itself is the client.
    pub(crate) fn of_peer(peer: PeerAddr) -> Self {
        let client = Some(ClaimedSource::new(peer.addr()));
        Self { version: None, length: 0, details: None, client, destination: None }
    }
}

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderReadError {
    /// The peer left without a byte.
    #[error("peer left without sending a byte")]
    ConnectOnly,
    /// The peer ended within the header.
    #[error("peer ended within the header, after {received} bytes")]
    Incomplete {
        /// Bytes that came.
        received: usize,
    },
    /// The header was not there in time.
    #[error("no whole header before the deadline, {received} bytes came")]
    TimedOut {
        /// Bytes that came.
        received: usize,
    },
    /// What came cannot become a header.
    #[error(transparent)]
    Invalid(#[from] HeaderError),
    /// The connection broke.
    #[error("cannot read the header")]
    Read(#[from] io::Error),
}

impl HeaderReadError {
    /// The close reason this error makes.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::ConnectOnly => CloseReason::ConnectOnly,
            Self::Incomplete { .. } => CloseReason::HeaderIncomplete,
            Self::TimedOut { .. } => CloseReason::HeaderTimeout,
            Self::Invalid(HeaderError::NotProxy) => CloseReason::HeaderMissing,
            Self::Invalid(_) => CloseReason::HeaderInvalid,
            Self::Read(error) if errno::is_reset(error) => CloseReason::PeerReset,
            Self::Read(error) if errno::is_exhausted(error) => CloseReason::OutOfResources,
            Self::Read(_) => CloseReason::PeerLost,
        }
    }
}

/// Bytes asked for in one read: every v1 line and nearly every v2 header, with the start of the payload.
const READ_AHEAD: usize = 1024;
