//! A Mosquitto plugin that lets an HTTP API decide who may do what. This is the map.
//!
//! # Rooms
//!
//! Imports go down this list, never up, and within a folder in no circle; `tests/layout.rs` holds that.
//!
//! - `ffi`: the only unsafe code. Exported functions and callbacks (`entry`), each inside a guard that turns a panic into
//!   that callback's safe code (`guard`): a refusal where something is decided; event structs to typed requests (`events`);
//!   the broker's functions (`functions`); the process's signals, clock and sockets (`os`: `interest` finds whose each socket
//!   is, `sockets` looks into them).
//! - `steer`: shows and steers a running plugin. Its `commands` (`docs/commands.md`) come by a topic (`control`) or to the
//!   admin listener (`listeners`, `connections`), where `http` answers, with the status `page` and its `history`.
//! - `plugin`: who may do what, one method for each event. `attempt` (`decide`) and `topic_check` are the two lists of
//!   docs/deciding.md, and `api` is the API's part in both, which has the broker wait. `login/` is one type, `Logins`, with
//!   tables of its own (`early`, `owners`, `debts`): `placement` says where a client waits, `delayed` is beside the loop, the
//!   tick's `completion` lets it in or refuses it, and `left_behind` is why somebody must not come in yet. `settings` are
//!   all options and files. `sessions`, `throttle` and `wait_budget` keep count; `granting` gives sessions what came with
//!   answers, `expiry` ends them on time; `hasher` is a thread for slow hashes. Every answer is a `decision` with its
//!   reason. `steering` is what commands see and do of it: `explain` decides without changing anything, by the same
//!   `unasked` as topic checks and the same `decide` as logins, and `orders` wait for the tick; `kicks` has the broker
//!   disconnect, `leaving` is who must go; `others` are the brokers that carry out the same commands (`from_others`: what
//!   these have told and waits). `parts` are made
//!   first, and each of these takes what it needs of them; `tick` is a turn of the broker's loop, where `tasks` of other threads
//!   are run, and `ticks` says whether there are any.
//! - `prefetch`: asks before the broker asks. `look`, `peek` and `packet` (what waits unread in sockets), `in_hand`
//!   (the rest of a packet that the broker is at), `fan_out` and `subscriptions` (who will read a message), `replay` and
//!   `retained` (what a new subscriber gets), `wishes` (what a client will be asked about that may come in): by
//!   `acl_prefetch`, by what its kind was seen to ask (`learn`), and by what waits in its queue (`queues`). `may_ask` is
//!   the one gate for topics. It decides nothing; but where READs are not asked about (`acl_checks`), what
//!   `subscriptions` knows of this username's own ones decides in `topic_check`.
//! - `ask`: the one door to a verdict: remembered, on its way (`inflight`), or asked for. `worker` is the thread that
//!   asks, by priority (`queue`), and sends what is ready together; answers go to the `inbox`, which remembers them and
//!   tells all who wait. A `job` is a question there (`job::together`: several in one request), and has one of the
//!   `places` while it is on its way. `http` asks one within its time, or many at once (`ask_together`), knows how many
//!   at once its API can take (`limit`), and leaves it alone when it is silent (`breaker`, `rest`); `resolver` looks names
//!   up, on threads that may outlive the plugin; `wire` is the JSON; where a configuration of another plugin is
//!   understood, `dialect` is what that plugin sends, and `superuser` its question that goes before the one about a
//!   topic. `store` is the cache that several brokers share, which is asked before the API, and `shared` what is taken
//!   over from there and passed on.
//! - `metrics`: what is counted, and how Prometheus reads it.
//! - `cache`: verdicts with their times, and whose were `forgotten`. `local`: password files, how a password is compared with
//!   its hash (`password`), ACL files.
//! - `config` (an option is a row of `options`; `moving_in` understands those of other plugins), `command` (one about
//!   somebody: its name, who gave it, what came of it), `main_queue` (tasks for the broker's thread, and the thread that wakes
//!   it).
//! - `fingerprint` (what tables know things by), `broker` (the broker as a trait, whose thread this is, and its `cell`, where
//!   only that thread reaches), `log`.
//! - `question` (also what a status means by itself), then `topic` (filters, rules of ACL files, grants of the API's answers
//!   and their terms, templates), then `util`.
//!
//! # Ways
//!
//! - **Hot**, a remembered topic check: `ffi::entry`, in it `ffi::guard` and `ffi::events`; `plugin`, `topic_check`,
//!   `unasked`, `api`, `ask`, `cache`, a code. One lock, no waiting, no allocation, no system call. (With `answer_rules` that
//!   of the sessions comes first, and where a rule decides it is the only one. A message that is to be retained takes one
//!   more, `prefetch.retained`.)
//! - **A local user's login** goes by `login` alone, which compares the password with its hash (`local::password`): at once, or
//!   on the thread of `hasher` if the hash is slow and the client can be parked.
//! - **Cold**, where the broker waits: `plugin::api` has `ask` send the question or share one that is on its way; prefetches
//!   what will come next; waits at the question's own slot. The worker's thread looks into the shared cache, if there is one,
//!   and asks the API what is not there. It files the reply into the cache and tells everybody who waits. When the time is up
//!   they are told so, and what comes later is remembered.
//! - **Delayed**, where a client waits (2.1): the same question with a waiter that pushes a task. The tick (`plugin::tick`)
//!   runs it, and `login::completion` completes the client, if its ticket is still the newest for its client id.
//! - **In the background**: refreshes, SIGHUP's questions, probes of a silent API. Nobody waits; a no that is about the client
//!   (`Grounds::is_about_the_client`) may become a task that disconnects.
//! - **A response becomes a verdict** in `ask::http::ask_endpoint`, by `ask::dialect::answer`, which for the contract is
//!   `Answer::of_status`; the body of a 200 is read by `ask::answer` (`answer_rules`), and that about many questions by
//!   `ask::wire` and `ask::http::ask_together`. Without a response it is one by `ask::superuser`, or by what `ask::shared` takes over.
//! - **A client waits** where `login::placement` says: beside the loop, first for its turn (`login::parking`, by
//!   `throttle`), then in `ask::queue`, for its answer, and for what it will ask (`login::warm_up`); or with the broker
//!   (`api::wait_for`, by `wait_budget`, at the slot of `ask::inflight`). Under somebody else's client id
//!   (`login::owners`) it waits with the broker for a moment until it is parked, unless its hash is a slow one. A slow hash of
//!   a client that cannot be parked is computed by the broker itself.
//! - **SIGHUP**: `Plugin::reload` has `current` read options and files whole (`settings`) and swap them, unless `changes` finds
//!   that an option which decides about logins or topics is missing without `none`. `Asker::set_target` swaps the API with them
//!   and, if it is another one, forgets its verdicts; `ffi::guard` registers for topic checks or no longer. Then the broker
//!   raises the login of every session once more: `login` has `recheck` recognise it, which keeps the session and notes the
//!   question; its `belief` settles, by all answers, who is `leaving`. Whom others have let in is theirs then, too.
//! - **A session ends**: `Plugin::disconnected` takes its end out of `expiry`, and `sessions` closes it. Of one that ended for good
//!   `prefetch` forgets the subscriptions, and `sessions` all when the turn is over, since its will may still be written. A
//!   client that comes again takes its session over (`admit`); what came to nothing is undone (`withdraw`).
//! - **A refusal is logged** where it is made (mostly in `login` and `topic_check`), as often as `log` allows, and written by
//!   `ffi::guard` once nothing is held any more.
//! - **Taken back**, by a command: `plugin::steering` carries it out here, has the log tell of it, and has `ask::store` write
//!   it into the journal that all brokers read (`tell`). There `keeper` finds it, and `others` carries it out.
//!
//! # Rules
//!
//! - Whatever ends without a clear yes, now or remembered, is a refusal, panics included. Three things go on without one: a
//!   message that is only queued for a client that sleeps (it is asked about again before it is sent), a session whose recheck
//!   has no answer, or that sleeps (it stays), and a READ for a client that sleeps, as local user or by its session's rules, where the system
//!   does not tell who has its connection's number now (`Sessions::confirm_client`). A missing answer is not remembered.
//! - Nothing is held while waiting for an answer or calling a C function of the broker: these call back into the plugin. They
//!   are called on its own thread alone (`BrokerThread` proves it); log lines queue until everything is let go of.
//! - A decision takes the settings once (`Event`), and a question its `Target` (how to ask), which a reload swaps right behind
//!   them. Two threads may ask at once (`http_api` on 2.1).
//! - A verdict that is shared with other brokers can only be a yes; the journal can only take back (forget, kick, recheck);
//!   what they have learnt can only cause questions. All of it counts only if it is signed, and a verdict only if nothing that
//!   it is about was taken back since it was asked.
//! - Asking ahead decides nothing: a verdict counts for the exact question that the broker asks.
//! - Everything that clients can make grow has a bound, and the bound says where its number comes from.
//! - Functions take the time as `now`. The clock is read only by code that may have waited, sets the deadline of a look into the
//!   sockets, measures something, or runs on another thread.
//! - No password, token or header reaches a log.
//! - No mutable state outside the instance, but for what belongs to the process: the signal's handler, the sockets that listen
//!   for the plugin, the last ticket and the newest of each client id, which all instances share as they share the broker's
//!   table; and for each thread, where it has panicked last.
//!
//! # Locks
//!
//! What only the broker's own thread touches has none: it is in a `broker::BrokerCell`. These are, in `ffi`, what the system
//! tells of sockets (`sockets`, `read_ahead`, `in_hand`); in `plugin`, the parked clients, `early`, `owners` and `debts` of `login`, the `round` of `recheck`, the
//! `wait_budget`, and what `sys_topics` has published; in `prefetch`, the `queues`. Nobody comes back to a cell in use.
//!
//! For all else there is one type, `util::Lock`, but for the slots where threads wait for an answer. Whoever holds a lock, or
//! uses a cell, takes only those to the right: `doors` (while the plugin starts) or `sys_topics`; then `prefetch.state`,
//! `prefetch.learner` or `queues`, then `prefetch.subscriptions` or `prefetch.retained`, the sockets and then the plugin's own
//! among them, the parked clients and then the newest tickets of `delayed`; then `sessions`, `throttle`, the `wait_budget`s;
//! then `ask.state`; then, where a reload changes the shared cache, what is taken over from the one before (`in_step`,
//! `outbox`); then a slot, `breaker`, `limiter`, a server's idle lanes, its second tries, names and then one of them, an
//! address's rest, suspects, `hasher`, `recheck.belief` and then `leaving`, `main_queue`, `log`. All other locks and cells are
//! held alone, as are most of these, and nobody waits at a slot while holding anything.
//!
//! # Words
//!
//! - *question*: may this client log in, or touch this topic; *answer*: what came back; *verdict*: a yes or no in it.
//! - *dialect*: how the API is spoken to; that of the contract, unless a configuration has moved in from another plugin.
//! - *lane*: an HTTP client that carries one question at a time, over at most one connection.
//! - *source*: the network and the username that a question is asked for; room is shared fairly among them.
//! - *decision*: what the plugin tells the broker, and by what it was decided.
//! - *terms*: what an allow says besides (`answer_rules`); a session is *granted* them.
//! - *local user*: one from a password file or `plugin_opt_user`; the API is not asked.
//! - *owner* of a client id: who was let in last under it, a username and its network.
//! - *parked*: waiting beside the broker's loop for a login (the broker calls it delayed); a *ticket* names one parking.
//! - *recheck*: SIGHUP has every session asked about once more.
//! - *together*: many topic questions in one request (`acl_batch_url`); *alone*: not so. *road*: login, topic, or together.
//! - *in the background*: asked while nobody waits for the answer; *beside the loop*: what a parked client does.
//! - *wish*: a topic question that a client is expected to raise as soon as it is in; a *template* says so of all clients of a
//!   *group*, with places for their names.
//! - *prefetch*: ask early; a *speculative* question has nobody waiting yet; *peek*: read what waits in sockets. A *scope* is
//!   what that goes by; the *gate* in it is the plugin's say.
//! - *fan-out*: one message, many readers, a READ question for each.
//! - *replay*: the broker goes through the retained messages that a new subscription matches, a READ question for each.
//! - *limit*: how many questions may be on their way to a URL at once, by what an answer takes *by itself*, while no other is
//!   on its way.
//! - *throttle*: slow down those who try wrong passwords. *breaker*: leave an API alone that gives no answers; it is *open*
//!   then, for all or for *strangers*: whoever is not among the *known names*, which the API has allowed something.
//! - *stale*: past its time, but good enough while there is no answer.
//! - *store*, or *shared cache*: a Valkey or Redis in which brokers leave each other what the API has allowed; its *journal*
//!   says what was taken back, and an *epoch* is the time of one journal.
//! - *command*: what an operator or an API has the plugin do; a *verb* is what one does to somebody; an *order* is its part
//!   for the broker's thread.
//! - *turn*: one round of the broker's loop; the *tick* is the plugin's part in it. (A client's turn to be looked at, while it
//!   is throttled, is always *its turn*.)
#![deny(unsafe_code)]
// Here and not in Cargo.toml, since tests and benchmarks do fail by a panic and say what they have found.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod ask;
mod broker;
mod cache;
mod command;
mod config;
#[allow(unsafe_code, reason = "the broker's interface and the system's are those of C")]
mod ffi;
mod fingerprint;
#[doc(hidden)]
pub mod internals;
mod local;
mod log;
mod main_queue;
mod metrics;
mod plugin;
mod prefetch;
mod question;
mod steer;
mod topic;
mod util;
