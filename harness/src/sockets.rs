//! What the kernel knows of a namespace's TCP sockets (`/proc/net/tcp` and `tcp6`).

use std::fs::read_to_string;

use crate::netns::Namespace;

/// The queues of one connected socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Bytes sent that the other side's kernel has not acknowledged.
    pub(crate) unacknowledged: u32,
    /// Bytes received that the program has not read.
    pub(crate) unread: u32,
}

/// The queues of the connected socket with these two port numbers; `None` if there is no such connection (any more).
///
/// Ports alone are enough to find it: a test's balancer is one host and its gateway another.
pub(crate) fn queues(namespace: &Namespace, local: u16, remote: u16) -> Option<Queues> {
    find(namespace, |line| queues_in(line, local, remote))
}

/// Whether somebody in `namespace` listens on `port`.
pub(crate) fn is_listening(namespace: &Namespace, port: u16) -> bool {
    find(namespace, |line| listens_in(line, port).then_some(())).is_some()
}

/// The first line of a namespace's TCP socket tables that `read` makes something of.
fn find<T: Send>(namespace: &Namespace, read: impl Fn(&str) -> Option<T> + Sync) -> Option<T> {
    namespace.run(|| {
        let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
        tables.iter().find_map(|table| {
            let text = read_to_string(table).expect("/proc is mounted");
            text.lines().skip(1).find_map(&read)
        })
    })
}

fn listens_in(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|local| local.rsplit(':').next());
    local == Some(format!("{port:04X}").as_str()) && fields.nth(1) == Some("0A")
}

/// `0: 0100007F:1F90 0200007F:9C40 01 00000000:0000000A …`: slot, both ends, state, send and receive queue, all in
/// hexadecimal.
fn queues_in(line: &str, local: u16, remote: u16) -> Option<Queues> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
    if (port()?, port()?) != (local, remote) || !CONNECTED.contains(&fields.next()?) {
        return None;
    }
    let (sent, received) = fields.next()?.split_once(':')?;
    let number = |digits| u32::from_str_radix(digits, 16).ok();
    Some(Queues { unacknowledged: number(sent)?, unread: number(received)? })
}

/// ESTABLISHED; FIN_WAIT1, FIN_WAIT2 (this end has finished); CLOSE_WAIT (the other end has).
const CONNECTED: [&str; 4] = ["01", "04", "05", "08"];

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "   3: 0100000A:08AE 0200000A:1267 01 00000002:0000001F 00:00000000 00000000     0        0 1 1";

    #[test]
    fn a_line_is_found_by_its_ports() {
        assert_eq!(queues_in(LINE, 2222, 4711), Some(Queues { unacknowledged: 2, unread: 31 }));
        assert_eq!(queues_in(LINE, 4711, 2222), None);
    }

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let line =
            "   0: 00000000:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert!(listens_in(line, 2222));
        assert!(!listens_in(line, 22));
        assert!(!listens_in(LINE, 2222), "a connected socket does not listen");
    }

    #[test]
    fn a_socket_in_time_wait_is_no_connection() {
        assert_eq!(queues_in(&LINE.replace(" 01 ", " 06 "), 2222, 4711), None);
    }
}
