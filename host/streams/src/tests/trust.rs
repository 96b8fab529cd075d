//! Who is believed to be the last hop.

use warren_schemas::CircuitHandle;

use super::glue::*;
use crate::*;

async fn outcome(last_hop: (Endpoint, CircuitPort), expected: [u8; 32]) -> Result<Connection, Error> {
    let pair = join(endpoint(Settings::default()).unwrap(), last_hop);
    let server = pair.last_hop.clone();
    let accept = tokio::spawn(async move { server.accept().await.unwrap().establish().await });
    let result = within(pair.originator.connect(CircuitHandle(1), expected)).await;
    if result.is_err() {
        assert!(within(accept).await.unwrap().is_err(), "neither side has a connection");
    }
    result
}

fn presenting(key: &[u8; 32], secret: &[u8; 32]) -> (Endpoint, CircuitPort) {
    let crypto = tls::presenting(key, tls::signer(secret).unwrap()).unwrap();
    endpoint::endpoint_with(Settings::default(), Some(crypto)).unwrap()
}

#[tokio::test]
async fn the_right_key_is_accepted() {
    let key = public_key(&SECRET);
    assert!(outcome(presenting(&key, &SECRET), key).await.is_ok());
}

#[tokio::test]
async fn another_key_is_refused() {
    let error = outcome(presenting(&public_key(&[8; 32]), &[8; 32]), public_key(&SECRET)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test]
async fn the_right_key_with_another_signature_is_refused() {
    let key = public_key(&SECRET);
    let error = outcome(presenting(&key, &[8; 32]), key).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test]
async fn without_a_stream_key_nobody_is_accepted() {
    let (endpoint, _port) = endpoint(Settings::default()).unwrap();
    assert!(endpoint.accept().await.is_none());
}

#[test]
fn settings_do_not_print_the_key() {
    let settings = Settings { stream_key: Some([0xab; 32]), ..Settings::default() };
    let text = format!("{settings:?}");
    assert!(!text.contains("171") && !text.contains("ab, ab"), "{text}");
}
