//! The last hop's side: what originators ask of this exit over the circuits that end here.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional_with_sizes;
use warren_exit::{Exit, ExitCircuit, Outbound, UdpFlow};
use warren_schemas::stream::Outcome;
use warren_ports::{Association, DialError};
use warren_streams::{Answer, Asked, Endpoint, Incoming, TunnelAssociation};

/// Bytes a stream's copy buffers, each way.
const COPY_BUFFER: usize = 64 * 1024;

/// Takes the connections of all circuits that end at this worker, until the endpoint closes.
pub(crate) async fn serve(endpoint: Arc<Endpoint>, exit: Arc<Exit>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve_connection(incoming, exit.circuit()));
    }
}

async fn serve_connection(incoming: Incoming, circuit: ExitCircuit) {
    let connection = match incoming.establish().await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "an originator's handshake"),
    };
    while let Some(asked) = connection.next().await {
        match asked {
            Asked::Connect { target, answer } => {
                let circuit = circuit.clone();
                tokio::spawn(async move {
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
    if let Ok(mut stream) = answer.accept(bound).await {
        let copied = copy_bidirectional_with_sizes(&mut stream, &mut outbound, COPY_BUFFER, COPY_BUFFER);
        if let Err(error) = copied.await {
            tracing::debug!(kind = ?error.kind(), "a stream of a circuit ended");
        }
    }
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
