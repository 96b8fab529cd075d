use std::time::Duration;

use warren_schemas::descriptor::MAX_LEN;

use super::*;
use crate::tests::{NOW, descriptor, key, signed_by};

fn offer(store: &mut Store, way: Way, descriptor: &Descriptor, number: u16) -> Offer {
    store.offer(NOW, way, &descriptor.sign(&key(number)))
}

fn filled(count: u16) -> Store {
    let mut store = Store::default();
    for number in 0..count {
        assert!(matches!(store.offer(NOW, Way::Page, &signed_by(number)), Offer::Taken(_)));
    }
    store
}

/// Everything the store tells, page by page.
fn all(store: &mut Store, now: Timestamp) -> Vec<Vec<u8>> {
    let (mut after, mut found) = ([0; 32], Vec::new());
    loop {
        let page = store.page(now, Request { after, digest: !store.digest() });
        let size = HEADER + page.descriptors.iter().map(|d| 2 + d.len()).sum::<usize>();
        assert!(size <= MAX_PAGE, "{size}");
        found.extend(page.descriptors);
        match page.next {
            Some(next) => after = next,
            None => return found,
        }
    }
}

#[test]
fn newer_replaces_older_and_never_the_other_way() {
    let mut store = Store::default();
    let old = descriptor(1);
    let new =
        Descriptor { published: old.published.after(Duration::from_secs(1)), onion_epoch: 9, ..old.clone() };
    assert!(matches!(offer(&mut store, Way::Gossip, &old, 1), Offer::Taken(_)));
    assert!(matches!(offer(&mut store, Way::Gossip, &new, 1), Offer::Taken(content) if *content == new));
    assert!(matches!(offer(&mut store, Way::Gossip, &old, 1), Offer::Known));
    let same_time = Descriptor { onion_epoch: 10, ..new.clone() };
    assert!(matches!(offer(&mut store, Way::Page, &same_time, 1), Offer::Known));
    assert_eq!(all(&mut store, NOW), [new.sign(&key(1)).as_bytes()]);
}

#[test]
fn each_descriptor_is_passed_on_once() {
    let mut store = filled(1);
    assert!(matches!(store.offer(NOW, Way::Gossip, &signed_by(0)), Offer::FirstGossip));
    assert!(matches!(store.offer(NOW, Way::Gossip, &signed_by(0)), Offer::Known));
    assert!(matches!(store.offer(NOW, Way::Gossip, &signed_by(1)), Offer::Taken(_)));
    assert!(matches!(store.offer(NOW, Way::Page, &signed_by(1)), Offer::Known));
    assert!(matches!(store.offer(NOW, Way::Gossip, &signed_by(1)), Offer::Known));
}

#[test]
fn wrong_ones_are_told_from_untimely_ones() {
    let mut store = Store::default();
    let forged = descriptor(1).sign(&key(2));
    assert!(matches!(store.offer(NOW, Way::Gossip, &forged), Offer::Invalid(_)));
    let long = SignedDescriptor::from_bytes(vec![0; MAX_LEN + 1]);
    assert!(matches!(store.offer(NOW, Way::Gossip, &long), Offer::Invalid(_)));
    let none = SignedDescriptor::from_bytes(Vec::new());
    assert!(matches!(store.offer(NOW, Way::Gossip, &none), Offer::Invalid(_)));
    let expired = descriptor(1).expires;
    assert!(matches!(store.offer(expired, Way::Gossip, &signed_by(1)), Offer::NotNow(_)));
    assert!(all(&mut store, NOW).is_empty());
}

#[test]
fn expired_ones_are_neither_told_nor_passed_on() {
    let mut store = filled(3);
    let over = descriptor(0).expires;
    assert!(matches!(store.offer(over, Way::Gossip, &signed_by(0)), Offer::Known));
    assert!(all(&mut store, over).is_empty());
    assert_eq!(store.digest(), Store::default().digest());
}

#[test]
fn full_it_takes_newer_ones_only() {
    let most = u16::try_from(MAX_HELD).unwrap();
    let mut store = filled(most);
    assert!(matches!(store.offer(NOW, Way::Gossip, &signed_by(most)), Offer::Known));
    assert!(matches!(store.offer(NOW, Way::Own, &signed_by(most)), Offer::Taken(_)));
    let known = descriptor(3);
    let newer = Descriptor { published: known.published.after(Duration::from_secs(1)), ..known };
    assert!(matches!(offer(&mut store, Way::Gossip, &newer, 3), Offer::Taken(_)));
    let told = all(&mut store, NOW);
    assert_eq!(told.len(), MAX_HELD + 1);
    assert!(told.contains(&newer.sign(&key(3)).as_bytes().to_vec()));
}

#[test]
fn stores_that_hold_the_same_say_so_briefly() {
    let (mut a, mut b) = (filled(20), Store::default());
    for number in (0..20).rev() {
        b.offer(NOW, Way::Gossip, &signed_by(number));
    }
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.page(NOW, Request { after: [0; 32], digest: b.digest() }), Page::default());
    b.offer(NOW, Way::Gossip, &signed_by(20));
    assert_ne!(a.digest(), b.digest());
}
