use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use warren_ports::{Association, BoxFuture, BoxStream, DialError, Host};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_V4: &[u8] = &[5, 1, 0, 1, 1, 2, 3, 4, 0, 80];

async fn server(token: Option<&str>) -> Server {
    Server::bind("127.0.0.1:0".parse().unwrap(), token.map(str::to_owned)).await.unwrap()
}

async fn client(server: &Server) -> TcpStream {
    TcpStream::connect(server.local_addr()).await.unwrap()
}

/// Runs the server until `talk` is done; nothing may be accepted meanwhile.
async fn turned_away(server: &mut Server, talk: impl Future<Output = ()>) {
    tokio::select! {
        accepted = server.accept() => panic!("accepted {accepted:?}"),
        done = timeout(PATIENCE, talk) => done.expect("the server answers"),
    }
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("bytes come").unwrap();
    bytes
}

/// Everything until the end. A reset is an end too: the server may close with bytes unread.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    bytes
}

fn login(user: &str, password: &str) -> Vec<u8> {
    let mut bytes = vec![5, 1, 2, 1, user.len() as u8];
    bytes.extend_from_slice(user.as_bytes());
    bytes.push(password.len() as u8);
    bytes.extend_from_slice(password.as_bytes());
    bytes
}

async fn connect(
    server: &mut Server,
    greeting: &[u8],
    request: &[u8],
) -> (TcpStream, User, Target, ConnectClient) {
    let mut stream = client(server).await;
    stream.write_all(greeting).await.unwrap();
    stream.write_all(request).await.unwrap();
    let accepted = timeout(PATIENCE, server.accept()).await.expect("a client is accepted");
    let Request::Connect { target, client } = accepted.request else { panic!("not a CONNECT") };
    (stream, accepted.user, target, client)
}

#[tokio::test]
async fn a_client_without_a_password_gets_the_default() {
    let mut server = server(None).await;
    let (mut stream, user, target, client) = connect(&mut server, &[5, 1, 0], CONNECT_V4).await;
    assert_eq!(user, User::Default);
    assert_eq!(target, Target { host: Host::Ip([1, 2, 3, 4].into()), port: 80 });
    client.accept("9.8.7.6:5".parse::<SocketAddr>().unwrap()).await.unwrap();
    assert_eq!(rest(&mut stream).await, [5, 0, 5, 0, 0, 1, 9, 8, 7, 6, 0, 5]);
}

#[tokio::test]
async fn a_user_name_is_heard_without_a_token_too() {
    let mut server = server(None).await;
    let mut greeting = login("h2-film", "whatever");
    greeting.splice(1..3, [2, 0, 2]);
    let (_, user, ..) = connect(&mut server, &greeting, CONNECT_V4).await;
    assert_eq!(user, User::Hops { hops: 2, isolation: Some("film".to_owned()) });
    let (_, user, ..) = connect(&mut server, &login("", ""), CONNECT_V4).await;
    assert_eq!(user, User::Default);
    let (_, user, ..) = connect(&mut server, &login("t-x", "y"), CONNECT_V4).await;
    assert_eq!(user, User::Torrent("t-x".to_owned()));
}

#[tokio::test]
async fn addresses_of_every_kind_pass_through() {
    let mut server = server(Some("secret")).await;
    let mut v6 = vec![5, 1, 0, 4];
    v6.extend_from_slice(&"2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6.extend_from_slice(&[1, 187]);
    let (_, user, target, _) = connect(&mut server, &login("h3", "secret"), &v6).await;
    assert_eq!(user, User::Hops { hops: 3, isolation: None });
    assert_eq!(target, Target { host: Host::Ip("2001:db8::1".parse().unwrap()), port: 443 });
    let (_, _, target, _) =
        connect(&mut server, &login("h3", "secret"), b"\x05\x01\x00\x03\x09localhost\x00\x50").await;
    assert_eq!(target, Target { host: Host::Name("localhost".to_owned()), port: 80 }, "not resolved here");
}

#[tokio::test]
async fn a_slow_client_that_sends_byte_by_byte_is_served() {
    let mut server = server(Some("s")).await;
    let mut stream = client(&server).await;
    let mut bytes = login("h1", "s");
    bytes.extend_from_slice(CONNECT_V4);
    let sending = async {
        for byte in &bytes {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (accepted, ()) = tokio::join!(server.accept(), sending);
    assert!(matches!(accepted.request, Request::Connect { .. }));
}

#[tokio::test]
async fn a_wrong_password_or_user_is_turned_away() {
    let mut server = server(Some("secret")).await;
    for (user, password) in
        [("h3", "secre"), ("h3", "secret2"), ("h3", ""), ("h4", "secret"), ("nobody", "secret")]
    {
        let mut stream = client(&server).await;
        turned_away(&mut server, async {
            stream.write_all(&login(user, password)).await.unwrap();
            assert_eq!(rest(&mut stream).await, [5, 2, 1, 1], "{user} {password}");
        })
        .await;
    }
    let mut stream = client(&server).await;
    turned_away(&mut server, async {
        stream.write_all(&[5, 1, 0]).await.unwrap();
        assert_eq!(rest(&mut stream).await, [5, 0xff], "no password, but one is required");
    })
    .await;
}

#[tokio::test]
async fn garbage_is_closed_at_once() {
    let mut server = server(None).await;
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80, 1, 2, 3, 4, 0], &[0], &[0x16, 3, 1], &[5, 1, 2, 5]]
    {
        let mut stream = client(&server).await;
        turned_away(&mut server, async {
            stream.write_all(garbage).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.is_empty() || answer == [5, 2], "{garbage:?} got {answer:?}");
        })
        .await;
    }
    let mut stream = client(&server).await;
    turned_away(&mut server, async {
        stream.write_all(&[5, 1, 9]).await.unwrap();
        assert_eq!(rest(&mut stream).await, [5, 0xff], "no known method");
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_not_served_get_their_code() {
    let mut server = server(None).await;
    let refused: [(&[u8], u8); 5] = [
        (&[5, 2, 0, 1, 1, 2, 3, 4, 0, 80], 7),
        (&[5, 9, 0, 1, 1, 2, 3, 4, 0, 80], 7),
        (&[5, 1, 0, 2, 1], 8),
        (&[5, 1, 0, 3, 0, 0, 80], 1),
        (&[5, 1, 0, 3, 2, 0xc3, 0xa9, 0, 80], 1),
    ];
    for (request, code) in refused {
        let mut stream = client(&server).await;
        turned_away(&mut server, async {
            stream.write_all(&[5, 1, 0]).await.unwrap();
            stream.write_all(request).await.unwrap();
            assert_eq!(rest(&mut stream).await, [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0], "{request:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_half_open_client_is_closed_after_the_deadline() {
    let mut server = server(None).await;
    server.deadline = Duration::from_millis(50);
    let mut stream = client(&server).await;
    turned_away(&mut server, async {
        stream.write_all(&[5, 1]).await.unwrap();
        assert!(rest(&mut stream).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn half_open_clients_are_bounded() {
    let mut server = server(None).await;
    server.deadline = Duration::from_secs(120);
    let address = server.local_addr();
    let (opened, mut is_open) = mpsc::channel(1);
    let opening = tokio::spawn(async move {
        let mut idle = Vec::new();
        for _ in 0..MAX_HALF_OPEN {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut good = TcpStream::connect(address).await.unwrap();
        good.write_all(&[5, 1, 0]).await.unwrap();
        good.write_all(CONNECT_V4).await.unwrap();
        opened.send(()).await.unwrap();
        (idle, good)
    });
    tokio::select! {
        accepted = server.accept() => panic!("accepted {accepted:?}"),
        _ = is_open.recv() => {}
    }
    let early = timeout(Duration::from_millis(200), server.accept()).await;
    assert!(early.is_err(), "one more than the bound waits");
    let (mut idle, _good) = opening.await.unwrap();
    idle.pop();
    timeout(PATIENCE, server.accept()).await.expect("it is served when one leaves");
}

#[tokio::test]
async fn one_who_stalls_does_not_hold_up_others() {
    let mut server = server(None).await;
    let _stalled = client(&server).await;
    let (_, _, target, _) = connect(&mut server, &[5, 1, 0], CONNECT_V4).await;
    assert_eq!(target.port, 80);
}

#[tokio::test]
async fn refusals_carry_the_reason_even_when_the_client_sent_ahead() {
    let mut server = server(None).await;
    let (mut stream, _, _, client) = connect(&mut server, &[5, 1, 0], CONNECT_V4).await;
    stream.write_all(&[7; 4096]).await.unwrap();
    let reading = async {
        let reply = read(&mut stream, 2 + 10).await;
        stream.shutdown().await.unwrap();
        reply
    };
    let ((), reply) = tokio::join!(client.refuse(&DialError::Refused), reading);
    assert_eq!(reply[2..4], [5, 5]);
}

#[tokio::test]
async fn a_client_moves_to_another_runtime_and_bytes_flow_both_ways() {
    let mut server = server(None).await;
    let (mut stream, _, _, client) = connect(&mut server, &[5, 1, 0], CONNECT_V4).await;
    let (near, mut far) = tokio::io::duplex(1000);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let stream = client.accept(None).await.unwrap();
            splice(stream, Box::new(near) as BoxStream).await.unwrap()
        })
    });
    assert_eq!(read(&mut stream, 12).await[..4], [5, 0, 5, 0]);
    let sent: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    stream.write_all(&sent[..100]).await.unwrap();
    let mut heard = vec![0; 100];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, sent[..100]);
    stream.shutdown().await.unwrap();
    assert_eq!(far.read(&mut heard).await.unwrap(), 0, "the client's end is passed on");
    let (back, ()) = tokio::join!(rest(&mut stream), async {
        far.write_all(&sent).await.unwrap();
        drop(far);
    });
    assert_eq!(back, sent, "the other way went on");
    assert_eq!(thread.join().unwrap(), (100, 300_000));
}

#[tokio::test]
async fn a_port_in_use_and_an_open_door_are_told() {
    let server = server(None).await;
    let again = Server::bind(server.local_addr(), None).await;
    assert!(matches!(again, Err(Error::PortInUse(address)) if address == server.local_addr()));
    let open = Server::bind("0.0.0.0:0".parse().unwrap(), None).await;
    assert!(matches!(open, Err(Error::Open(_))));
    assert!(Server::bind("0.0.0.0:0".parse().unwrap(), Some("token".to_owned())).await.is_ok());
}

/// Hands what is sent to the test, and answers what the test gives it.
struct Loop {
    sent: mpsc::Sender<(Target, Bytes)>,
    answers: tokio::sync::Mutex<mpsc::Receiver<(Target, Bytes)>>,
}

impl Association for Loop {
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()> {
        self.sent.try_send((target.clone(), payload)).map_err(io::Error::other)
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
        Box::pin(async {
            let got = self.answers.lock().await.recv().await;
            got.ok_or(io::ErrorKind::BrokenPipe.into())
        })
    }
}

struct Udp {
    control: TcpStream,
    relay: SocketAddr,
    running: tokio::task::JoinHandle<io::Result<()>>,
    sent: mpsc::Receiver<(Target, Bytes)>,
    answers: mpsc::Sender<(Target, Bytes)>,
}

async fn associated(port: u16) -> Udp {
    let mut server = server(None).await;
    let mut control = client(&server).await;
    control.write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0]).await.unwrap();
    control.write_all(&port.to_be_bytes()).await.unwrap();
    let accepted = timeout(PATIENCE, server.accept()).await.unwrap();
    let Request::Associate { client } = accepted.request else { panic!("not an ASSOCIATE") };
    let ((sent_in, sent), (answers, answers_out)) = (mpsc::channel(16), mpsc::channel(16));
    let association = Loop { sent: sent_in, answers: answers_out.into() };
    let running = tokio::spawn(client.run(Box::new(association)));
    let reply = read(&mut control, 2 + 10).await;
    assert_eq!(reply[2..10], [5, 0, 0, 1, 127, 0, 0, 1]);
    let relay = SocketAddr::from(([127, 0, 0, 1], u16::from_be_bytes([reply[10], reply[11]])));
    Udp { control, relay, running, sent, answers }
}

#[tokio::test]
async fn datagrams_flow_and_end_with_the_tcp_connection() {
    let mut udp = associated(0).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bad in [&[0, 0, 1, 1, 1, 2, 3, 4, 0, 53, 9][..], &[0, 0], &[]] {
        socket.send_to(bad, udp.relay).await.unwrap();
    }
    socket.send_to(b"\0\0\0\x03\x09localhost\0\x35hello", udp.relay).await.unwrap();
    let target = Target { host: Host::Name("localhost".to_owned()), port: 53 };
    let first = timeout(PATIENCE, udp.sent.recv()).await.unwrap();
    assert_eq!(first, Some((target, Bytes::from_static(b"hello"))));

    let from = Target { host: Host::Ip([8, 8, 8, 8].into()), port: 53 };
    udp.answers.send((from, Bytes::from_static(b"world"))).await.unwrap();
    let mut buffer = [0; 64];
    let (length, relay) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((&buffer[..length], relay), (&b"\0\0\0\x01\x08\x08\x08\x08\0\x35world"[..], udp.relay));

    drop(udp.control);
    timeout(PATIENCE, udp.running).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn only_the_first_sender_is_served() {
    let mut udp = associated(0).await;
    let (socket, thief) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let elsewhere = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    elsewhere.send_to(&[0, 0, 0, 1, 1, 2, 3, 4, 0, 1, b'x'], udp.relay).await.unwrap();
    socket.send_to(&[0, 0, 0, 1, 1, 2, 3, 4, 0, 1, b'a'], udp.relay).await.unwrap();
    assert_eq!(timeout(PATIENCE, udp.sent.recv()).await.unwrap().unwrap().1, "a");
    thief.send_to(&[0, 0, 0, 1, 1, 2, 3, 4, 0, 1, b't'], udp.relay).await.unwrap();
    let mut long = vec![0, 0, 0, 1, 1, 2, 3, 4, 0, 1];
    long.resize(10 + 1501, b'l');
    socket.send_to(&long, udp.relay).await.unwrap();
    socket.send_to(&long[..long.len() - 1], udp.relay).await.unwrap();
    assert_eq!(timeout(PATIENCE, udp.sent.recv()).await.unwrap().unwrap().1.len(), 1500);
}

#[tokio::test]
async fn a_port_that_was_named_is_kept_to() {
    let (socket, other) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let mut udp = associated(socket.local_addr().unwrap().port()).await;
    other.send_to(&[0, 0, 0, 1, 1, 2, 3, 4, 0, 1, b'o'], udp.relay).await.unwrap();
    socket.send_to(&[0, 0, 0, 1, 1, 2, 3, 4, 0, 1, b's'], udp.relay).await.unwrap();
    assert_eq!(timeout(PATIENCE, udp.sent.recv()).await.unwrap().unwrap().1, "s");
}

#[tokio::test]
async fn the_end_of_the_association_closes_the_client() {
    let mut udp = associated(0).await;
    drop(udp.answers);
    assert!(rest(&mut udp.control).await.is_empty());
    udp.running.await.unwrap().unwrap();
}
