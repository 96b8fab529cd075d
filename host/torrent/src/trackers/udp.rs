//! UDP trackers (BEP 15) over datagrams of a circuit.

use std::time::Duration;

use bytes::Bytes;
use warren_ports::{Association, Target};

use super::{Announce, Answer, Event, TrackerError, WANTED, compact};

/// BEP 15's magic, which says that this is a connect.
const MAGIC: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const ERROR: u32 = 3;
/// BEP 15 waits 15 · 2ⁿ seconds, n up to 8; we give up after the fourth.
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(15);
const ATTEMPTS: u32 = 4;

/// Asks a tracker. A connection id lives for 60 s, so every attempt begins with a new one.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn announce(
    association: &dyn Association,
    tracker: &Target,
    what: &Announce,
    first_wait: Duration,
) -> Result<Answer, TrackerError> {
    for attempt in 0..ATTEMPTS {
        let wait = first_wait * 2_u32.pow(attempt);
        match tokio::time::timeout(wait, exchange(association, tracker, what)).await {
            Ok(answer) => return answer,
            Err(_) => continue,
        }
    }
    Err(TrackerError::Silent)
}

async fn exchange(
    association: &dyn Association,
    tracker: &Target,
    what: &Announce,
) -> Result<Answer, TrackerError> {
    let v6 = |from: &Target| matches!(from.host, warren_ports::Host::Ip(ip) if ip.to_canonical().is_ipv6());
    let transaction = random()?;
    let (_, answer) = ask(association, tracker, encode_connect(transaction), CONNECT, transaction).await?;
    let connection = answer.first_chunk().ok_or(TrackerError::Malformed)?;
    let transaction = random()?;
    let request = encode_announce(u64::from_be_bytes(*connection), transaction, what);
    let (from, answer) = ask(association, tracker, request, ANNOUNCE, transaction).await?;
    decode_announce(&answer, v6(&from))
}

/// Sends, and waits for the answer with the same transaction id; anything else is dropped.
async fn ask(
    association: &dyn Association,
    tracker: &Target,
    request: Vec<u8>,
    action: u32,
    transaction: u32,
) -> Result<(Target, Bytes), TrackerError> {
    let over = |_| TrackerError::Dial(warren_ports::DialError::CircuitLost);
    association.send(tracker, request.into()).map_err(over)?;
    loop {
        let (from, datagram) = association.recv().await.map_err(over)?;
        let Some((head, rest)) = datagram.split_first_chunk::<8>() else { continue };
        let [a, b, c, d, t @ ..] = *head;
        if u32::from_be_bytes(t) != transaction {
            continue;
        }
        match u32::from_be_bytes([a, b, c, d]) {
            got if got == action => return Ok((from, datagram.slice_ref(rest))),
            ERROR => {
                let reason = rest.get(..rest.len().min(200)).unwrap_or_default();
                return Err(TrackerError::Refused(String::from_utf8_lossy(reason).into_owned()));
            }
            _ => {}
        }
    }
}

fn random() -> Result<u32, TrackerError> {
    getrandom::u32().map_err(|_| TrackerError::Http("no randomness".into()))
}

fn encode_connect(transaction: u32) -> Vec<u8> {
    let mut out = MAGIC.to_be_bytes().to_vec();
    out.extend_from_slice(&CONNECT.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
    out
}

fn encode_announce(connection: u64, transaction: u32, what: &Announce) -> Vec<u8> {
    let mut out = connection.to_be_bytes().to_vec();
    out.extend_from_slice(&ANNOUNCE.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
    out.extend_from_slice(&what.infohash.0);
    out.extend_from_slice(&what.identity.peer_id);
    for count in [what.downloaded, what.left, what.uploaded] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    let (event, wanted): (u32, u32) = match what.event {
        Event::Regular => (0, WANTED),
        Event::Completed => (1, WANTED),
        Event::Started => (2, WANTED),
        Event::Stopped => (3, 0),
    };
    // The address is the exit's: 0 says to take the sender's.
    for field in [event, 0, what.identity.key, wanted] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(&what.identity.port.to_be_bytes());
    out
}

/// Reads what follows action and transaction: interval, leechers, seeders, peers.
fn decode_announce(answer: &[u8], v6: bool) -> Result<Answer, TrackerError> {
    let (head, peers) = answer.split_first_chunk::<12>().ok_or(TrackerError::Malformed)?;
    let [a, b, c, d, ..] = *head;
    Ok(Answer::new(u32::from_be_bytes([a, b, c, d]).into(), compact(peers, v6).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::Mutex;

    use tokio::sync::Notify;
    use warren_ports::BoxFuture;

    use super::*;
    use crate::InfoHash;
    use crate::trackers::Identity;

    const ANSWER_PEER: [u8; 6] = [1, 2, 3, 4, 0x1a, 0xe1];

    /// A tracker by the book, behind an association that loses the first datagrams.
    #[derive(Default)]
    struct FakeTracker {
        lose: Mutex<u32>,
        refuse: bool,
        announced: Mutex<Vec<Vec<u8>>>,
        queue: Mutex<VecDeque<Bytes>>,
        queued: Notify,
    }

    impl FakeTracker {
        fn answer(&self, request: &[u8]) {
            let transaction = request[12..16].to_vec();
            let mut reply = match request[8..12] {
                [0, 0, 0, 0] => {
                    assert_eq!(request.len(), 16);
                    assert_eq!(request[..8], [0, 0, 0x04, 0x17, 0x27, 0x10, 0x19, 0x80]);
                    [&[0, 0, 0, 0], &transaction[..], &[9; 8]].concat()
                }
                [0, 0, 0, 1] if self.refuse => [&[0, 0, 0, 3], &transaction[..], b"go away"].concat(),
                [0, 0, 0, 1] => {
                    assert_eq!((request.len(), &request[..8]), (98, &[9; 8][..]));
                    self.announced.lock().unwrap().push(request.to_vec());
                    let body = [0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1];
                    [&[0, 0, 0, 1], &transaction[..], &body, &ANSWER_PEER].concat()
                }
                _ => panic!("no such action"),
            };
            let mut queue = self.queue.lock().unwrap();
            // What somebody else might send, first.
            queue.push_back(Bytes::from_static(b"short"));
            reply[7] ^= 1;
            queue.push_back(reply.clone().into());
            reply[7] ^= 1;
            queue.push_back(reply.into());
            self.queued.notify_one();
        }
    }

    impl Association for FakeTracker {
        fn send(&self, _: &Target, payload: Bytes) -> io::Result<()> {
            let mut lose = self.lose.lock().unwrap();
            if *lose == 0 {
                self.answer(&payload);
            } else {
                *lose -= 1;
            }
            Ok(())
        }

        fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
            Box::pin(async move {
                loop {
                    if let Some(datagram) = self.queue.lock().unwrap().pop_front() {
                        return Ok((crate::magnet::parse_peer("192.0.2.1:80").unwrap(), datagram));
                    }
                    self.queued.notified().await;
                }
            })
        }
    }

    fn what() -> Announce {
        let identity = Identity { peer_id: [2; 20], port: 6881, key: 0xab };
        Announce {
            infohash: InfoHash([1; 20]),
            identity,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            event: Event::Started,
        }
    }

    #[tokio::test]
    async fn asks_again_when_datagrams_are_lost() {
        let tracker = FakeTracker { lose: Mutex::new(2), ..FakeTracker::default() };
        let target = crate::magnet::parse_peer("t.example:80").unwrap();
        let answer = announce(&tracker, &target, &what(), Duration::from_millis(20)).await.unwrap();
        assert_eq!(answer.interval.as_secs(), 0x708);
        assert_eq!(answer.peers, [crate::magnet::parse_peer("1.2.3.4:6881").unwrap()]);
        let announced = tracker.announced.lock().unwrap();
        // BEP 15: downloaded, left, uploaded, event, address, key, wanted, port.
        let tail = [4_u64, 5, 3].map(u64::to_be_bytes).concat();
        assert_eq!(announced[0][56..80], tail);
        assert_eq!(announced[0][80..98], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xab, 0, 0, 0, 100, 0x1a, 0xe1]);
    }

    #[tokio::test]
    async fn silence_and_refusal_end() {
        let target = crate::magnet::parse_peer("t.example:80").unwrap();
        let silent = FakeTracker { lose: Mutex::new(u32::MAX), ..FakeTracker::default() };
        let answer = announce(&silent, &target, &what(), Duration::from_millis(1)).await;
        assert!(matches!(answer, Err(TrackerError::Silent)));
        let rude = FakeTracker { refuse: true, ..FakeTracker::default() };
        let answer = announce(&rude, &target, &what(), Duration::from_secs(10)).await;
        assert!(matches!(answer, Err(TrackerError::Refused(reason)) if reason == "go away"));
    }
}
