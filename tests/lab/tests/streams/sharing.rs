//! Streams of one connection beside each other.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};
use warren_streams::{Connection, Settings};

use super::trial::rig::{Download, KB, Rig, access, target};

/// The line of [`on_a_line`]: 10 Mbit/s over 100 ms, with a queue for as long.
const BYTES_PER_SECOND: f64 = 1.25e6;
/// A page that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` with a connection of `settings` on that line, on virtual time.
fn on_a_line<T>(settings: Settings, work: impl AsyncFnOnce(Connection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let lines = access(BYTES_PER_SECOND as u64 * 8, 125_000, Duration::from_millis(100), 0.0);
        let rig = Rig::new(&[settings], &lines, 1);
        work(rig.connect(0, 1).await).await
    })
}

/// What each of `downloads` got in `seconds`, as a part of what the line carries.
async fn shares(downloads: &[Download], seconds: u64) -> Vec<f64> {
    let before: Vec<u64> = downloads.iter().map(Download::got).collect();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let share = |(download, before): (&Download, u64)| {
        (download.got() - before) as f64 / (BYTES_PER_SECOND * seconds as f64)
    };
    downloads.iter().zip(before).map(share).collect()
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
    let (alone, beside, again) = on_a_line(Settings::default(), async |connection| {
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
    let shares = on_a_line(Settings::default(), async |connection| {
        let downloads: Vec<Download> = (0..8).map(|_| Download::start(connection.clone())).collect();
        tokio::time::sleep(Duration::from_secs(5)).await;
        shares(&downloads, 20).await
    });
    let (least, most) =
        shares.iter().fold((1.0_f64, 0.0_f64), |(a, b), share| (a.min(*share), b.max(*share)));
    assert!(shares.iter().sum::<f64>() > 0.7 && least > 0.8 * most, "{shares:?}");
}

#[test]
fn whose_own_reader_is_slow_holds_nobody_up() {
    let settings = Settings { stream_receive_window: 256 * 1024, ..Settings::default() };
    for pause in [Duration::from_secs(3600), Duration::from_secs(2)] {
        let fast = on_a_line(settings.clone(), async |connection| {
            let slow: Vec<Download> =
                (0..8).map(|_| Download::with_pause(connection.clone(), pause)).collect();
            let fast = [Download::start(connection)];
            tokio::time::sleep(Duration::from_secs(5)).await;
            let fast = shares(&fast, 20).await;
            drop(slow);
            fast[0]
        });
        assert!(fast > 0.5, "{pause:?}: {fast}");
    }
}
