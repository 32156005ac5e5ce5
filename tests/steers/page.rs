//! The status page in a real browser: headless Chromium, where it is installed.

use std::process::Command;

use serde_json::json;

use crate::support::{Admin, Connect, Reply, Version, broker_asking, friendly_api};

/// The sizes of a phone, a tablet and a screen.
const SIZES: [(u32, u32); 3] = [(390, 844), (820, 1180), (1366, 900)];

/// What the browser has made of the page; `None` if there is no browser.
fn seen(url: &str, (width, height): (u32, u32)) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"])
        .args(["--virtual-time-budget=4000", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(url)
        .output()
        .ok()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!errors.contains("CONSOLE"), "the page complains: {errors}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_browser_shows_what_is_going_on() {
    let api = friendly_api();
    api.answer_with(|request| Reply::status(if request.field("username") == "stranger" { 403 } else { 200 }));
    let admin = Admin::somewhere();
    let Admin::Tcp(port) = admin else { panic!("over TCP") };
    let broker = admin.of(broker_asking(Version::V2_1, &api)).start();
    let mut clients: Vec<_> = (0..20)
        .map(|n| Connect::v5(format!("c{n}")).login(format!("u{n}"), "secret").accepted(broker.port()))
        .collect();
    for client in &mut clients {
        client.publish_acknowledged("t", "x");
    }
    for n in 0..3 {
        Connect::v5(format!("s{n}")).login("stranger", format!("{n}")).refused(broker.port());
    }
    let url = format!("http://127.0.0.1:{port}/");
    for size in SIZES {
        let Some(page) = seen(&url, size) else {
            println!("not run: there is no chromium here");
            return;
        };
        for text in ["logins and topics are being decided", "logins let in", ">20<", "asked first", "<rect"] {
            assert!(page.contains(text), "{size:?}: the page shows no {text:?}: {page}");
        }
        assert!(!page.contains("stranger"), "it names somebody");
    }
    assert_eq!(admin.carries_out("status", &json!({}))["refused"].as_array().unwrap().len(), 3);
}
