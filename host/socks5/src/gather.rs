//! Copying with few, large writes.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes gathered at most.
pub(crate) const BUFFER: usize = 64 * 1024;
/// Bytes that are enough to write.
const ENOUGH: usize = BUFFER / 2;
/// How often other tasks get a turn before what is there is written.
const TURNS: u32 = 8;

/// Copies until `from` ends, then shuts `to` down; answers how many bytes went.
///
/// Each write wakes the process at the other end, so that while bytes keep coming with every turn of this
/// thread's other tasks, they are gathered; a turn that brings nothing ends it.
///
/// # Errors
/// The first of either side. What was read before `from` failed is written.
pub(crate) async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut copied = 0;
    let mut end = None;
    while end.is_none() {
        buffer.clear();
        if from.read_buf(&mut buffer).await? == 0 {
            break;
        }
        end = gather(from, &mut buffer).await;
        to.write_all(&buffer).await?;
        copied += buffer.len() as u64;
    }
    end.unwrap_or(Ok(()))?;
    to.shutdown().await?;
    Ok(copied)
}

/// Reads on as long as a turn brings something; answers how `from` ended, if it did.
async fn gather(from: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<io::Result<()>> {
    for _ in 0..TURNS {
        let before = buffer.len();
        if before >= ENOUGH {
            return None;
        }
        tokio::task::yield_now().await;
        match read_now(from, buffer).await {
            Some(Ok(0)) => return Some(Ok(())),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(Err(error)),
            None => return None,
        }
    }
    None
}

/// Reads what is there, into the room that `buffer` has; none when nothing is.
async fn read_now(from: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
    let mut reading = pin!(from.read_buf(buffer));
    poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use tokio::io::{ReadBuf, duplex};

    use super::*;

    /// Counts its writes.
    #[derive(Default)]
    struct Sink(Vec<usize>);

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push(0);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_comes_turn_by_turn_is_written_at_once() {
        let (mut near, mut far) = duplex(BUFFER);
        let mut sink = Sink::default();
        tokio::spawn(async move {
            for _ in 0..20 {
                near.write_all(&[7; 1000]).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let copied = copy(&mut far, &mut sink).await;
        assert_eq!((copied.unwrap(), sink.0.iter().sum::<usize>()), (20_000, 20_000));
        // Of nine turns each, not of one.
        assert!(sink.0.len() <= 4 && sink.0.last() == Some(&0), "{:?}", sink.0);
    }

    #[tokio::test]
    async fn what_stops_coming_is_written() {
        let (mut near, mut far) = duplex(BUFFER);
        let (mut out, mut back) = duplex(BUFFER);
        let copying = tokio::spawn(async move { copy(&mut far, &mut out).await });
        let mut heard = [0; 4];
        for word in [b"ping", b"pong"] {
            near.write_all(word).await.unwrap();
            back.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, word);
        }
        drop(near);
        assert_eq!(back.read(&mut heard).await.unwrap(), 0, "its end is passed on");
        assert_eq!(copying.await.unwrap().unwrap(), 8);
    }

    /// Gives one word, then fails.
    struct Failing(bool);

    impl AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            room.put_slice(b"word");
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_written() {
        let mut sink = Sink::default();
        let error = copy(&mut Failing(false), &mut sink).await.unwrap_err();
        assert_eq!((error.kind(), sink.0), (io::ErrorKind::ConnectionReset, vec![4]));
    }
}
