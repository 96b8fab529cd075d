use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::mpsc;

use super::*;

/// Who had a turn, in that order.
type Turned = Arc<Mutex<Vec<(char, usize)>>>;

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("hangs")
}

#[tokio::test]
async fn whoever_a_driver_wakes_comes_next() {
    let (drivers, turned) = (Drivers::start(), Turned::default());
    let mut firsts = Vec::new();
    for index in 0..20 {
        let (first, mut woken) = mpsc::channel::<()>(1);
        let (second, mut read) = mpsc::channel::<()>(1);
        let (mine, theirs) = (turned.clone(), turned.clone());
        drivers.add(async move {
            while woken.recv().await.is_some() {
                lock(&mine).push(('e', index));
                second.try_send(()).unwrap();
            }
        });
        drivers.add(async move {
            while read.recv().await.is_some() {
                lock(&theirs).push(('c', index));
            }
        });
        firsts.push(first);
    }
    // All of them wait now.
    tokio::task::yield_now().await;
    for first in &firsts {
        first.try_send(()).unwrap();
    }
    within(async {
        while lock(&turned).len() < 40 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let expected: Vec<_> = (0..20).flat_map(|index| [('e', index), ('c', index)]).collect();
    assert_eq!(*lock(&turned), expected);
}

#[tokio::test]
async fn one_that_never_rests_keeps_neither_others_nor_tasks_waiting() {
    let drivers = Drivers::start();
    let (others, turns) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let count = turns.clone();
    drivers.add(std::future::poll_fn(move |context| {
        count.fetch_add(1, Ordering::Relaxed);
        context.waker().wake_by_ref();
        Poll::Pending
    }));
    for _ in 0..10 {
        let (done, turns) = (others.clone(), turns.clone());
        drivers.add(async move {
            lock(&done).push(turns.load(Ordering::Relaxed));
        });
    }
    within(async {
        while lock(&others).len() < 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(*lock(&others), [1; 10], "it had one turn before they had theirs");
    assert!(turns.load(Ordering::Relaxed) <= TURNS, "{turns:?}: this task's turn came late");
}

#[tokio::test]
async fn one_that_panics_or_is_done_ends_alone() {
    let drivers = Drivers::start();
    let (told, mut heard) = mpsc::channel(1);
    drivers.add(async { panic!("this one panics on purpose") });
    let hearing = told.clone();
    drivers.add(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        hearing.try_send(()).unwrap();
    });
    assert_eq!(within(heard.recv()).await, Some(()));
    drop(told);
    assert_eq!(within(heard.recv()).await, None, "what is done is dropped");
    assert_eq!(lock(&drivers.0.0).living.len(), 0);
}

#[tokio::test]
async fn another_thread_wakes_a_driver() {
    let drivers = Drivers::start();
    let (told, mut heard) = mpsc::channel::<u32>(1);
    let (answer, answered) = tokio::sync::oneshot::channel();
    drivers.add(async move { _ = answer.send(heard.recv().await) });
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        told.try_send(7).unwrap();
    });
    assert_eq!(within(answered).await, Ok(Some(7)));
    thread.join().unwrap();
}

#[test]
fn what_is_not_done_ends_with_the_runtime() {
    /// Waits for ever, and holds its own waker as what it waits for would.
    struct Waits {
        _alive: Arc<()>,
        waker: Option<Waker>,
    }
    impl Future for Waits {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            self.waker = Some(context.waker().clone());
            Poll::Pending
        }
    }
    let alive = Arc::new(());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let drivers = runtime.block_on(async {
        let drivers = Drivers::start();
        drivers.add(Waits { _alive: alive.clone(), waker: None });
        tokio::task::yield_now().await;
        drivers
    });
    assert_eq!(Arc::strong_count(&alive), 2);
    drop(runtime);
    assert_eq!(Arc::strong_count(&alive), 1);
    // And nobody comes after that.
    drivers.add(Waits { _alive: alive.clone(), waker: None });
    drop(drivers);
    assert_eq!(Arc::strong_count(&alive), 1);
}
