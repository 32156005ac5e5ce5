use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The default of `max_requests`.
const CEILING: usize = 64;

/// How an API works on more questions than it has workers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Discipline {
    /// One after the other.
    Queue,
    /// On all of them, each a little at a time.
    Share,
}

/// A question that was sent, in the order in which they were.
struct Sent {
    flight: Flight,
    at: Instant,
    /// Seconds of work that are left.
    left: f64,
    in_time: bool,
    /// Whether it keeps another from being asked: until its time is over, unless it hangs.
    has_place: bool,
}

/// An API, and somebody who always has more to ask.
struct World {
    workers: usize,
    discipline: Discipline,
    limit: Limit,
    now: Instant,
    sent: Vec<Sent>,
    answers: usize,
    last_answer: Option<Instant>,
    time_outs: usize,
    /// Of these, those that too many questions are to blame for.
    overloads: usize,
    /// The fewest and the most that were allowed at a time since this was set.
    seen: (usize, usize),
}

impl World {
    fn new(workers: usize, discipline: Discipline, ceiling: usize) -> Self {
        let now = Instant::now();
        Self {
            workers,
            discipline,
            limit: Limit::new(ceiling, TIMEOUT),
            now,
            sent: Vec::new(),
            answers: 0,
            last_answer: None,
            time_outs: 0,
            overloads: 0,
            seen: (usize::MAX, 0),
        }
    }

    fn any_number() -> Self {
        Self::new(10_000, Discipline::Share, CEILING)
    }

    fn elapsed(&self, since: Instant) -> f64 {
        (self.now - since).as_secs_f64()
    }

    /// Asks so many questions as fast as the limit allows, each of them so many seconds of work, and waits until the
    /// last has been answered. Returns how long that takes.
    fn ask(&mut self, questions: usize, mut work: impl FnMut(usize) -> f64) -> f64 {
        let (began, mut asked) = (self.now, 0);
        while asked < questions || !self.sent.is_empty() {
            let allowed = self.limit.at_a_time();
            self.seen = (self.seen.0.min(allowed), self.seen.1.max(allowed));
            while asked < questions && self.sent.iter().filter(|it| it.has_place).count() < allowed {
                let flight = self.limit.sent(self.now);
                self.sent.push(Sent {
                    flight,
                    at: self.now,
                    left: work(asked),
                    in_time: true,
                    has_place: true,
                });
                asked += 1;
            }
            self.step();
        }
        self.elapsed(began)
    }

    /// Has those that hang make room.
    fn make_room(&mut self) {
        let mut passed_over = self.sent.iter().filter(|it| !it.has_place).count();
        for question in self.sent.iter_mut().filter(|it| it.has_place) {
            if self.now >= question.at + self.limit.hangs_after()
                && self.limit.hangs(question.at, passed_over)
            {
                question.has_place = false;
                passed_over += 1;
            }
        }
    }

    /// Goes on to the next answer or time-out, or until it is time to see who hangs.
    fn step(&mut self) {
        self.make_room();
        let rate = |place: usize| match self.discipline {
            Discipline::Queue => f64::from(u8::from(place < self.workers)),
            Discipline::Share => (self.workers as f64 / self.sent.len() as f64).min(1.0),
        };
        let (mut next, mut after) = (0, f64::MAX);
        for (place, question) in self.sent.iter().enumerate() {
            let answer = question.left / rate(place);
            let time_out = (question.at + TIMEOUT).saturating_duration_since(self.now).as_secs_f64();
            let event = if question.in_time { answer.min(time_out) } else { answer };
            if event < after {
                (next, after) = (place, event);
            }
        }
        let hangs_after = self.limit.hangs_after();
        let looks = self.sent.iter().filter(|it| it.has_place).map(|question| {
            let at = question.at + hangs_after;
            if at > self.now { (at - self.now).as_secs_f64() + 1e-6 } else { 0.050 }
        });
        let look = looks.fold(f64::MAX, f64::min);
        let is_look = look < after;
        after = after.min(look);
        let rates: Vec<f64> = (0..self.sent.len()).map(rate).collect();
        for (question, rate) in self.sent.iter_mut().zip(rates) {
            question.left = (question.left - after * rate).max(0.0);
        }
        self.now += Duration::from_secs_f64(after);
        if is_look {
            return;
        }
        if self.sent[next].left < 1e-9 {
            let question = self.sent.remove(next);
            if question.in_time {
                self.limit.answered(question.flight, Some(self.now - question.at), self.now);
                self.answers += 1;
                self.last_answer = Some(self.now);
            }
        } else if self.sent[next].in_time && self.now >= self.sent[next].at + TIMEOUT {
            self.sent[next].in_time = false;
            self.sent[next].has_place = false;
            self.time_outs += 1;
            self.overloads += usize::from(self.limit.timed_out(self.sent[next].flight));
        }
    }
}

#[test]
fn an_api_that_takes_any_number_gets_it_after_its_first_answer() {
    let mut world = World::any_number();
    world.ask(1, |_| 0.020);
    world.seen = (usize::MAX, 0);
    let took = world.ask(500, |_| 0.020);
    assert_eq!(world.seen, (CEILING, CEILING));
    assert!((took - 0.160).abs() < 0.001, "{took}");
}

#[test]
fn a_crowd_before_the_first_answer_costs_one_round_trip() {
    let mut world = World::any_number();
    let took = world.ask(500, |_| 0.020);
    assert!(took < 0.181, "{took}");
    assert_eq!(world.limit.at_a_time(), CEILING);
}

/// It cannot be known at once, but soon is: three round trips instead of two.
#[test]
fn a_high_ceiling_is_reached_soon() {
    let mut world = World::new(10_000, Discipline::Share, 256);
    world.ask(1, |_| 0.020);
    let took = world.ask(500, |_| 0.020);
    assert!(took < 0.061, "{took}");
}

#[test]
fn an_api_that_computes_answers_everybody_as_fast_as_it_can() {
    for discipline in [Discipline::Queue, Discipline::Share] {
        for questions in [200, 1_000] {
            let mut world = World::new(2, discipline, CEILING);
            let took = world.ask(questions, |_| 0.042);
            let alone = 0.042 * questions as f64 / 2.0;
            assert!(took < 1.06 * alone, "{took} instead of {alone}");
            assert_eq!((world.answers, world.time_outs), (questions, 0));
            world.seen = (usize::MAX, 0);
            world.ask(questions, |_| 0.042);
            assert!(world.seen.1 <= CEILING / 4, "{discipline:?}: {:?} at a time", world.seen);
        }
    }
}

/// Hashes on two cores that everybody shares: all answers of a crowd come late and at once, none is overtaken. To ask more
/// meanwhile would make them come too late.
#[test]
fn an_api_that_is_slow_with_all_is_asked_no_more_at_once() {
    for (work, first) in [(0.084, 1), (0.042, 0), (0.250, 1), (0.250, 0), (0.400, 0)] {
        let mut world = World::new(2, Discipline::Share, CEILING);
        world.ask(first, |_| work);
        let took = world.ask(200, |_| work);
        assert_eq!(world.time_outs, 0, "{work} s each");
        let alone = work * 200.0 / 2.0;
        assert!(took < 1.06 * alone, "{took} instead of {alone}");
    }
}

/// Who hangs is known once somebody who was asked later is answered; for that there is room.
#[test]
fn questions_that_hang_make_room_soon() {
    let mut world = World::any_number();
    world.ask(500, |_| 0.020);
    // All places are taken by questions that hang.
    let before = world.now;
    world.ask(1_000, |number| if number < CEILING { 30.0 } else { 0.020 });
    assert_eq!(world.time_outs, CEILING);
    let took = (world.last_answer.unwrap() - before).as_secs_f64();
    // A quarter of the time-out until they are suspected, and little more until that is proved.
    assert!(took < 1.1, "{took}");
}

/// Where one answer takes a third of the time-out, even four at a time would be too many.
#[test]
fn a_very_slow_api_is_asked_one_or_two_at_a_time() {
    for discipline in [Discipline::Queue, Discipline::Share] {
        let mut world = World::new(1, discipline, CEILING);
        world.ask(1, |_| 0.700);
        world.ask(50, |_| 0.700);
        assert_eq!(world.time_outs, 0, "{discipline:?}");
    }
}

/// Refusals at once beside hashes that take their time, or hits and misses of a cache.
#[test]
fn answers_that_take_differently_long_are_not_taken_for_load() {
    for slow_of_ten in [1, 5, 9] {
        let mut world = World::any_number();
        let work = |number: usize| if number * 7 % 10 < slow_of_ten { 0.200 } else { 0.001 };
        world.ask(2_000, work);
        let took = world.ask(20_000, work);
        let mean = (0..10).map(work).sum::<f64>() / 10.0;
        let best = 20_000.0 * mean / CEILING as f64;
        assert!(took < 1.5 * best, "{slow_of_ten} of 10: {took} instead of {best}");
    }
}

/// Such as a nightly job on its machine.
#[test]
fn an_api_that_becomes_slow_by_itself_is_asked_as_much_as_before_soon() {
    for slower in [2.5, 5.0, 10.0] {
        let mut world = World::any_number();
        world.ask(1_000, |_| 0.020);
        let mut took = 0.0;
        while took < 10.0 {
            took += world.ask(CEILING, |_| 0.020 * slower);
            if world.limit.at_a_time() == CEILING {
                break;
            }
        }
        assert!(took < 6.0, "{slower} times slower: {} after {took} s", world.limit.at_a_time());
        // And when that is over, what it takes alone is less again.
        world.ask(1_000, |_| 0.020);
        world.workers = 2;
        world.ask(600, |_| 0.020);
        assert!(world.limit.at_a_time() <= CEILING / 4, "{}", world.limit.at_a_time());
    }
}

#[test]
fn a_pause_of_the_api_costs_little() {
    let mut world = World::any_number();
    world.ask(1_000, |_| 0.020);
    world.ask(CEILING, |_| 1.0);
    let took = world.ask(1_000, |_| 0.020);
    assert!(took < 1.3 * 0.020 * 1_000.0 / CEILING as f64, "{took}");
}

/// A first answer may take long for once, when the API has just been started.
#[test]
fn a_cold_start_is_not_what_an_answer_takes() {
    for discipline in [Discipline::Queue, Discipline::Share] {
        let mut world = World::new(2, discipline, CEILING);
        world.ask(1, |_| 1.0);
        world.ask(1_000, |_| 0.042);
        assert_eq!(world.time_outs, 0);
        // It is known better as soon as somebody comes alone.
        for _ in 0..3 {
            world.ask(1, |_| 0.042);
        }
        world.ask(500, |_| 0.042);
        assert!(world.limit.at_a_time() <= CEILING / 2, "{}", world.limit.at_a_time());
    }
}

#[test]
fn an_outage_halves_the_limit_and_it_comes_back() {
    let mut world = World::any_number();
    world.ask(1_000, |_| 0.020);
    world.ask(CEILING, |_| 5.0);
    assert_eq!((world.time_outs, world.overloads), (CEILING, 0), "an API that is silent is not overloaded");
    assert_eq!(world.limit.at_a_time(), CEILING / 2);
    world.ask(1_000, |_| 5.0);
    assert_eq!(world.limit.at_a_time(), FEW as usize);
    world.ask(1_000, |_| 0.020);
    assert_eq!(world.limit.at_a_time(), CEILING);
}

/// Who makes the API hang, by a name that it makes up, takes no place from others.
#[test]
fn questions_that_hang_beside_others_that_are_answered_change_nothing() {
    let mut world = World::any_number();
    world.ask(1_000, |_| 0.020);
    world.seen = (usize::MAX, 0);
    world.ask(2_000, |number| if number % 10 == 0 { 3.0 } else { 0.020 });
    assert!(world.time_outs > 0 && world.overloads == 0);
    assert_eq!(world.seen, (CEILING, CEILING));
}

#[test]
fn a_question_that_hangs_does_not_hold_up_others() {
    let mut world = World::new(3, Discipline::Queue, CEILING);
    world.ask(1, |_| 0.042);
    let took = world.ask(300, |number| if number == 100 { 1.9 } else { 0.042 });
    // One of three workers is busy for 1.9 s.
    let best = (300.0 * 0.042 + 1.9) / 3.0;
    assert!(took < 1.2 * best, "{took} instead of {best}");
}

/// Too many at once, since the API has become slower than it was: that is no reason to leave it alone.
#[test]
fn time_outs_of_an_api_that_answers_others_slowly_are_told_apart() {
    let mut world = World::new(2, Discipline::Queue, CEILING);
    world.ask(4, |_| 0.020);
    // Two answers each 100 ms: those behind the first forty come too late.
    world.ask(CEILING, |_| 0.100);
    assert!(world.time_outs > 0 && world.time_outs == world.overloads, "{}", world.time_outs);
    world.time_outs = 0;
    world.ask(200, |_| 0.100);
    assert_eq!(world.time_outs, 0);
}

#[test]
fn the_log_hears_of_what_lasts_and_at_most_once_a_minute() {
    let mut world = World::new(2, Discipline::Queue, CEILING);
    let mut said = Vec::new();
    let mut limits = Vec::new();
    for _ in 0..200 {
        world.ask(30, |_| 0.042);
        said.extend(world.limit.news(world.now).map(|limit| (world.now, limit)));
        limits.push(world.limit.at_a_time());
    }
    assert!(matches!(said[..], [.., (_, 2..=20)]), "{said:?}");
    world.workers = 10_000;
    let before = world.now;
    while said[said.len() - 1].1 < CEILING {
        world.ask(CEILING, |_| 0.042);
        said.extend(world.limit.news(world.now).map(|limit| (world.now, limit)));
        assert!(world.elapsed(before) < 130.0);
    }
    assert!(said.windows(2).all(|pair| pair[1].0 - pair[0].0 >= LINE_EVERY), "{said:?}");
    let mut steady = World::any_number();
    for _ in 0..1_000 {
        steady.ask(100, |_| 0.020);
        assert_eq!(steady.limit.news(steady.now), None);
    }
}

#[test]
fn what_hangs_is_told_from_what_is_usual() {
    let quarter = TIMEOUT.mul_f64(HANGS_PART);
    let mut fast = World::any_number();
    assert_eq!(fast.limit.hangs_after(), quarter, "nothing is known yet");
    fast.ask(100, |_| 0.020);
    assert_eq!(fast.limit.hangs_after(), quarter);
    let mut slow = World::any_number();
    slow.ask(100, |_| 0.4);
    let usual = slow.limit.hangs_after().as_secs_f64();
    assert!((1.5..=1.7).contains(&usual), "four times 0.4 s: {usual}");
    let mut very_slow = World::any_number();
    very_slow.ask(100, |_| 1.5);
    assert_eq!(very_slow.limit.hangs_after(), TIMEOUT);
}

fn discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![Just(Discipline::Queue), Just(Discipline::Share)]
}

/// One at a time, no round of questions is ever judged: a trial ends all the same.
#[test]
fn a_trial_that_comes_down_to_one_at_a_time_ends() {
    let mut world = World::new(10_000, Discipline::Share, 26);
    for (milliseconds, questions) in [(1525, 81), (1300, 25), (2334, 6), (2746, 71), (1510, 70), (2780, 85)] {
        world.ask(questions, |number| f64::from(milliseconds) * (1.0 + (number % 7) as f64) / 7_000.0);
    }
    world.ask(2_000, |_| 0.020);
    assert_eq!(world.limit.at_a_time(), 26);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the API is, it soon gets about as many as it works on, and at most twice as many or what it answers
    /// within half of the time-out. No answer comes too late because of that.
    #[test]
    fn comes_close_to_what_the_api_can_do(
        workers in 1..60usize,
        milliseconds in 1..300u32,
        ceiling in 1..100usize,
        discipline in discipline(),
    ) {
        let work = f64::from(milliseconds) / 1_000.0;
        let mut world = World::new(workers, discipline, ceiling);
        world.ask(1, |_| work);
        world.ask(20 * workers + 100, |_| work);
        prop_assert_eq!(world.time_outs, 0);
        prop_assert!(world.seen.1 <= ceiling && world.seen.0 >= 1);
        let limit = world.limit.limit;
        let within = |time: f64| workers as f64 * time / work;
        let most = within(2.0 * work).max(within(UNNOTICED)).max(FEW);
        prop_assert!(limit >= (workers as f64).min(ceiling as f64).min(FEW.max(most / 4.0)), "{}", limit);
        let most = (1.5 * most + 2.0).max(within(TIMEOUT.as_secs_f64() / 2.0)).min(ceiling as f64);
        prop_assert!(limit <= most, "{} instead of {}", limit, most);
        let alone = 20.0 * workers as f64 * work / workers.min(ceiling) as f64;
        let took = world.ask(20 * workers, |_| work);
        prop_assert!(took <= 1.25 * alone + 0.5, "{} instead of {}", took, alone);
    }

    /// Whatever answers take and whichever come at all, at least one question may be asked, and never more than the
    /// ceiling; and when all is well again, as many as before.
    #[test]
    fn stays_within_its_bounds_and_comes_back(
        ceiling in 1..100usize,
        moods in prop::collection::vec((1..4_000u32, 1..100usize), 1..10),
    ) {
        let mut world = World::new(10_000, Discipline::Share, ceiling);
        for (milliseconds, questions) in moods {
            world.ask(questions, |number| f64::from(milliseconds) * (1.0 + (number % 7) as f64) / 7_000.0);
            prop_assert!((1..=ceiling).contains(&world.limit.at_a_time()));
        }
        prop_assert!(world.seen.0 >= 1 && world.seen.1 <= ceiling);
        world.ask(60 * ceiling + 200, |_| 0.020);
        prop_assert_eq!(world.limit.at_a_time(), ceiling);
    }
}
