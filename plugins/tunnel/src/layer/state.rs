//! A hop's keys, counter and window on their way to a successor.

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use warren_schemas::generated::state as fb;

use super::{Opener, Sealer};
use crate::crypto::{Direction, Secret};
use crate::ntor::Suite;
use crate::replay::ReplayWindow;

/// Writes both ends of a hop's layer.
pub(crate) fn write<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    (sealer, opener): (&Sealer, &Opener),
) -> WIPOffset<fb::Hop<'b>> {
    let [_, suite, ..] = sealer.associated;
    let seen = opener.window.words();
    let open_seen = (!seen.is_empty()).then(|| builder.create_vector(seen));
    let args = fb::HopArgs {
        suite,
        seal: Some(&fb::Bytes32(*sealer.raw)),
        seal_counter: sealer.counter.next(),
        open: Some(&fb::Bytes32(*opener.raw)),
        open_counter: opener.window.next(),
        open_seen,
    };
    fb::Hop::create(builder, &args)
}

/// Both ends, as they go on; `direction` is the sealer's. None for a suite that is not spoken here
/// or a window that cannot be.
pub(crate) fn read(hop: &fb::Hop<'_>, direction: Direction) -> Option<(Sealer, Opener)> {
    let suite = Suite::from_byte(hop.suite()).ok()?;
    let seen = hop.open_seen().unwrap_or_default();
    let seal = Secret::new(hop.seal().bytes().into());
    let open = Secret::new(hop.open().bytes().into());
    let mut opener = Opener::new(&open, suite, direction.reverse());
    opener.window = ReplayWindow::resume(hop.open_counter(), seen.iter())?;
    Some((Sealer::resume(&seal, suite, direction, hop.seal_counter()), opener))
}

/// Bytes of the words of the window.
pub(crate) fn window_len(opener: &Opener) -> usize {
    size_of_val(opener.window.words())
}
