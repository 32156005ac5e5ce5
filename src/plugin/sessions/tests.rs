//! Sessions are told apart by how they were let in, and rights end with connections.

use std::time::Duration;

use super::rights::WILL_WITHIN;
use super::*;
use crate::fingerprint::{About, Whose};
use crate::question::Access;
use crate::topic::Wanted;

fn sessions() -> Sessions {
    Sessions::new(Fingerprinter::with_key(&[1; 16]), false)
}

fn client(connection: Connection) -> Client<'static> {
    Client { connection, id: "id", address: Some("127.0.0.1") }
}

fn credentials() -> Fingerprint {
    Fingerprinter::with_key(&[1; 16]).fields(Domain::Credentials, [b"secret"])
}

fn hash() -> Arc<PasswordHash> {
    hash_with_salt("c2FsdHNhbHRzYWx0")
}

fn hash_with_salt(salt: &str) -> Arc<PasswordHash> {
    let hash = "A".repeat(86) + "==";
    Arc::new(PasswordHash::parse(&format!("$7$101${salt}${hash}")).unwrap())
}

fn admit(sessions: &Sessions, connection: Connection, now: Instant) -> Option<Session> {
    sessions.admit(client(connection), "alice", credentials(), LetInBy::Local(hash()), None, now)
}

fn may(sessions: &Sessions, connection: Connection, access: Access, now: Instant) -> bool {
    may_if(sessions, connection, access, now, None)
}

/// Where so much is known of whether the connection has a socket.
fn may_if(
    sessions: &Sessions,
    connection: Connection,
    access: Access,
    now: Instant,
    has_socket: Option<bool>,
) -> bool {
    sessions.has_local_rights(client(connection), "alice", &hash(), access, now, |_| has_socket)
}

/// A list of sockets that was read before the connection was closed would tell of its own.
#[test]
fn who_sleeps_is_looked_for_since_it_was_closed() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    let closed = now + Duration::from_secs(1);
    sessions.close(client(1), "alice", SessionStays::Unknown, closed);
    let later = closed + Duration::from_secs(1);
    let (mut asked, hash) = (None, hash());
    let mut look = |since| {
        asked = Some(since);
        Some(false)
    };
    assert!(sessions.has_local_rights(client(1), "alice", &hash, Access::Read, later, &mut look));
    assert_eq!(asked, Some(closed));
}

#[test]
fn a_round_recognises_each_session_once_and_no_stranger() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    let other_password = Fingerprinter::with_key(&[1; 16]).fields(Domain::Credentials, [b"guess"]);
    assert!(!sessions.recheck(client(1), "alice", other_password, 1, true));
    assert!(!sessions.recheck(client(2), "alice", credentials(), 1, true));
    assert!(sessions.recheck(client(1), "alice", credentials(), 1, true));
    assert!(!sessions.recheck(client(1), "alice", credentials(), 1, true));
    assert!(sessions.recheck(client(1), "alice", credentials(), 2, true));
}

#[test]
fn a_session_that_sleeps_is_rechecked_but_not_connected() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    assert!(sessions.is_connected(client(1), "alice"));
    sessions.close(client(1), "alice", SessionStays::Unknown, now);
    assert!(!sessions.is_connected(client(1), "alice"));
    assert!(!sessions.recheck(client(1), "alice", credentials(), 1, false), "the round is over");
    assert!(sessions.recheck(client(1), "alice", credentials(), 1, true));
}

#[test]
fn rights_belong_to_the_connection_that_was_let_in() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    assert!(may(&sessions, 1, Access::Subscribe, now));
    assert!(!may(&sessions, 2, Access::Subscribe, now));
    assert!(!sessions.has_local_rights(client(1), "bob", &hash(), Access::Subscribe, now, |_| None));
}

#[test]
fn who_was_let_in_by_the_api_or_another_hash_has_no_local_rights() {
    let (sessions, now) = (sessions(), Instant::now());
    sessions.admit(client(1), "alice", credentials(), LetInBy::Api(credentials()), Some(4), now);
    assert!(!may(&sessions, 1, Access::Write, now));
    assert!(!sessions.is_let_in_by(client(1), "alice", credentials(), &hash()));
    admit(&sessions, 1, now);
    assert!(sessions.is_let_in_by(client(1), "alice", credentials(), &hash()), "the same hash, read again");
    let other = hash_with_salt("dGxhc3RsYXN0bGFz");
    assert!(!sessions.has_local_rights(client(1), "alice", &other, Access::Write, now, |_| None));
}

#[test]
fn a_refused_login_under_the_same_id_takes_nothing_away() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    sessions.close(client(2), "alice", SessionStays::No, now);
    assert!(may(&sessions, 1, Access::Write, now));
}

#[test]
fn a_closed_connection_may_still_write_its_will_and_be_read_for() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    sessions.close(client(1), "alice", SessionStays::Unknown, now);
    assert!(may(&sessions, 1, Access::Read, now));
    assert!(may(&sessions, 1, Access::Write, now));
    sessions.new_turn();
    assert!(may(&sessions, 1, Access::Read, now));
    assert!(!may(&sessions, 1, Access::Write, now));
}

#[test]
fn a_session_that_sleeps_has_rights_while_nobody_has_its_number() {
    let (sessions, now) = (sessions(), Instant::now());
    let later = now + Duration::from_secs(3600);
    for stays in [SessionStays::Yes, SessionStays::Unknown] {
        admit(&sessions, 1, now);
        sessions.close(client(1), "alice", stays, now);
        sessions.new_turn();
        for access in [Access::Read, Access::Write] {
            assert!(may_if(&sessions, 1, access, later, Some(false)));
            assert_eq!(may_if(&sessions, 1, access, later, None), access == Access::Read);
        }
        for access in [Access::Read, Access::Write] {
            assert!(!may_if(&sessions, 1, access, later, Some(true)));
            assert!(
                !may_if(&sessions, 1, access, later, Some(false)),
                "somebody else had it, and may have it still"
            );
        }
    }
}

#[test]
fn a_connection_is_known_by_name_as_long_as_its_session_has_it() {
    let (sessions, now) = (sessions(), Instant::now());
    let admit = |connection, credentials, level| {
        sessions.admit(client(connection), "alice", credentials, LetInBy::Api(credentials), Some(level), now)
    };
    let name_of =
        |connection| sessions.client_of(connection).map(|it| (it.username.clone(), it.client_id.clone()));
    let alice = Some(("alice".to_owned(), "id".to_owned()));
    admit(1, credentials(), 4);
    assert_eq!((name_of(1), name_of(2)), (alice.clone(), None));
    let before = admit(2, credentials(), 5);
    assert_eq!((name_of(1), name_of(2)), (None, alice.clone()), "it was taken over");
    sessions.withdraw(client(2), "alice", before);
    assert_eq!((name_of(1), name_of(2)), (alice.clone(), None));
    sessions.close(client(1), "alice", SessionStays::Yes, now);
    assert_eq!(name_of(1), None);
    admit(1, credentials(), 0);
    assert_eq!(name_of(1), None, "nobody wants to know");
    // The number goes to somebody else, though nobody said that it is free.
    admit(1, credentials(), 4);
    let bob = Client { id: "other", ..client(1) };
    sessions.admit(bob, "bob", credentials(), LetInBy::Api(credentials()), Some(4), now);
    assert_eq!(name_of(1), Some(("bob".to_owned(), "other".to_owned())));
    let long = "x".repeat(2000);
    sessions.admit(
        Client { id: &long, ..bob },
        "bob",
        credentials(),
        LetInBy::Api(credentials()),
        Some(4),
        now,
    );
    assert_eq!(name_of(1), None);
}

#[test]
fn a_session_that_ended_for_good_is_forgotten_with_the_turn() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    sessions.close(client(1), "alice", SessionStays::No, now);
    assert!(may(&sessions, 1, Access::Write, now));
    sessions.new_turn();
    assert!(!sessions.has(client(1), "alice"));
    // Unless the client has come back meanwhile.
    admit(&sessions, 2, now);
    sessions.close(client(2), "alice", SessionStays::No, now);
    admit(&sessions, 3, now);
    sessions.new_turn();
    assert!(sessions.is_connected(client(3), "alice"));
}

#[test]
fn where_no_turn_ever_comes_sessions_that_ended_for_good_are_forgotten() {
    let (sessions, mut now) = (sessions(), Instant::now());
    let ids: Vec<String> = (0..5 * GONE).map(|n| n.to_string()).collect();
    for (n, id) in ids.iter().enumerate() {
        let named = Client { id, ..client(n + 1) };
        sessions.admit(named, "alice", credentials(), LetInBy::Api(credentials()), None, now);
        sessions.close(named, "alice", SessionStays::No, now);
        now += WILL_WITHIN / 100;
    }
    assert!(sessions.tables.lock().gone.len() <= GONE + 100);
}

#[test]
fn somebody_with_the_number_of_a_closed_connection_is_a_stranger() {
    let (sessions, now) = (sessions(), Instant::now());
    let closed = || {
        admit(&sessions, 1, now);
        sessions.close(client(1), "alice", SessionStays::Yes, now);
    };
    closed();
    assert!(!may(&sessions, 1, Access::Subscribe, now));
    assert!(!may(&sessions, 1, Access::Read, now), "whoever subscribes is somebody else");
    // Also where the broker never ticks.
    closed();
    assert!(!may(&sessions, 1, Access::Write, now + WILL_WITHIN));
    // From another address.
    closed();
    let elsewhere = Client { address: Some("127.0.0.2"), ..client(1) };
    assert!(!sessions.has_local_rights(elsewhere, "alice", &hash(), Access::Read, now, |_| Some(false)));
}

#[test]
fn where_the_broker_tells_of_connections_a_will_may_be_held_back() {
    let now = Instant::now();
    let sessions = Sessions::new(Fingerprinter::with_key(&[1; 16]), true);
    admit(&sessions, 1, now);
    sessions.close(client(1), "alice", SessionStays::Yes, now);
    let later = now + Duration::from_secs(3600);
    sessions.new_turn();
    assert!(may(&sessions, 1, Access::Write, later));
    sessions.opened(client(1), "alice");
    assert!(!may(&sessions, 1, Access::Write, later));
    assert!(!may(&sessions, 1, Access::Read, later));
}

#[test]
fn an_admission_that_came_to_nothing_changes_nothing() {
    let (sessions, now) = (sessions(), Instant::now());
    let before = admit(&sessions, 1, now);
    assert!(before.is_none());
    let before = admit(&sessions, 2, now);
    sessions.withdraw(client(2), "alice", before);
    assert!(sessions.is_connected(client(1), "alice"));
    assert!(!may(&sessions, 2, Access::Write, now));
    // A connection that is gone is not brought back: nothing is said to have been before.
    admit(&sessions, 2, now);
    sessions.withdraw(client(2), "alice", None);
    assert!(!sessions.has(client(1), "alice"));
}

#[test]
fn on_a_take_over_the_old_will_is_still_written() {
    let (sessions, now) = (sessions(), Instant::now());
    admit(&sessions, 1, now);
    admit(&sessions, 2, now);
    sessions.close(client(1), "alice", SessionStays::No, now);
    assert!(may(&sessions, 1, Access::Write, now));
    assert!(may(&sessions, 2, Access::Write, now));
}

#[test]
fn sessions_that_sleep_push_out_neither_connected_ones_nor_those_of_local_users() {
    let (sessions, now) = (sessions(), Instant::now());
    {
        let mut tables = sessions.tables.lock();
        let three = NonZeroUsize::new(3).unwrap();
        tables.connected.resize(three);
        tables.asleep.resize(three);
        tables.local_asleep.resize(three);
    }
    let named = |id: &'static str, connection| Client { id, ..client(connection) };
    sessions.admit(named("idle", 1), "alice", credentials(), LetInBy::Local(hash()), None, now);
    sessions.admit(named("sleeper", 2), "alice", credentials(), LetInBy::Local(hash()), None, now);
    sessions.close(named("sleeper", 2), "alice", SessionStays::Yes, now);
    for (n, id) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        sessions.admit(
            named(id, 10 + n),
            "mallory",
            credentials(),
            LetInBy::Api(credentials()),
            Some(4),
            now,
        );
        sessions.close(named(id, 10 + n), "mallory", SessionStays::Yes, now);
    }
    assert!(sessions.is_connected(named("idle", 1), "alice"));
    assert!(sessions.is_known(named("sleeper", 2), "alice"));
}

#[test]
fn a_message_waits_unasked_only_for_a_session_that_sleeps_for_sure() {
    let (sessions, now) = (sessions(), Instant::now());
    let restored = Client { address: None, ..client(1) };
    let waits = |client, has_socket| sessions.let_wait_unasked(client, "alice", |_| has_socket);
    assert!(!waits(client(1), Some(false)), "it was not let in here");
    assert!(waits(restored, Some(false)));
    assert!(!waits(restored, None));
    admit(&sessions, 1, now);
    assert!(!waits(client(1), Some(false)), "it is connected");
    sessions.close(client(1), "alice", SessionStays::Unknown, now);
    assert!(!waits(client(2), Some(false)), "it is somebody else");
    assert!(!waits(client(1), Some(true)) && !waits(client(1), None), "somebody may have its number");
    assert!(sessions.asleep(client(2), "alice", now).is_some(), "all that waits for it was allowed");
    assert!(sessions.let_wait_unasked(client(1), "alice", |since| {
        assert_eq!(since, Some(now), "an older list may have it");
        Some(false)
    }));
    assert_eq!(sessions.asleep(client(2), "alice", now), None);
    admit(&sessions, 2, now);
    assert!(sessions.asleep(client(2), "alice", now).is_some(), "that is over");
}

/// A session that the API has let in, with rights to everything.
fn admit_by_api(sessions: &Sessions, connection: Connection, credentials: Fingerprint, now: Instant) {
    sessions.admit(client(connection), "alice", credentials, LetInBy::Api(credentials), None, now);
    let granted = Granted::new(About { username: 1, client_id: 1 }, now, true, None, None);
    assert!(sessions.grant(client(connection), "alice", credentials, Box::new(granted)));
}

fn says(sessions: &Sessions, connection: Connection, now: Instant) -> Option<RulesSay> {
    let wanted = Wanted { access: Access::Write, topic: "t", qos: None, retain: None };
    sessions.says(client(connection), "alice", &wanted, now, |_| None)
}

#[test]
fn forgetting_many_takes_the_rules_of_nobody_else() {
    forget_many(Duration::from_millis(20));
}

#[test]
fn forgetting_many_at_once_takes_the_rules_of_nobody_else() {
    forget_many(Duration::from_micros(1));
}

fn forget_many(pause: Duration) {
    let (sessions, now) = (sessions(), Instant::now());
    admit_by_api(&sessions, 1, credentials(), now);
    let later = now + Duration::from_secs(1);
    let names = 2..200_000;
    for username in names.clone() {
        sessions.forget(Whose::Username(username), later + pause * username);
    }
    assert_eq!(says(&sessions, 1, later), Some(RulesSay::Superuser));
    // Whom a late answer is about may have been forgotten: it is not known any more.
    admit_by_api(&sessions, 1, credentials(), now);
    assert_eq!(says(&sessions, 1, later), None);
    let latest = later + pause * names.end;
    admit_by_api(&sessions, 1, credentials(), latest);
    assert_eq!(says(&sessions, 1, later), Some(RulesSay::Superuser));
    sessions.forget(Whose::Username(1), latest);
    assert_eq!(says(&sessions, 1, later), None);
    // It stays forgotten when its name is not kept any more.
    for username in names {
        sessions.forget(Whose::Username(username), later + Duration::from_secs(10_000) + pause * username);
    }
    assert_eq!(says(&sessions, 1, later), None);
}

#[test]
fn what_there_is_no_room_for_leaves_the_end_alone() {
    let (sessions, now) = (sessions(), Instant::now());
    let end = now + Duration::from_secs(60);
    sessions.admit(client(1), "alice", credentials(), LetInBy::Api(credentials()), None, now);
    let granted = Granted::new(About { username: 1, client_id: 1 }, now, true, None, Some(end));
    assert!(sessions.grant(client(1), "alice", credentials(), Box::new(granted)));
    assert!(sessions.take_back(client(1), "alice", credentials()));
    assert_eq!(says(&sessions, 1, now), None);
    assert!(!sessions.is_over(client(1), "alice", now) && sessions.is_over(client(1), "alice", end));
    assert!(!sessions.take_back(client(1), "alice", credentials()), "there is nothing left");
    let granted = Granted::end_alone(About { username: 1, client_id: 1 }, now, Some(end));
    assert!(sessions.grant(client(1), "alice", credentials(), Box::new(granted)));
    assert_eq!(says(&sessions, 1, now), None);
}

#[test]
fn a_connection_that_was_taken_over_has_what_its_own_credentials_gave() {
    let (sessions, now) = (sessions(), Instant::now());
    let mine = Fingerprinter::with_key(&[1; 16]).fields(Domain::Credentials, [b"mine"]);
    admit_by_api(&sessions, 1, credentials(), now);
    admit_by_api(&sessions, 2, credentials(), now);
    assert_eq!(says(&sessions, 1, now), Some(RulesSay::Superuser), "its will, with the same credentials");
    sessions.admit(client(3), "alice", mine, LetInBy::Api(mine), None, now);
    let granted = Granted::new(About { username: 1, client_id: 1 }, now, false, None, None);
    assert!(sessions.grant(client(3), "alice", mine, Box::new(granted)));
    assert_eq!(says(&sessions, 2, now), Some(RulesSay::Superuser));
    assert_eq!(says(&sessions, 3, now), Some(RulesSay::Nothing));
    admit_by_api(&sessions, 4, credentials(), now);
    assert_eq!(says(&sessions, 3, now), Some(RulesSay::Nothing));
    assert_eq!(says(&sessions, 4, now), Some(RulesSay::Superuser));
    // The same password from elsewhere, where the API was told so (auth_fields) and grants nothing.
    sessions.admit(client(5), "alice", credentials(), LetInBy::Api(mine), None, now);
    let granted = Granted::new(About { username: 1, client_id: 1 }, now, false, None, None);
    assert!(sessions.grant(client(5), "alice", credentials(), Box::new(granted)));
    admit_by_api(&sessions, 6, credentials(), now);
    assert_eq!(says(&sessions, 5, now), Some(RulesSay::Nothing), "its will");
    assert_eq!(says(&sessions, 6, now), Some(RulesSay::Superuser));
}
