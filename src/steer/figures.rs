//! How the plugin is, as `status` and the status page have it.

use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::history::History;
use super::time::{seconds, unix_time};
use crate::config::UrlSet;
use crate::metrics::{Endpoint, Metrics, SharedLookup, unix};
use crate::plugin::Steering;
use crate::question::Kind;

/// What was learnt is shown up to here: more than there are kinds of devices on most brokers.
const SHOWN_TEMPLATES: usize = 50;

/// All figures that name no client.
fn anonymous_figures(steering: &Steering) -> Map<String, Value> {
    let (now, metrics) = (Instant::now(), steering.metrics());
    let gauges = steering.gauges(now);
    let trouble = steering.trouble(now);
    let endpoints: Vec<_> = gauges.endpoints.iter().map(endpoint).collect();
    let in_flight: usize = gauges.endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
    let cache = gauges.cache;
    let reload = metrics.last_reload().last;
    let uptime = (unix(SystemTime::now()) - unix(metrics.started())).max(0.0);
    let figures = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "broker": if steering.is_2_1() { "2.1" } else { "2.0" },
        "mode": if steering.delays() { "delayed" } else { "blocking" },
        "started": unix_time(metrics.started()),
        "uptime": seconds(uptime),
        "ready": trouble.is_none(),
        "trouble": trouble,
        "asked": steering.asked(),
        "endpoints": endpoints,
        "in_flight": in_flight,
        "queued": gauges.queued,
        "parked": gauges.parked,
        "cache": {
            "allows": cache.allows,
            "denies": cache.denies,
            "early": cache.early,
            "size": cache.bound,
            "evicted": cache.evicted,
        },
        "rules": {"bytes": gauges.rules},
        "decisions": decisions(metrics),
        "api": api(metrics),
        "held_up": held_up(metrics),
        "kicked": metrics.kicks(),
        "shared_cache": gauges.shared_cache.map(|(place, is_up)| shared_cache(metrics, &place, is_up)),
        "reload": reload.map(|(at, ok)| json!({"at": unix_time(at), "ok": ok})),
    });
    match figures {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}

/// What was decided how often, and by what.
fn decisions(metrics: &Metrics) -> Vec<Value> {
    let counted = metrics.decisions().filter(|decisions| decisions.count > 0);
    let decisions = counted.map(|decisions| {
        json!({
            "question": decisions.question.name(),
            "result": decisions.outcome.name(),
            "source": decisions.by.name(),
            "count": decisions.count,
        })
    });
    decisions.collect()
}

/// What the API has answered.
fn api(metrics: &Metrics) -> Value {
    let [answered, unanswered, questions] = metrics.together();
    json!({
        "login": latency(metrics, Kind::Connect),
        "topic": latency(metrics, Kind::Access),
        "batches": {"answered": answered, "no_answer": unanswered, "questions": questions},
    })
}

/// How often and for how long the broker has waited.
fn held_up(metrics: &Metrics) -> Value {
    let [login, topic] = Kind::BOTH.map(|kind| metrics.held_up_by(kind));
    json!({"times": login.count() + topic.count(), "seconds": login.seconds() + topic.seconds()})
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "url": endpoint.url,
        "about": match endpoint.set {
            UrlSet::Login => "logins",
            UrlSet::Topic => "topics",
            UrlSet::Batch => "batches",
            UrlSet::Superuser => "superusers",
        },
        "breaker": match (endpoint.is_open, endpoint.is_paused) {
            (true, _) => "open",
            (false, true) => "paused",
            (false, false) => "closed",
        },
        "first": endpoint.is_first,
        "in_flight": endpoint.in_flight,
        "at_a_time": endpoint.at_a_time,
        "latency": endpoint.latency.map(|latency| latency.as_secs_f64()),
    })
}

fn shared_cache(metrics: &Metrics, place: &str, is_up: bool) -> Value {
    let shared = &metrics.shared;
    let lookups: Map<_, _> =
        SharedLookup::ALL.into_iter().map(|it| (it.name().to_owned(), shared.lookups(it).into())).collect();
    let [stored, unstored] = shared.stores();
    let [told, heard] = shared.commands();
    json!({
        "url": place,
        "up": is_up,
        "lookups": lookups,
        "seconds": shared.latency().seconds(),
        "stored": stored,
        "not_stored": unstored,
        "told": told,
        "heard": heard,
    })
}

fn latency(metrics: &Metrics, kind: Kind) -> Value {
    let latency = metrics.latency_of(kind);
    json!({
        "answers": latency.count(),
        "seconds": latency.seconds(),
        "no_answer": metrics.answers_to(kind)[2],
    })
}

/// The answer to `status`.
pub fn status(steering: &Steering) -> Map<String, Value> {
    let mut status = anonymous_figures(steering);
    let refused: Vec<_> = steering
        .refusals()
        .into_iter()
        .map(|(at, line)| json!({"at": unix_time(at), "line": line}))
        .collect();
    status.insert("refused".to_owned(), refused.into());
    let mut learnt = steering.learnt();
    status.insert("templates".to_owned(), learnt.len().into());
    learnt.truncate(SHOWN_TEMPLATES);
    status.insert("learnt".to_owned(), learnt.into());
    status
}

/// What the status page draws for those who have not shown the token.
pub fn figures(steering: &Steering, history: &History) -> Map<String, Value> {
    let mut figures = anonymous_figures(steering);
    figures.insert("minutes".to_owned(), history.minutes(steering.metrics()).into());
    figures
}
