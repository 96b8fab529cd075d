//! The allocator of a worker. A copy of the state holds every key, and the host takes it out of the
//! worker's memory only after the call; so what is freed from then on until the next call is
//! overwritten first.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// An allocator that overwrites with zeros what it frees while it is told to.
pub(crate) struct Wiping<A> {
    inner: A,
    wipes: AtomicBool,
}

impl<A> Wiping<A> {
    /// Frees as `inner` does until [`wipe`](Self::wipe) says otherwise.
    pub(crate) const fn new(inner: A) -> Self {
        Self { inner, wipes: AtomicBool::new(false) }
    }

    /// Whether what is freed from now on is overwritten.
    pub(crate) fn wipe(&self, wipes: bool) {
        self.wipes.store(wipes, Relaxed);
    }
}

// SAFETY: all memory is the inner allocator's, asked for and freed by the same layouts.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if self.wipes.load(Relaxed) {
            // SAFETY: the caller gives up so many bytes, which are its own until now.
            unsafe { ptr::write_bytes(place, 0, layout.size()) };
            // Nobody reads them again that the compiler knows of.
            black_box(place);
        }
        // SAFETY: the caller's promises are the same.
        unsafe { self.inner.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.wipes.load(Relaxed) {
            // SAFETY: the caller's promises are the same.
            return unsafe { self.inner.realloc(place, layout, size) };
        }
        // SAFETY: the caller promises a size that is not zero and not too large for this alignment.
        let wider = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: its size is not zero.
        let fresh = unsafe { self.alloc(wider) };
        if !fresh.is_null() {
            // SAFETY: two places, each of at least so many bytes; the old one is given up.
            unsafe {
                ptr::copy_nonoverlapping(place, fresh, layout.size().min(size));
                self.dealloc(place, layout);
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::sync::Mutex;

    use super::*;

    /// Notes what stood in the memory it was given back.
    struct Noting(Mutex<Vec<Vec<u8>>>);

    // SAFETY: all of it is the system's allocator.
    unsafe impl GlobalAlloc for Noting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are the same.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            // SAFETY: it was allocated with this size, and written by the test.
            let bytes = unsafe { std::slice::from_raw_parts(place, layout.size()) };
            self.0.lock().unwrap().push(bytes.to_vec());
            // SAFETY: the caller's promises are the same.
            unsafe { System.dealloc(place, layout) }
        }
    }

    /// What the inner allocator found after eight bytes became sixteen and these were freed.
    fn freed(wipes: bool) -> Vec<Vec<u8>> {
        let allocator = Wiping::new(Noting(Mutex::new(Vec::new())));
        let layout = Layout::from_size_align(8, 8).unwrap();
        allocator.wipe(wipes);
        // SAFETY: sizes are not zero, and each place is used as large as it was asked for.
        unsafe {
            let place = allocator.alloc(layout);
            ptr::write_bytes(place, 0xa5, 8);
            let place = allocator.realloc(place, layout, 16);
            assert_eq!(std::slice::from_raw_parts(place, 8), [0xa5; 8]);
            ptr::write_bytes(place.add(8), 0xa5, 8);
            allocator.dealloc(place, Layout::from_size_align(16, 8).unwrap());
        }
        allocator.inner.0.into_inner().unwrap()
    }

    #[test]
    fn what_is_freed_is_overwritten_while_it_is_told_to() {
        assert_eq!(freed(false), [vec![0xa5; 8], vec![0xa5; 16]]);
        assert_eq!(freed(true), [vec![0; 8], vec![0; 16]]);
    }
}
