//! Ctrl-C and SIGTERM, as something to ask for: what was started must be taken down first.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on the two signals only set a flag. A second one ends the program at once; its
/// children die with it.
pub(crate) fn listen() {
    let handler = handle as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only touches an atomic and calls _exit, which handlers may do.
        unsafe { libc::signal(signal, handler) };
    }
}

extern "C" fn handle(_: libc::c_int) {
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        // SAFETY: _exit may be called from a signal handler.
        unsafe { libc::_exit(130) };
    }
}

/// Whether nobody asked to stop.
pub(crate) fn go_on() -> bool {
    !INTERRUPTED.load(Ordering::Relaxed)
}
