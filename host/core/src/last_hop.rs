//! The last hop's side: what originators ask of this exit over the circuits that end here.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use warren_exit::Exit;
use warren_ports::DialError;
use warren_schemas::stream::Outcome;
use warren_streams::{Answer, Asked, Endpoint, Incoming, TunnelStream};

/// Bytes a stream's copy buffers, each way.
const COPY_BUFFER: usize = 64 * 1024;

/// Takes the connections of all circuits that end at this worker, until the endpoint closes.
pub(crate) async fn serve(endpoint: Endpoint, exit: Arc<Exit>) {
    while let Some(incoming) = endpoint.accept().await {
        let exit = Arc::clone(&exit);
        tokio::spawn(serve_connection(incoming, exit));
    }
}

async fn serve_connection(mut incoming: Incoming, exit: Arc<Exit>) {
    while let Some(asked) = incoming.next().await {
        match asked {
            Asked::Connect { target, answer } => {
                let exit = Arc::clone(&exit);
                tokio::spawn(async move {
                    match exit.connect(&target).await {
                        Ok((tcp, bound)) => carry(answer, tcp, bound).await,
                        Err(error) => answer.refuse(outcome(&error)).await,
                    }
                });
            }
            Asked::Associate { flow } => drop(tokio::spawn(datagrams(flow, Arc::clone(&exit)))),
        }
    }
}
