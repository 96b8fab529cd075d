//! Streams of one connection beside each other.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use warren_lab::Line;
use warren_streams::{Connection, Settings, TunnelStream};

use super::trial::rig::{Download, KB, Rig, SINK, SINKS, access, target};

/// The line of [`on_a_line`]: 10 Mbit/s over 100 ms, with a queue for as long.
const BYTES_PER_SECOND: f64 = 1.25e6;
/// Seconds after which streams that take turns differ by little: after 20 s, one run in some hundreds differs by a fifth.
const LONG: u64 = 60;
/// What a large write has.
const LARGE: usize = 1 << 16;
/// A page that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` with a connection of `settings` on that line, on virtual time.
fn on_a_line<T>(settings: Settings, work: impl AsyncFnOnce(&Rig, Connection) -> T) -> T {
    on(&access(BYTES_PER_SECOND as u64 * 8, 125_000, Duration::from_millis(100), 0.0), settings, work)
}

fn on<T>(lines: &[Line], settings: Settings, work: impl AsyncFnOnce(&Rig, Connection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let rig = Rig::new(&[settings], lines, 1);
        work(&rig, rig.connect(0, 1).await).await
    })
}

/// What each of so many got in `seconds`, as a part of what the line carries; `got` tells what one has.
async fn shares(count: usize, seconds: u64, got: impl Fn(usize) -> u64) -> Vec<f64> {
    let before: Vec<u64> = (0..count).map(&got).collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = |(index, before)| (got(index) - before) as f64 / (BYTES_PER_SECOND * seconds as f64);
    before.into_iter().enumerate().map(share).collect()
}

/// All of the line is used, and nobody gets less than this part of what another gets.
fn assert_fair(shares: &[f64], part: f64) {
    let (least, most) =
        shares.iter().fold((1.0_f64, 0.0_f64), |(a, b), share| (a.min(*share), b.max(*share)));
    assert!(shares.iter().sum::<f64>() > 0.7 && least > part * most, "{shares:?}");
}

/// Says without end, by a stream to sink `index`.
async fn upload(connection: Connection, index: usize, at_once: usize) {
    let mut stream = connection.open(&target(SINK + index as u16)).await.unwrap();
    say_without_end(&mut stream, at_once).await;
}

async fn say_without_end(stream: &mut TunnelStream, at_once: usize) {
    let block = vec![7; at_once];
    while stream.write_all(&block).await.is_ok() {}
}

/// Asks for so many kilobytes, and answers how long they took.
async fn page(connection: &Connection, kilobytes: u16) -> Duration {
    let asked = Instant::now();
    let mut stream = connection.open(&target(kilobytes)).await.unwrap();
    let mut page = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut page)).await.unwrap().unwrap();
    assert_eq!(page.len(), usize::from(kilobytes) * KB);
    asked.elapsed()
}

#[test]
fn a_page_comes_at_once_beside_many_downloads() {
    let (alone, beside, again) = on_a_line(Settings::default(), async |_, connection| {
        // What it takes once the window has grown.
        page(&connection, 1000).await;
        let alone = page(&connection, 60).await;
        let downloads: Vec<Download> = (0..20).map(|_| Download::start(connection.clone())).collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let beside = page(&connection, 60).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let again = page(&connection, 60).await;
        drop(downloads);
        (alone, beside, again)
    });
    // In line it would take twice that: 19 others, each with its 64 KiB.
    assert!(beside < alone * 6 && again < alone * 6, "{alone:?} {beside:?} {again:?}");
}

#[test]
fn downloads_of_one_connection_get_as_much_each() {
    let shares = on_a_line(Settings::default(), async |_, connection| {
        let downloads: Vec<Download> = (0..8).map(|_| Download::start(connection.clone())).collect();
        tokio::time::sleep(Duration::from_secs(5)).await;
        shares(downloads.len(), LONG, |index| downloads[index].got()).await
    });
    assert_fair(&shares, 0.8);
}

#[test]
fn uploads_of_one_connection_get_as_much_each() {
    // Who says less at once is not always there when it is its turn.
    for (at_once, part) in [([LARGE; 2], 0.8), ([LARGE, 1 << 12], 0.6)] {
        let shares = on_a_line(Settings::default(), async |rig, connection| {
            for (index, at_once) in at_once.into_iter().cycle().take(8).enumerate() {
                tokio::spawn(upload(connection.clone(), index, at_once));
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            shares(8, LONG, |index| rig.taken[index].load(Relaxed)).await
        });
        assert_fair(&shares, part);
    }
}

#[test]
fn one_upload_fills_a_long_line() {
    // 100 Mbit/s over 200 ms, with a queue for as long.
    let lines = access(100_000_000, 2_500_000, Duration::from_millis(200), 0.0);
    let share = on(&lines, Settings::default(), async |rig, connection| {
        tokio::spawn(upload(connection, 0, LARGE));
        shares(1, 20, |index| rig.taken[index].load(Relaxed)).await[0]
    });
    assert!(share * BYTES_PER_SECOND > 0.6 * 12.5e6, "{share}");
}

#[test]
fn a_request_goes_at_once_beside_many_uploads() {
    let (alone, beside) = on_a_line(Settings::default(), async |_, connection| {
        page(&connection, 1000).await;
        let alone = page(&connection, 60).await;
        for index in 0..8 {
            tokio::spawn(upload(connection.clone(), index, LARGE));
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        (alone, page(&connection, 60).await)
    });
    assert!(beside < alone * 6, "{alone:?} {beside:?}");
}

#[test]
fn a_target_that_takes_nothing_holds_nobody_up() {
    let share = on_a_line(Settings::default(), async |rig, connection| {
        tokio::spawn(upload(connection.clone(), SINKS - 1, LARGE));
        tokio::time::sleep(Duration::from_secs(10)).await;
        tokio::spawn(upload(connection, 0, LARGE));
        tokio::time::sleep(Duration::from_secs(5)).await;
        shares(1, 20, |index| rig.taken[index].load(Relaxed)).await[0]
    });
    assert!(share > 0.7, "{share}");
}

/// Streams of a connection that may have all unread that a stream may, and the others go on (ARCHITECTURE.md).
const STALLED: usize = 14;

/// 100 Mbit/s over 50 ms, with a queue for as long: what nobody reads fills a window in seconds.
fn wide_line() -> Vec<Line> {
    access(100_000_000, 625_000, Duration::from_millis(50), 0.0)
}

#[test]
fn downloads_that_nobody_reads_hold_nobody_up() {
    for pause in [Duration::from_secs(3600), Duration::from_secs(1)] {
        let share = on(&wide_line(), Settings::default(), async |_, connection| {
            let paused: Vec<Download> =
                (0..STALLED).map(|_| Download::with_pause(connection.clone(), pause)).collect();
            tokio::time::sleep(Duration::from_secs(20)).await;
            let read = Download::start(connection);
            tokio::time::sleep(Duration::from_secs(5)).await;
            let share = shares(1, 10, |_| read.got()).await[0];
            drop(paused);
            share
        });
        assert!(share * BYTES_PER_SECOND > 0.6 * 12.5e6, "{pause:?}: {share}");
    }
}

#[test]
fn targets_that_take_nothing_hold_nobody_up() {
    let share = on(&wide_line(), Settings::default(), async |rig, connection| {
        for _ in 0..STALLED {
            tokio::spawn(upload(connection.clone(), SINKS - 1, LARGE));
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        tokio::spawn(upload(connection, 0, LARGE));
        tokio::time::sleep(Duration::from_secs(5)).await;
        shares(1, 10, |index| rig.taken[index].load(Relaxed)).await[0]
    });
    assert!(share * BYTES_PER_SECOND > 0.6 * 12.5e6, "{share}");
}

#[test]
fn an_upload_that_never_goes_on_holds_nobody_up() {
    let share = on_a_line(Settings::default(), async |rig, connection| {
        let mut given_up = connection.open(&target(SINK + 1)).await.unwrap();
        // It wrote until there was no room, waits for some, and is not asked again.
        drop(timeout(Duration::from_secs(3), say_without_end(&mut given_up, LARGE)).await);
        let other = tokio::spawn(upload(connection, 0, LARGE));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let share = shares(1, 20, |index| rig.taken[index].load(Relaxed)).await[0];
        drop((given_up, other));
        share
    });
    assert!(share > 0.7, "{share}");
}

#[test]
fn whose_own_reader_is_slow_holds_nobody_up() {
    let settings = Settings { stream_receive_window: 256 * 1024, ..Settings::default() };
    for pause in [Duration::from_secs(3600), Duration::from_secs(2)] {
        let fast = on_a_line(settings.clone(), async |_, connection| {
            let slow: Vec<Download> =
                (0..8).map(|_| Download::with_pause(connection.clone(), pause)).collect();
            let fast = Download::start(connection);
            tokio::time::sleep(Duration::from_secs(5)).await;
            let fast = shares(1, 20, |_| fast.got()).await;
            drop(slow);
            fast[0]
        });
        assert!(fast > 0.5, "{pause:?}: {fast}");
    }
}
