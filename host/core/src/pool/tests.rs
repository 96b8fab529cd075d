use warren_workers::{Worker, WorkerFault, WorkerHost};

use super::*;

struct Named(&'static str);

impl WorkerFactory for Named {
    fn name(&self) -> &str {
        self.0
    }
    fn spawn(&self, _: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        Err(WorkerFault::SelfTest { plugin: self.0.to_owned(), detail: "a name only".to_owned() })
    }
}

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn module(suites: &[u8]) -> Description {
    let (name, version) = ("tunnel".to_owned(), "1".to_owned());
    Description { name, version, suites: suites.to_vec(), writes_state: 1, reads_state: vec![1] }
}

fn pool(min: u8, max: u8) -> Pool {
    let span = Span::new(min, max);
    let open = Arc::new(Open::new(&(0..span.min)));
    let mut pool = Pool::new(span, open, Arc::new(Named("old")), START);
    (0..span.min).for_each(|worker| pool.set_module(worker, module(&[1])));
    pool
}

fn seen(active: u32, holds_circuits: bool) -> impl Fn(u8) -> Seen {
    move |_| Seen { cpu_s: 0.0, active, holds_circuits }
}

#[test]
fn spans_stay_within_a_byte_of_indices() {
    for (min, max, wanted) in [(0, 0, (1, 1)), (2, 1, (1, 1)), (1, 255, (1, 127)), (200, 255, (127, 127))] {
        let span = Span::new(min, max);
        assert_eq!((span.min, span.max), wanted);
        assert!(span.threads() >= 2 * span.max);
    }
}

#[test]
fn it_grows_with_the_circuits_and_drains_when_they_are_gone() {
    let mut pool = pool(1, 2);
    assert!(pool.look(START, seen(99, true)).is_empty(), "too early");
    let steps = pool.look(START.after(LOOK), seen(9, true));
    assert!(matches!(steps.as_slice(), [Step::Start(1, factory)] if factory.name() == "old"));
    assert_eq!(pool.open(), 0..2);
    pool.set_module(1, module(&[1]));
    let mut now = START.after(LOOK);
    let retired = (0..60).find_map(|_| {
        now = now.after(LOOK);
        pool.look(now, seen(0, true)).pop()
    });
    assert!(matches!(retired, Some(Step::Retire(1))));
    assert_eq!(pool.open(), 0..1);
    assert!(pool.drained(seen(0, true)).is_empty());
    assert_eq!(pool.drained(seen(0, false)), [1]);
    pool.left(1);
    assert!(pool.drained(seen(0, false)).is_empty());
}

#[test]
fn one_exchange_at_a_time_and_none_while_it_scales() {
    let mut pool = pool(2, 2);
    let lease = pool.lease().unwrap();
    assert_eq!((lease.acting, lease.beside), (vec![0, 1], 2..4));
    assert!(lease.previous.is_none());
    assert!(pool.lease().is_none());
    assert!(pool.look(START.after(10 * LOOK), seen(99, true)).is_empty());
    pool.release(Some(Arc::new(Named("new"))));
    let lease = pool.lease().unwrap();
    assert_eq!(lease.current.name(), "new");
    assert_eq!(lease.previous.map(|factory| factory.name().to_owned()), Some("old".to_owned()));
}

#[tokio::test]
async fn a_draining_exchange_moves_to_the_other_half_and_back() {
    let mut pool = pool(2, 3);
    assert_eq!(pool.lease().unwrap().beside, 3..5);
    let (audit, mut steps) = mpsc::channel(8);
    assert_eq!(pool.drain(3..5, Arc::new(Named("new")), audit), [0, 1]);
    (3..5).for_each(|worker| pool.set_module(worker, module(&[2, 1])));
    assert_eq!(pool.open(), 3..5);
    let lease = pool.lease().unwrap();
    assert_eq!(lease.acting, [3, 4], "those that drain keep what they run");
    assert_eq!(lease.beside, 0..2, "where the old ones still drain");
    pool.release(None);
    for worker in [0, 1] {
        pool.tell_drained(START, worker);
        pool.left(worker);
        assert_eq!(steps.recv().await.unwrap().worker, Some(worker));
    }
    assert!(steps.recv().await.is_none(), "nothing more will be said");
    assert_eq!(pool.lease().unwrap().beside, 0..2);
    let (audit, _steps) = mpsc::channel(8);
    assert_eq!(pool.drain(0..2, Arc::new(Named("old")), audit), [3, 4], "and back");
}

#[test]
fn suites_are_those_that_all_open_workers_speak() {
    let mut pool = pool(2, 2);
    assert_eq!(pool.suites(), Some(vec![1]));
    pool.set_module(0, module(&[2, 1]));
    assert_eq!(pool.suites(), Some(vec![1]), "one does not speak 2 yet");
    pool.set_module(1, module(&[2, 1]));
    assert_eq!(pool.suites(), Some(vec![2, 1]));
    pool.left(0);
    pool.left(1);
    assert_eq!(pool.suites(), None);
}

#[test]
fn a_worker_that_does_not_start_gets_no_circuits() {
    let mut pool = pool(1, 2);
    let steps = pool.look(START.after(LOOK), seen(9, true));
    assert!(matches!(steps.as_slice(), [Step::Start(1, _)]));
    pool.start_failed(1);
    assert_eq!(pool.open(), 0..1);
    pool.start_failed(0);
    assert_eq!(pool.open(), 0..1, "one is always tried");
    let steps = pool.look(START.after(2 * LOOK), seen(9, true));
    assert!(matches!(steps.as_slice(), [Step::Start(1, _)]), "and tried again");
}
