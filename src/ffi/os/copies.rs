//! Other copies of this library's file in the process. Each copy has its own memory, and so its own table of parked
//! clients.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

use libc::{RTLD_LAZY, RTLD_NOLOAD};

/// An exported symbol by which copies find each other, whatever their versions. Its address tells one copy from
/// another.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "its name is the symbol's, which other versions look for")]
pub static mosquitto_http_auth: u8 = 0;

/// Whether the process holds no other copy of this library.
pub(in crate::ffi) fn is_only_one() -> bool {
    let mut names: Vec<CString> = Vec::new();
    // SAFETY: the callback is called before this returns, and gets the list that it expects.
    unsafe { libc::dl_iterate_phdr(Some(note_name), (&raw mut names).cast()) };
    !names.iter().any(|name| is_another(name))
}

/// Adds the name of a loaded library to a list: a callback of `dl_iterate_phdr`.
///
/// # Safety
/// `info` must be what `dl_iterate_phdr` passes, and `names` point to a `Vec<CString>`.
unsafe extern "C" fn note_name(info: *mut libc::dl_phdr_info, _: usize, names: *mut c_void) -> c_int {
    // SAFETY: the caller vouches for both.
    let (info, names) = unsafe { (&*info, &mut *names.cast::<Vec<CString>>()) };
    if !info.dlpi_name.is_null() {
        // SAFETY: a terminated string that lives as long as this call.
        names.push(unsafe { CStr::from_ptr(info.dlpi_name) }.to_owned());
    }
    0
}

/// Whether the library of this name is another copy of this one.
fn is_another(name: &CStr) -> bool {
    // The program itself has an empty name.
    if name.is_empty() {
        return false;
    }
    // SAFETY: terminated strings. RTLD_NOLOAD loads nothing, so no code runs, and the symbol's address is only
    // compared.
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
