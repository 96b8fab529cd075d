use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};

use warren_schemas::CircuitHandle;

use super::glue::carrier;
use crate::port::Hub;
use crate::{CircuitEnd, CircuitPort};

#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_connection_is_woken_when_some_have_come_for_it_or_when_released() {
    let hub = Hub::new(0);
    let registration = hub.register(CircuitHandle(1)).unwrap();
    let port = CircuitPort::new(hub);
    let end = &registration.end;
    let bytes = [&[0x40][..], &end.tag.to_be_bytes(), &[0; 30]].concat();
    let bell = Arc::new(Bell::default());
    let waker = Arc::clone(&bell).into();
    let context = Context::from_waker(&waker);
    let rung = || bell.0.swap(0, Ordering::Relaxed);
    let sleep = || while end.inbox.poll(&context, |queue| queue.pop(|_, _| ()).is_some()).is_ready() {};
    let gather = || port.gather(carrier(1), CircuitEnd::Originator, &bytes);

    sleep();
    gather();
    assert_eq!(rung(), 0);
    port.release();
    assert_eq!(rung(), 1);
    port.release();
    assert_eq!(rung(), 0, "once");
    sleep();
    (0..100).for_each(|_| gather());
    assert_eq!(rung(), 1, "without a release");
    sleep();
    gather();
    port.release();
    assert_eq!(rung(), 1, "what was gathered after it was taken");
    sleep();
    port.deliver(carrier(1), CircuitEnd::Originator, &bytes);
    assert_eq!(rung(), 1, "at once");
}
