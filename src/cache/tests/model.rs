//! Compares the cache with a plain model: one vector of verdicts, searched for the one that goes first by the rules.
use super::*;

#[derive(Debug, Clone, Copy)]
struct Held {
    key: u32,
    client: u16,
    verdict: Verdict,
    place: PartName,
    is_proven: bool,
    is_unused: bool,
    is_to_refresh: bool,
    since: u64,
    ends: u64,
    lifetime: u64,
    /// The step at which it was last used or moved.
    used: u64,
    /// The step at which it was put in or moved.
    came: u64,
}

/// Times are in whole seconds.
struct Model {
    bound: usize,
    share: usize,
    stale: u64,
    awaited: usize,
    held: Vec<Held>,
    steps: u64,
    swept: Option<u64>,
}

fn home(verdict: Verdict) -> PartName {
    if verdict == Verdict::Allow { PartName::Allows } else { PartName::Denies }
}

impl Model {
    fn count(&self, place: PartName) -> usize {
        self.held.iter().filter(|held| held.place == place).count()
    }

    fn held_by(&self, place: PartName, client: u16) -> usize {
        self.held.iter().filter(|held| held.place == place && held.client == client).count()
    }

    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn take(&mut self, key: u32) -> Option<Held> {
        let index = self.held.iter().position(|held| held.key == key)?;
        Some(self.held.remove(index))
    }

    fn end(&self, held: &Held) -> u64 {
        held.ends + if held.verdict == Verdict::Allow { self.stale } else { 0 }
    }

    fn unused_bound(&self) -> usize {
        (self.bound / 4).max(self.bound.saturating_sub(self.count(PartName::Allows)))
    }

    fn greediest(&self, place: PartName, newcomer: Option<u16>) -> Option<u16> {
        let share = if place == PartName::Awaited { share(self.awaited) } else { self.share };
        let is_above = |client: &u16| self.held_by(place, *client) > share;
        let clients = self.held.iter().map(|held| held.client);
        newcomer
            .filter(is_above)
            .or_else(|| clients.filter(is_above).max_by_key(|client| (self.held_by(place, *client), *client)))
    }

    fn is_over(&self, place: PartName) -> bool {
        let bound = match place {
            PartName::Unused => self.unused_bound(),
            PartName::Awaited => self.awaited,
            _ => self.bound,
        };
        self.count(place) > bound
    }

    fn make_room(&mut self, place: PartName, newcomer: Option<u16>) {
        while self.is_over(place) {
            let greedy = self.greediest(place, newcomer);
            let of_client = self
                .held
                .iter()
                .filter(|held| held.place == place && greedy.is_none_or(|client| held.client == client));
            // Seven eighths are for what was used twice.
            let proven = of_client.clone().filter(|held| held.is_proven).count();
            let most = greedy.map_or(self.bound, |client| self.held_by(place, client));
            let new_first = proven <= most - most.div_ceil(8);
            let order = |held: &&Held| {
                (held.is_proven == new_first, if greedy.is_some() { held.came } else { held.used })
            };
            let key = of_client.min_by_key(order).unwrap().key;
            self.take(key);
        }
    }

    fn make_room_early(&mut self, place: PartName, newcomer: Option<u16>, now: u64) {
        while self.is_over(place) {
            let waiting = || self.held.iter().filter(|held| held.place == place);
            let oldest = waiting().min_by_key(|held| held.came).unwrap();
            let key = if now >= oldest.ends.min(oldest.since + 30) {
                oldest.key
            } else {
                let greedy = self.greediest(place, newcomer);
                let of_client = waiting().filter(|held| greedy.is_none_or(|client| held.client == client));
                of_client.max_by_key(|held| held.came).unwrap().key
            };
            self.take(key);
        }
    }

    fn sweep(&mut self, now: u64) {
        if self.swept.is_none_or(|swept| now > swept) {
            self.swept = Some(now);
            let ends: Vec<u64> = self.held.iter().map(|held| self.end(held)).collect();
            let mut ends = ends.into_iter();
            self.held.retain(|_| ends.next().unwrap() > now);
        }
    }

    /// The two oldest verdicts about readers go if they have ended.
    fn forget_ended_readers(&mut self, now: u64) {
        for _ in 0..2 {
            let awaited = self.held.iter().filter(|held| held.place == PartName::Awaited);
            match awaited.min_by_key(|held| held.came).filter(|oldest| now >= oldest.ends).map(|it| it.key) {
                Some(key) => drop(self.take(key)),
                None => return,
            }
        }
    }

    /// `early`: where it waits for its first use, unless it is one.
    fn insert(
        &mut self,
        key: u32,
        client: u16,
        verdict: Verdict,
        now: u64,
        lifetime: u64,
        early: Option<PartName>,
    ) {
        if early == Some(PartName::Awaited) {
            self.forget_ended_readers(now);
        }
        let is_unused = early.is_some();
        let known = self.take(key).filter(|known| known.verdict == verdict);
        if lifetime == 0 || self.bound == 0 {
            return;
        }
        let keeps_place = known.is_some_and(|known| known.place == home(verdict));
        let place = early.filter(|_| !keeps_place).unwrap_or_else(|| home(verdict));
        let is_proven = known.is_some_and(|known| known.is_proven);
        let step = self.step();
        let (since, ends, is_to_refresh) = (now, now + lifetime, verdict == Verdict::Allow);
        self.held.push(Held {
            key,
            client,
            verdict,
            place,
            is_proven,
            is_unused,
            is_to_refresh,
            since,
            ends,
            lifetime,
            used: step,
            came: step,
        });
        let is_over = match early {
            Some(early) => self.is_over(early),
            None => self.is_over(PartName::Unused) || self.is_over(home(verdict)),
        };
        if is_over {
            self.sweep(now);
            if let Some(early) = early {
                self.make_room_early(early, Some(client), now);
            } else {
                self.make_room(place, Some(client));
                self.make_room_early(PartName::Unused, None, now);
            }
        }
    }

    fn get(&mut self, key: u32, now: u64) -> Option<Hit> {
        let mut held = self.take(key)?;
        if now >= self.end(&held) {
            return None;
        }
        let step = self.step();
        held.used = step;
        let grounds = Grounds::Status(if held.verdict == Verdict::Allow { 200 } else { 403 });
        let mut hit =
            Hit { verdict: held.verdict, grounds, refresh: false, is_first_use: held.is_unused, terms: None };
        if held.place.is_early() {
            (held.place, held.is_unused, held.came) = (home(held.verdict), false, step);
            self.held.push(held);
            self.make_room(held.place, Some(held.client));
            self.make_room_early(PartName::Unused, None, now);
            return (now < held.ends).then_some(hit);
        }
        if !held.is_proven {
            (held.is_proven, held.came) = (true, step);
        }
        let is_current = now < held.ends;
        if is_current {
            held.is_unused = false;
            // The cache counts in whole ticks.
            hit.refresh = held.is_to_refresh && (held.ends - now) * 16 <= held.lifetime * 16 / 5;
            held.is_to_refresh &= !hit.refresh;
        }
        self.held.push(held);
        is_current.then_some(hit)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert { key: u32, allow: bool, lifetime: u64, early: Option<PartName> },
    Get(u32),
    Forget(u32),
    Wait(u64),
}

const KEYS: u32 = 24;

fn step() -> impl Strategy<Value = Step> {
    let allow = prop::bool::weighted(0.7);
    let early = prop::sample::select(vec![None, Some(PartName::Unused), Some(PartName::Awaited)]);
    let insert = (0..KEYS, allow, 0..60u64, early);
    prop_oneof![
        6 => insert.prop_map(|(key, allow, lifetime, early)| Step::Insert { key, allow, lifetime, early }),
        6 => (0..KEYS).prop_map(Step::Get),
        1 => (0..KEYS).prop_map(Step::Forget),
        2 => (0..20u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn behaves_like_the_model(
        steps in prop::collection::vec(step(), 0..200),
        bound in 0..20usize,
        share in 1..8usize,
        stale in prop::sample::select(vec![0u64, 10]),
        awaited in 1..20usize,
    ) {
        let start = Instant::now();
        let mut now = 0;
        let mut cache = Cache::new(bound, seconds(stale), start);
        (cache.share, cache.awaited_bound) = (share, awaited);
        let mut model = Model { bound, share, stale, awaited, held: Vec::new(), steps: 0, swept: None };
        for step in steps {
            let at = start + seconds(now);
            match step {
                Step::Insert { key: k, allow, lifetime, early } => {
                    let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                    let client = key(1_000 + k % 5);
                    let fresh = fresh(verdict, at, seconds(lifetime));
                    match early {
                        Some(PartName::Awaited) => drop(cache.insert_awaited(key(k), client, fresh)),
                        Some(_) => drop(cache.insert_unused(key(k), client, fresh)),
                        None => cache.insert(key(k), client, fresh),
                    }
                    let folded = (client.words()[0] % CLIENTS as u64) as u16;
                    model.insert(k, folded, verdict, now, lifetime, early);
                }
                Step::Get(k) => prop_assert_eq!(cache.get(key(k), at), model.get(k, now)),
                Step::Forget(k) => {
                    cache.forget(key(k));
                    model.take(k);
                }
                Step::Wait(time) => now += time,
            }
            let at = start + seconds(now);
            for k in 0..KEYS {
                let held = model.held.iter().find(|held| held.key == k);
                let is_there = cache.store.find(key(k)).is_some();
                prop_assert_eq!(is_there, held.is_some(), "{}", k);
                let verdict = held.filter(|held| now < held.ends).map(|held| held.verdict);
                prop_assert_eq!(cache.peek(key(k), at), verdict);
                let serves = held.is_some_and(|held| held.place == PartName::Allows && now < model.end(held));
                prop_assert_eq!(cache.has_stale_allow(key(k), at), serves);
            }
            prop_assert_eq!(cache.len(), model.held.len());
            let room = model.unused_bound().saturating_sub(model.count(PartName::Unused));
            prop_assert_eq!(cache.room_unused(), room);
        }
    }

    /// As long as the cache is not full it is a map: each verdict that was put in is there until its end.
    #[test]
    fn is_a_plain_map_while_it_is_not_full(steps in prop::collection::vec(step(), 0..200)) {
        let start = Instant::now();
        let mut now = start;
        let mut cache = Cache::new(KEYS as usize, Duration::ZERO, start);
        cache.share = 1;
        let mut map = std::collections::HashMap::new();
        for step in steps {
            match step {
                Step::Insert { key: k, allow, lifetime, early } => {
                    let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                    let fresh = fresh(verdict, now, seconds(lifetime));
                    match early {
                        Some(PartName::Awaited) => {
                            prop_assert_eq!(cache.insert_awaited(key(k), key(0), fresh), lifetime > 0);
                        }
                        Some(_) => prop_assert_eq!(cache.insert_unused(key(k), key(0), fresh), lifetime > 0),
                        None => cache.insert(key(k), key(0), fresh),
                    }
                    map.insert(k, (verdict, now + seconds(lifetime)));
                }
                Step::Get(k) => {
                    let expected = map.get(&k).filter(|(_, ends)| now < *ends).map(|(verdict, _)| *verdict);
                    prop_assert_eq!(cache.get(key(k), now).map(|hit| hit.verdict), expected);
                }
                Step::Forget(k) => {
                    cache.forget(key(k));
                    map.remove(&k);
                }
                Step::Wait(time) => now += seconds(time),
            }
        }
    }
}
