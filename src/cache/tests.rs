use super::room::SWEPT_AT_ONCE;
use super::store::touched::in_step;
use super::*;
use crate::fingerprint::{Domain, Fingerprinter};
use proptest::prelude::*;

fn key(n: u32) -> Fingerprint {
    Fingerprinter::with_key(&[7; 16]).fields(Domain::Client, [&n.to_le_bytes()])
}

fn fresh(verdict: Verdict, since: Instant, lifetime: Duration) -> Fresh {
    let grounds = Grounds::Status(if verdict == Verdict::Allow { 200 } else { 403 });
    Fresh { verdict, grounds, since, lifetime, about: About::default() }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_slot_is_small() {
    assert_eq!(size_of::<Slot>(), 64);
}

#[test]
fn a_verdict_ends_with_its_time_counted_from_sending() {
    let start = Instant::now();
    let mut cache = Cache::new(10, Duration::ZERO, start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    let hit = Hit {
        verdict: Verdict::Allow,
        grounds: Grounds::Status(200),
        refresh: false,
        is_first_use: false,
        terms: None,
    };
    assert_eq!(cache.get(key(1), start + seconds(5)), Some(hit));
    assert_eq!(cache.get(key(1), start + seconds(10)), None);
    assert_eq!(cache.len(), 0);
}

#[test]
fn an_allow_asks_for_its_refresh_once_and_a_deny_never() {
    let start = Instant::now();
    let mut cache = Cache::new(10, Duration::ZERO, start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    cache.insert(key(2), key(2), fresh(Verdict::Deny, start, seconds(10)));
    let mut refresh = |n, at| cache.get(key(n), start + seconds(at)).map(|hit| hit.refresh);
    assert_eq!(refresh(1, 7), Some(false));
    assert_eq!(refresh(1, 9), Some(true));
    assert_eq!(refresh(1, 9), Some(false));
    assert_eq!(refresh(2, 9), Some(false));
}

#[test]
fn an_allow_may_serve_past_its_time_until_a_deny_ends_it() {
    let start = Instant::now();
    let mut cache = Cache::new(10, seconds(20), start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    cache.insert(key(2), key(2), fresh(Verdict::Deny, start, seconds(10)));
    let later = start + seconds(15);
    assert_eq!(cache.get(key(1), later), None);
    assert_eq!(cache.get(key(2), later), None);
    assert!(cache.has_stale_allow(key(1), later));
    assert!(!cache.has_stale_allow(key(2), later));
    assert!(!cache.has_stale_allow(key(1), start + seconds(30)));
    cache.insert(key(1), key(1), fresh(Verdict::Deny, later, seconds(5)));
    assert!(!cache.has_stale_allow(key(1), later));
    cache.insert(key(1), key(1), fresh(Verdict::Deny, later, seconds(0)));
    assert!(!cache.has_stale_allow(key(1), later));
}

#[test]
fn guesses_push_out_nothing_until_they_are_used() {
    let start = Instant::now();
    let mut cache = Cache::new(8, Duration::ZERO, start);
    for n in 0..8 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    for n in 100..200 {
        cache.insert_unused(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    assert_eq!(cache.len(), 8 + 8 / UNUSED_SHARE);
    assert!((0..8).all(|n| cache.peek(key(n), start).is_some()));
    assert_eq!(cache.get(key(100), start).map(|hit| hit.is_first_use), Some(true));
    assert_eq!(cache.get(key(100), start).map(|hit| hit.is_first_use), Some(false));
    assert_eq!(cache.get(key(0), start), None);
}

#[test]
fn what_is_asked_ahead_takes_free_room_until_others_need_it() {
    let start = Instant::now();
    let mut cache = Cache::new(8, Duration::ZERO, start);
    for n in 100..200 {
        cache.insert_unused(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    assert_eq!(cache.len(), 8);
    for n in 0..8 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    assert_eq!(cache.len(), 8 + 8 / UNUSED_SHARE);
    assert!((0..8).all(|n| cache.get(key(n), start).is_some()));
}

#[test]
fn a_verdict_that_was_renewed_ahead_is_unused_until_it_is_used() {
    let start = Instant::now();
    let later = start + seconds(20);
    let mut cache = Cache::new(8, seconds(60), start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    cache.insert_unused(key(1), key(1), fresh(Verdict::Allow, later, seconds(10)));
    assert_eq!(cache.get(key(1), later).map(|hit| hit.is_first_use), Some(true));
    assert_eq!(cache.get(key(1), later).map(|hit| hit.is_first_use), Some(false));
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_flood_of_denies_leaves_the_allows_alone() {
    let start = Instant::now();
    let mut cache = Cache::new(2, Duration::ZERO, start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    for n in 2..200 {
        cache.insert(key(n), key(n), fresh(Verdict::Deny, start, seconds(10)));
    }
    assert!(cache.get(key(1), start).is_some());
    assert_eq!(cache.len(), 3);
}

/// A cache for `bound` allows that holds seven eighths of them, each of another client and used twice.
fn used_twice(bound: u32, stale: Duration, lifetime: Duration, now: Instant) -> Cache {
    let mut cache = Cache::new(bound as usize, stale, now);
    let proven = bound - bound.div_ceil(8);
    for n in 0..proven {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, now, lifetime));
        assert!(cache.get(key(n), now).is_some());
    }
    cache
}

#[test]
fn a_flood_of_verdicts_used_once_displaces_nothing_that_was_used_twice() {
    let start = Instant::now();
    let mut cache = used_twice(8_000, seconds(60), seconds(10), start);
    for n in 0..50_000 {
        let (verdict, flood) = (Verdict::Allow, key(100_000 + n));
        cache.insert(flood, key(200_000 + n), fresh(verdict, start, seconds(1_000)));
        cache.insert_unused(key(300_000 + n), key(n), fresh(verdict, start, seconds(1_000)));
    }
    assert_eq!(cache.allows.len(), 8_000);
    assert!((0..7_000).all(|n| cache.peek(key(n), start).is_some()));
    // Allows that may serve while the API gives no answer stay, too.
    let later = start + seconds(15);
    cache.insert(key(900_000), key(0), fresh(Verdict::Allow, later, seconds(10)));
    assert!((0..7_000).all(|n| cache.has_stale_allow(key(n), later)));
    assert!((0..7_000).all(|n| cache.get(key(n), later).is_none() && cache.has_stale_allow(key(n), later)));
}

#[test]
fn a_new_verdict_finds_room_where_all_others_were_used_twice() {
    let start = Instant::now();
    let mut cache = Cache::new(80, Duration::ZERO, start);
    for n in 0..200 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
        assert!(cache.get(key(n), start).is_some());
        assert!(cache.get(key(n), start).is_some());
    }
    assert_eq!(cache.allows.len(), 80);
    assert!((120..200).all(|n| cache.peek(key(n), start).is_some()), "the newest stay");
}

#[test]
fn a_renewed_verdict_keeps_its_standing() {
    let start = Instant::now();
    let mut cache = used_twice(80, Duration::ZERO, seconds(3_600), start);
    cache.insert(key(0), key(0), fresh(Verdict::Allow, start, seconds(20)));
    assert!(cache.insert_unused(key(1), key(1), fresh(Verdict::Allow, start, seconds(20))));
    cache.insert(key(2), key(2), fresh(Verdict::Deny, start, seconds(20)));
    cache.insert(key(2), key(2), fresh(Verdict::Allow, start, seconds(20)));
    for n in 1_000..2_000 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(20)));
    }
    assert!(cache.peek(key(0), start).is_some());
    assert_eq!(cache.get(key(1), start).map(|hit| hit.is_first_use), Some(true));
    assert!(cache.peek(key(2), start).is_none(), "another verdict has to prove itself anew");
}

#[test]
fn one_client_has_no_more_than_its_share_of_a_full_cache() {
    let start = Instant::now();
    let bound = 32_000;
    let share = share(bound);
    assert_eq!(share, 500);
    let (client, mut cache) = (key(1), Cache::new(bound, Duration::ZERO, start));
    // As long as no other client needs room, one client may have all of it, and it uses all of it twice.
    for n in 0..40_000 {
        cache.insert(key(n), client, fresh(Verdict::Allow, start, seconds(10)));
        cache.get(key(n), start);
    }
    assert_eq!(cache.allows.len(), bound);
    // Once others need room, this client gives it back down to its share, even to verdicts that are used once.
    for n in 0..bound as u32 {
        let other = key(100_000 + n);
        cache.insert(other, other, fresh(Verdict::Allow, start, seconds(10)));
        let folded = |key: Fingerprint| (key.words()[0] % CLIENTS as u64) as u16;
        assert!(n < 500 || cache.allows.held_by(folded(client)) <= bound - n as usize + share);
    }
    let left = (0..40_000).filter(|n| cache.peek(key(*n), start).is_some()).count();
    assert!(left <= share, "{left}");
    let others =
        |cache: &Cache| (0..bound as u32).filter(|n| cache.peek(key(100_000 + n), start).is_some()).count();
    let before = others(&cache);
    // With a flood into the full cache, it pushes out only verdicts of its own.
    for n in 0..40_000 {
        cache.insert(key(n), client, fresh(Verdict::Allow, start, seconds(10)));
        cache.get(key(n), start);
    }
    let left = (0..40_000).filter(|n| cache.peek(key(*n), start).is_some()).count();
    assert!(left <= share, "{left}");
    assert!(others(&cache) + share >= before, "{} of {before}", others(&cache));
}

#[test]
fn what_is_asked_ahead_for_a_message_waits_for_the_broker() {
    let start = Instant::now();
    let mut cache = used_twice(8_000, Duration::ZERO, seconds(3_600), start);
    let lifetime = seconds(3_600);
    let bound = 2_000;
    assert_eq!(cache.room_unused(), bound);
    let kept = (10_000..16_000)
        .take_while(|n| cache.insert_unused(key(*n), key(*n), fresh(Verdict::Allow, start, lifetime)));
    assert_eq!(kept.count(), bound, "the first ones stay");
    assert_eq!(cache.room_unused(), 0);
    // As the broker comes for them one by one, there is room for the next ones.
    for n in 10_000..16_000 {
        assert_eq!(cache.get(key(n), start).map(|hit| hit.is_first_use), Some(true), "{n}");
        assert!(cache.insert_unused(key(n + 2_000), key(n), fresh(Verdict::Allow, start, lifetime)));
    }
    // Verdicts that the broker did not come for make room once they have waited for too long, or have ended.
    assert!(!cache.insert_unused(
        key(1_000_000),
        key(1),
        fresh(Verdict::Allow, start + seconds(29), lifetime)
    ));
    assert!(cache.insert_unused(
        key(1_000_000),
        key(1),
        fresh(Verdict::Allow, start + seconds(31), lifetime)
    ));
    assert!(cache.peek(key(16_000), start).is_none());
}

#[test]
fn what_one_client_is_asked_ahead_for_leaves_room_for_others() {
    let start = Instant::now();
    let mut cache = used_twice(8_000, Duration::ZERO, seconds(3_600), start);
    for n in 10_000..20_000 {
        cache.insert_unused(key(n), key(1), fresh(Verdict::Allow, start, seconds(60)));
    }
    // Clients are told apart by a few bits: those that pass for the first one are left out.
    let client = |n| key(n).words()[0] % CLIENTS as u64;
    let others = (20_000..).filter(|n| client(*n) != client(1)).take(2_000 - SMALLEST);
    for n in others {
        assert!(cache.insert_unused(key(n), key(n), fresh(Verdict::Allow, start, seconds(60))));
    }
    assert!((10_000..10_000 + SMALLEST as u32 - 10).all(|n| cache.peek(key(n), start).is_some()));
    assert!(!cache.insert_unused(key(1), key(1), fresh(Verdict::Deny, start, seconds(60))));
}

/// The broker goes through the readers of a message in an order of its own, and the plugin in another.
#[test]
fn what_is_asked_about_readers_is_kept_whatever_else_is_remembered() {
    let start = Instant::now();
    let mut cache = used_twice(8_000, Duration::ZERO, seconds(3_600), start);
    let readers = 20_000..38_000;
    for n in readers.clone() {
        assert!(cache.insert_awaited(key(n), key(n), fresh(Verdict::Allow, start, seconds(60))));
    }
    assert!(readers.clone().rev().all(|n| cache.get(key(n), start).is_some_and(|hit| hit.is_first_use)));
    assert_eq!(cache.allows.len(), 8_000);
    assert!((0..7_000).all(|n| cache.peek(key(n), start).is_some()), "what was used twice stays");
}

#[test]
fn readers_that_the_broker_did_not_come_for_take_bounded_room() {
    let start = Instant::now();
    let mut cache = Cache::new(8, Duration::ZERO, start);
    cache.awaited_bound = 1_000;
    for n in 0..5_000 {
        let is_kept = cache.insert_awaited(key(n), key(n), fresh(Verdict::Allow, start, seconds(60)));
        assert_eq!(is_kept, n < 1_000, "{n}");
    }
    assert_eq!(cache.len(), 1_000);
    // Those that have ended make room for twice as many as come, without a look at all of them.
    let later = start + seconds(61);
    for n in 0..500 {
        cache.insert_awaited(key(10_000 + n), key(n), fresh(Verdict::Allow, later, seconds(60)));
    }
    assert_eq!(cache.len(), 500);
}

const SMALLEST: usize = 256;

#[test]
fn what_has_ended_takes_no_room() {
    let start = Instant::now();
    let mut cache = Cache::new(20_000, seconds(1), start);
    for n in 0..20_000 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
        cache.insert_unused(key(100_000 + n), key(n), fresh(Verdict::Deny, start, seconds(10)));
        cache.get(key(n), start);
    }
    let later = start + seconds(12);
    for n in 200_000..206_000 {
        assert!(cache.insert_unused(key(n), key(n), fresh(Verdict::Allow, later, seconds(10))));
    }
    assert!((200_000..206_000).all(|n| cache.get(key(n), later).is_some_and(|hit| hit.is_first_use)));
    for n in 300_000..314_000 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, later, seconds(10)));
    }
    assert!((200_000..206_000).all(|n| cache.get(key(n), later).is_some()));
    assert!((300_000..314_000).all(|n| cache.get(key(n), later).is_some()));
}

#[test]
fn a_lower_bound_is_reached_in_steps() {
    let start = Instant::now();
    let mut cache = Cache::new(20_000, Duration::ZERO, start);
    for n in 0..20_000 {
        cache.insert(key(n), key(n % 3), fresh(Verdict::Allow, start, seconds(10)));
        cache.get(key(n), start);
    }
    cache.configure(100, Duration::ZERO);
    for n in 0..3_000 {
        cache.insert(key(100_000 + n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    assert_eq!(cache.len(), 100);
    cache.configure(0, Duration::ZERO);
    assert!(cache.is_empty());
}

#[test]
fn what_was_cleared_is_forgotten() {
    let start = Instant::now();
    let mut cache = Cache::new(20_000, seconds(1), start);
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    assert_eq!(cache.len(), 1);
    cache.clear();
    assert!(cache.is_empty() && cache.get(key(1), start).is_none());
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    assert!(cache.get(key(1), start).is_some());
    cache.clear();
    assert!(cache.get(key(1), start).is_none());
}

/// However much is held, clearing it is one step, and giving its memory back many.
#[test]
fn the_memory_of_a_cleared_cache_is_given_back_in_steps() {
    let start = Instant::now();
    let mut cache = Cache::new(500_000, Duration::ZERO, start);
    for n in 0..500_000 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    cache.clear();
    assert!(cache.is_empty());
    let steps = (0..).take_while(|_| {
        cache.tend();
        !cache.remains.is_empty()
    });
    assert!((2..100).contains(&steps.count()));
    // Where nothing tends it, each verdict that is put in gives something back.
    cache.insert(key(1), key(1), fresh(Verdict::Allow, start, seconds(10)));
    cache.clear();
    for n in 0..300 {
        cache.insert(key(n), key(n), fresh(Verdict::Allow, start, seconds(10)));
    }
    assert!(cache.remains.is_empty());
    assert_eq!(cache.len(), 300);
}

/// However much is held, and also where it grows, is swept and is full: the slots that one step looks at are bounded.
#[test]
fn no_step_takes_long() {
    let start = Instant::now();
    for size in [100_000, 400_000] {
        let keys: Vec<_> = (0..2 * size).map(key).collect();
        let mut cache = Cache::new(size as usize, Duration::ZERO, start);
        let steps: Vec<usize> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| {
                // A quarter has ended by the time at which the second half comes.
                let life = if n < keys.len() / 4 { 10 } else { 100 };
                let since = start + seconds(if n < keys.len() / 2 { 0 } else { 20 });
                in_step(|| cache.insert(*key, *key, fresh(Verdict::Allow, since, seconds(life))))
            })
            .collect();
        let longest = steps.iter().max().copied().unwrap_or_default();
        let mean = steps.iter().sum::<usize>() / steps.len();
        assert!(longest < 2 * SWEPT_AT_ONCE && mean < 50, "{size}: {longest}, in the mean {mean}");
        let hit = keys.iter().map(|key| in_step(|| cache.get(*key, start + seconds(21)))).max();
        assert!(hit < Some(40), "{size}: {hit:?}");
        assert_eq!(in_step(|| cache.clear()), 0);
    }
}

mod model;
