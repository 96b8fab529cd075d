//! A SOCKS5 UDP association (RFC 1928, section 7), as an application has one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, bail};

/// RSV, FRAG, ATYP, an IPv4 address and a port.
const HEADER: usize = 10;
/// The largest datagram that is taken; what is longer is cut and so refused by its reader.
const LARGEST: usize = 2048;

/// An association. Dropping it ends it.
pub(super) struct Association {
    udp: UdpSocket,
    buffer: Box<[u8; LARGEST]>,
    /// The association lives as long as this connection.
    _control: TcpStream,
}

impl Association {
    /// Asks the door at `socks` for one. No login is offered.
    ///
    /// # Errors
    /// When the door refuses.
    pub(super) fn open(socks: SocketAddr) -> anyhow::Result<Self> {
        let mut control = TcpStream::connect(socks).context("cannot connect to the SOCKS door")?;
        control.set_read_timeout(Some(Duration::from_secs(5)))?;
        control.write_all(&[5, 1, 0])?;
        let mut method = [0; 2];
        control.read_exact(&mut method)?;
        control.write_all(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let mut reply = [0; HEADER];
        control.read_exact(&mut reply)?;
        let ([5, 0], [5, 0, 0, 1, a, b, c, d, high, low]) = (method, reply) else {
            bail!("the SOCKS door refuses an association: {method:?} {reply:?}");
        };
        let relay = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        udp.connect(relay)?;
        Ok(Self { udp, buffer: Box::new([0; LARGEST]), _control: control })
    }

    /// How long [`Association::receive`] waits.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.udp.set_read_timeout(Some(patience))
    }

    /// Sends a datagram to `to`.
    pub(super) fn send(&self, to: SocketAddrV4, content: &[u8]) -> io::Result<()> {
        let mut datagram = vec![0, 0, 0, 1];
        datagram.extend(to.ip().octets());
        datagram.extend(to.port().to_be_bytes());
        datagram.extend(content);
        self.udp.send(&datagram).map(drop)
    }

    /// The content of the next datagram; none when none came in time, or when it is not one of an IPv4 address.
    pub(super) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let length = match self.udp.recv(self.buffer.as_mut_slice()) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let datagram = self.buffer.get(..length).unwrap_or_default();
        Ok(datagram
            .split_at_checked(HEADER)
            .filter(|(header, _)| header.starts_with(&[0, 0, 0, 1]))
            .map(|(_, it)| it))
    }
}
