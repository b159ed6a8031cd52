//! What has to hold of every session, whatever was done to it.

use mmproxy_forwarder::CloseReason;

use crate::actor::{Account, Closed, End};
use crate::schedule::How;
use crate::stage::Report;

/// The first promise that was broken.
pub(crate) fn broken_promise(peer: &Account, target: &Account, report: &Report) -> Option<String> {
    let all = || {
        saw("target", target, peer)?;
        // A target that resets before the connection to it was seen to come about has refused it. What it said
        // in between is lost: a client that connects directly gets the error from connect(2), too.
        if report.reason != CloseReason::TargetRefused {
            saw("peer", peer, target)?;
        }
        reported(peer, target, report)
    };
    all().err()
}

/// What `near`, named `name`, must have seen of what `far` did.
fn saw(name: &str, near: &Account, far: &Account) -> Result<(), String> {
    let demand = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("the {name} {what}")) };
    // Whatever happens, what arrives is a beginning of what was sent.
    demand(near.wrong_at.is_none(), "got bytes that were not sent there")?;
    demand(near.received <= far.sent, "got more than was sent")?;
    let whole = near.received == far.sent;
    // An end in order is never made up, and nothing is missing before it.
    if near.end == Some(End::Fin) {
        let closed = matches!(far.abrupt, Some(Closed { how: How::Close, .. }));
        demand(far.finished || closed, "saw an end that nobody sent")?;
        demand(whole, "saw an end before the last byte")?;
    }
    if near.end == Some(End::Reset) {
        demand(far.abrupt.is_some(), "saw a reset that nobody sent")?;
    }
    match (near.abrupt, far.abrupt) {
        // Whoever closes first does not see the rest.
        (Some(_), _) => Ok(()),
        (None, None) => {
            demand(near.end == Some(End::Fin), "saw no end in order")?;
            demand(near.write_error.is_none(), "could not write")
        }
        (None, Some(closed)) => {
            demand(near.end.is_some(), "did not see that the other end closed")?;
            // What the gateway's kernel had before the reset is passed on before the reset.
            demand(whole || !closed.settled, "did not get what came before the reset")
        }
    }
}

fn reported(peer: &Account, target: &Account, report: &Report) -> Result<(), String> {
    let demand = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("the report {what}")) };
    let within = |bytes, from: &Account, to: &Account| (to.received..=from.sent).contains(&bytes);
    demand(within(report.up, peer, target), "has an impossible number of bytes going up")?;
    demand(within(report.down, target, peer), "has an impossible number of bytes going down")?;
    let over = |end: &Account| end.finished || matches!(end.abrupt, Some(Closed { how: How::Close, .. }));
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other reason can follow from what the ends did")]
    let possible = match report.reason {
        CloseReason::Finished => over(peer) && over(target),
        CloseReason::PeerReset => peer.abrupt.is_some(),
        // Refused: it was reset before the gateway saw that it had come about.
        CloseReason::TargetReset | CloseReason::TargetRefused => target.abrupt.is_some(),
        _ => false,
    };
    demand(possible, "has a reason that cannot be")
}
