//! The way into the circuits: [`Dial`] and [`Datagrams`] for every room that wants to reach the world.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use warren_ports::{Association, BoxFuture, Clock, Datagrams, Dial, DialError, DialJob, Isolation, Target};

use crate::direct;
use crate::messages::{Ask, ToKeeper, What};

/// How long a dial waits for a circuit.
const CIRCUIT_WAIT: Duration = Duration::from_secs(60);

/// Hands asks to the keeper; connects by itself only when a person asked for no hops at all.
pub(crate) struct Dialer {
    keeper: mpsc::Sender<ToKeeper>,
    clock: Arc<dyn Clock>,
}

impl Dialer {
    pub(crate) fn new(keeper: mpsc::Sender<ToKeeper>, clock: Arc<dyn Clock>) -> Self {
        Self { keeper, clock }
    }

    fn ask(&self, isolation: Isolation, what: What) -> BoxFuture<'static, ()> {
        let keeper = self.keeper.clone();
        let deadline = self.clock.now().after(CIRCUIT_WAIT);
        Box::pin(async move {
            let ask = ToKeeper::Ask(Ask { isolation, what, deadline });
            if let Err(mpsc::error::SendError(ToKeeper::Ask(ask))) = keeper.send(ask).await {
                ask.fail(DialError::Failed);
            }
        })
    }
}

impl Dial for Dialer {
    fn dial(&self, isolation: Isolation, target: Target, job: DialJob) -> BoxFuture<'static, ()> {
        if isolation.hops == 0 {
            return Box::pin(async move {
                let outcome = direct::connect(&target).await.map(|stream| Box::new(stream) as _);
                job(outcome).await;
            });
        }
        self.ask(isolation, What::Connect { target, job })
    }
}

impl Datagrams for Dialer {
    fn associate(&self, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Association>, DialError>> {
        if isolation.hops == 0 {
            return Box::pin(async { direct::associate().await });
        }
        let (answer, outcome) = oneshot::channel();
        let asked = self.ask(isolation, What::Associate { answer });
        Box::pin(async move {
            asked.await;
            outcome.await.unwrap_or(Err(DialError::CircuitLost))
        })
    }
}
