//! `bench lab`: downloads over distance, loss and a bottleneck, made by the box of `tests/lab`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;
use warren_bench::Stopwatch;
use warren_bench::fetch::Fetch;
use warren_bench::network::{Network, OwnSettings, Plan};
use warren_bench::web::WebServer;
use warren_lab::{Conditions, Lab, Line, Node};

use crate::{interrupt, plugins, program};

/// Lines that a round trip over three hops passes: three links, a line at each end, both ways.
const LINES: u32 = 12;
/// The least queue of a bottleneck, in seconds of its rate: without distance a product would be nothing.
const LEAST_QUEUE_S: f64 = 0.01;
/// How long the first of two downloads is alone.
const HEAD_START: Duration = Duration::from_secs(4);
/// More than any download gets.
const ENDLESS: u64 = 1 << 40;
/// How long a circuit may take to stand.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct LabJob {
    /// Relays that are no exits.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=40))]
    relays: u8,
    /// Exits.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=40))]
    exits: u8,
    /// Round trips over three hops, in ms.
    #[arg(long, value_delimiter = ',', default_value = "0,50,200", value_parser = clap::value_parser!(u64).range(0..=2000))]
    rtt: Vec<u64>,
    /// Percent of datagrams lost on the client's line, each way.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    loss: Vec<f64>,
    /// Rate of the client's line each way, in Mbit/s (10^6 bits of IP datagrams); 0 is no limit.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    rate: u64,
    /// Its queue, in products of rate and round trip; at least 10 ms of the rate.
    #[arg(long, default_value_t = 1.0)]
    queue: f64,
    /// Congestion controllers, as `lab.congestion` names them.
    #[arg(long, value_delimiter = ',', default_value = "steady")]
    congestion: Vec<String>,
    /// Downloads at once.
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: Vec<u8>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// A setting of every node, as SECTION.KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = crate::network::setting)]
    set: Vec<(String, String)>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    job: &'static str,
    mbit_per_s: u64,
    queue_products: f64,
    seconds: u64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    congestion: String,
    rtt_ms: u64,
    loss_percent: f64,
    parallel: u8,
    /// Payload of each download while all ran.
    mb_per_s: Vec<f64>,
    /// Payload of all of them ÷ what the bottleneck carries; none without one.
    share: Option<f64>,
    /// Jain's index of the downloads: (Σx)² ÷ (n · Σx²).
    jain: f64,
    /// Until the first download's first byte, by a circuit that stands.
    first_byte_s: f64,
    /// Datagrams that found a queue of the box full, and those lost by chance.
    full: u64,
    lost: u64,
}

/// Runs the job.
pub(super) fn run(job: &LabJob) -> anyhow::Result<ExitCode> {
    let loss_is_percent = job.loss.iter().all(|loss| (0.0..=100.0).contains(loss));
    ensure!(loss_is_percent && job.queue >= 0.0, "loss is in percent, and a queue is not negative");
    let plugins = plugins::find_or_build(&plugins::Wanted::default())?;
    let program = program::build(program::Profile::Dist)?;
    interrupt::listen();
    println!(
        "congestion  RTT ms  loss %  downloads  MB/s each              share  Jain   first byte s  full    lost"
    );
    let mut rows = Vec::new();
    for congestion in &job.congestion {
        let mut set = job.set.clone();
        set.push(("lab.congestion".to_owned(), congestion.clone()));
        let plan = Plan {
            program: program.clone(),
            plugin: plugins.join("tunnel.wasm"),
            relays: job.relays,
            exits: job.exits,
            client_hops: vec![3],
            dir: None,
            set,
        };
        Bench::start(job, plan)?.run(congestion, &mut rows)?;
    }
    if job.json {
        let (mbit_per_s, queue_products, seconds) = (job.rate, job.queue, job.seconds);
        let report = Report { job: "lab", mbit_per_s, queue_products, seconds, rows };
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// A network whose tunnels lead through a box.
struct Bench<'a> {
    job: &'a LabJob,
    network: Network,
    server: WebServer,
    lab: Lab,
    nodes: usize,
}

impl<'a> Bench<'a> {
    fn start(job: &'a LabJob, plan: Plan) -> anyhow::Result<Self> {
        let nodes = plan.nodes();
        let lab = Lab::start(nodes.len(), 1)?;
        let text = |value: std::net::SocketAddr| format!("\"{value}\"");
        let mut own = OwnSettings::new();
        for ((name, _), place) in nodes.iter().zip(lab.places()) {
            let listen = ("tunnel.listen".to_owned(), text(place.listen));
            let advertise = ("tunnel.advertise".to_owned(), format!("[{}]", text(place.reached_at)));
            own.insert(name.clone(), vec![listen, advertise]);
        }
        let mut network = Network::start_with(plan, own, &interrupt::go_on)?;
        network.wait_for_circuits(&interrupt::go_on)?;
        Ok(Self { job, network, server: WebServer::start()?, lab, nodes: nodes.len() })
    }

    fn run(&self, congestion: &str, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        for rtt_ms in &self.job.rtt {
            for loss in &self.job.loss {
                self.set(*rtt_ms, *loss)?;
                self.renew(&format!("h3-before{rtt_ms}x{}", loss * 10.0))?;
                for parallel in &self.job.parallel {
                    let row = self.measure(congestion, *rtt_ms, *loss, *parallel)?;
                    show(&row);
                    rows.push(row);
                }
            }
        }
        Ok(())
    }

    /// Every line has its part of the distance; the client's, the last, is the bottleneck, and loses.
    fn set(&self, rtt_ms: u64, loss: f64) -> anyhow::Result<()> {
        let round_trip = Duration::from_millis(rtt_ms);
        let plain = Conditions { delay: round_trip / LINES, ..Conditions::default() };
        let bits_per_second = self.job.rate * 1_000_000;
        let queue_s = (round_trip.as_secs_f64() * self.job.queue).max(LEAST_QUEUE_S);
        let queue_bytes = (bits_per_second as f64 / 8.0 * queue_s) as u64;
        let narrow = Conditions { bits_per_second, queue_bytes, loss: loss / 100.0, ..plain };
        for node in 0..self.nodes {
            let way = if node + 1 == self.nodes { narrow } else { plain };
            self.lab.set(Node(node), Line { up: way, down: way })?;
        }
        Ok(())
    }

    /// Uses up the circuit that was kept ready and knows other lines, and lets another one take its place.
    fn renew(&self, user: &str) -> anyhow::Result<()> {
        self.fetch_little(user)?;
        pause(Duration::from_secs(2))
    }

    fn fetch_little(&self, user: &str) -> anyhow::Result<()> {
        let small = Fetch::start_as(&self.network, &self.server.url(1), user, 0)?;
        let waited = Stopwatch::start();
        let came = small.finish(1, || interrupt::go_on() && waited.elapsed() < PATIENCE);
        ensure!(came, "no circuit for {user}: {}", self.why());
        Ok(())
    }

    fn measure(&self, congestion: &str, rtt_ms: u64, loss: f64, parallel: u8) -> anyhow::Result<Row> {
        // An isolation of its own: circuits and connections that know nothing of earlier rows.
        let users: Vec<String> = (0..parallel)
            .map(|n| format!("h3-{congestion}x{rtt_ms}x{}x{parallel}x{n}", loss * 10.0))
            .collect();
        for user in &users {
            self.fetch_little(user)?;
        }
        let counted = self.lab.counters()?;
        let mut running: Vec<Fetch> = Vec::new();
        let mut first_byte_s = 0.0;
        for user in &users {
            if !running.is_empty() {
                pause(HEAD_START)?;
            }
            let fetch = Fetch::start_as(&self.network, &self.server.url(ENDLESS), user, 0)?;
            if running.is_empty() {
                first_byte_s = first_byte(&fetch)?;
            }
            running.push(fetch);
        }
        let before: Vec<u64> = running.iter().map(Fetch::got).collect();
        let watch = Stopwatch::start();
        pause(Duration::from_secs(self.job.seconds))?;
        let (after, seconds): (Vec<u64>, f64) = (running.iter().map(Fetch::got).collect(), watch.seconds());
        for fetch in &mut running {
            ensure!(fetch.runs(), "a download ended: {}", self.why());
        }
        let now = self.lab.counters()?;
        let rates: Vec<f64> =
            after.iter().zip(&before).map(|(after, before)| (after - before) as f64 / seconds).collect();
        let capacity = self.job.rate as f64 * 1e6 / 8.0;
        Ok(Row {
            congestion: congestion.to_owned(),
            rtt_ms,
            loss_percent: loss,
            parallel,
            share: (capacity > 0.0).then(|| round(rates.iter().sum::<f64>() / capacity)),
            jain: round(jain(&rates)),
            mb_per_s: rates.iter().map(|rate| round(rate / 1e6)).collect(),
            first_byte_s: round(first_byte_s),
            full: now.full - counted.full,
            lost: now.lost - counted.lost,
        })
    }

    fn why(&self) -> String {
        self.network.client().map(warren_bench::network::Node::log_tail).unwrap_or_default()
    }
}

fn first_byte(fetch: &Fetch) -> anyhow::Result<f64> {
    let watch = Stopwatch::start();
    while fetch.got() == 0 {
        ensure!(interrupt::go_on() && watch.elapsed() < PATIENCE, "a download gives nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(watch.seconds())
}

fn pause(length: Duration) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    while watch.elapsed() < length {
        if !interrupt::go_on() {
            bail!("interrupted");
        }
        std::thread::sleep(length.saturating_sub(watch.elapsed()).min(Duration::from_millis(20)));
    }
    Ok(())
}

/// R. Jain, D. Chiu, W. Hawe, 1984: 1 when all get the same, 1 ÷ n when one gets all.
fn jain(rates: &[f64]) -> f64 {
    let (sum, squares) = rates.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (rates.len() as f64 * squares) } else { 1.0 }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn show(row: &Row) {
    let each = row.mb_per_s.iter().map(|rate| format!("{rate:.2}")).collect::<Vec<_>>().join(" ");
    let share = row.share.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
    println!(
        "{:<11} {:<7} {:<7} {:<10} {each:<22} {share:<6} {:<6.3} {:<13.3} {:<7} {}",
        row.congestion,
        row.rtt_ms,
        row.loss_percent,
        row.parallel,
        row.jain,
        row.first_byte_s,
        row.full,
        row.lost
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_is_between_one_for_all_and_all_for_one() {
        assert!((jain(&[5.0, 5.0, 5.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[9.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-9);
        assert!((jain(&[2.0, 1.0]) - 0.9).abs() < 1e-9);
        assert!((jain(&[0.0, 0.0]) - 1.0).abs() < 1e-9);
    }
}
