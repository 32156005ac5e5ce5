//! Waking the broker's loop with a signal: the loop waits in epoll_wait(2), which returns early when the thread handles
//! a signal, and the next tick follows. (Neither the plugin interface nor the loop has another way in.)

use std::ffi::c_int;
use std::ptr;
use std::sync::LazyLock;

use crate::util::Lock;

/// The signal that wakes the loop. A broker has no use for SIGWINCH (a terminal was resized), and no other software in
/// the process wants it, while Go's runtime takes SIGURG and profilers take SIGPROF. It is ignored by default, so that
/// one too many never kills, and several in a row are delivered as one.
const SIGNAL: c_int = libc::SIGWINCH;

/// How many instances of the plugin use the signal's handler, which belongs to the process.
static USERS: LazyLock<Lock<usize>> = LazyLock::new(Lock::default);

/// Wakes the thread that prepared it.
pub(in crate::ffi) struct Waker {
    thread: libc::pthread_t,
}

// SAFETY: a pthread_t names a thread, by a number or in musl by a pointer, and the thread named is the broker's main
// thread, which outlives everything here.
unsafe impl Send for Waker {}
// SAFETY: as for `Send`, and pthread_kill may be called from any thread.
unsafe impl Sync for Waker {}

/// The signal's handler. It does nothing: that it runs at all ends the wait.
extern "C" fn woken(_: c_int) {}

impl Waker {
    /// Prepares to wake the calling thread. `None` if other software in this process handles the signal.
    pub(in crate::ffi) fn prepare() -> Option<Self> {
        let mut users = USERS.lock();
        match handler() {
            libc::SIG_DFL | libc::SIG_IGN => set_handler(woken as *const () as libc::sighandler_t)?,
            own if own == woken as *const () as libc::sighandler_t => {}
            _ => return None,
        }
        *users += 1;
        // SAFETY: has no conditions.
        Some(Self { thread: unsafe { libc::pthread_self() } })
    }

    /// Sends the signal. From any thread.
    pub(in crate::ffi) fn wake(&self) {
        // SAFETY: the thread exists as long as the process.
        unsafe { libc::pthread_kill(self.thread, SIGNAL) };
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        *users -= 1;
        // The handler stays as it is if other software has taken the signal over.
        if *users == 0 && handler() == woken as *const () as libc::sighandler_t {
            set_handler(libc::SIG_IGN);
        }
    }
}

/// The signal's current handler.
fn handler() -> libc::sighandler_t {
    // SAFETY: all zeroes is a valid sigaction, and it is only written to.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(SIGNAL, ptr::null(), &raw mut current);
        current.sa_sigaction
    }
}

fn set_handler(handler: libc::sighandler_t) -> Option<()> {
    // SAFETY: all zeroes is a valid sigaction with an empty mask, and the handler is a function that does
    // nothing, or SIG_IGN. System calls other than the loop's wait are restarted.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(SIGNAL, &raw const action, ptr::null_mut())
    };
    (result == 0).then_some(())
}
