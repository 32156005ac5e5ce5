//! The families about the cache that several brokers share: none of them has a value where there is no such cache.

use super::{COUNTER, Family, GAUGE, Gauges, HISTOGRAM, SECONDS, Sample, Value, each_of, one};
use crate::metrics::SharedLookup;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "shared_cache_up",
        unit: None,
        kind: GAUGE,
        help: "1 while the shared cache is asked, 0 while it is left alone since it is slow or away",
        samples: |_, gauges| {
            let up = |(_, is_up): &(String, bool)| Value::Gauge(f64::from(u8::from(*is_up)));
            gauges.shared_cache.iter().flat_map(|shared| one(up(shared))).collect()
        },
    },
    Family {
        name: "shared_cache_lookups",
        unit: None,
        kind: COUNTER,
        help: "Questions for which the shared cache was asked, by result (hit, miss, old: ended or taken back, foreign: not \
               signed by these brokers, error: no answer in time)",
        samples: |metrics, gauges| {
            let result = |it: SharedLookup| {
                (vec![("result", it.name().to_owned())], Value::Counter(metrics.shared.lookups(it)))
            };
            if_shared(gauges, || SharedLookup::ALL.into_iter().map(result).collect())
        },
    },
    Family {
        name: "shared_cache_lookup",
        unit: SECONDS,
        kind: HISTOGRAM,
        help: "How long questions waited for the shared cache",
        samples: |metrics, gauges| if_shared(gauges, || one(Value::of(metrics.shared.latency()))),
    },
    Family {
        name: "shared_cache_stores",
        unit: None,
        kind: COUNTER,
        help: "Verdicts that were to be stored in the shared cache, by result (ok, error)",
        samples: |metrics, gauges| {
            if_shared(gauges, || each_of(metrics.shared.stores(), "result", ["ok", "error"]))
        },
    },
    Family {
        name: "shared_cache_commands",
        unit: None,
        kind: COUNTER,
        help: "Commands (forget, kick, recheck) between brokers, by way (told: to the others, heard: of another)",
        samples: |metrics, gauges| {
            if_shared(gauges, || each_of(metrics.shared.commands(), "way", ["told", "heard"]))
        },
    },
];

/// These, where a cache is shared.
fn if_shared(gauges: &Gauges, samples: impl FnOnce() -> Vec<Sample>) -> Vec<Sample> {
    if gauges.shared_cache.is_some() { samples() } else { Vec::new() }
}
