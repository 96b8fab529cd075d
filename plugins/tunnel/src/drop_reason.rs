//! Why something that arrived was not taken. A peer's fault is counted, never answered and never
//! stops a batch.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal;)+) => {
        /// Why a datagram, a cell or a message was dropped. The number is the `detail` of a
        /// `Dropped` slot and the key of the counts in `Sync`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ #[error($text)] $name = $value,)+
        }

        impl DropReason {
            /// Every reason, in the order of its numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason with this number.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($value => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its fixed part, of an unknown kind, or a field it cannot have.
    Malformed = 1, "malformed";
    /// Longer than a datagram, an inner datagram or a handshake may be.
    TooLong = 2, "too long";
    /// No link has that id.
    UnknownLink = 3, "unknown link";
    /// The link's tag is wrong.
    LinkTag = 4, "link tag is wrong";
    /// The link's counter was seen before or lies below the window.
    LinkReplay = 5, "replayed on its link";
    /// A link message does not open.
    LinkMessage = 6, "link message does not open";
    /// No circuit of this link has that id.
    UnknownCircuit = 7, "unknown circuit";
    /// A layer does not open.
    Layer = 8, "layer does not open";
    /// The layer's counter was seen before or lies below the window.
    LayerReplay = 9, "replayed in its layer";
    /// A message type or hop command that this version does not know.
    UnknownCommand = 10, "unknown command";
    /// Known and well formed, but not in this state or from this side.
    Unexpected = 11, "unexpected";
    /// Of another protocol version.
    Version = 12, "unknown version";
    /// Of a suite that is not spoken here.
    Suite = 13, "unknown suite";
    /// A handshake's tag or contents do not authenticate.
    Handshake = 14, "handshake does not authenticate";
    /// An X25519 result is zero: a low-order point.
    LowOrder = 15, "low-order point";
    /// No private onion key of that epoch answers.
    OnionKey = 16, "onion key refused";
    /// Meant for another peer id.
    WrongPeer = 17, "meant for another peer";
    /// A part of a handshake contradicts its others or its own length.
    Fragment = 18, "bad part of a handshake";
    /// A cookie was asked for instead of an answer.
    CookieSent = 19, "cookie wanted";
    /// A cookie that we did not ask for, or not for this handshake.
    Cookie = 20, "bad cookie";
    /// This node is not a relay.
    NotRelay = 21, "not a relay";
    /// This node is not an exit.
    NotExit = 22, "not an exit";
    /// A table is full or a count is reached.
    Limit = 23, "limit reached";
    /// More in a second than is allowed.
    Rate = 24, "rate limited";
    /// A descriptor in EXTEND is refused.
    Descriptor = 25, "descriptor refused";
    /// The target of an EXTEND is refused: ourselves, a private address, no relay.
    Target = 26, "target refused";
    /// The circuit's queue is full.
    QueueFull = 27, "queue full";
    /// It waited in the queue for too long (CoDel).
    QueueDelay = 28, "queued too long";
    /// The longest queue gave way.
    QueueMemory = 29, "queues use too much memory";
    /// No circuit end has that handle.
    UnknownHandle = 30, "unknown circuit handle";
    /// A counter has reached its end.
    Exhausted = 31, "counter exhausted";
    /// A slot has no room for the layers.
    NoRoom = 32, "no room in the slot";
    /// The next hop's link is not open yet.
    NoLink = 33, "no open link";
    /// A PATH_RESPONSE that answers no challenge.
    PathResponse = 34, "answers no path challenge";
    /// It came from an address that is not the link's, and the link does not move.
    Address = 35, "from another address";
    /// The node is shutting down or not configured yet.
    NotRunning = 36, "not running";
    /// A CREATE, while this worker takes no new circuits.
    Draining = 37, "no new circuits here";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_read_back() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1);
            assert_eq!(DropReason::from_byte(*reason as u8), Some(*reason));
        }
        assert_eq!(DropReason::from_byte(0), None);
        assert_eq!(DropReason::from_byte(255), None);
    }
}
