//! The brokers' own matching of topics, from their client libraries in .brokers/ (`make brokers`).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::LazyLock;

type Matches = unsafe extern "C" fn(*const c_char, *const c_char, *mut bool) -> c_int;
type MatchesPattern =
    unsafe extern "C" fn(*const c_char, *const c_char, *const c_char, *const c_char, *mut bool) -> c_int;

/// One broker's `mosquitto_topic_matches_sub` and, since 2.1, its function for patterns.
pub struct Matcher {
    pub version: &'static str,
    matches: Matches,
    matches_pattern: Option<MatchesPattern>,
}

/// The matchers of all brokers whose library can be loaded: at least 2.0.11, for which every supported machine has the
/// libraries.
pub static MATCHERS: LazyLock<Vec<Matcher>> = LazyLock::new(|| {
    let loaded: Vec<Matcher> = ["2.0.11", "2.0.21", "2.1"]
        .into_iter()
        .filter_map(|version| {
            Matcher::load(version).map_err(|why| eprintln!("without {version}: {why}")).ok()
        })
        .collect();
    assert!(!loaded.is_empty(), "there is no broker to compare with: run `make brokers` first");
    loaded
});

impl Matcher {
    fn load(version: &'static str) -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.brokers").join(version).join("lib");
        // Libraries that 2.1 needs and the machine may lack. The others come from the machine.
        for needed in ["libcjson.so.1", "libpicohttpparser.so.1"] {
            let _ = open(&folder.join(needed), libc::RTLD_GLOBAL);
        }
        let library = open(&folder.join("libmosquitto.so.1"), libc::RTLD_LOCAL)?;
        let matches = symbol(library, c"mosquitto_topic_matches_sub").ok_or("it matches no topics")?;
        let matches_pattern = symbol(library, c"mosquitto_topic_matches_sub_with_pattern");
        // SAFETY: the functions have these types in mosquitto.h, and the library is never closed.
        unsafe {
            Ok(Self {
                version,
                matches: std::mem::transmute::<*mut c_void, Matches>(matches),
                matches_pattern: matches_pattern
                    .map(|found| std::mem::transmute::<*mut c_void, MatchesPattern>(found)),
            })
        }
    }

    /// Whether a message on `topic` reaches a subscriber of `filter` in this broker. Neither text may hold a NUL.
    pub fn matches(&self, filter: &str, topic: &str) -> bool {
        let [filter, topic] = [filter, topic].map(|text| CString::new(text).expect("no NUL"));
        let mut result = false;
        // SAFETY: terminated strings and a place for the result.
        let code = unsafe { (self.matches)(filter.as_ptr(), topic.as_ptr(), &raw mut result) };
        code == 0 && result
    }

    /// Whether a `pattern` of an ACL file covers a topic in this broker; `None` in 2.0, which has no function for this.
    pub fn matches_pattern(&self, pattern: &str, topic: &str, id: &str, username: &str) -> Option<bool> {
        let function = self.matches_pattern?;
        let [pattern, topic, id, username] =
            [pattern, topic, id, username].map(|text| CString::new(text).expect("no NUL"));
        let mut result = false;
        // SAFETY: terminated strings and a place for the result.
        let code = unsafe {
            function(pattern.as_ptr(), topic.as_ptr(), id.as_ptr(), username.as_ptr(), &raw mut result)
        };
        Some(code == 0 && result)
    }
}

fn open(path: &Path, scope: c_int) -> Result<*mut c_void, String> {
    let name = CString::new(path.to_string_lossy().as_bytes()).expect("no NUL");
    // SAFETY: a terminated name, of the broker's own library, which runs no code when it is loaded.
    let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | scope) };
    if library.is_null() {
        // SAFETY: dlopen has just failed, so there is a text, which lives until the next call.
        return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
    }
    Ok(library)
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: an open library and a terminated name.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
