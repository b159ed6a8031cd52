//! Connections that never become a session with the target: without a header, with a wrong one, with half of one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use harness::Version;

use super::{Load, PATIENCE, client, count, either};
use crate::chance::Chance;
use crate::world::{TCP, World};

/// A handful at a time.
pub(super) fn lane(load: &Load, mut chance: Chance) -> impl FnMut() {
    move || {
        let seen = load.undisturbed();
        for _ in 0..chance.between(1, 30) {
            if let Err(reason) = wrong(load, &mut chance)
                && seen.is_some()
                && load.undisturbed() == seen
            {
                load.fail(reason);
            }
        }
        // These say nothing, or the beginning of a header, and go away by themselves.
        let silent: Vec<_> = (0..chance.between(1, 30)).filter_map(|_| silent(load, &mut chance)).collect();
        thread::sleep(Duration::from_millis(chance.between(100, 1000)));
        drop(silent);
    }
}

fn connect(load: &Load, chance: &mut Chance) -> Result<TcpStream, String> {
    let gateway = World::address(either(chance), TCP);
    let stream = TcpStream::connect_timeout(&gateway, PATIENCE)
        .map_err(|error| format!("a stranger cannot connect to {gateway}: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    count(&load.counts.made);
    count(&load.counts.strangers);
    Ok(stream)
}

/// Something that is no header, to which nothing is answered.
fn wrong(load: &Load, chance: &mut Chance) -> Result<(), String> {
    let mut stream = connect(load, chance)?;
    let length = usize::try_from(chance.between(16, 200)).expect("small");
    let mut bytes = chance.bytes(length);
    // Neither version begins like this.
    bytes[0] = b'G';
    stream.write_all(&bytes).ok();
    match stream.read(&mut [0]) {
        Ok(1..) => {
            load.fail("a stranger without a header was answered".to_owned());
            Ok(())
        }
        Ok(0) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(format!("a stranger without a header was not turned away: {error}")),
    }
}

fn silent(load: &Load, chance: &mut Chance) -> Option<TcpStream> {
    let mut stream = connect(load, chance).ok()?;
    let family = either(chance);
    let header = Version::V2.header(client(super::STRANGERS, family, 1024), (family.frontend(), 1).into());
    let cut = usize::try_from(chance.between(0, header.len() as u64 - 1)).expect("small");
    stream.write_all(&header[..cut]).ok()?;
    Some(stream)
}
