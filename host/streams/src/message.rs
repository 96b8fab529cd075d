//! Length-prefixed messages at the start of a stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warren_schemas::stream::MAX_LEN;

/// Reads one message of at most `MAX_LEN` bytes.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::from(from.read_u16().await?);
    if length > MAX_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message in a single write.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).ok().filter(|length| usize::from(*length) <= MAX_LEN);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    to.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_reads_as_written_and_leaves_the_rest() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"message").await.unwrap();
        bytes.extend_from_slice(b"rest");
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from).await.unwrap(), b"message");
        assert_eq!(from, b"rest");
    }

    #[tokio::test]
    async fn truncated_and_long_messages_are_refused() {
        assert!(read(&mut &[0u8, 5, 1][..]).await.is_err());
        assert!(read(&mut &[0u8][..]).await.is_err());
        let long = [&[0xff, 0xff][..], &[0; 70_000]].concat();
        assert!(read(&mut long.as_slice()).await.is_err());
        assert!(write(&mut Vec::new(), &[0; MAX_LEN + 1]).await.is_err());
    }
}
