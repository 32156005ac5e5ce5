//! An allocator that counts. A test program uses it with
//!
//!     #[global_allocator]
//!     static ALLOCATOR: Counting = Counting;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static BYTES_IN_USE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Bytes that are allocated now, with the allocator's own bytes for each block.
pub fn bytes_in_use() -> usize {
    BYTES_IN_USE.load(Ordering::Relaxed)
}

/// Runs `action`, and counts the allocations of the calling thread meanwhile.
pub fn allocations_of<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let result = action();
    (result, ALLOCATIONS.get() - before)
}

/// The system's allocator, with counters.
pub struct Counting;

// SAFETY: both functions pass their arguments on to the system's allocator, which has the same conditions.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised by the caller.
        let block = unsafe { System.alloc(layout) };
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES_IN_USE.fetch_add(set_aside_for(block), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES_IN_USE.fetch_sub(set_aside_for(block), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Bytes that the allocator sets aside for a block: it rounds blocks up, and keeps their size in front of them.
fn set_aside_for(block: *mut u8) -> usize {
    // SAFETY: the block comes from `malloc` and has not been freed, or is null, which has the size 0.
    let usable = unsafe { libc::malloc_usable_size(block.cast()) };
    usable + size_of::<usize>()
}
