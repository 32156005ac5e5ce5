//! Other copies of this library's file in the process. Each has its own memory, and so its own idea of who is parked.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

use libc::{RTLD_LAZY, RTLD_NOLOAD};

/// Exported, so that copies find each other, of whatever version they are. Its address says which one it is in.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static mosquitto_http_auth: u8 = 0;

/// Whether there is none.
pub(in crate::ffi) fn is_only_one() -> bool {
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the callback is called before this returns, and gets the list that it expects.
    unsafe { libc::dl_iterate_phdr(Some(note_name), (&raw mut names).cast()) };
    !names.iter().any(|name| is_another(name))
}

/// # Safety
/// As `dl_iterate_phdr` calls it, with a list of names as its data.
unsafe extern "C" fn note_name(info: *mut libc::dl_phdr_info, _: usize, names: *mut c_void) -> c_int {
    // SAFETY: the caller vouches for both.
    let (info, names) = unsafe { (&*info, &mut *names.cast::<Vec<CString>>()) };
    if !info.dlpi_name.is_null() {
        // SAFETY: a terminated string for as long as this call.
        names.push(unsafe { CStr::from_ptr(info.dlpi_name) }.to_owned());
    }
    0
}

fn is_another(name: &CStr) -> bool {
    // The program itself has no name.
    if name.is_empty() {
        return false;
    }
    // SAFETY: terminated strings. Nothing is loaded by this, so nothing is run, and what is found is not followed.
    unsafe {
        let library = libc::dlopen(name.as_ptr(), RTLD_LAZY | RTLD_NOLOAD);
        if library.is_null() {
            return false;
        }
        let found = libc::dlsym(library, c"mosquitto_http_auth".as_ptr());
        libc::dlclose(library);
        !found.is_null() && !ptr::eq(found.cast(), &raw const mosquitto_http_auth)
    }
}
