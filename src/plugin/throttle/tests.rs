use super::*;

use proptest::prelude::*;

const LIMITS: ThrottleLimits = ThrottleLimits {
    after: 5,
    pause: Duration::from_secs(1),
    longest: Duration::from_secs(8),
    count_by: CountBy::AddressAndUsername,
};
const BY_ADDRESS: ThrottleLimits = ThrottleLimits { count_by: CountBy::Address, ..LIMITS };
const KEYS: [u8; 16] = [3; 16];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A throttle, its limits and a clock.
struct Scene {
    throttle: Throttle,
    limits: ThrottleLimits,
    now: Instant,
}

/// The client that makes a try.
#[derive(Clone, Copy)]
struct Who<'a> {
    address: &'a str,
    username: &'a str,
    client_id: &'a str,
}

const HOME: Who<'_> = Who { address: "10.0.0.1", username: "u", client_id: "" };

impl<'a> Who<'a> {
    fn tries(self, password: &str) -> Try<'a> {
        let Who { address, username, client_id } = self;
        let credentials = Fingerprinter::with_key(&KEYS).credentials(username, password.as_bytes());
        Try { address: Some(address), username, client_id, credentials, is_shared: true }
    }
}

impl Scene {
    fn new(limits: ThrottleLimits) -> Self {
        Self { throttle: Throttle::new(Fingerprinter::with_key(&KEYS)), limits, now: Instant::now() }
    }

    fn admit(&self, who: Who<'_>, password: &str) -> Admission {
        self.throttle.admit(&who.tries(password), &self.limits, self.now)
    }

    fn open(&self, who: Who<'_>, password: &str) -> OpenTry {
        match self.admit(who, password) {
            Admission::Now(open) => open,
            other => panic!("{password}: {other:?}"),
        }
    }

    fn close(&self, open: OpenTry, outcome: TryOutcome) -> [Group; KINDS] {
        self.throttle.close(open, outcome, &self.limits, self.now)
    }

    fn close_all(&self, open: impl IntoIterator<Item = OpenTry>, outcome: TryOutcome) {
        for open in open {
            self.close(open, outcome);
        }
    }

    /// Has these passwords refused one after the other, each as soon as the throttle lets it be looked at.
    fn refuse(&mut self, who: Who<'_>, passwords: &[&str]) {
        for password in passwords {
            let mut admission = self.admit(who, password);
            while let Admission::Throttled(left) = admission {
                self.now += left;
                admission = self.admit(who, password);
            }
            let Admission::Now(open) = admission else { panic!("nobody else should be open") };
            self.close(open, TryOutcome::Refused);
        }
    }

    /// How long these credentials are refused without a look, or zero if they are looked at now.
    fn pause(&self, who: Who<'_>, password: &str) -> Duration {
        match self.admit(who, password) {
            Admission::Throttled(left) => left,
            Admission::Now(open) => {
                self.close(open, TryOutcome::Unknown);
                Duration::ZERO
            }
            Admission::WaitForTurn(_) => panic!("nobody else should be open"),
        }
    }

    fn speculate(&self, who: Who<'_>, password: &str) -> bool {
        self.throttle.admit_speculative(&who.tries(password), &self.limits, self.now)
    }
}

const WRONG: [&str; 5] = ["a", "b", "c", "d", "e"];

#[test]
fn pauses_double_up_to_the_longest_and_end_after_a_long_silence() {
    let mut scene = Scene::new(LIMITS);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        scene.refuse(HOME, &["wrong"]);
        pauses.push(scene.pause(HOME, "wrong").as_secs());
        scene.now += scene.pause(HOME, "wrong");
    }
    assert_eq!(pauses, [0, 0, 0, 0, 1, 2, 4, 8, 8, 8]);
    scene.now += seconds(17);
    scene.refuse(HOME, &["wrong"]);
    assert_eq!(scene.pause(HOME, "wrong"), Duration::ZERO);
}

#[test]
fn other_addresses_and_names_are_not_held_up() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &WRONG);
    assert_eq!(scene.pause(HOME, "a"), seconds(1));
    assert_eq!(scene.pause(Who { address: "10.0.0.2", ..HOME }, "a"), Duration::ZERO);
    assert_eq!(scene.pause(Who { username: "v", ..HOME }, "a"), Duration::ZERO);
}

#[test]
fn an_address_alone_counts_all_its_names_and_ipv6_by_its_first_64_bits() {
    let mut scene = Scene::new(BY_ADDRESS);
    for (username, address) in [("a", "::1"), ("b", "::2"), ("c", "::3"), ("d", "::4"), ("e", "::5")] {
        let address = &format!("2001:db8{address}");
        scene.refuse(Who { address, username, client_id: username }, &["wrong"]);
    }
    let here = Who { address: "2001:db8::6", username: "a", client_id: "f" };
    assert_eq!(scene.pause(here, "wrong"), seconds(1));
    assert_eq!(scene.pause(Who { address: "2001:db8:0:1::4", ..here }, "wrong"), Duration::ZERO);
}

#[test]
fn made_up_names_under_one_client_id_are_counted_together() {
    let mut scene = Scene::new(LIMITS);
    for username in WRONG {
        scene.refuse(Who { username, client_id: "parked", ..HOME }, &["wrong"]);
    }
    let next = |username| Who { username, client_id: "parked", ..HOME };
    // One is looked at in this pause, and the next one only after it.
    scene.close(scene.open(next("f"), "wrong"), TryOutcome::Refused);
    assert_eq!(scene.admit(next("g"), "wrong"), Admission::Throttled(seconds(1)));
    // Clients with another address, or without a client id, are in other groups.
    let _ = scene.open(Who { address: "10.0.0.2", ..next("h") }, "wrong");
    let _ = scene.open(Who { client_id: "", ..next("i") }, "wrong");
}

#[test]
fn a_name_that_is_tried_under_two_client_ids_at_once_counts_for_both_of_them() {
    let scene = Scene::new(LIMITS);
    for username in ["a", "b", "c", "d", "e", "the one of the pause"] {
        let decoy = Who { username, client_id: username, ..HOME };
        let open = [scene.open(decoy, "wrong"), scene.open(Who { client_id: "parked", ..decoy }, "wrong")];
        scene.close_all(open, TryOutcome::Refused);
        let state = scene.throttle.state.lock();
        let (_, account) = state.kinds[0].counts.peek_mru().unwrap();
        assert_eq!(account.refusals, 1, "once for the account");
    }
    let next = Who { username: "f", client_id: "parked", ..HOME };
    assert_eq!(scene.admit(next, "wrong"), Admission::Throttled(seconds(1)));
}

#[test]
fn clients_without_an_id_are_not_counted_together() {
    let mut scene = Scene::new(LIMITS);
    for username in WRONG {
        scene.refuse(Who { username, ..HOME }, &["wrong"]);
    }
    assert_eq!(scene.pause(Who { username: "a", ..HOME }, "wrong"), Duration::ZERO);
}

#[test]
fn of_a_burst_of_guesses_only_those_reach_the_api_that_would_one_by_one() {
    let scene = Scene::new(LIMITS);
    let passwords: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let mut open = Vec::new();
    let mut waiting = Vec::new();
    for password in &passwords {
        match scene.admit(HOME, password) {
            Admission::Now(opened) => open.push(opened),
            Admission::WaitForTurn(group) => waiting.push((group, password)),
            Admission::Throttled(_) => panic!("nobody has been refused yet"),
        }
    }
    assert_eq!((open.len(), waiting.len()), (5, 395));
    let mut looked_at = open.len();
    let mut throttled = 0;
    while let Some(opened) = open.pop() {
        let groups = scene.close(opened, TryOutcome::Refused);
        while let Some((group, password)) = waiting.pop() {
            assert!(groups.contains(&group));
            match scene.admit(HOME, password) {
                Admission::Now(opened) => {
                    open.push(opened);
                    looked_at += 1;
                }
                Admission::WaitForTurn(group) => {
                    waiting.push((group, password));
                    break;
                }
                Admission::Throttled(_) => throttled += 1,
            }
        }
    }
    // Five before the first pause, and one in it.
    assert_eq!((looked_at, throttled, waiting.len()), (6, 394, 0));
}

#[test]
fn a_fleet_with_right_passwords_behind_one_address_gets_in_a_few_at_a_time_and_none_is_refused() {
    for has_pause in [false, true] {
        let mut scene = Scene::new(BY_ADDRESS);
        if has_pause {
            scene.refuse(HOME, &WRONG);
        }
        let names: Vec<String> = (0..1000).map(|n| format!("device{n}")).collect();
        let mut waiting: Vec<&str> = names.iter().map(String::as_str).rev().collect();
        let mut let_in = 0;
        while let_in < names.len() {
            let mut open = Vec::new();
            while let Some(username) = waiting.pop() {
                match scene.admit(Who { username, client_id: username, ..HOME }, "right") {
                    Admission::Now(opened) => open.push(opened),
                    Admission::WaitForTurn(_) => {
                        waiting.push(username);
                        break;
                    }
                    Admission::Throttled(_) => panic!("{username} was refused"),
                }
            }
            assert_eq!(open.len(), if has_pause { 1 } else { 5 });
            let_in += open.len();
            scene.close_all(open, TryOutcome::LetIn);
        }
    }
}

#[test]
fn the_same_credentials_open_many_times_are_one_open_try_and_one_refusal() {
    let mut scene = Scene::new(LIMITS);
    let open: Vec<OpenTry> = (0..200).map(|_| scene.open(HOME, "shared")).collect();
    for password in &WRONG[1..] {
        let _ = scene.open(HOME, password);
    }
    assert!(matches!(scene.admit(HOME, "sixth"), Admission::WaitForTurn(_)));
    scene.close_all(open, TryOutcome::Refused);
    // One refusal and four open ones.
    assert!(matches!(scene.admit(HOME, "sixth"), Admission::WaitForTurn(_)));
    scene.now += OPEN_FOR;
    let last: Vec<OpenTry> = WRONG[1..].iter().map(|password| scene.open(HOME, password)).collect();
    assert!(matches!(scene.admit(HOME, "sixth"), Admission::Now(_)), "the refusal is long ago");
    scene.close_all(last, TryOutcome::Unknown);
}

#[test]
fn good_credentials_that_many_share_count_once_when_the_api_refuses_them() {
    let scene = Scene::new(LIMITS);
    scene.close(scene.open(HOME, "shared"), TryOutcome::LetIn);
    let open: Vec<OpenTry> = (0..200).map(|_| scene.open(HOME, "shared")).collect();
    scene.close_all(open, TryOutcome::Refused);
    assert_eq!(scene.pause(HOME, "shared"), Duration::ZERO);
    // They are like any other now.
    for password in &WRONG[1..] {
        let _ = scene.open(HOME, password);
    }
    assert!(matches!(scene.admit(HOME, "shared"), Admission::WaitForTurn(_)));
}

#[test]
fn good_credentials_are_always_looked_at_and_take_nobodys_place() {
    let mut scene = Scene::new(LIMITS);
    scene.close(scene.open(HOME, "good"), TryOutcome::LetIn);
    for password in WRONG {
        let _ = scene.open(HOME, password);
    }
    scene.close(scene.open(HOME, "good"), TryOutcome::Unknown);
    scene.now += OPEN_FOR;
    scene.refuse(HOME, &["a", "b", "c", "d", "e", "f", "g"]);
    let open = scene.open(HOME, "good");
    // They are good until the API refuses them, or a day is over.
    let throttled = scene.pause(HOME, "f");
    scene.close(open, TryOutcome::Refused);
    assert_eq!(scene.pause(HOME, "good"), throttled, "and their refusal does not extend the pause");
    scene.now += throttled;
    scene.close(scene.open(HOME, "good"), TryOutcome::LetIn);
    scene.now += GOOD_FOR;
    scene.refuse(HOME, &WRONG);
    scene.refuse(HOME, &["f"]);
    assert!(scene.pause(HOME, "good") > Duration::ZERO);
}

#[test]
fn known_wrong_credentials_use_nothing_up_and_do_not_extend_the_pause() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &["old"; 5]);
    for tenth in 1..10 {
        scene.now += Duration::from_millis(100);
        assert_eq!(scene.pause(HOME, "old"), Duration::from_millis(1000 - 100 * tenth));
    }
    scene.close(scene.open(HOME, "new"), TryOutcome::LetIn);
}

#[test]
fn a_known_wrong_try_from_before_the_pause_does_not_use_up_its_look() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &["old"]);
    let old = scene.open(HOME, "old");
    let new = scene.open(HOME, "good");
    scene.close(new, TryOutcome::LetIn);
    // These have been good, so that nothing stops them from being refused meanwhile.
    let others = WRONG.map(|password| {
        scene.close(scene.open(HOME, password), TryOutcome::LetIn);
        scene.open(HOME, password)
    });
    scene.close_all(others, TryOutcome::Refused);
    scene.close(old, TryOutcome::Refused);
    assert_eq!(scene.pause(HOME, "old"), seconds(1));
    let _ = scene.open(HOME, "new");
}

#[test]
fn a_rotated_shared_password_gets_in_at_once_beside_a_device_that_keeps_trying_the_old_one() {
    let mut scene = Scene::new(ThrottleLimits { longest: seconds(60), ..LIMITS });
    for second in 0..600 {
        if let Admission::Now(open) = scene.admit(HOME, "old") {
            scene.close(open, TryOutcome::Refused);
        }
        if second % 7 == 0 {
            // Not let in, so that it stays unknown.
            scene.close(scene.open(HOME, "new"), TryOutcome::Unknown);
        }
        scene.now += seconds(1);
    }
}

#[test]
fn one_that_is_not_known_to_be_wrong_is_looked_at_in_each_pause() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &WRONG);
    let start = scene.now;
    let mut looks = Vec::new();
    for n in 0..3000 {
        if let Admission::Now(open) = scene.admit(HOME, &format!("guess {n}")) {
            scene.close(open, TryOutcome::Refused);
            looks.push((scene.now - start).as_secs());
        }
        scene.now += Duration::from_millis(10);
    }
    // The pauses last 1, 2, 4, 8, 8, ... seconds.
    assert_eq!(looks, [0, 1, 3, 7, 15, 23]);
}

#[test]
fn who_is_told_how_long_to_wait_is_looked_at_then() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &WRONG);
    for n in 0..6 {
        let Admission::Now(open) = scene.admit(HOME, &format!("guess {n}")) else { panic!("look {n}") };
        scene.close(open, TryOutcome::Refused);
        let Admission::Throttled(left) = scene.admit(HOME, "right") else { panic!("no pause after {n}") };
        scene.now += left - Duration::from_millis(1);
        assert!(matches!(scene.admit(HOME, "right"), Admission::Throttled(_)));
        scene.now += Duration::from_millis(1);
    }
}

#[test]
fn the_look_of_a_pause_is_used_up_by_a_refusal_only() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &WRONG);
    for outcome in [TryOutcome::Unknown, TryOutcome::LetIn, TryOutcome::Unknown] {
        let open = scene.open(HOME, &format!("{outcome:?}"));
        assert!(matches!(scene.admit(HOME, "next"), Admission::WaitForTurn(_)));
        scene.close(open, outcome);
    }
    assert_eq!(scene.pause(HOME, "a"), seconds(1));
    scene.close(scene.open(HOME, "next"), TryOutcome::Refused);
    assert_eq!(scene.admit(HOME, "another"), Admission::Throttled(seconds(1)));
    assert_eq!(scene.admit(HOME, "next"), Admission::Throttled(seconds(3)));
}

#[test]
fn an_end_without_an_answer_counts_nothing() {
    let scene = Scene::new(LIMITS);
    for n in 0..100 {
        scene.close(scene.open(HOME, &n.to_string()), TryOutcome::Unknown);
    }
    assert_eq!(scene.pause(HOME, "0"), Duration::ZERO);
    let state = scene.throttle.state.lock();
    for kind in &state.kinds {
        assert_eq!((kind.counts.len(), kind.open.len()), (0, 0));
    }
}

#[test]
fn a_try_that_nobody_closes_ends_by_itself_and_still_counts_if_it_was_refused() {
    let mut scene = Scene::new(ThrottleLimits { longest: seconds(3600), ..LIMITS });
    let leaked = WRONG.map(|password| scene.open(HOME, password));
    assert!(matches!(scene.admit(HOME, "f"), Admission::WaitForTurn(_)));
    scene.now += OPEN_FOR;
    let open = WRONG.map(|password| scene.open(HOME, &format!("later {password}")));
    scene.close_all(leaked, TryOutcome::Refused);
    assert_eq!(scene.pause(HOME, "a"), seconds(1));
    scene.close_all(open, TryOutcome::Unknown);
    let _ = scene.open(HOME, "f");
}

#[test]
fn the_late_end_of_a_try_is_not_that_of_a_later_one_with_the_same_credentials() {
    let mut scene = Scene::new(LIMITS);
    let late = scene.open(HOME, "a");
    scene.now += OPEN_FOR;
    for password in WRONG {
        let _ = scene.open(HOME, password);
    }
    scene.close(late, TryOutcome::Unknown);
    assert!(matches!(scene.admit(HOME, "f"), Admission::WaitForTurn(_)));
}

#[test]
fn a_password_that_has_become_right_is_not_known_to_be_wrong_for_ever() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &["becomes right"]);
    scene.now += WRONG_FOR_PAUSES * LIMITS.longest;
    scene.refuse(HOME, &WRONG);
    scene.close(scene.open(HOME, "becomes right"), TryOutcome::LetIn);
    scene.close(scene.open(HOME, "becomes right"), TryOutcome::LetIn);
}

#[test]
fn no_more_are_asked_about_ahead_than_could_be_tried_and_none_in_a_pause() {
    let mut scene = Scene::new(LIMITS);
    scene.refuse(HOME, &["a", "b"]);
    let asked = |scene: &Scene| (0..100).filter(|n| scene.speculate(HOME, &n.to_string())).count();
    assert_eq!(asked(&scene), 3);
    scene.now += SPECULATIVE_FOR;
    assert_eq!(asked(&scene), 3);
    scene.now += SPECULATIVE_FOR;
    scene.refuse(HOME, &["c", "d", "e"]);
    assert_eq!(asked(&scene), 0);
    // A login that the broker comes to is looked at as before: early questions use up nothing of a pause.
    let _ = scene.open(HOME, "new");
}

#[test]
fn while_a_name_is_in_a_pause_nobody_is_asked_about_ahead_under_it_from_anywhere() {
    let mut scene = Scene::new(LIMITS);
    scene.close(scene.open(HOME, "good"), TryOutcome::LetIn);
    scene.refuse(HOME, &WRONG);
    let unknown = |password| {
        let attempt = Try { address: None, ..HOME.tries(password) };
        scene.throttle.admit_speculative(&attempt, &scene.limits, scene.now)
    };
    assert!(!unknown("new"));
    assert!(unknown("good"));
    assert!(!scene.speculate(Who { address: "10.0.0.9", ..HOME }, "new"));
    assert!(scene.speculate(Who { username: "v", ..HOME }, "new"));
    scene.now += seconds(1);
    let elsewhere = Who { address: "10.0.0.9", ..HOME };
    assert!(scene.speculate(elsewhere, "new"));
}

#[test]
fn what_is_asked_about_ahead_keeps_nobody_waiting_and_becomes_the_try_that_comes() {
    let scene = Scene::new(LIMITS);
    assert!(WRONG.iter().all(|password| scene.speculate(HOME, password)));
    assert!(scene.speculate(HOME, "a"), "it is open already");
    assert!(!scene.speculate(HOME, "f"));
    scene.close(scene.open(HOME, "f"), TryOutcome::Unknown);
    scene.close(scene.open(HOME, "a"), TryOutcome::Refused);
    assert!(!scene.speculate(HOME, "g"), "one refusal, four open");
    scene.close(scene.open(HOME, "b"), TryOutcome::LetIn);
    assert!(scene.speculate(HOME, "g"));
}

#[test]
fn switched_off_it_holds_up_nobody() {
    let scene = Scene::new(ThrottleLimits { after: 0, ..LIMITS });
    for n in 0..100 {
        let open = scene.open(HOME, &n.to_string());
        let _ = scene.open(HOME, "open still");
        scene.close(open, TryOutcome::Refused);
        assert!(scene.speculate(HOME, &n.to_string()));
    }
    assert_eq!(scene.pause(HOME, "0"), Duration::ZERO);
}

#[test]
fn made_up_names_that_are_not_looked_at_leave_nothing_behind() {
    let mut scene = Scene::new(BY_ADDRESS);
    scene.refuse(HOME, &WRONG);
    scene.refuse(HOME, &["f"]);
    for n in 0..1000 {
        let name = &n.to_string();
        let admission = scene.admit(Who { username: name, client_id: name, ..HOME }, "guess");
        assert!(matches!(admission, Admission::Throttled(_)));
    }
    let state = scene.throttle.state.lock();
    assert_eq!((state.wrong.len(), state.kinds[0].counts.len(), state.kinds[1].counts.len()), (6, 1, 1));
}

#[derive(Debug, Clone)]
enum Step {
    /// A try with these credentials, this username and this client id.
    Try(u8, u8, u8),
    /// The answer to one of the open tries comes. The API always says the same about the same credentials.
    Answer(usize),
    /// One of the open tries ends without an answer.
    GiveUp(usize),
    /// A login with these credentials, username and client id is asked about early.
    Speculate(u8, u8, u8),
    /// This many tenths of a second pass.
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..30u8, 0..2u8, 0..3u8).prop_map(|(password, name, id)| Step::Try(password, name, id)),
        4 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::GiveUp),
        1 => (0..30u8, 0..2u8, 0..3u8).prop_map(|(password, name, id)| Step::Speculate(password, name, id)),
        2 => (0..30u32).prop_map(Step::Wait),
        1 => (0..2000u32).prop_map(Step::Wait),
    ]
}

/// Of thirty passwords these are right.
fn is_right(password: u8) -> bool {
    password.is_multiple_of(10)
}

/// An open try, and what the plain model knows about it.
struct Opened {
    open: OpenTry,
    password: u8,
    name: u8,
    id: u8,
    since: Instant,
}

impl Opened {
    fn is_in(&self, of: (bool, u8)) -> bool {
        if of.0 { self.name == of.1 } else { self.id == of.1 }
    }
}

fn names_and_ids() -> impl Iterator<Item = (bool, u8)> {
    (0..2).map(|name| (true, name)).chain((0..3).map(|id| (false, id)))
}

fn play(limits: ThrottleLimits, steps: Vec<Step>) -> Result<(Scene, Vec<Opened>), TestCaseError> {
    let mut scene = Scene::new(limits);
    let mut opened: Vec<Opened> = Vec::new();
    for step in steps {
        let text = |n: u8| n.to_string();
        match step {
            Step::Wait(tenths) => scene.now += Duration::from_millis(100) * tenths,
            Step::Speculate(password, name, id) => {
                scene.speculate(Who { username: &text(name), client_id: &text(id), ..HOME }, &text(password));
            }
            Step::Try(password, name, id) => {
                let who = Who { username: &text(name), client_id: &text(id), ..HOME };
                match scene.admit(who, &text(password)) {
                    Admission::Now(open) => {
                        let since = scene.now;
                        opened.push(Opened { open, password, name, id, since });
                    }
                    Admission::WaitForTurn(group) => {
                        let is_open = |o: &Opened| {
                            let is_other = (o.name, o.password) != (name, password);
                            o.open.standing != Standing::Good && o.open.groups.contains(&group) && is_other
                        };
                        prop_assert!(opened.iter().any(is_open), "nobody would ever call the one that waits");
                    }
                    Admission::Throttled(left) => {
                        prop_assert!(left > Duration::ZERO && left <= 2 * limits.longest);
                    }
                }
            }
            Step::Answer(at) if !opened.is_empty() => {
                // All tries with the same credentials get the answer at once, in any order.
                let Opened { password, name, .. } = opened[at % opened.len()];
                let outcome = if is_right(password) { TryOutcome::LetIn } else { TryOutcome::Refused };
                let same = |o: &Opened| (o.name, o.password) == (name, password);
                let (answered, left) = opened.into_iter().partition(same);
                opened = left;
                let mut answered: Vec<Opened> = answered;
                let first = at % answered.len();
                answered.rotate_left(first);
                scene.close_all(answered.into_iter().map(|o| o.open), outcome);
            }
            Step::GiveUp(at) if !opened.is_empty() => {
                let index = at % opened.len();
                scene.close(opened.swap_remove(index).open, TryOutcome::Unknown);
            }
            Step::Answer(_) | Step::GiveUp(_) => {}
        }
        for of in names_and_ids() {
            let lasts = |o: &&Opened| {
                o.open.standing != Standing::Good && scene.now < o.since + OPEN_FOR && o.is_in(of)
            };
            let mut open: Vec<(u8, u8)> = opened.iter().filter(lasts).map(|o| (o.name, o.password)).collect();
            open.sort_unstable();
            open.dedup();
            prop_assert!(open.len() <= limits.after, "{} are open", open.len());
        }
    }
    Ok((scene, opened))
}

proptest! {
    /// In each group no more tries are open than may be refused, each try that waits has its turn in the end, and no
    /// try is throttled for longer than two of the longest pauses.
    #[test]
    fn never_more_are_open_than_may_be_refused(
        steps in prop::collection::vec(step(), 0..300),
        after in 1..6usize,
    ) {
        play(ThrottleLimits { after, ..LIMITS }, steps)?;
    }

    /// Whatever has happened before, a client with the right password that tries again whenever it is told to is looked
    /// at within two pauses, however many other tries come with credentials that are known to be wrong.
    #[test]
    fn a_right_password_is_looked_at_within_two_pauses_whatever_is_known_to_be_wrong(
        steps in prop::collection::vec(step(), 0..200),
        after in 1..6usize,
        every in 1..20u32,
    ) {
        let (mut scene, opened) = play(ThrottleLimits { after, ..LIMITS }, steps)?;
        scene.close_all(opened.into_iter().map(|o| o.open), TryOutcome::Unknown);
        let noise = |scene: &Scene| {
            for (name, id) in [("0", "0"), ("1", "0"), ("0", "1")] {
                for wrong in (0..30).filter(|n| !is_right(*n)) {
                    let who = Who { username: name, client_id: id, ..HOME };
                    let attempt = who.tries(&wrong.to_string());
                    let known = scene.throttle.state.lock().wrong.peek(&attempt.credentials).copied();
                    let wrong_for = WRONG_FOR_PAUSES * scene.limits.longest;
                    let is_known = known.is_some_and(|since| scene.now - since < wrong_for);
                    if is_known && let Admission::Now(open) = scene.admit(who, &wrong.to_string()) {
                        scene.close(open, TryOutcome::Refused);
                    }
                }
            }
        };
        let start = scene.now;
        let who = Who { username: "0", client_id: "0", ..HOME };
        let mut come_again = scene.now;
        loop {
            noise(&scene);
            if come_again <= scene.now {
                match scene.admit(who, "never tried before") {
                    Admission::Now(_) => break,
                    Admission::Throttled(left) => come_again = scene.now + left,
                    Admission::WaitForTurn(_) => prop_assert!(false, "nobody is open"),
                }
            }
            scene.now += Duration::from_millis(50) * every;
            prop_assert!(scene.now - start <= 2 * LIMITS.longest + seconds(1));
        }
    }

    /// A client that tries new passwords whenever it may, many at once, has no more of them looked at than the pauses
    /// allow: as many as may be refused before the first pause, and two for each pause since, one in it and one after
    /// it.
    #[test]
    fn guesses_that_are_looked_at_are_as_many_as_there_are_pauses(
        after in 1..6usize,
        bursts in prop::collection::vec((1..20usize, 0..160u32), 1..100),
    ) {
        let limits = ThrottleLimits { after, ..LIMITS };
        let mut scene = Scene::new(limits);
        let (mut guesses, mut looked_at) = (0, 0);
        let start = scene.now;
        for (size, tenths) in bursts {
            // Tries that wait ask again whenever another one is closed.
            let mut left = size;
            while left > 0 {
                let mut open = Vec::new();
                while left > 0 {
                    guesses += 1;
                    match scene.admit(HOME, &format!("guess {guesses}")) {
                        Admission::Now(opened) => open.push(opened),
                        Admission::Throttled(_) => {}
                        Admission::WaitForTurn(_) => break,
                    }
                    left -= 1;
                }
                prop_assert!(!open.is_empty() || left == 0);
                looked_at += open.len();
                scene.close_all(open, TryOutcome::Refused);
            }
            let lengths = [1, 2, 4].into_iter().chain(std::iter::repeat(8));
            let begun = lengths.scan(Duration::ZERO, |sum, length| {
                let begins = *sum;
                *sum += seconds(length);
                Some(begins)
            });
            let pauses = begun.take_while(|begins| *begins <= scene.now - start).count();
            prop_assert!(looked_at <= after + 2 * pauses, "{looked_at} after {pauses} pauses");
            scene.now += Duration::from_millis(100) * tenths;
        }
    }
}

/// Equal guesses at a slow hash are computed one by one.
#[test]
fn tries_that_share_no_answer_take_room_and_count_one_by_one() {
    let scene = Scene::new(LIMITS);
    let attempt = Try { is_shared: false, ..HOME.tries("wrong") };
    let admit = || scene.throttle.admit(&attempt, &scene.limits, scene.now);
    let now = |admission| match admission {
        Admission::Now(open) => open,
        other => panic!("{other:?}"),
    };
    let open: Vec<_> = (0..scene.limits.after).map(|_| now(admit())).collect();
    assert!(matches!(admit(), Admission::WaitForTurn(_)));
    scene.close_all(open, TryOutcome::Refused);
    assert!(matches!(admit(), Admission::Throttled(_)));
}

/// Who comes again while its question is open asks nothing more, but keeps its client id busy once more.
#[test]
fn an_open_question_is_shared_in_a_pause_of_its_account_and_not_in_one_of_its_id() {
    let who = Who { client_id: "id", ..HOME };
    let mut scene = Scene::new(LIMITS);
    scene.refuse(who, &WRONG);
    scene.now += scene.pause(who, "new");
    let elsewhere = Who { client_id: "other", ..HOME };
    let open = scene.open(elsewhere, "guess");
    assert!(matches!(scene.admit(elsewhere, "guess"), Admission::Now(_)));
    // In the pause that begins then one more is looked at.
    for _ in 0..=LIMITS.after {
        scene.throttle.charge_id(open.id_group(), &scene.limits, scene.now);
    }
    assert!(matches!(scene.admit(elsewhere, "guess"), Admission::Throttled(_)), "a pause of its id");
    assert!(matches!(scene.admit(Who { client_id: "third", ..HOME }, "guess"), Admission::Now(_)));
}
