//! An allocator that counts. A program that wants to know makes it its own:
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

/// Bytes that are allocated now, with what the allocator itself needs for them.
pub fn bytes_in_use() -> usize {
    BYTES_IN_USE.load(Ordering::Relaxed)
}

/// How often the calling thread has allocated during something.
pub fn allocations_of<T>(something: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let result = something();
    (result, ALLOCATIONS.get() - before)
}

/// The system's allocator, and counts.
pub struct Counting;

// SAFETY: both functions leave the work to the system's allocator, under the conditions they are called with.
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

/// Blocks are rounded up, and their size stands before them.
fn set_aside_for(block: *mut u8) -> usize {
    // SAFETY: the block is null, of which the size is 0, or comes from `malloc` and has not been freed.
    let usable = unsafe { libc::malloc_usable_size(block.cast()) };
    usable + size_of::<usize>()
}
