//! Threads that take none of the signals that are meant for the broker.

use std::io;
use std::ptr;
use std::thread::{Builder, JoinHandle};

/// Starts a thread. It inherits a mask in which all signals are blocked: one that it took would not wake the broker's loop.
///
/// # Errors
/// Why the system starts none.
pub(in crate::ffi) fn spawn(body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    let builder = Builder::new().name("mosq-http-auth".to_owned());
    // SAFETY: all zeroes is a valid sigset_t, and sigfillset and pthread_sigmask write to sets on this stack. This
    // thread's own mask is restored at once.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let spawned = builder.spawn(body);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        spawned
    }
}

/// The calling thread, as a number that is compared only: musl's are pointers. (`std::thread::current` costs two locked
/// instructions, which every topic check would pay.)
#[inline]
pub(in crate::ffi) fn own() -> usize {
    // SAFETY: has no conditions.
    unsafe { libc::pthread_self() as usize }
}
