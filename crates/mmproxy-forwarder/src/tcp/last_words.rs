//! What a side said before it broke still arrives at the other, before the reset does.

use std::time::Duration;

use tokio::time::sleep;

use crate::sys::queue;
use crate::tcp::socket::Watched;

/// Waits until the other end's kernel has everything that `stream` accepted.
///
/// A reset throws away what waits in the send queue for the receiver's window to open. The other end of a direct
/// connection would have got it: it was acknowledged to the sender. Nothing tells when a queue is empty, so this asks
/// again and again; it is only ever called where a session breaks.
pub(crate) async fn arrived(stream: &Watched) {
    let mut pause = FIRST_PAUSE;
    while queue::unacknowledged(stream).is_ok_and(|bytes| bytes > 0) {
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// About the time that a program takes to read what has just come.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Short against the second that last words have.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
