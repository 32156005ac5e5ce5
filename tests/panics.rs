//! A panic ends where it is caught, and its message is lost. (The test has a process of its own, since the hook is for
//! all threads of a process.)

use std::thread;

use mosquitto_http_auth::internals::{caught, install_hook};

#[test]
fn a_panic_tells_its_place_and_nothing_else() {
    install_hook();
    assert_eq!(caught(|| 1), Ok(1));
    let place = caught(|| panic!("the password is {}", "hunter2")).unwrap_err();
    assert!(place.starts_with("tests/panics.rs:"), "{place}");
    assert!(!place.contains("hunter2"), "{place}");
    // On any thread, and again.
    let elsewhere = thread::spawn(|| caught(|| "hunter2".parse::<u8>().unwrap())).join().unwrap();
    assert!(elsewhere.unwrap_err().starts_with("tests/panics.rs:"));
    assert_eq!(caught(|| 2), Ok(2));
}
