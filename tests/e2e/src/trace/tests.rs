use super::*;

const HARMLESS: &[&str] = &[
    r#"7  connect(3, {sa_family=AF_UNIX, sun_path="/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)"#,
    r#"7  sendto(3, [{nlmsg_len=20, nlmsg_type=RTM_GETADDR}, {ifa_family=AF_UNSPEC}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20"#,
    r#"12345 sendto(3, "sa_family=AF_INET, inet_addr(\"8.8.8.8\")", 23, MSG_NOSIGNAL, NULL, 0) = 23"#,
    r#"7  sendto(3, "a\\", 2, MSG_NOSIGNAL, NULL, 0 <unfinished ...>"#,
    r#"7  sendmsg(4, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="x"..., iov_len=1}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 1"#,
    r#"7  sendmmsg(4,  <unfinished ...>"#,
    r#"7  sendmmsg(4, 0x7ffd0, 2, 0) = -1 EAGAIN (Resource temporarily unavailable)"#,
    r#"7  <... connect resumed>) = -1 EINPROGRESS (Operation now in progress)"#,
    r#"7  +++ exited with 0 +++"#,
];

const LOOPBACK: &[&str] = &[
    r#"7  connect(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 0"#,
    r#"7  connect(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.8.9.1")}, 16 <unfinished ...>"#,
    r#"7  sendto(4, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 1"#,
    r#"7  sendto(4, "x", 1, 0, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 1"#,
    r#"7  sendmsg(4, {msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, msg_namelen=16, msg_iov=[{iov_base="x", iov_len=1}], msg_iovlen=1, msg_controllen=0, msg_flags=0}, 0) = 1"#,
    r#"7  <... sendmmsg resumed>[{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, msg_namelen=16}, msg_len=1}], 1, 0) = 1"#,
];

const LEAKS: &[&str] = &[
    r#"7  connect(3, {sa_family=AF_INET, sin_port=htons(6881), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EINPROGRESS (Operation now in progress)"#,
    r#"7  connect(3, {sa_family=AF_INET, sin_port=htons(6881), sin_addr=inet_addr("192.0.2.1")}, 16 <unfinished ...>"#,
    r#"7  sendto(3, "127.0.0.1", 9, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16) = 9"#,
    r#"7  sendto(3, "\"", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("0.0.0.0")}, 16) = 1"#,
    r#"7  connect(3, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 ENETUNREACH (Network is unreachable)"#,
    r#"7  connect(3, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:192.0.2.1", &sin6_addr), sin6_scope_id=0}, 28) = 0"#,
    r#"7  sendmsg(4, {msg_name={sa_family=AF_INET, sin_port=htons(5353), sin_addr=inet_addr("224.0.0.251")}, msg_namelen=16, msg_iov=[{iov_base="x", iov_len=1}], msg_iovlen=1}, 0) = 1"#,
    r#"7  <... sendmmsg resumed>[{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, msg_namelen=16}}, {msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("192.0.2.1")}, msg_namelen=16}}], 2, 0) = 2"#,
    // What cannot be seen.
    r#"7  connect(3, {sa_family=AF_PACKET, sll_protocol=htons(ETH_P_ALL), sll_ifindex=2}, 20) = 0"#,
    r#"7  connect(3, 0x7ffd0, 16) = 0"#,
    r#"7  sendto(4, "a", 1, 0, 0x10, 16) = 1"#,
    r#"7  sendmsg(4, 0x10, 0) = 1"#,
    r#"7  sendmsg(4, {msg_name=0x10, msg_namelen=16, msg_iov=[], msg_iovlen=0}, 0) = 1"#,
    r#"7  sendmmsg(4, [{msg_hdr={msg_name=NULL, msg_namelen=0}}, ...], 2, 0) = 2"#,
    r#"7  <... sendmmsg resumed>0x7ffd0, 2, 0) = 2"#,
    r#"7  socketcall(3, 0x10) = 0"#,
];

#[test]
fn what_stays_on_the_machine_is_allowed() {
    assert_eq!(parse(&HARMLESS.join("\n")), Trace::default());
    let addresses = ["127.0.0.1:9", "127.8.9.1:9", "[::1]:9"].map(|text| text.parse().unwrap()).into();
    let expected = Trace { loopback: LOOPBACK.len(), addresses, refused: Vec::new() };
    assert_eq!(parse(&LOOPBACK.join("\n")), expected);
}

#[test]
fn each_leak_is_seen_among_harmless_lines() {
    for leak in LEAKS {
        let lines = [HARMLESS, LOOPBACK, &[leak], HARMLESS].concat();
        let trace = parse(&lines.join("\n"));
        assert!(matches!(&trace.refused[..], [only] if only.ends_with(leak)), "{leak}: {trace:#?}");
    }
}
