//! From the first byte to the request.

use std::io;

use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warren_ports::Target;

use crate::wire::{self, Reply};
use crate::{Accepted, AssociateClient, ConnectClient, Request, User, UserError};

/// Why a client is turned away: its own fault, told at debug level.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("not SOCKS version 5")]
    Version,
    #[error("it offers no acceptable way to authenticate")]
    Method,
    #[error("wrong password")]
    Password,
    #[error(transparent)]
    User(#[from] UserError),
    #[error("command {0} is not served")]
    Command(u8),
    #[error("its address is malformed")]
    Address,
    #[error("connection: {0}")]
    Io(#[from] io::Error),
}

/// Reads byte by byte what is due and never more, so that the stream can change hands afterwards.
pub(crate) async fn run(mut stream: TcpStream, token: Option<&str>) -> Result<Accepted, Fault> {
    stream.set_nodelay(true)?;
    let user = authenticate(&mut stream, token).await?;
    let (command, target) = request(&mut stream).await?;
    let request = match command {
        wire::COMMAND_CONNECT => Request::Connect { target, client: ConnectClient::new(stream)? },
        _ => Request::Associate { client: AssociateClient::new(stream, target.port)? },
    };
    Ok(Accepted { user, request })
}

async fn authenticate(stream: &mut TcpStream, token: Option<&str>) -> Result<User, Fault> {
    if stream.read_u8().await? != wire::VERSION {
        return Err(Fault::Version);
    }
    let mut methods = [0; 255];
    let count = usize::from(stream.read_u8().await?);
    let methods = methods.get_mut(..count).unwrap_or_default();
    stream.read_exact(methods).await?;
    if methods.contains(&wire::METHOD_PASSWORD) {
        stream.write_all(&[wire::VERSION, wire::METHOD_PASSWORD]).await?;
        return password(stream, token).await;
    }
    if token.is_none() && methods.contains(&wire::METHOD_NONE) {
        stream.write_all(&[wire::VERSION, wire::METHOD_NONE]).await?;
        return Ok(User::Default);
    }
    stream.write_all(&[wire::VERSION, wire::NO_METHOD]).await?;
    Err(Fault::Method)
}

/// RFC 1929. Without a token any password will do: the user name is what matters.
async fn password(stream: &mut TcpStream, token: Option<&str>) -> Result<User, Fault> {
    if stream.read_u8().await? != 1 {
        return Err(Fault::Version);
    }
    let name = short_string(stream).await?;
    let password = short_string(stream).await?;
    let is_right = token.is_none_or(|token| bool::from(token.as_bytes().ct_eq(&password)));
    let name = std::str::from_utf8(&name).map_err(|_| UserError);
    match name.and_then(User::parse) {
        Ok(user) if is_right => {
            stream.write_all(&[1, 0]).await?;
            Ok(user)
        }
        outcome => {
            stream.write_all(&[1, 1]).await?;
            Err(outcome.map_or_else(Fault::User, |_| Fault::Password))
        }
    }
}

async fn short_string(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn request(stream: &mut TcpStream) -> Result<(u8, Target), Fault> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [version, command, _, kind, first] = head;
    if version != wire::VERSION {
        return Err(Fault::Version);
    }
    let Some(length) = wire::address_length(kind, first) else {
        refuse(stream, Reply::AddressUnknown).await?;
        return Err(Fault::Address);
    };
    let mut address = vec![first; length];
    stream.read_exact(address.get_mut(1..).unwrap_or_default()).await?;
    if !matches!(command, wire::COMMAND_CONNECT | wire::COMMAND_ASSOCIATE) {
        refuse(stream, Reply::CommandUnknown).await?;
        return Err(Fault::Command(command));
    }
    let Some(target) = wire::target(kind, &address) else {
        refuse(stream, Reply::Failure).await?;
        return Err(Fault::Address);
    };
    Ok((command, target))
}

async fn refuse(stream: &mut TcpStream, code: Reply) -> io::Result<()> {
    stream.write_all(&wire::reply(code, None)).await
}
