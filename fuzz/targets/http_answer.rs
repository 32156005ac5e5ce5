//! Any bytes as the API's answer, from the socket to the decision and to what is remembered.
#![no_main]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{Caller, Client, Login, Plugin, Ruling};

#[path = "../../tests/support/idle.rs"]
mod idle;
use idle::{Idle, thread as broker_thread};

fuzz_target!(|bytes: &[u8]| {
    API.answer.lock().unwrap().clone_from(&bytes.to_vec());
    let options = [
        ("auth_url", format!("http://127.0.0.1:{}/", API.port)),
        // Nothing is remembered unless the answer says so, and nothing is refused without asking.
        ("auth_cache_ttl", "0".to_owned()),
        ("deny_cache_ttl", "0".to_owned()),
        ("api_cache_control", "true".to_owned()),
        ("throttle_after", "0".to_owned()),
        ("breaker_after", "0".to_owned()),
        ("login_wait", "0".to_owned()),
        ("timeout", "10s".to_owned()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let plugin =
        Plugin::new(options, Arc::new(Idle), &broker_thread(), Instant::now()).expect("good options");
    let answer = Answer::read(bytes);

    let start = Instant::now();
    let first = ask(&plugin);
    assert_eq!(first.requests, 1, "a new connection is no reason to ask twice");
    match first.ruling {
        Ruling::Allow => assert_eq!(answer.status, Some(200), "an allow out of {bytes:?}"),
        ruling => assert_eq!(ruling, Ruling::Deny),
    }
    let second = ask(&plugin);
    let is_remembered = second.requests == 0;
    if is_remembered {
        // After a 429 the API may not be asked for a while: that is a refusal, and not a remembered one.
        assert!(answer.lives || answer.status == Some(429), "nothing said to remember {bytes:?}");
        assert!(first.ruling == second.ruling);
    }
    let is_verdict = first.ruling == Ruling::Allow || answer.is_plain_refusal;
    let had_time = start.elapsed() < Duration::from_millis(500);
    assert!(is_remembered || !(is_verdict && answer.lives && had_time), "forgotten: {bytes:?}");
});

struct Asked {
    ruling: Ruling,
    requests: usize,
}

fn ask(plugin: &Plugin) -> Asked {
    let before = API.requests.load(Ordering::SeqCst);
    let client = Client { connection: 1, id: "id", address: Some("127.0.0.1") };
    let login = Login {
        client,
        username: Some("joe"),
        password: Some(b"secret"),
        starts_clean: true,
        level: 5,
        details: &(),
    };
    let ruling = plugin.authenticate(&login, &Caller::Broker(broker_thread()), Instant::now()).ruling;
    Asked { ruling, requests: API.requests.load(Ordering::SeqCst) - before }
}

/// The meaning of an answer, by a parser that reads only the head.
#[derive(Default)]
struct Answer {
    status: Option<u16>,
    /// Whether the answer says that it is to be remembered for a second or more.
    lives: bool,
    /// Whether this is a 403 that every parser accepts.
    is_plain_refusal: bool,
}

impl Answer {
    fn read(mut bytes: &[u8]) -> Self {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut headers);
            let Ok(httparse::Status::Complete(length)) = response.parse(bytes) else {
                return Self::default();
            };
            let status = response.code;
            // An interim answer, such as "continue", comes before the real one.
            if matches!(status, Some(100..=199)) && status != Some(101) {
                bytes = &bytes[length..];
                continue;
            }
            let values = response
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case("cache-control"))
                .map(|header| String::from_utf8_lossy(header.value).to_lowercase());
            let directives: Vec<String> = values
                .flat_map(|value| value.split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>())
                .collect();
            let age = |directive: &String| {
                let (name, age) = directive.split_once('=')?;
                let age = age.trim().trim_matches('"');
                let is_number = !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
                // A number that is too large is large.
                let age = age.parse::<u64>().unwrap_or(if is_number { u64::MAX } else { 0 });
                (name.trim() == "max-age").then_some(age)
            };
            // The last header counts; one that is not text forbids remembering.
            let age = directives.iter().filter_map(age).next_back().unwrap_or(0);
            let forbids = |directive: &String| {
                directive
                    .split('=')
                    .next()
                    .is_some_and(|name| ["no-store", "no-cache"].contains(&name.trim()))
                    || !directive.is_ascii()
            };
            return Self {
                status,
                lives: age > 0 && !directives.iter().any(forbids),
                is_plain_refusal: bytes
                    .starts_with(b"HTTP/1.1 403 Forbidden\r\nCache-Control: max-age=60\r\n\r\n"),
            };
        }
    }
}

/// An API that answers with the fuzzer's bytes.
struct Api {
    port: u16,
    answer: Mutex<Vec<u8>>,
    requests: AtomicUsize,
}

static API: LazyLock<Api> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("it has one").port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // This fails if the plugin has closed the connection, which it may.
            let _ = serve(connection);
        }
    });
    Api { port, answer: Mutex::default(), requests: AtomicUsize::new(0) }
});

fn serve(mut connection: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut part = [0; 1024];
        match connection.read(&mut part)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    API.requests.fetch_add(1, Ordering::SeqCst);
    let answer = API.answer.lock().unwrap().clone();
    connection.write_all(&answer)?;
    connection.shutdown(Shutdown::Write)
}
