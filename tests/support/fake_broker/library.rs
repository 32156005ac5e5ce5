//! Loading a plugin's library, and choosing which of this program's functions it finds.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{mem, ptr};

use super::fake_broker::{Plugin, Version, abi};

/// A loaded plugin.
pub struct Library(*mut c_void);

impl Library {
    /// Loads the library as a broker of this version does.
    pub fn load(path: &Path, version: Version) -> Self {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        let scope = if version == Version::V2_0 { libc::RTLD_GLOBAL } else { libc::RTLD_LOCAL };
        // SAFETY: a terminated path, to the plugin's library, which runs no code when it is loaded.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | scope) };
        assert!(!library.is_null(), "{path:?} cannot be loaded: {}", error());
        Self(library)
    }

    /// The functions that the library exports.
    pub fn plugin(&self) -> Plugin {
        let find = |name: &CStr| {
            // SAFETY: an open library and a terminated name.
            let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
            assert!(!found.is_null(), "it has no {name:?}");
            found
        };
        // SAFETY: plugins of this interface export functions of these types.
        unsafe {
            Plugin {
                version: mem::transmute::<*mut c_void, abi::PluginVersion>(find(c"mosquitto_plugin_version")),
                init: mem::transmute::<*mut c_void, abi::PluginInit>(find(c"mosquitto_plugin_init")),
                cleanup: mem::transmute::<*mut c_void, abi::PluginCleanup>(find(c"mosquitto_plugin_cleanup")),
            }
        }
    }

    /// Closes the library, as a broker of 2.0 does at its end.
    pub fn close(self) {
        // SAFETY: opened by `load`, and closed once. None of the plugin's code runs any more.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0, "{}", error());
    }
}

fn error() -> String {
    // SAFETY: called only after a failure, so there is a text, which lives until the next call.
    unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned()
}

/// Removes a function of the broker: libraries that are loaded from now on do not find it.
///
/// Linking a program without some functions for each test would take too much, so this edits the program's table of
/// symbols, which the dynamic linker reads: the function has no address there any more.
pub fn hide(function: &str) {
    /// `RTLD_DL_SYMENT` of the C library's `dlfcn.h`: asks for the symbol's entry in the table.
    const ENTRY: libc::c_int = 1;
    let name = CString::new(function).unwrap();
    // SAFETY: the names are terminated, and the results are written to this stack. The entry is the program's own; its
    // page is made writable before it is written to, and only the loading of a library would read it meanwhile.
    unsafe {
        let address = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        assert!(!address.is_null(), "the broker has no {function}: does the program export it?");
        let mut found: libc::Dl_info = mem::zeroed();
        let mut entry: *mut c_void = ptr::null_mut();
        assert_ne!(libc::dladdr1(address, &raw mut found, &raw mut entry, ENTRY), 0, "{function}");
        assert_eq!(CStr::from_ptr(found.dli_sname), name.as_c_str(), "two functions have one address");
        let entry: *mut libc::Elf64_Sym = entry.cast();
        let page_size = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap();
        let page = entry.map_addr(|address| address & !(page_size - 1));
        // The entry may span two pages.
        let length = entry.addr() + size_of::<libc::Elf64_Sym>() - page.addr();
        let writable = libc::mprotect(page.cast(), length, libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(writable, 0, "{}", std::io::Error::last_os_error());
        (*entry).st_value = 0;
        (*entry).st_shndx = 0;
        assert!(libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).is_null(), "{function} is still found");
    }
}

/// Sets a handler of this program for a signal, so that the plugin does not use the signal.
pub fn occupy_signal(signal: libc::c_int) {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing.
    let before = unsafe { libc::signal(signal, ignore as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    assert_ne!(before, libc::SIG_ERR);
}
