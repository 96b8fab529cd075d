//! The last hop's side: what originators ask of this exit over the circuits that end here.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use warren_exit::{Exit, ExitCircuit, Outbound, UdpFlow};
use warren_ports::{Association, DialError};
use warren_schemas::CircuitHandle;
use warren_schemas::stream::Outcome;
use warren_streams::{Answer, Asked, Endpoint, Incoming, TunnelAssociation, Writing};

/// Bytes a stream reads at once, each way.
const COPY_BUFFER: usize = 64 * 1024;
/// With less room left than this, a new block is begun; less than this is copied out of it.
const LEAST_READ: usize = 16 * 1024;

/// Circuits whose share of the exit is remembered, of one worker.
const SHARES: usize = 256;

/// What circuits used of the exit. A circuit that connects anew finds what it left: its limits are
/// the circuit's and not the connection's.
#[derive(Default)]
struct Shares {
    of: HashMap<CircuitHandle, ExitCircuit>,
    oldest: VecDeque<CircuitHandle>,
}

impl Shares {
    fn of(&mut self, exit: &Arc<Exit>, circuit: CircuitHandle) -> ExitCircuit {
        if let Some(share) = self.of.get(&circuit) {
            return share.clone();
        }
        if self.oldest.len() >= SHARES
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.of.remove(&oldest);
        }
        let share = exit.circuit();
        self.of.insert(circuit, share.clone());
        self.oldest.push_back(circuit);
        share
    }
}

/// Takes the connections of all circuits that end at this worker, until the endpoint closes.
pub(crate) async fn serve(endpoint: Arc<Endpoint>, exit: Arc<Exit>) {
    let mut shares = Shares::default();
    while let Some(incoming) = endpoint.accept().await {
        let share = shares.of(&exit, incoming.carrier().circuit);
        tokio::spawn(serve_connection(endpoint.clone(), incoming, share));
    }
}

async fn serve_connection(endpoint: Arc<Endpoint>, incoming: Incoming, circuit: ExitCircuit) {
    let connection = match incoming.establish().await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "an originator's handshake"),
    };
    while let Some(asked) = connection.next().await {
        match asked {
            Asked::Connect { target, answer } => {
                let circuit = circuit.clone();
                endpoint.spawn(async move {
                    match circuit.connect(&target).await {
                        Ok((outbound, bound)) => carry(answer, outbound, bound).await,
                        Err(error) => answer.refuse(outcome(&error)).await,
                    }
                });
            }
            Asked::Associate { flow } => drop(tokio::spawn(exchange(flow, circuit.udp_flow()))),
        }
    }
}

/// Answers, then copies until both directions ended.
async fn carry(answer: Answer, mut outbound: Outbound, bound: SocketAddr) {
    let Ok(mut stream) = answer.accept(bound).await else { return };
    let (from_circuit, to_circuit) = stream.halves();
    let (from_target, to_target) = outbound.split();
    let copied = tokio::try_join!(inward(from_target, to_circuit), outward(from_circuit, to_target));
    if let Err(error) = copied {
        tracing::debug!(kind = ?error.kind(), "a stream of a circuit ended");
    }
}

/// From the target into the circuit, when it is the stream's turn: until then what the target sent waits in its socket.
/// What was read is what QUIC keeps until it is acknowledged: it is not copied, but for little, which would keep a
/// whole block.
async fn inward(mut from: ReadHalf<'_>, mut to: Writing<'_>) -> io::Result<()> {
    let mut block = BytesMut::new();
    // The end waits for no turn.
    while from.peek(&mut [0]).await? > 0 {
        let turn = to.turn().await;
        if block.capacity() < LEAST_READ {
            block = BytesMut::with_capacity(COPY_BUFFER);
        }
        let read = match from.try_read_buf(&mut block) {
            Ok(little @ ..LEAST_READ) => Bytes::copy_from_slice(block.get(..little).unwrap_or_default()),
            Ok(_) => block.split().freeze(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        block.clear();
        turn.write(read).await?;
    }
    to.finish()
}

/// From the circuit to the target.
async fn outward(from: impl AsyncRead + Unpin, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut from = BufReader::with_capacity(COPY_BUFFER, from);
    tokio::io::copy_buf(&mut from, &mut to).await?;
    to.shutdown().await
}

/// Exchanges datagrams until the association or the flow ends.
async fn exchange(inside: TunnelAssociation, outside: UdpFlow) {
    loop {
        let sent = tokio::select! {
            asked = inside.recv() => asked.map(|(target, payload)| outside.send(&target, payload)),
            answered = outside.recv() => answered.and_then(|(from, payload)| inside.send(&from, payload)),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn outcome(error: &DialError) -> Outcome {
    match error {
        DialError::Denied => Outcome::Denied,
        DialError::NetworkUnreachable => Outcome::NetworkUnreachable,
        DialError::HostUnreachable => Outcome::HostUnreachable,
        DialError::Refused => Outcome::Refused,
        DialError::TimedOut => Outcome::TimedOut,
        DialError::Limit => Outcome::Limit,
        DialError::NoCircuit(_) | DialError::CircuitLost | DialError::Failed => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use warren_exit::{Limits, Policy};
    use warren_ports::{Clock, Target};

    use super::*;
    use crate::SystemClock;

    #[tokio::test]
    async fn limits_are_the_circuits_and_not_the_connections() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let policy = Policy { allow_private: true, ..Policy::default() };
        let exit = Arc::new(Exit::new(policy, Limits { sockets_per_circuit: 1, ..Limits::default() }, clock));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        let mut shares = Shares::default();
        let _held = shares.of(&exit, CircuitHandle(1)).connect(&target).await.ok().unwrap();
        let again = shares.of(&exit, CircuitHandle(1)).connect(&target).await;
        assert!(matches!(again, Err(DialError::Limit)));
        assert!(shares.of(&exit, CircuitHandle(2)).connect(&target).await.is_ok());
        for handle in 3..1000 {
            shares.of(&exit, CircuitHandle(handle));
        }
        assert_eq!((shares.of.len(), shares.oldest.len()), (SHARES, SHARES));
    }
}
