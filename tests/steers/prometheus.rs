//! A real Prometheus reads the metrics, and understands the alert rules and the dashboard in `contrib/`. Where it is not
//! installed, the tests say so.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::dashboard;
use crate::support::admin::read_answer;
use crate::support::{Admin, Connect, PATIENCE, Version, broker_asking, eventually, free_port, friendly_api};

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

/// A program of Prometheus, as `scripts/setup.sh tests` unpacks it, or as it is installed.
fn program(name: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".brokers/prometheus/usr/bin").join(name);
    let program = if unpacked.exists() { unpacked } else { PathBuf::from(name) };
    let is_here = Command::new(&program).arg("--version").output().is_ok();
    if !is_here {
        println!("not run: there is no {name} here");
    }
    is_here.then_some(program)
}

/// What is to be wrong fires each alert with its words, and what is not wrong fires none.
#[test]
fn each_alert_fires_for_what_it_is_about() {
    let Some(promtool) = program("promtool") else { return };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus/alerts-test.yml");
    let output = Command::new(promtool).args(["test", "rules"]).arg(&tests).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (tests, rules) = (fs::read_to_string(tests).unwrap(), contrib("prometheus-alerts.yml"));
    let alerts: Vec<_> = fs::read_to_string(rules).unwrap().lines().map(str::to_owned).collect();
    let alerts: Vec<_> = alerts.iter().filter_map(|line| line.split_once("- alert: ")).collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for (_, alert) in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_rules_and_metrics() {
    let Some(promtool) = program("promtool") else { return };
    let rules = contrib("prometheus-alerts.yml");
    let output = Command::new(&promtool).args(["check", "rules"]).arg(rules).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (api, admin) = (friendly_api(), Admin::somewhere());
    let broker = admin.of(broker_asking(Version::V2_1, &api)).start();
    Connect::v5("c").login("u", "secret").accepted(broker.port());
    let text = admin.get("/metrics").body;
    // It knows the older form of the text only: without units and the end.
    let older: String = text
        .lines()
        .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
        .map(|line| match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            Some((name, "counter")) => format!("# TYPE {name}_total counter\n"),
            Some((name, "info")) => format!("# TYPE {name}_info gauge\n"),
            _ => match line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                Some((name, help)) => {
                    let is = |kind: &str| text.contains(&format!("# TYPE {name} {kind}"));
                    let suffix = if is("counter") {
                        "_total"
                    } else if is("info") {
                        "_info"
                    } else {
                        ""
                    };
                    format!("# HELP {name}{suffix} {help}\n")
                }
                None => format!("{line}\n"),
            },
        })
        .collect();
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(older.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{older}", String::from_utf8_lossy(&output.stderr));
}

struct Prometheus {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn scraping(program: &Path, port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let rules = contrib("prometheus-alerts.yml");
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{:?}]\nscrape_configs:\n  \
             - job_name: broker\n    static_configs:\n      - targets: [\"127.0.0.1:{port}\"]\n",
            rules.display().to_string()
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let own = free_port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{own}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, port: own, folder }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let body = read_answer(&mut stream).ok()?.body;
        serde_json::from_str(&body).ok()
    }

    fn query(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={encoded}"))
    }

    fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(self.folder.path().join("log")).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

#[test]
fn prometheus_scrapes_a_broker_and_knows_what_the_rules_and_the_dashboard_ask() {
    let Some(program) = program("prometheus") else { return };
    let (api, admin) = (friendly_api(), Admin::somewhere());
    let Admin::Tcp(port) = admin else { panic!("over TCP") };
    // A store that is away has its metrics, too.
    let broker = admin
        .of(broker_asking(Version::V2_1, &api))
        .file("shared.secret", "a-secret-of-the-tests-that-is-long-enough")
        .option("shared_cache", format!("redis://127.0.0.1:{}", free_port()))
        .option("shared_cache_secret_file", "shared.secret")
        .start();
    let mut client = Connect::v5("c").login("u", "secret").accepted(broker.port());
    client.publish_acknowledged("t", "x");
    let prometheus = Prometheus::scraping(&program, port);
    let value = |expression: &str| {
        let result = prometheus.query(expression)?;
        result["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    let logins = r#"mosquitto_http_auth_decisions_total{question="login",result="allow",source="api"}"#;
    let is_scraped = eventually(3 * PATIENCE, || value(logins).as_deref() == Some("1"));
    assert!(is_scraped, "{}", prometheus.log());
    assert_eq!(value("mosquitto_http_auth_ready").as_deref(), Some("1"));
    let quantile = "histogram_quantile(0.99, sum by (le) (mosquitto_http_auth_api_answer_seconds_bucket))";
    assert!(value(quantile).is_some_and(|seconds| seconds.parse::<f64>().unwrap() > 0.0));

    let mut groups = Value::Null;
    let are_evaluated = eventually(PATIENCE, || {
        groups = prometheus.get("/api/v1/rules").unwrap_or_default();
        let rules = groups["data"]["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.len() > 5 && rules.iter().all(|rule| rule["health"] == "ok"))
    });
    assert!(are_evaluated, "{groups}");

    // All that the rules look at is there: names, labels, and the labels' values.
    let rules = groups["data"]["groups"][0]["rules"].as_array().unwrap();
    for query in rules.iter().map(|rule| rule["query"].as_str().unwrap()) {
        for selector in dashboard::selectors(query) {
            let found = prometheus.query(selector).unwrap();
            assert_ne!(found["data"]["result"][0], Value::Null, "{query}: {selector}: {found}");
        }
    }

    // And so is what the dashboard asks. A rate wants what was scraped twice.
    let targets = dashboard::targets();
    assert!(targets.len() > 20, "only {} were found: does the test still see them?", targets.len());
    for (expression, legend) in targets {
        let filled = expression.replace("$job", ".*").replace("$instance", ".*");
        let filled = filled.replace("$__rate_interval", "1m");
        let mut found = Value::Null;
        let has_values = eventually(PATIENCE, || {
            found = prometheus.query(&filled).unwrap();
            assert_eq!(found["status"], "success", "{expression}: {found}");
            found["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
        });
        assert!(has_values, "{expression}: {found}");
        // What a legend names is what the series are told apart by.
        for series in found["data"]["result"].as_array().unwrap() {
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
                assert!(series["metric"][label.0].is_string(), "{expression}: {legend}: {series}");
            }
        }
    }
}
