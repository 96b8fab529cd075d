//! What a datagram costs: one call each, against batches with segmentation offload through `warren-net`'s socket.
//! `cargo xtask bench udp` runs it; arguments: how many rounds, and `--json` for a last line of JSON.
//!
//! One thread sends to itself over loopback, in bursts that fit a socket's buffer, so that nothing is lost and nobody
//! waits; the kernel's part of receiving is done within the send call. The two ways take turns.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, bail};
use serde::Serialize;
use warren_bench::{Stopwatch, cpu};
use warren_net::{Outbox, ReceiveBuffers, Socket};

/// Bytes of a full cell.
const DATAGRAM: usize = 1350;
/// Datagrams that are sent before they are received: a buffer of Linux' default size holds about 90.
const BURST: usize = 47;
/// Bursts of one round: 31 MB.
const BURSTS: usize = 500;

#[derive(Serialize)]
struct Report {
    datagram: usize,
    /// `sendto` and `recv`, one call a datagram.
    plain: Way,
    /// GSO and GRO.
    batched: Way,
    /// Plain ÷ batched, CPU.
    ratio: f64,
    datagrams_per_send_call: f64,
}

#[derive(Serialize)]
struct Way {
    cpu_s_per_gb: f64,
    mb_per_s: f64,
}

/// What one round took.
struct Round {
    cpu: f64,
    wall: f64,
}

fn main() -> anyhow::Result<()> {
    let (mut rounds, mut json) = (15_usize, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            number => rounds = number.parse().with_context(|| format!("what is {number}?"))?,
        }
    }
    let report =
        tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(measure(rounds))?;
    for (name, way) in [("sendto, recv", &report.plain), ("GSO, GRO", &report.batched)] {
        println!("{name:<14} {:>7.3} CPU s/GB {:>8.0} MB/s", way.cpu_s_per_gb, way.mb_per_s);
    }
    println!("ratio {:.1}, {:.0} datagrams a send call", report.ratio, report.datagrams_per_send_call);
    if json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

async fn measure(rounds: usize) -> anyhow::Result<Report> {
    let (mut plain, mut batched) = (Plain::new()?, Batched::new()?);
    let (mut plain_rounds, mut batched_rounds) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let started = Started::now();
        for _ in 0..BURSTS {
            plain.burst()?;
        }
        plain_rounds.push(started.ended());
        let started = Started::now();
        for _ in 0..BURSTS {
            batched.burst().await?;
        }
        batched_rounds.push(started.ended());
    }
    let counters = batched.from.counters();
    let (plain, batched) = (way(&plain_rounds), way(&batched_rounds));
    Ok(Report {
        datagram: DATAGRAM,
        ratio: rounded(plain.cpu_s_per_gb / batched.cpu_s_per_gb),
        datagrams_per_send_call: rounded(counters.sent as f64 / counters.send_calls.max(1) as f64),
        plain,
        batched,
    })
}

/// Clocks of a round.
struct Started {
    wall: Stopwatch,
    cpu: f64,
}

impl Started {
    fn now() -> Self {
        Self { wall: Stopwatch::start(), cpu: cpu::thread_seconds() }
    }

    fn ended(&self) -> Round {
        Round { cpu: cpu::thread_seconds() - self.cpu, wall: self.wall.seconds() }
    }
}

/// Medians.
fn way(rounds: &[Round]) -> Way {
    let bytes = (DATAGRAM * BURST * BURSTS) as f64;
    let median = |of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Way {
        cpu_s_per_gb: rounded(median(|round| round.cpu) / bytes * 1e9),
        mb_per_s: rounded(bytes / median(|round| round.wall) / 1e6),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One call a datagram.
struct Plain {
    from: UdpSocket,
    to: UdpSocket,
    address: SocketAddr,
    buffer: Vec<u8>,
}

impl Plain {
    fn new() -> anyhow::Result<Self> {
        let (from, to) =
            (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        to.set_nonblocking(true)?;
        Ok(Self { address: to.local_addr()?, from, to, buffer: vec![0; 2048] })
    }

    fn burst(&mut self) -> anyhow::Result<()> {
        let datagram = [7; DATAGRAM];
        for _ in 0..BURST {
            self.from.send_to(&datagram, self.address)?;
        }
        for _ in 0..BURST {
            let (length, _) = self.to.recv_from(&mut self.buffer).context("a datagram got lost")?;
            if length != DATAGRAM {
                bail!("{length} bytes came");
            }
        }
        Ok(())
    }
}

/// Runs of datagrams, as a node sends and receives them.
struct Batched {
    from: Socket,
    to: Socket,
    outbox: Outbox,
    buffers: ReceiveBuffers,
}

impl Batched {
    fn new() -> anyhow::Result<Self> {
        let bind = || Socket::bind((Ipv4Addr::LOCALHOST, 0).into(), false);
        Ok(Self { from: bind()?, to: bind()?, outbox: Outbox::default(), buffers: ReceiveBuffers::new() })
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let datagram = [7; DATAGRAM];
        for _ in 0..BURST {
            if !self.outbox.push(self.to.local_addr(), &datagram) {
                bail!("the outbox is full");
            }
        }
        if self.from.send(&mut self.outbox) != BURST {
            bail!("not everything was sent");
        }
        let (mut came, mut bytes) = (0, 0);
        while came < BURST {
            self.to.readable().await?;
            came += self.to.receive(&mut self.buffers, BURST, |_, datagram| bytes += datagram.len())?;
        }
        if (came, bytes) != (BURST, BURST * DATAGRAM) {
            bail!("{came} datagrams came, {bytes} bytes");
        }
        Ok(())
    }
}
