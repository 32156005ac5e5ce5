//! Grafana cannot be asked here what it makes of the dashboard in `contrib/`. This knows what it asks of one, and where it
//! fills in what was not meant.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

fn dashboard() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/grafana-dashboard.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter()
}

/// What the dashboard asks Prometheus, and how it calls the answers.
pub fn targets() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    panels(&dashboard())
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| (text(&target["expr"]), text(&target["legendFormat"])))
        .collect()
}

/// The names of the plugin's metrics in a query, with what is in braces behind them.
pub fn selectors(query: &str) -> Vec<&str> {
    let starts = query.match_indices("mosquitto_http_auth_").map(|(at, _)| &query[at..]);
    starts
        .map(|rest| {
            let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let braces = if rest[name..].starts_with('{') { rest[name..].find('}').unwrap() + 1 } else { 0 };
            &rest[..name + braces]
        })
        .collect()
}

/// All metrics are known, those of a shared cache, too.
#[test]
fn it_asks_only_for_what_there_is() {
    let known = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let mut asked = HashSet::new();
    for (expression, _) in targets() {
        for selector in selectors(&expression) {
            assert!(selector.contains(r#"{job=~"$job",instance=~"$instance""#), "{expression}");
            let name = selector.split('{').next().unwrap();
            let parts = ["_bucket", "_sum", "_count"];
            let name = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(known.contains(&format!("`{name}`")), "there is no {name}");
            asked.insert(name.to_owned());
        }
    }
    assert!(asked.len() > 15, "only these were found: {asked:?}");
}

/// It goes by a variable for the data source, which importing and provisioning both fill in: no `__inputs`, which only
/// importing knows.
#[test]
fn it_can_be_imported_and_provisioned() {
    let dashboard = dashboard();
    assert!(dashboard.get("__inputs").is_none() && dashboard["id"].is_null());
    let uid = dashboard["uid"].as_str().unwrap();
    assert!(uid.len() <= 40 && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    assert_eq!((&variables[0]["type"], &variables[0]["query"]), (&json!("datasource"), &json!("prometheus")));
    for variable in &variables[1..] {
        assert_eq!(variable["datasource"], source, "{variable}");
        assert_eq!(variable["query"]["query"], variable["definition"], "{variable}");
    }
    for panel in panels(&dashboard) {
        assert_eq!(panel["datasource"], source, "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], source, "{panel}");
        }
    }
}

#[test]
fn no_panel_lies_on_another() {
    let dashboard = dashboard();
    let (mut ids, mut taken) = (HashSet::new(), HashSet::new());
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{}", panel["title"]);
            for y in number("y")..number("y") + number("h") {
                assert!(taken.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}

/// Grafana colours a number without thresholds red from 80 on, whatever it counts; its schema has no legend unless told.
#[test]
fn nothing_is_left_to_what_grafana_fills_in() {
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        let (title, options) = (&panel["title"], &panel["options"]);
        match panel["type"].as_str().unwrap() {
            "stat" => {
                let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
                assert!(steps.is_some_and(|steps| steps[0]["value"].is_null()), "{title}");
                for name in ["colorMode", "graphMode", "justifyMode", "textMode", "orientation", "wideLayout"]
                {
                    assert!(options.get(name).is_some(), "{title}: {name}");
                }
            }
            "timeseries" => {
                assert_eq!(options["legend"]["showLegend"], true, "{title}");
                assert_eq!(options["legend"]["calcs"], json!([]), "{title}");
                assert!(options["tooltip"]["sort"].is_string(), "{title}");
            }
            other => panic!("{title} is a {other}: what does its schema say?"),
        }
    }
}
