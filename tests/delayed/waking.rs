//! An answer wakes an idle broker by a signal, unless other software handles that signal. No thread of the plugin takes
//! signals.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;

use super::{RULES, TICK, broker};
use crate::support::broker::{are_for_musl, plugin, plugin_line};
use crate::support::scene::PASSWD_ARGON2ID;
use crate::support::{
    Broker, Connect, PASSWORD, PATIENCE, Reply, Version, api, broker_asking, friendly_api, on_every_broker,
    timed,
};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The time that logins take on an otherwise idle broker, as a rule, is not that of the broker's own tick.
fn assert_wakes(port: u16, name: &str) {
    let login = |number: usize| {
        let client = Connect::v3(format!("{name}-{number}")).login(format!("{name}-{number}"), "secret");
        let (_client, waited) = timed(|| client.accepted(port));
        assert!(waited >= QUICK, "{waited:?}");
        // The connection's end and whatever else is left to do.
        thread::sleep(TICK / 5);
        waited
    };
    let medians: Vec<_> =
        (0..3).map(|round| median((round * 11..(round + 1) * 11).map(login).collect())).collect();
    let quickest = medians.iter().min().unwrap();
    assert!(*quickest < (QUICK + TICK) / 2, "{name}: {medians:?} for an answer of {QUICK:?}");
}

const QUICK: Duration = Duration::from_millis(20);

#[test]
fn an_answer_wakes_an_idle_broker() {
    let api = friendly_api();
    api.answer(Reply::status(200).after(QUICK));
    let broker = broker(&api).start();
    assert_wakes(broker.port(), "user");
}

#[test]
fn every_instance_wakes_the_broker() {
    let api = friendly_api();
    api.answer(Reply::status(200).after(QUICK));
    let mut broker = broker(&api)
        .global("per_listener_settings true")
        .listener([plugin_line(&plugin()), format!("plugin_opt_auth_url {}", api.auth_url())])
        .start();
    for (number, port) in broker.ports().iter().enumerate() {
        assert_wakes(*port, &format!("listener-{number}"));
    }
    assert!(broker.terminate().0.success());
}

/// A plugin that does nothing but handle SIGWINCH, or look who does.
struct OtherPlugin {
    folder: TempDir,
}

impl OtherPlugin {
    const HANDLER: &str = r#"
        #include <signal.h>
        #include <stdio.h>
        static volatile sig_atomic_t runs;
        static void handler(int number) { (void)number; runs++; }
        int mosquitto_plugin_version(int count, const int *versions) { (void)count; (void)versions; return 5; }
        int mosquitto_plugin_init(void *id, void **data, void *options, int count)
        {
            struct sigaction action = { .sa_handler = handler };
            (void)id; (void)data; (void)options; (void)count;
            return sigaction(SIGWINCH, &action, NULL);
        }
        int mosquitto_plugin_cleanup(void *data, void *options, int count)
        {
            struct sigaction action;
            (void)data; (void)options; (void)count;
            sigaction(SIGWINCH, NULL, &action);
            fprintf(stderr, "other plugin: handler %s, ran %d times\n",
                action.sa_handler == handler ? "kept" : "replaced", (int)runs);
            return 0;
        }"#;

    const WITNESS: &str = r#"
        #include <signal.h>
        #include <stdio.h>
        int mosquitto_plugin_version(int count, const int *versions) { (void)count; (void)versions; return 5; }
        int mosquitto_plugin_init(void *id, void **data, void *options, int count)
        { (void)id; (void)data; (void)options; (void)count; return 0; }
        int mosquitto_plugin_cleanup(void *data, void *options, int count)
        {
            struct sigaction action;
            (void)data; (void)options; (void)count;
            sigaction(SIGWINCH, NULL, &action);
            fprintf(stderr, "other plugin: SIGWINCH is %s\n", action.sa_handler == SIG_IGN ? "ignored" : "not ignored");
            raise(SIGWINCH);
            return 0;
        }"#;

    fn compile(source: &str) -> Self {
        let folder = TempDir::with_prefix("mha-plugin-").unwrap();
        let plugin = Self { folder };
        let c = plugin.folder.path().join("other.c");
        fs::write(&c, source).unwrap();
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(plugin.path()).arg(&c).output();
        let compiled = compiled.expect("cc, a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        plugin
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("other.so")
    }
}

#[test]
fn somebody_else_who_handles_the_signal_keeps_it() {
    let other = OtherPlugin::compile(OtherPlugin::HANDLER);
    let api = friendly_api();
    api.answer(Reply::status(200).after(QUICK));
    let mut broker = Broker::with(Version::V2_1)
        .plugin(other.path())
        .line(plugin_line(&plugin()))
        .option("auth_url", api.auth_url())
        .start();
    let log = broker.log();
    let told = log.lines().find(|line| line.contains("mosquitto-http-auth") && line.contains("SIGWINCH"));
    assert!(told.is_some_and(|line| line.contains("delayed mode")), "{log}");
    for number in 0..5 {
        let connect = Connect::v3("client").login(format!("user-{number}"), "secret");
        let (_client, waited) = timed(|| connect.accepted(broker.port()));
        assert!(waited < TICK * 20, "the loop comes round by itself, but a login took {waited:?}");
    }
    broker.signal(libc::SIGWINCH);
    // A login that wakes the broker comes later than the signal.
    Connect::v3("client").login("later", "secret").accepted(broker.port());
    assert!(broker.terminate().0.success());
    // The one signal that this test has sent.
    broker.wait_for_log("other plugin: handler kept, ran 1 times", PATIENCE);
}

#[test]
fn the_signal_is_left_ignored() {
    let other = OtherPlugin::compile(OtherPlugin::WITNESS);
    let api = friendly_api();
    let mut broker = broker(&api).line(plugin_line(&other.path())).start();
    Connect::v3("client").login("alice", "secret").accepted(broker.port());
    broker.signal(libc::SIGWINCH);
    Connect::v3("client").login("bob", "secret").accepted(broker.port());
    assert!(broker.terminate().0.success());
    broker.wait_for_log("other plugin: SIGWINCH is ignored", PATIENCE);
}

#[test]
fn no_thread_of_the_plugin_takes_signals() {
    on_every_broker(|version| {
        let api = api(RULES);
        let broker = broker_asking(version, &api)
            .file("passwords", PASSWD_ARGON2ID)
            .option("password_file", "passwords")
            .start();
        Connect::v3("a").login("alice", "secret").accepted(broker.port());
        Connect::v3("b").login("argon2id", PASSWORD).accepted(broker.port());
        // A signal that some thread does not block may go to it, and then does not wake the loop.
        let threads = blocked_signals(broker.pid());
        let main = broker.pid();
        let own: Vec<_> = threads.iter().filter(|(thread, _)| *thread != main).collect();
        assert!(!own.is_empty());
        for (thread, blocked) in &own {
            let open = (1..=64).filter(|signal| blocked >> (signal - 1) & 1 == 0);
            let own_of_musl = |signal: &i32| *signal == 34 && are_for_musl();
            let mut open = open.filter(|signal| !UNBLOCKABLE.contains(signal) && !own_of_musl(signal));
            assert_eq!(open.next(), None, "a signal that thread {thread} takes; it blocks {blocked:x}");
        }
    });
}

/// SIGKILL, SIGSTOP, and the two that the C library keeps for itself. (Musl keeps one more.)
const UNBLOCKABLE: [i32; 4] = [9, 19, 32, 33];

/// For each thread of a process the set of signals that it blocks.
fn blocked_signals(pid: u32) -> Vec<(u32, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status_of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let thread = task.file_name().to_str().unwrap().parse().unwrap();
        (thread, u64::from_str_radix(blocked.trim(), 16).unwrap())
    };
    tasks.map(|task| status_of(task.unwrap())).collect()
}
