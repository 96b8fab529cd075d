use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// First and last address of each range, from IANA's registries.
const RANGES: &[(Range, &[&str])] = &[
    (Range::Unspecified, &["0.0.0.0", "0.255.255.255", "::"]),
    (Range::Loopback, &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"]),
    (
        Range::Private,
        &[
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "::ffff:192.168.255.255",
        ],
    ),
    (Range::UniqueLocal, &["fc00::", "fd00:ec2::254", "fdff:ffff::1"]),
    (Range::LinkLocal, &["169.254.0.0", "169.254.169.254", "::ffff:a9fe:a9fe", "fe80::1", "febf::1"]),
    (Range::SharedAddress, &["100.64.0.0", "100.100.100.200", "100.127.255.255"]),
    (Range::ProtocolAssignments, &["192.0.0.0", "192.0.0.192", "2001:1::1", "2001:20::1", "2001:1ff:ffff::"]),
    (Range::Benchmarking, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
    (
        Range::Documentation,
        &[
            "192.0.2.1",
            "198.51.100.255",
            "203.0.113.0",
            "2001:db8::",
            "2001:db8:ffff::1",
            "3fff::1",
            "3fff:fff::1",
        ],
    ),
    (Range::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1", "ff00::"]),
    (
        Range::Reserved,
        &["240.0.0.0", "255.255.255.254", "::127.0.0.1", "100::1", "5f00::1", "4000::", "fec0::1"],
    ),
    (Range::Broadcast, &["255.255.255.255"]),
    (Range::SixToFour, &["192.88.99.1", "2002:7f00:1::", "2002::1"]),
    (Range::Teredo, &["2001::1", "2001:0:ffff::"]),
    (Range::Nat64, &["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1"]),
    (Range::CloudHost, &["168.63.129.16"]),
];

const PUBLIC: &[&str] = &[
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "198.17.0.0",
    "198.20.0.0",
    "203.0.114.0",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "2001:200::1",
    "2001:db7::1",
    "2001:db9::1",
    "2003::1",
    "2606:4700::1111",
    "2a00::1",
    "3fff:1000::1",
];

#[test]
fn every_range_is_denied_at_both_ends() {
    let policy = Policy::default();
    for (range, addresses) in RANGES {
        for text in *addresses {
            assert_eq!(Range::of(ip(text)), Some(*range), "{text}");
            let denied = policy.check(SocketAddr::new(ip(text), 80));
            assert_eq!(denied, Err(Denied::Range(*range)), "{text}");
            let target = Target { host: Host::Ip(ip(text)), port: 80 };
            assert_eq!(policy.check_target(&target), Err(Denied::Range(*range)), "{text}");
        }
    }
}

#[test]
fn the_public_internet_is_served_up_to_the_edges() {
    for text in PUBLIC {
        assert_eq!(Range::of(ip(text)), None, "{text}");
        assert_eq!(
            Policy::default().check(SocketAddr::new(ip(text), 80)).unwrap().ip(),
            ip(text).to_canonical()
        );
    }
}

#[test]
fn a_lab_opens_private_ranges_and_no_others() {
    let lab = Policy { allow_private: true, own: [ip("127.0.0.1")].into(), ..Policy::default() };
    for (range, addresses) in RANGES {
        for text in *addresses {
            let opened = lab.check(SocketAddr::new(ip(text), 80)).is_ok();
            let private = matches!(range, Range::Loopback | Range::Private | Range::UniqueLocal);
            assert_eq!(opened, private, "{text}");
        }
    }
}

#[test]
fn own_addresses_and_relays_are_denied_in_any_disguise() {
    let policy = Policy { own: [ip("8.8.8.8")].into(), ..Policy::default() }
        .with_relays([at("[::ffff:9.9.9.9]:4500"), at("[2606:4700::1]:4500")]);
    assert_eq!(policy.check(at("[::ffff:8.8.8.8]:80")), Err(Denied::Own));
    assert_eq!(policy.check(at("9.9.9.9:4500")), Err(Denied::Relay));
    assert_eq!(policy.check(at("[::ffff:9.9.9.9]:4500")), Err(Denied::Relay));
    assert_eq!(policy.check(at("[2606:4700::1]:4500")), Err(Denied::Relay));
    assert_eq!(policy.check(at("9.9.9.9:4501")), Ok(at("9.9.9.9:4501")));
    let lab = Policy { allow_private: true, ..Policy::default() }.with_relays([at("127.0.0.1:4500")]);
    assert_eq!(lab.check(at("127.0.0.1:4500")), Err(Denied::Relay));
    assert_eq!(lab.check(at("127.0.0.1:4501")), Ok(at("127.0.0.1:4501")));
}

#[test]
fn the_first_rule_that_matches_decides_and_only_denies_more() {
    let rules = [
        "allow 1.2.3.0/24:25",
        "deny *:25",
        "deny [2606:4700::/32]:443",
        "allow 127.0.0.0/8",
        "deny 5.0.0.0/8",
    ];
    let policy = Policy { rules: rules.iter().map(|r| r.parse().unwrap()).collect(), ..Policy::default() };
    for (address, allowed) in [
        ("1.2.3.4:25", true),
        ("1.2.4.4:25", false),
        ("[2a00::1]:25", false),
        ("[2606:4700:1::]:443", false),
        ("[2606:4700:1::]:80", true),
        ("[2606:4701::]:443", true),
        ("5.255.0.1:1", false),
        ("6.0.0.0:1", true),
    ] {
        assert_eq!(policy.check(at(address)).is_ok(), allowed, "{address}");
    }
    assert_eq!(policy.check(at("127.0.0.1:80")), Err(Denied::Range(Range::Loopback)));
}

#[test]
fn names_are_judged_before_they_are_resolved() {
    let rules = ["allow 1.2.3.0/24:25", "deny *:25", "deny *:26"];
    let policy = Policy { rules: rules.iter().map(|r| r.parse().unwrap()).collect(), ..Policy::default() };
    let check = |name: &str, port| policy.check_target(&Target { host: Host::Name(name.to_owned()), port });
    assert_eq!(check("example.org", 80), Ok(()));
    assert_eq!(check("a_b-c.example.org.", 80), Ok(()));
    assert_eq!(check("example.org", 0), Err(Denied::Port));
    assert_eq!(check("example.org", 25), Ok(()), "a part of IPv4 may still be allowed");
    assert_eq!(check("example.org", 26), Err(Denied::Rule));
    for bad in ["", "fe80::1%eth0", "a b", "a\0b", "::1", "é.org", &"x".repeat(254)] {
        assert_eq!(check(bad, 80), Err(Denied::Name), "{bad:?}");
    }
}

#[test]
fn rules_read_what_they_print() {
    for text in
        ["deny *", "allow *:*", "deny 1.2.3.4", "allow 10.0.0.0/8:1-2", "deny 2001:db8::/32", "deny [::/0]:7"]
    {
        let rule: Rule = text.parse().unwrap();
        assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule, "{text}");
    }
    for bad in [
        "",
        "deny",
        "refuse *",
        "deny 1.2.3",
        "deny 1.2.3.4/33",
        "deny *:9-1",
        "deny *:70000",
        "deny [::1",
        "deny [::1]9",
    ] {
        assert!(bad.parse::<Rule>().is_err(), "{bad:?}");
    }
    assert!("0.0.0.0/0".parse::<Network>().unwrap().contains(ip("255.0.0.1")));
    assert!("::/0".parse::<Network>().unwrap().contains(ip("ffff::1")));
    assert!(!"::/0".parse::<Network>().unwrap().contains(ip("1.1.1.1")));
}
