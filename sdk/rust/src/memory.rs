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

/// See `touch` in `wit/worker.wit`. Nothing of the machine is in a caller's hands meanwhile.
#[cfg(target_arch = "wasm32")]
#[must_use]
pub fn touch(page: u32, least: u32) -> u32 {
    use core::arch::wasm32::memory_size;

    /// Bytes of a page of Wasm.
    const PAGE: usize = 64 << 10;
    /// Bytes that one allocation may have, and less than that.
    const MOST: usize = isize::MAX as usize - PAGE;
    /// Bytes of a cache line, or of a part of one.
    const LINE: usize = 64;

    let missing = (least as usize).saturating_sub(memory_size(0));
    if missing > 0 {
        // The allocator keeps what it was once given.
        drop(black_box(Vec::<u8>::with_capacity(missing.saturating_mul(PAGE).min(MOST))));
    }
    let pages = memory_size(0);
    if (page as usize) < pages {
        let start = page as usize * PAGE;
        // Nothing is at 0.
        for place in (start.max(LINE)..start + PAGE).step_by(LINE) {
            let place = ptr::with_exposed_provenance_mut::<u8>(place);
            // SAFETY: all of it is this instance's memory, it has one thread, and what is there stays. It is
            // written, because a page that was only read may have to be fetched once more when it is.
            unsafe { place.write_volatile(place.read_volatile()) };
        }
    }
    u32::try_from(pages).unwrap_or(u32::MAX)
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
