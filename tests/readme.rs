//! The documents for operators are true: README, example configuration and example servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mosquitto_http_auth::internals::{
    Config, ConfigError, OPTIONS, metrics_as_markdown, options_as_markdown,
};
use support::broker::{Setup, plugin};
use support::{Broker, Connect, PATIENCE, Reply, Version, api, broker_asking, on_every_broker, reason};

const EXAMPLE: &str = "mosquitto.conf.example";

/// What the examples assume, and a test puts something else in the place of.
const PLUGIN: &str = "plugin /usr/lib/x86_64-linux-gnu/mosquitto_http_auth.so\n";
const AUTH_URL: &str = "http://127.0.0.1:8080/auth";
const ACL_URL: &str = "http://127.0.0.1:8080/acl";

/// What a PUBACK of MQTT 5 says of an allowed message that nobody receives.
const NO_SUBSCRIBERS: u8 = 0x10;

fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between `<!-- NAME -->` and `<!-- /NAME -->`, and where in the text.
fn marked<'t>(text: &'t str, name: &str) -> (usize, &'t str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let start = text.find(&begin).unwrap_or_else(|| panic!("README.md has no {begin}")) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("README.md has no {end}"));
    (start, &text[start..start + length])
}

/// The blocks of code in a language, in order.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| &rest[..=rest.find("\n```").expect("the block ends")]).collect()
}

/// The text without blocks of code.
fn prose(text: &str) -> String {
    let (_, prose) = text.lines().fold((true, String::new()), |(in_prose, prose), line| {
        match (line.starts_with("```"), in_prose) {
            (true, _) => (!in_prose, prose),
            (false, true) => (true, prose + line + "\n"),
            (false, false) => (false, prose),
        }
    });
    prose
}

#[test]
fn readme_lists_the_options_as_they_are() {
    let text = read("README.md");
    let expected = options_as_markdown();
    let (start, found) = marked(&text, "options");
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&text[..start], &expected, &text[start + found.len()..]].concat();
        fs::write(in_checkout("README.md"), updated).unwrap();
        return;
    }
    assert!(found == expected, "run: UPDATE_README=1 cargo test --test readme");
}

#[test]
fn the_page_of_metrics_lists_them_as_they_are() {
    let text = read("docs/metrics.md");
    let expected = metrics_as_markdown();
    let (start, found) = marked(&text, "metrics");
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&text[..start], &expected, &text[start + found.len()..]].concat();
        fs::write(in_checkout("docs/metrics.md"), updated).unwrap();
        return;
    }
    assert!(found == expected, "run: UPDATE_README=1 cargo test --test readme");
}

#[test]
fn readme_shows_figures_of_the_benchmark() {
    let text = read("README.md");
    let (_, shown) = marked(&text, "figures");
    assert!(
        read("docs/benchmark.md").contains(shown),
        "other figures than in docs/benchmark.md: run `make bench`"
    );
}

/// As GitHub names headings: letters, digits, - and _ stay, spaces become -.
fn headings(text: &str) -> Vec<String> {
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in ["README.md", "docs/install.md", "docs/program.md"] {
        let text = prose(&read(page));
        let beside = |link: &str| Path::new(page).parent().unwrap().join(link).to_str().unwrap().to_owned();
        for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
            for rest in text.split(opening).skip(1) {
                let link = &rest[..rest.find(closing).expect("the link ends")];
                links += 1;
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                if link.starts_with("https://") {
                    continue;
                }
                let there = if file.is_empty() { page.to_owned() } else { beside(file) };
                assert!(in_checkout(&there).exists(), "{page}: there is no {link}");
                let leads =
                    heading.is_empty() || headings(&prose(&read(&there))).iter().any(|own| own == heading);
                assert!(leads, "{page}: no heading for {link}");
            }
        }
    }
    assert!(links > 10, "only {links} links were found: does the test still see them?");
}

/// Each of its claims names the tests that show it.
#[test]
fn security_names_tests_that_exist() {
    let text = read("SECURITY.md");
    let tests: Vec<_> = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    for (file, test) in &tests {
        let source =
            read(&if file.ends_with(".rs") { (*file).to_owned() } else { format!("tests/{file}.rs") });
        assert!(source.contains(&format!("fn {test}()")), "{file} has no test {test}");
    }
    assert!(tests.len() > 40, "only {} tests were found: does this one still see them?", tests.len());
}

#[test]
fn readme_shows_the_example_servers_as_they_are() {
    let text = read("README.md");
    for (language, file) in [("python", "examples/api_server.py"), ("js", "examples/api_server.mjs")] {
        let shown = blocks(&text, language);
        assert!(shown.contains(&read(file).as_str()), "README.md shows another {file}");
    }
}

#[test]
fn readme_shows_the_requests_byte_for_byte() {
    let api = api("");
    api.answer(Reply::status(200));
    let broker = broker_asking(Version::V2_0_11, &api).start();
    let mut client = Connect::v5("c1").login("sensor-1", "secret-1").accepted(broker.port());
    client.publish_acknowledged("sensors/sensor-1/t", "1");
    let sent = api.wait_for_requests(2, PATIENCE).into_iter().map(|request| {
        let headers: String =
            request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let body = String::from_utf8(request.body).unwrap();
        format!("{} {} HTTP/1.1\n{headers}\n{body}\n", request.method, request.path)
            .replace(&api.address().to_string(), "127.0.0.1:8080")
    });
    assert_eq!(blocks(&read("README.md"), "http"), sent.collect::<Vec<_>>());
}

/// In the table of symptoms a first cell that starts with code quotes a line of the log, with … for what varies.
#[test]
fn readme_quotes_the_log_as_it_is() {
    let mut sources = String::new();
    let mut folders = vec![in_checkout("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    // A string that goes on in the next line.
    let mut pieces = sources.split("\\\n").map(str::trim_start);
    let sources = pieces.next().unwrap().to_owned() + &pieces.collect::<String>();

    let text = read("README.md");
    let mut quotes = 0;
    for row in marked(&text, "symptoms").1.lines().filter_map(|line| line.strip_prefix("| `")) {
        let quoted = &row[..row.find('`').expect("the code ends")];
        for fixed in quoted.split('…').filter(|part| part.chars().filter(|c| c.is_alphabetic()).count() > 1)
        {
            // Behind a colon there may be a text of another place, or of the system.
            let known = fixed.split(": ").all(|part| sources.contains(part) || part.contains("os error"));
            assert!(known, "no source has the {fixed:?} of `{quoted}`");
        }
        quotes += 1;
    }
    assert!(quotes > 10, "only {quotes} log lines were found: does the test still see them?");
}

/// `NAME VALUE` of the lines that set an option, whether they are on or off.
fn options_of(conf: &str) -> Vec<(&str, &str)> {
    let lines = conf.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix("plugin_opt_"));
    lines.map(|line| line.split_once(' ').expect("an option has a value")).collect()
}

#[test]
fn the_example_configuration_knows_every_option_and_its_default() {
    let text = read(EXAMPLE);
    let shown = options_of(&text);
    for spec in OPTIONS {
        let values: Vec<&str> =
            shown.iter().filter(|(name, _)| *name == spec.name).map(|(_, value)| *value).collect();
        assert_eq!(values.len(), 1, "{} is in {EXAMPLE} {} times", spec.name, values.len());
        if !spec.default.is_empty() {
            assert_eq!(values[0], spec.default, "the default of {}", spec.name);
        }
    }
    // Whoever takes the # away from all of them finds every name and value understood.
    for conf in [text.as_str(), blocks(&read("README.md"), "conf").concat().as_str()] {
        for option in options_of(conf) {
            if let Err(errors) = Config::read(&vec![(option.0.to_owned(), option.1.to_owned())]) {
                let bad = |error: &ConfigError| {
                    !matches!(error, ConfigError::Combination(_) | ConfigError::File(_))
                };
                assert!(!errors.iter().any(bad), "{option:?}: {errors:?}");
            }
        }
    }
}

#[test]
fn the_configuration_file_in_the_readme_is_understood() {
    let text = read("README.md");
    let [shown] = blocks(&text, "toml")[..] else { panic!("README.md has one block of TOML") };
    let file = tempfile::NamedTempFile::new().unwrap();
    // The file that it names need not exist to be understood: reading it comes later.
    fs::write(file.path(), shown).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let (config, in_both) = Config::read(&vec![("config_file".to_owned(), path)]).unwrap();
    assert!(in_both.is_empty());
    assert_eq!((config.auth_urls.len(), config.acl_urls.len(), config.acl_prefetch.len()), (2, 2, 2));
}

/// A broker with a configuration for operators, in which only plugin and URLs are replaced.
fn broker_with(conf: &str, version: Version, auth_url: &str, acl_url: &str) -> Setup {
    let mut conf = conf.to_owned();
    let plugin = format!("plugin {}\n", plugin().display());
    // A listener would collide with one that exists, and open a broker that was closed.
    assert!(!conf.lines().any(|line| line.starts_with("listener")), "{conf}");
    for (shown, used) in [(PLUGIN, plugin.as_str()), (AUTH_URL, auth_url), (ACL_URL, acl_url)] {
        assert_eq!(conf.matches(shown).count(), 1, "{shown:?} in\n{conf}");
        conf = conf.replace(shown, used);
    }
    Broker::with(version).without_plugin().line(conf)
}

#[test]
fn configurations_to_copy_start_every_broker() {
    let api = api("user sensor-1 secret-1\nallow write sensors/%u/#\n");
    let readme = read("README.md");
    let in_readme = blocks(&readme, "conf").into_iter().find(|block| block.contains(PLUGIN));
    for conf in [read(EXAMPLE).as_str(), in_readme.expect("a configuration in README.md")] {
        on_every_broker(|version| {
            let broker = broker_with(conf, version, &api.auth_url(), &api.acl_url()).start();
            let mut client = Connect::v5("c").login("sensor-1", "secret-1").accepted(broker.port());
            assert_eq!(client.publish_acknowledged("sensors/sensor-1/t", "1"), NO_SUBSCRIBERS);
            assert_eq!(client.publish_acknowledged("sensors/sensor-2/t", "1"), reason::NOT_AUTHORIZED);
            let wrong = Connect::v5("d").login("sensor-1", "secret-2");
            assert_eq!(wrong.refused(broker.port()), reason::NOT_AUTHORIZED);
            assert_eq!(Connect::v5("e").refused(broker.port()), reason::NOT_AUTHORIZED, "anonymous");
        });
    }
}

/// An example server on a port of its own. It is killed when it is dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Nothing, and a line that says so, where the machine has no such interpreter.
    fn start(interpreter: &str, file: &str) -> Option<Self> {
        let mut command = Command::new(interpreter);
        command.arg(in_checkout(file)).arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                // Past what captures the output of tests that pass.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {file} needs {interpreter} ({error})");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{file} says {line:?}")).to_owned();
        Some(Self { process, address })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}

/// The status lines that come for two questions on one connection.
fn ask_twice(server: &Server, path: &str, body: &str) -> [String; 2] {
    let mut connection = BufReader::new(TcpStream::connect(&server.address).unwrap());
    connection.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    [(); 2].map(|()| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.get_mut().write_all((head + body).as_bytes()).unwrap();
        let head: Vec<String> =
            connection.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("Content-Length: 0")), "{head:?}");
        head[0].clone()
    })
}

fn decides_for_every_broker(server: &Server) {
    let login = r#"{"username":"sensor-1","password":"secret-1"}"#;
    for (path, body, status) in [
        ("/auth", login, 200),
        ("/auth", r#"{"username":"sensor-1","password":""}"#, 403),
        ("/auth", r#"{"username":"sensor-1"}"#, 400),
        ("/auth", "no JSON", 400),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":3}"#, 403),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":0}"#, 403),
        ("/other", login, 404),
    ] {
        for line in ask_twice(server, path, body) {
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {body}: {line}");
        }
    }

    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("auth_url", server.url("/auth"))
            .option("acl_url", server.url("/acl"))
            // Hashing passwords takes the server its time on a busy machine.
            .option("timeout", "20s")
            .start();
        let connect =
            |user: &str, password: &str| Connect::v5(format!("{user}-{password}")).login(user, password);
        let mut dashboard = connect("dashboard", "secret-2").accepted(broker.port());
        let mut sensor = connect("sensor-1", "secret-1").accepted(broker.port());
        for (user, password) in [("sensor-1", "secret-2"), ("sensor-1", ""), ("nobody", "secret-1")] {
            assert_eq!(
                connect(user, password).refused(broker.port()),
                reason::NOT_AUTHORIZED,
                "{user} {password}"
            );
        }

        assert!(dashboard.may_subscribe("sensors/#"));
        assert!(dashboard.may_subscribe("$share/group/sensors/+/t"));
        assert!(sensor.may_subscribe("commands/sensor-1"));
        for filter in ["#", "commands/+", "sensors/sensor-1/#"] {
            assert!(!sensor.may_subscribe(filter), "{filter}");
        }

        assert_eq!(sensor.publish_acknowledged("sensors/sensor-2/t", "1"), reason::NOT_AUTHORIZED);
        assert_eq!(sensor.publish_acknowledged("sensors/sensor-1/t", "2"), reason::SUCCESS);
        assert_eq!(dashboard.receive(PATIENCE).expect("the allowed message").payload, b"2");
        assert_eq!(dashboard.publish_acknowledged("commands/sensor-1", "3"), reason::SUCCESS);
        assert_eq!(sensor.receive(PATIENCE).expect("the command").payload, b"3");
    });
}

#[test]
fn the_server_in_python_decides_for_every_broker() {
    match Server::start("python3", "examples/api_server.py") {
        Some(server) => decides_for_every_broker(&server),
        None => assert!(std::env::var_os("CI").is_none(), "CI needs python3"),
    }
}

#[test]
fn the_server_in_node_decides_for_every_broker() {
    if let Some(server) = Server::start("node", "examples/api_server.mjs") {
        decides_for_every_broker(&server);
    }
}
