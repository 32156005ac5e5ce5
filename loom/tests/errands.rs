//! Errands and their bell, in every order in which threads can run (up to a few preemptions): whatever is
//! left for the broker's thread is run, although a signal is lost whenever the broker's loop is not waiting.
#![cfg(test)]

// For the file under test, which is the plugin's own.
extern crate std_in_loom as std;
#[allow(dead_code)]
#[path = "../../src/main_queue.rs"]
mod errands;

use std::sync::Arc;

use errands::{Errand, Errands};
use host::Host;
use parking::Ticket;
use question::Answer;

/// The words that errands are made of.
mod parking {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Ticket(pub u64);
}

mod question {
    #[derive(Debug)]
    pub struct Answer;
}

mod sessions {
    #[derive(Debug, Clone)]
    pub struct SessionName;
}

mod host {
    use std::io;
    use std::sync::{Condvar, Mutex};
    use std::thread::{self, JoinHandle};

    pub trait Host: Send + Sync {
        fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
        fn wake(&self);
    }

    /// The broker's loop, waiting in epoll_wait(2) or not.
    #[derive(Default)]
    pub struct Loop {
        pub is_waiting: Mutex<bool>,
        pub is_woken: Condvar,
    }

    impl Broker for Loop {
        fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            Ok(thread::spawn(body))
        }

        /// A signal ends the wait that it meets. One that meets none is gone.
        fn wake(&self) {
            let mut is_waiting = self.is_waiting.lock().unwrap();
            if std::mem::take(&mut *is_waiting) {
                self.is_woken.notify_one();
            }
        }
    }
}

/// The broker's thread: ticks, and waits until it is woken, until so many errands have been run.
fn run(broker: &host::Loop, errands: &Errands, count: usize) -> Vec<u64> {
    let mut run = Vec::new();
    loop {
        run.extend(errands.take().into_iter().map(|errand| match errand {
            Errand::Answered(Ticket(number), _) => number,
            other => panic!("nobody left {other:?}"),
        }));
        if run.len() == count {
            return run;
        }
        let mut is_waiting = broker.is_waiting.lock().unwrap();
        *is_waiting = true;
        while *is_waiting {
            is_waiting = broker.is_woken.wait(is_waiting).unwrap();
        }
    }
}

fn leave(errands: &Arc<Errands>, number: u64) -> std::thread::JoinHandle<()> {
    let errands = Arc::clone(errands);
    std::thread::spawn(move || errands.leave(Errand::Answered(Ticket(number), Answer)))
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn errands(broker: &Arc<host::Loop>) -> Arc<Errands> {
    Arc::new(Errands::new(Arc::clone(broker) as Arc<dyn Broker>))
}

#[test]
fn an_errand_is_run_however_its_signal_falls() {
    model(3, || {
        let broker = Arc::new(host::Loop::default());
        let errands = errands(&broker);
        errands.hang_up_bell().unwrap();
        let leaver = leave(&errands, 1);
        assert_eq!(run(&broker, &errands, 1), [1]);
        leaver.join().unwrap();
        assert!(errands.take().is_empty());
    });
}

#[test]
fn errands_of_two_threads_are_both_run() {
    model(2, || {
        let broker = Arc::new(host::Loop::default());
        let errands = errands(&broker);
        errands.hang_up_bell().unwrap();
        let leavers = [leave(&errands, 1), leave(&errands, 2)];
        let mut numbers = run(&broker, &errands, 2);
        numbers.sort();
        assert_eq!(numbers, [1, 2]);
        for leaver in leavers {
            leaver.join().unwrap();
        }
    });
}

#[test]
fn a_bell_that_is_hung_up_late_rings_for_what_waits() {
    model(2, || {
        let broker = Arc::new(host::Loop::default());
        let errands = errands(&broker);
        errands.leave(Errand::Answered(Ticket(1), Answer));
        errands.hang_up_bell().unwrap();
        let leaver = leave(&errands, 2);
        assert_eq!(run(&broker, &errands, 2).len(), 2);
        leaver.join().unwrap();
    });
}
