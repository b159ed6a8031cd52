//! Lines of JSON over a Unix socket.

use std::io;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream as StdStream;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The two halves of one end of `socket`; a line of more than `longest` bytes is not listened to.
pub(crate) fn halves<S: Serialize, H: DeserializeOwned>(
    socket: StdStream,
    longest: u64,
) -> io::Result<(Mouth<S>, Ear<H>)> {
    socket.set_nonblocking(true)?;
    let (read, write) = UnixStream::from_std(socket)?.into_split();
    Ok((Mouth { write, said: PhantomData }, Ear { read: BufReader::new(read), longest, heard: PhantomData }))
}

/// The half that speaks.
#[derive(Debug)]
pub(crate) struct Mouth<S> {
    write: OwnedWriteHalf,
    said: PhantomData<fn(S)>,
}

impl<S: Serialize> Mouth<S> {
    /// Says it; the other end may have gone before it hears it.
    pub(crate) async fn say(&mut self, what: &S) -> io::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.write.write_all(&line).await
    }
}

/// The half that listens.
#[derive(Debug)]
pub(crate) struct Ear<H> {
    read: BufReader<OwnedReadHalf>,
    longest: u64,
    heard: PhantomData<fn() -> H>,
}

impl<H: DeserializeOwned> Ear<H> {
    /// The next thing that is said; `None` when the other end has gone.
    ///
    /// Must not be dropped before it returns: half a line would be lost.
    ///
    /// # Errors
    ///
    /// What the kernel says; `UnexpectedEof` for a line without end; or that it makes no sense.
    pub(crate) async fn hear(&mut self) -> io::Result<Option<H>> {
        let mut line = Vec::new();
        match (&mut self.read).take(self.longest).read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // It ended without having listened to everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
        if line.pop() != Some(b'\n') {
            // Somebody died while speaking, or says too much.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_is_heard_until_the_speaker_has_gone() {
        let (one, other) = StdStream::pair().unwrap();
        let (mut mouth, _) = halves::<Vec<u8>, ()>(one, 100).unwrap();
        let (_, mut ear) = halves::<(), Vec<u8>>(other, 100).unwrap();
        mouth.say(&vec![1, 2]).await.unwrap();
        mouth.say(&vec![3]).await.unwrap();
        drop(mouth);
        assert_eq!(ear.hear().await.unwrap(), Some(vec![1, 2]));
        assert_eq!(ear.hear().await.unwrap(), Some(vec![3]));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_an_error() {
        let (one, other) = StdStream::pair().unwrap();
        let (mut mouth, _) = halves::<String, ()>(one, 100).unwrap();
        let (_, mut ear) = halves::<(), String>(other, 10).unwrap();
        mouth.say(&"0123456789".to_owned()).await.unwrap();
        assert_eq!(ear.hear().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
