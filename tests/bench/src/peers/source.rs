//! Numbered datagrams on request, over UDP on loopback.
//!
//! Every datagram begins like one of uTP (BEP 29: type 0, version 1), because an IPv8 exit passes nothing that does
//! not look like BitTorrent.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `type << 4 | version` and no extension; the other 18 bytes of the header are zero.
const UTP: [u8; 20] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const HEADER: usize = UTP.len() + 4;
/// With three layers of IPv8 this fills a datagram of 1472 bytes, which Ethernet carries whole.
const DATAGRAM: usize = 1356;
/// Bytes of content in each datagram.
pub(super) const CONTENT: usize = DATAGRAM - HEADER;
/// The most datagrams of one request.
pub(super) const MAX_BURST: u16 = 16;
/// How soon a dropped source ends.
const LOOK: Duration = Duration::from_millis(200);

/// A running source; dropping it ends it.
pub(super) struct Source {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
}

impl Source {
    /// Starts one on a free port, in a thread of this process.
    ///
    /// # Errors
    /// When it cannot bind.
    pub(super) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK))?;
        let SocketAddr::V4(address) = socket.local_addr()? else {
            return Err(io::Error::other("an IPv4 socket has another address"));
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A request that cannot be answered is as good as lost: the other side asks again.
                let _ = serve(&socket);
            }
        });
        Ok(Self { address, stop })
    }

    /// Where it is.
    pub(super) const fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Answers one request, if there is one.
fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let Some((first, count)) = read_request(buffer.get(..length).unwrap_or_default()) else { return Ok(()) };
    for index in first..first.saturating_add(u32::from(count.min(MAX_BURST))) {
        socket.send_to(&datagram(index), from)?;
    }
    Ok(())
}

/// A request for `count` datagrams from number `first` on.
pub(super) fn request(first: u32, count: u16) -> Vec<u8> {
    [&UTP[..], &first.to_be_bytes(), &count.to_be_bytes()].concat()
}

fn read_request(bytes: &[u8]) -> Option<(u32, u16)> {
    let (first, count) = bytes.strip_prefix(&UTP)?.split_first_chunk()?;
    Some((u32::from_be_bytes(*first), u16::from_be_bytes(count.try_into().ok()?)))
}

/// The datagram of that number.
pub(super) fn datagram(index: u32) -> Vec<u8> {
    let mut bytes = [&UTP[..], &index.to_be_bytes()].concat();
    bytes.resize(DATAGRAM, fill(index));
    bytes
}

const fn fill(index: u32) -> u8 {
    (index % 251) as u8
}

/// The number of a datagram that came whole and unchanged.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    let (index, content) = bytes.strip_prefix(&UTP)?.split_first_chunk()?;
    let index = u32::from_be_bytes(*index);
    (content.len() == CONTENT && content.iter().all(|byte| *byte == fill(index))).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_or_cut_has_no_number() {
        let mut bytes = datagram(70_000);
        assert_eq!((bytes.len(), number(&bytes)), (DATAGRAM, Some(70_000)));
        assert_eq!(number(&bytes[..DATAGRAM - 1]), None);
        bytes[DATAGRAM - 1] ^= 1;
        assert_eq!(number(&bytes), None);
        assert_eq!(read_request(&request(7, 3)), Some((7, 3)));
        assert_eq!(read_request(&request(7, 3)[..25]), None);
    }

    #[test]
    fn a_request_is_answered_in_order_and_not_beyond_the_most() {
        let source = Source::start().unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(b"no request", source.address()).unwrap();
        socket.send_to(&request(5, u16::MAX), source.address()).unwrap();
        socket.send_to(&request(100, 1), source.address()).unwrap();
        let mut buffer = [0; 2048];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            number(&buffer[..length]).unwrap()
        };
        let got: Vec<u32> = (0..=MAX_BURST).map(|_| next()).collect();
        assert_eq!(got, (5..5 + u32::from(MAX_BURST)).chain([100]).collect::<Vec<_>>());
    }
}
