//! The request-response protocol `/warren/descriptors/1`: what do you hold?
//!
//! A request is 40 bytes: the last peer id of the page before (zeros for the first), and a digest of
//! what the asker holds, little-endian. An answer is at most 64 KB: 1 when there are more, the peer
//! id to go on after, then length (u16, little-endian) and bytes of each descriptor, to the end of
//! the stream. When both hold the same, the answer has no descriptors and no more.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/warren/descriptors/1");
/// Most bytes of an answer.
pub(crate) const MAX_PAGE: usize = 64 * 1024;
/// What an answer has before its descriptors.
pub(crate) const HEADER: usize = 33;

/// Asks for the descriptors of peer ids above `after`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) after: [u8; 32],
    pub(crate) digest: u64,
}

/// Some descriptors, unverified, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Page {
    pub(crate) next: Option<[u8; 32]>,
    pub(crate) descriptors: Vec<Vec<u8>>,
}

impl Page {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.next.is_some())];
        bytes.extend_from_slice(&self.next.unwrap_or_default());
        for descriptor in &self.descriptors {
            let Ok(length) = u16::try_from(descriptor.len()) else { continue };
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(descriptor);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let ([more, next @ ..], mut rest) = bytes.split_first_chunk::<HEADER>()?;
        let mut descriptors = Vec::new();
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk()?;
            let (descriptor, tail) = tail.split_at_checked(u16::from_le_bytes(*length).into())?;
            descriptors.push(descriptor.to_vec());
            rest = tail;
        }
        Some(Self { next: (*more == 1).then_some(*next), descriptors })
    }
}

/// Reads and writes both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Page;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let (mut after, mut digest) = ([0; 32], [0; 8]);
        io.read_exact(&mut after).await?;
        io.read_exact(&mut digest).await?;
        Ok(Request { after, digest: u64::from_le_bytes(digest) })
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Page>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.take(MAX_PAGE as u64 + 1).read_to_end(&mut bytes).await?;
        if bytes.len() > MAX_PAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a page over 64 KB"));
        }
        Page::decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a page"))
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request.after).await?;
        io.write_all(&request.digest.to_le_bytes()).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, page: Page) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&page.encode()).await
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use libp2p::request_response::Codec as _;

    use super::*;

    #[test]
    fn a_page_reads_as_it_was_written() {
        let page = Page { next: Some([7; 32]), descriptors: vec![vec![1; 300], Vec::new(), vec![2]] };
        assert_eq!(Page::decode(&page.encode()), Some(page));
        assert_eq!(Page::decode(&Page::default().encode()), Some(Page::default()));
    }

    #[test]
    fn cut_short_it_is_refused_or_shorter() {
        let page = Page { next: None, descriptors: vec![vec![1; 30], vec![2; 5]] };
        let bytes = page.encode();
        for length in 0..bytes.len() {
            assert_ne!(Page::decode(&bytes[..length]), Some(page.clone()), "{length}");
        }
    }

    #[test]
    fn more_than_64_kb_is_refused() {
        let long = vec![0; MAX_PAGE + 10];
        let read = block_on(Codec.read_response(&PROTOCOL, &mut long.as_slice()));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
