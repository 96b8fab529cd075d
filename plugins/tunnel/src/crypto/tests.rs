use super::*;

/// Points whose multiples have an order of 8 or less (Wycheproof, cr.yp.to/ecdh.html), besides
/// their forms with the top bit set.
const LOW_ORDER: [[u8; 32]; 7] = {
    let mut points = [[0; 32]; 7];
    points[1][0] = 1;
    points[2] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    points[3] = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ];
    let mut at = 4;
    while at < 7 {
        points[at] = [0xff; 32];
        points[at][0] = 0xec + (at as u8 - 4);
        points[at][31] = 0x7f;
        at += 1;
    }
    points
};

#[test]
fn low_order_points_give_nothing() {
    let secret = Zeroizing::new([0x42; 32]);
    for point in LOW_ORDER {
        assert!(x25519(&secret, &point).is_none());
        let mut high = point;
        high[31] |= 0x80;
        assert!(x25519(&secret, &high).is_none());
    }
    assert!(x25519(&secret, &[9; 32]).is_some());
}

#[test]
fn a_wrong_tag_leaves_the_bytes_alone() {
    let key = AeadKey::new(&[1; 32]);
    let mut content = *b"some content";
    let mut tag = key.seal(3, b"ad", &mut content).unwrap();
    let sealed = content;
    tag[0] ^= 1;
    assert!(!key.open(3, b"ad", &mut content, &tag));
    assert_eq!(content, sealed);
    tag[0] ^= 1;
    assert!(!key.open(4, b"ad", &mut content, &tag));
    assert!(!key.open(3, b"da", &mut content, &tag));
    assert!(key.open(3, b"ad", &mut content, &tag));
    assert_eq!(&content, b"some content");
}

#[test]
fn no_two_uses_share_associated_data() {
    let mut all = std::collections::HashSet::new();
    for direction in [Direction::Forward, Direction::Backward] {
        for kind in [LayerKind::LinkMessage, LayerKind::Hop, LayerKind::Contents] {
            assert!(all.insert(associated_data(1, direction, kind)));
            assert!(all.insert(associated_data(2, direction, kind)));
        }
    }
}
