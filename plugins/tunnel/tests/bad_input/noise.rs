use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::batch::{HEADROOM, STRIDE};
use warren_schemas::cell::MAX_DATAGRAM;
use warren_tunnel::testing::{Flight, Net, Seeded};

/// Records a busy network, then plays the record back broken in every way, while it goes on working.
fn live_network(seed: u64) -> (Net, warren_schemas::CircuitHandle) {
    let mut net = Net::with_relays(seed, 4);
    net.recording = true;
    let circuit = net.circuit(0, &[1, 2, 3]);
    net.send(0, circuit, &vec![vec![1; 1240]; 20]);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[3].delivered.len(), 20);
    let (_, handle, _) = net.nodes[3].delivered[0];
    net.send(3, handle, &vec![vec![2; 1240]; 20]);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[0].delivered.len(), 20);
    (net, circuit)
}

fn broken(flight: &Flight, random: &mut Seeded) -> Vec<u8> {
    let mut bytes = flight.bytes.clone();
    match random.below(6) {
        0 => {}
        1 => bytes.truncate(usize::try_from(random.below(bytes.len() as u64)).unwrap()),
        2 => bytes.resize(STRIDE - HEADROOM, 0xaa),
        3 => {
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
                bytes[at] ^= 1 << random.below(8);
            }
        }
        4 => {
            let at = usize::try_from(random.below(21)).unwrap().min(bytes.len() - 1);
            bytes[at] = random.word() as u8;
        }
        _ => {
            bytes.resize(usize::try_from(random.below(MAX_DATAGRAM as u64)).unwrap(), 0);
            random.fill(&mut bytes);
        }
    }
    bytes
}

#[test]
fn a_network_under_noise_goes_on_working() {
    for seed in [11, 12, 13] {
        let (mut net, circuit) = live_network(seed);
        let mut random = Seeded::new(seed);
        let record = std::mem::take(&mut net.record);
        net.recording = false;
        let stranger: SocketAddr = "6.6.6.6:66".parse().unwrap();
        for round in 0..4000u64 {
            let flight = &record[usize::try_from(random.below(record.len() as u64)).unwrap()];
            let node = usize::try_from(random.below(5)).unwrap();
            let from = if random.below(2) == 0 { stranger } else { flight.from };
            let bytes = broken(flight, &mut random);
            net.inject(node, from, &bytes);
            if round % 400 == 0 {
                net.run_for(Duration::from_millis(500));
            }
        }
        assert_eq!(net.nodes[3].delivered.len(), 20, "seed {seed}: nothing that was replayed was delivered");
        assert_eq!(net.nodes[0].delivered.len(), 20, "seed {seed}");
        net.send(0, circuit, &vec![vec![3; 1240]; 10]);
        net.run_for(Duration::from_secs(1));
        assert_eq!(net.nodes[3].delivered.len(), 30, "seed {seed}");
        assert!(net.death(0, circuit).is_none());
    }
}

/// A recorded LINK played again and again takes no more than the bounded half-open room.
#[test]
fn replayed_links_take_bounded_room() {
    let (mut net, circuit) = live_network(21);
    let link = net.record.iter().find(|flight| flight.bytes[0] == 1).unwrap().clone();
    let relay = net.nodes.iter().position(|node| node.address == link.to).unwrap();
    let calls = net.nodes[relay].env.dh_calls;
    for port in 1..=2000u16 {
        let from = SocketAddr::from(([6, 6, 6, 6], port));
        net.inject(relay, from, &link.bytes);
    }
    assert!(net.nodes[relay].env.dh_calls - calls <= 256);
    net.run_for(Duration::from_secs(20));
    net.send(0, circuit, &[vec![3; 100]]);
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.nodes[3].delivered.len(), 21);
}
