//! The first bytes of a stream inside a circuit: what is asked of the last hop, and its answer.
//!
//! Each message is preceded by its length in two bytes, big-endian; at most [`MAX_LEN`] follow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer, VerifierOptions, WIPOffset};

use crate::generated::stream as fb;
pub use crate::generated::stream::{Outcome, Verb};

/// The most bytes of one message.
pub const MAX_LEN: usize = 512;

/// Where a connection or a datagram is to go: an address, or a name that the exit resolves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// TCP or UDP port.
    pub port: u16,
}

/// An address or a name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// An address, taken as it is.
    Ip(IpAddr),
    /// A name of 1 to 255 bytes.
    Name(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

/// What the originator asks on a new stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamRequest {
    /// Connect this stream to a TCP destination.
    Connect(Target),
    /// Carry UDP datagrams; the stream stays open as long as the association lives.
    Associate,
}

/// What the last hop answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamReply {
    /// How it went.
    pub outcome: Outcome,
    /// The address that was connected to, if any.
    pub bound: Option<SocketAddr>,
}

/// Why bytes are not a stream message.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// FlatBuffers cannot verify it.
    #[error("not a FlatBuffers stream message: {0}")]
    Malformed(#[from] InvalidFlatbuffer),
    /// A field has a value it cannot have.
    #[error("stream field {0} is out of range")]
    Field(&'static str),
}

const OPTIONS: VerifierOptions = VerifierOptions {
    max_depth: 4,
    max_tables: 4,
    max_apparent_size: 4096,
    ignore_missing_null_terminator: false,
};

impl StreamRequest {
    /// Its bytes, without the length in front.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(128);
        let (verb, target) = match self {
            Self::Connect(target) => (Verb::Connect, Some(target_table(&mut b, target))),
            Self::Associate => (Verb::Associate, None),
        };
        let root = fb::Request::create(&mut b, &fb::RequestArgs { verb, target });
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote; the bytes come from another node.
    ///
    /// # Errors
    /// When they do not verify or lack what the verb needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamError> {
        let table = flatbuffers::root_with_opts::<fb::Request>(&OPTIONS, bytes)?;
        match table.verb() {
            Verb::Connect => {
                Ok(Self::Connect(target_value(table.target().ok_or(StreamError::Field("target"))?)?))
            }
            Verb::Associate => Ok(Self::Associate),
            _ => Err(StreamError::Field("verb")),
        }
    }
}

impl StreamReply {
    /// Its bytes, without the length in front.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(128);
        let target = self.bound.map(|bound| target_table(&mut b, &Target::from(bound)));
        let root = fb::Reply::create(&mut b, &fb::ReplyArgs { outcome: self.outcome, target });
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote; the bytes come from another node.
    ///
    /// # Errors
    /// When they do not verify.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamError> {
        let table = flatbuffers::root_with_opts::<fb::Reply>(&OPTIONS, bytes)?;
        let bound = match table.target().map(target_value).transpose()? {
            Some(Target { host: Host::Ip(ip), port }) => Some(SocketAddr::new(ip, port)),
            _ => None,
        };
        Ok(Self { outcome: table.outcome(), bound })
    }
}

impl Target {
    /// Its bytes, as in front of a datagram's payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(64);
        let root = target_table(&mut b, self);
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// When the bytes do not verify, or hold neither or both of address and name.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamError> {
        target_value(flatbuffers::root_with_opts::<fb::Target>(&OPTIONS, bytes)?)
    }
}

fn target_table<'a>(b: &mut FlatBufferBuilder<'a>, target: &Target) -> WIPOffset<fb::Target<'a>> {
    let (ip, name) = match &target.host {
        Host::Ip(IpAddr::V4(ip)) => (Some(b.create_vector(&ip.octets())), None),
        Host::Ip(IpAddr::V6(ip)) => (Some(b.create_vector(&ip.octets())), None),
        Host::Name(name) => (None, Some(b.create_string(name))),
    };
    fb::Target::create(b, &fb::TargetArgs { ip, name, port: target.port })
}

fn target_value(table: fb::Target<'_>) -> Result<Target, StreamError> {
    let host = match (table.ip().map(|ip| ip.bytes()), table.name()) {
        (Some(ip), None) => Host::Ip(address(ip).ok_or(StreamError::Field("ip"))?),
        (None, Some(name)) if (1..=255).contains(&name.len()) => Host::Name(name.to_owned()),
        _ => return Err(StreamError::Field("target")),
    };
    Ok(Target { host, port: table.port() })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_stream() {
        let name = Target { host: Host::Name("example.org".to_owned()), port: 80 };
        for target in [name, Target::from("192.0.2.1:5".parse::<SocketAddr>().unwrap())] {
            assert_eq!(Target::decode(&target.encode()).unwrap(), target);
            let request = StreamRequest::Connect(target);
            assert_eq!(StreamRequest::decode(&request.encode()).unwrap(), request);
        }
        let reply = StreamReply { outcome: Outcome::Denied, bound: Some("[2001:db8::1]:9".parse().unwrap()) };
        assert_eq!(StreamReply::decode(&reply.encode()).unwrap(), reply);
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        let good = StreamRequest::Associate.encode();
        for length in 0..good.len() {
            assert!(StreamRequest::decode(&good[..length]).is_err());
        }
        let long = Target { host: Host::Name("x".repeat(256)), port: 1 };
        assert!(StreamRequest::decode(&StreamRequest::Connect(long).encode()).is_err());
    }
}
