//! The metrics as Prometheus reads them: one row a family. The page in the documentation is made from the rows.
mod shared_cache;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::endpoint::name_of;
use super::{DecidedBy, Endpoint, Histogram, Metrics};
use crate::cache::Counts;
use crate::config::UrlSet;
use crate::question::Kind;

/// In front of each name.
const PREFIX: &str = "mosquitto_http_auth";

/// What is not counted, but is so at this moment.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// All URLs.
    pub endpoints: Vec<Endpoint>,
    /// What the cache holds.
    pub cache: Counts,
    /// Questions that wait to be asked.
    pub queued: usize,
    /// Clients that wait for their logins.
    pub parked: usize,
    /// Bytes that rules take which came with answers.
    pub rules: usize,
    /// Whether both kinds of question can be decided.
    pub is_ready: bool,
    /// The cache that several brokers share, if there is one: where, and whether it can be asked.
    pub shared_cache: Option<(String, bool)>,
}

/// A value with its labels.
type Sample = (Vec<(&'static str, String)>, Value);

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram { buckets: Vec<(f64, u64)>, seconds: f64 },
}

impl Value {
    fn of(histogram: &Histogram) -> Self {
        Value::Histogram { buckets: histogram.buckets(), seconds: histogram.seconds() }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Value::Counter(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Value::Gauge(value) => encoder.encode_gauge(value),
            Value::Histogram { buckets, seconds } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*seconds, count, buckets, None)
            }
        }
    }
}

/// Some metrics with one name.
struct Family {
    /// Without prefix, unit and the `_total` of counters.
    name: &'static str,
    unit: Option<fn() -> Unit>,
    kind: MetricType,
    help: &'static str,
    samples: fn(&Metrics, &Gauges) -> Vec<Sample>,
}

const COUNTER: MetricType = MetricType::Counter;
const GAUGE: MetricType = MetricType::Gauge;
const HISTOGRAM: MetricType = MetricType::Histogram;
const SECONDS: Option<fn() -> Unit> = Some(|| Unit::Seconds);

const FAMILIES: &[Family] = &[
    Family {
        name: "build",
        unit: None,
        kind: MetricType::Info,
        help: "The plugin's version",
        samples: |_, _| vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], Value::Gauge(1.0))],
    },
    Family {
        name: "start_time",
        unit: SECONDS,
        kind: GAUGE,
        help: "When the plugin was started, in Unix time",
        samples: |metrics, _| one(Value::Gauge(unix(metrics.started()))),
    },
    Family {
        name: "ready",
        unit: None,
        kind: GAUGE,
        help: "1 if logins and topics can be decided; 0 while all URLs for one of them are left alone",
        samples: |_, gauges| one(Value::Gauge(f64::from(u8::from(gauges.is_ready)))),
    },
    Family {
        name: "decisions",
        unit: None,
        kind: COUNTER,
        help: "What was decided, by question (login, read, write, subscribe), result (allow, deny, defer: left to others, \
               no_answer) and source (local, api, cache, stale, throttle, rules, no_answer: the API gave none or is left \
               alone, unasked: nothing was needed to decide, or there was no room or time)",
        samples: |metrics, _| {
            let labels = |decisions: &super::Decisions| {
                vec![
                    ("question", decisions.question.name().to_owned()),
                    ("result", decisions.outcome.name().to_owned()),
                    ("source", decisions.by.name().to_owned()),
                ]
            };
            metrics.decisions().map(|it| (labels(&it), Value::Counter(it.count))).collect()
        },
    },
    Family {
        name: "throttled_logins",
        unit: None,
        kind: COUNTER,
        help: "Logins that were refused unseen after too many wrong passwords",
        samples: |metrics, _| {
            let throttled = metrics.decisions().filter(|it| it.by == DecidedBy::Throttle);
            one(Value::Counter(throttled.map(|it| it.count).sum()))
        },
    },
    Family {
        name: "api_answers",
        unit: None,
        kind: COUNTER,
        help: "Questions to the API that have ended, by question (login, topic) and result (allow, deny, no_answer)",
        samples: |metrics, _| {
            let of = |kind: Kind| {
                let counts = metrics.answers_to(kind).into_iter().zip(["allow", "deny", "no_answer"]);
                counts.map(move |(count, result)| {
                    let labels = vec![("question", name_of(kind).to_owned()), ("result", result.to_owned())];
                    (labels, Value::Counter(count))
                })
            };
            Kind::BOTH.into_iter().flat_map(of).collect()
        },
    },
    Family {
        name: "api_batches",
        unit: None,
        kind: COUNTER,
        help: "Requests with many questions about topics (acl_batch_url), by result (answered, no_answer: each of the \
               questions was asked once more, alone)",
        samples: |metrics, _| {
            let [answered, unanswered, _] = metrics.together();
            let labelled =
                |(count, result): (u64, &str)| (vec![("result", result.to_owned())], Value::Counter(count));
            [(answered, "answered"), (unanswered, "no_answer")].map(labelled).into()
        },
    },
    Family {
        name: "api_batched_questions",
        unit: None,
        kind: COUNTER,
        help: "The questions in these requests",
        samples: |metrics, _| one(Value::Counter(metrics.together()[2])),
    },
    Family {
        name: "api_answer",
        unit: SECONDS,
        kind: HISTOGRAM,
        help: "How long the API took for each verdict, from the moment that the question was sent, fail-over included",
        samples: |metrics, _| each_kind(|kind| Value::of(metrics.latency_of(kind))),
    },
    Family {
        name: "broker_held_up",
        unit: SECONDS,
        kind: HISTOGRAM,
        help: "How long the broker, and with it every client, stood still each time that it waited for an answer, or computed a slow hash",
        samples: |metrics, _| each_kind(|kind| Value::of(metrics.held_up_by(kind))),
    },
    Family {
        name: "api_in_flight",
        unit: None,
        kind: GAUGE,
        help: "Requests that are on their way to a URL; `topics` are those with many questions about topics (acl_batch_url), \
               `superuser` those whether a user may do everything",
        samples: |_, gauges| each_url(gauges, |endpoint| endpoint.in_flight as f64),
    },
    Family {
        name: "api_at_a_time",
        unit: None,
        kind: GAUGE,
        help: "How many requests may be on their way to a URL at a time, as was found out from how long it takes",
        samples: |_, gauges| each_url(gauges, |endpoint| endpoint.at_a_time as f64),
    },
    Family {
        name: "api_left_alone",
        unit: None,
        kind: GAUGE,
        help: "1 while a URL is left alone: its breaker is open, it asked for a pause (429), or it gave no right answer to many \
               questions",
        samples: |_, gauges| {
            each_url(gauges, |endpoint| f64::from(u8::from(endpoint.is_open || endpoint.is_paused)))
        },
    },
    Family {
        name: "queued",
        unit: None,
        kind: GAUGE,
        help: "Questions that wait in the plugin to be asked",
        samples: |_, gauges| one(Value::Gauge(gauges.queued as f64)),
    },
    Family {
        name: "parked_clients",
        unit: None,
        kind: GAUGE,
        help: "Clients that wait beside the broker's loop for their logins",
        samples: |_, gauges| one(Value::Gauge(gauges.parked as f64)),
    },
    Family {
        name: "cache_entries",
        unit: None,
        kind: GAUGE,
        help: "Remembered verdicts (allow, deny), and those that were asked for early and not used yet (early)",
        samples: |_, gauges| {
            let Counts { allows, denies, early, .. } = gauges.cache;
            let entry = |(name, count): (&str, usize)| {
                (vec![("verdict", name.to_owned())], Value::Gauge(count as f64))
            };
            [("allow", allows), ("deny", denies), ("early", early)].into_iter().map(entry).collect()
        },
    },
    Family {
        name: "cache_size",
        unit: None,
        kind: GAUGE,
        help: "How many allows may be remembered, and as many denies (cache_size)",
        samples: |_, gauges| one(Value::Gauge(gauges.cache.bound as f64)),
    },
    Family {
        name: "rules",
        unit: Some(|| Unit::Bytes),
        kind: GAUGE,
        help: "Bytes of the topic rules that came with answers and are remembered or in force (answer_rules)",
        samples: |_, gauges| one(Value::Gauge(gauges.rules as f64)),
    },
    Family {
        name: "cache_evictions",
        unit: None,
        kind: COUNTER,
        help: "Verdicts that still held and were removed to make room",
        samples: |_, gauges| one(Value::Counter(gauges.cache.evicted)),
    },
    Family {
        name: "kicks",
        unit: None,
        kind: COUNTER,
        help: "Clients that were disconnected by a command, since the API refused them when asked again, or at the end that its answer has set (expire_at)",
        samples: |metrics, _| one(Value::Counter(metrics.kicks())),
    },
    Family {
        name: "reloads",
        unit: None,
        kind: COUNTER,
        help: "How often files were read again (SIGHUP), by result (ok, error: nothing was taken over)",
        samples: |metrics, _| each_of(metrics.reloads(), "result", ["ok", "error"]),
    },
    Family {
        name: "last_reload_success_timestamp",
        unit: SECONDS,
        kind: GAUGE,
        help: "When files were read last and taken over, in Unix time; the start counts",
        samples: |metrics, _| {
            let last = metrics.last_reload().success.unwrap_or(metrics.started());
            one(Value::Gauge(unix(last)))
        },
    },
];

/// All of them.
fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().chain(shared_cache::FAMILIES)
}

fn one(value: Value) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

/// Two counts that a label tells apart.
fn each_of(counts: [u64; 2], label: &'static str, values: [&str; 2]) -> Vec<Sample> {
    let sample = |(count, value): (u64, &str)| (vec![(label, value.to_owned())], Value::Counter(count));
    counts.into_iter().zip(values).map(sample).collect()
}

fn each_kind(value: impl Fn(Kind) -> Value) -> Vec<Sample> {
    Kind::BOTH.map(|kind| (vec![("question", name_of(kind).to_owned())], value(kind))).into()
}

/// A URL that is named twice for the same question counts once, as it answers.
fn each_url(gauges: &Gauges, value: impl Fn(&Endpoint) -> f64) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    for endpoint in &gauges.endpoints {
        let labels = vec![("url", endpoint.url.clone()), ("question", name_of(endpoint.set).to_owned())];
        if samples.iter().all(|(others, _)| *others != labels) {
            samples.push((labels, Value::Gauge(value(endpoint))));
        }
    }
    samples
}

/// A moment in Unix time.
pub fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The values of all families at one moment.
#[derive(Debug)]
struct Snapshot(Vec<Vec<Sample>>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (family, samples) in families().zip(&self.0) {
            let unit = family.unit.map(|unit| unit());
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), family.kind)?;
            for (labels, value) in samples {
                match (family.kind, labels.as_slice()) {
                    (MetricType::Info, labels) => encoder.encode_info(&labels)?,
                    (_, []) => value.encode(&mut encoder)?,
                    (_, labels) => value.encode(&mut encoder.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    pub fn as_text(&self, gauges: &Gauges) -> String {
        let samples = families().map(|family| (family.samples)(self, gauges)).collect();
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Snapshot(samples)));
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// The table of metrics in the documentation, which `tests/readme/generated.rs` writes and checks.
pub fn metrics_as_markdown() -> String {
    let metrics = Metrics::new();
    let endpoint = Endpoint {
        url: String::new(),
        set: UrlSet::Login,
        is_open: false,
        is_paused: false,
        is_first: true,
        in_flight: 0,
        at_a_time: 0,
        latency: None,
    };
    let gauges = Gauges {
        endpoints: vec![endpoint],
        cache: Counts::default(),
        queued: 0,
        parked: 0,
        rules: 0,
        is_ready: true,
        shared_cache: Some((String::new(), true)),
    };
    let mut text = "| metric | type | labels | what it tells |\n|---|---|---|---|\n".to_owned();
    for family in families() {
        let samples = (family.samples)(&metrics, &gauges);
        let labels = samples.first().map_or(&[][..], |(labels, _)| labels);
        let labels: Vec<_> = labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let unit = family.unit.map_or_else(String::new, |unit| format!("_{}", unit().as_str()));
        let suffix = match family.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        text += &format!(
            "| `{PREFIX}_{}{unit}{suffix}` | {} | {} | {} |\n",
            family.name,
            family.kind.as_str(),
            labels.join(", "),
            family.help,
        );
    }
    text
}
