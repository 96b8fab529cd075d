//! A hop's keys, counter and window on their way to a successor.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use warren_schemas::generated::state as fb;

use super::{Opener, Sealer};
use crate::counter::Counter;
use crate::crypto::{AeadKey, Direction, LayerKind, associated_data};
use crate::ntor::Suite;
use crate::replay::ReplayWindow;

/// Both ends of a hop's layer, in numbers and keys.
pub(crate) struct HopState<'a> {
    pub suite: u8,
    pub seal: &'a [u8; 32],
    pub seal_counter: u64,
    pub open: &'a [u8; 32],
    pub open_counter: u64,
}

/// Of both ends of a hop's layer, and the words of its window.
pub(crate) fn of<'a>(sealer: &'a Sealer, opener: &'a Opener) -> (HopState<'a>, &'a [u64]) {
    let [_, suite, ..] = sealer.associated;
    let state = HopState {
        suite,
        seal: sealer.key.bytes(),
        seal_counter: sealer.counter.next(),
        open: opener.key.bytes(),
        open_counter: opener.window.next(),
    };
    (state, opener.window.words())
}

/// Writes both ends of a hop's layer.
pub(crate) fn write<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    (sealer, opener): (&Sealer, &Opener),
) -> WIPOffset<fb::Hop<'b>> {
    let (state, seen) = of(sealer, opener);
    let open_seen = (!seen.is_empty()).then(|| builder.create_vector(seen));
    let args = fb::HopArgs {
        suite: state.suite,
        seal: Some(&fb::Bytes32(*state.seal)),
        seal_counter: state.seal_counter,
        open: Some(&fb::Bytes32(*state.open)),
        open_counter: state.open_counter,
        open_seen,
    };
    fb::Hop::create(builder, &args)
}

/// Both ends, as they go on; `direction` is the sealer's. None for a suite that is not spoken here
/// or a window that cannot be.
pub(crate) fn read(hop: &fb::Hop<'_>, direction: Direction) -> Option<(Sealer, Opener)> {
    let state = HopState {
        suite: hop.suite(),
        seal: &hop.seal().0,
        seal_counter: hop.seal_counter(),
        open: &hop.open().0,
        open_counter: hop.open_counter(),
    };
    let window = ReplayWindow::resume(state.open_counter, hop.open_seen().unwrap_or_default().iter())?;
    resume(&state, window, direction)
}

/// The same, of what [`of`] gave. None for a suite that is not spoken here.
pub(crate) fn resume(
    state: &HopState<'_>,
    window: ReplayWindow,
    direction: Direction,
) -> Option<(Sealer, Opener)> {
    let suite = Suite::from_byte(state.suite).ok()? as u8;
    let sealer = Sealer {
        key: AeadKey::new(state.seal),
        counter: Counter::resume(state.seal_counter),
        associated: associated_data(suite, direction, LayerKind::Hop),
    };
    let opener = Opener {
        key: AeadKey::new(state.open),
        window,
        associated: associated_data(suite, direction.reverse(), LayerKind::Hop),
    };
    Some((sealer, opener))
}

/// Bytes of the words of the window.
pub(crate) fn window_len(opener: &Opener) -> usize {
    size_of_val(opener.window.words())
}
