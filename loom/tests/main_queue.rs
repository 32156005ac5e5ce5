//! The main queue and its waking thread, in every order in which threads can run (up to a few preemptions): every
//! pushed task is run, although a signal is lost while the broker's loop is not waiting.
#![cfg(test)]

// The file under test is the plugin's own, and finds loom under the name `std`.
extern crate std_in_loom as std;
#[allow(dead_code)]
#[path = "../../src/main_queue.rs"]
mod main_queue;

/// The plugin's lock, in loom's world, where nobody panics.
mod util {
    use std::sync::{Mutex, MutexGuard};

    #[derive(Default)]
    pub struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

use std::sync::Arc;

use broker::Broker;

type MainQueue = main_queue::MainQueue<u64>;

mod broker {
    use std::io;
    use std::sync::{Condvar, Mutex};
    use std::thread::{self, JoinHandle};

    /// The part of the trait in `src/broker.rs` that the queue needs.
    pub trait Broker: Send + Sync {
        fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
        fn wake(&self);
    }

    /// The broker's loop, which waits in epoll_wait(2) or not.
    #[derive(Default)]
    pub struct Loop {
        pub is_waiting: Mutex<bool>,
        pub is_woken: Condvar,
    }

    impl Broker for Loop {
        fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            Ok(thread::spawn(body))
        }

        /// Ends the loop's wait. Without a wait the signal is lost.
        fn wake(&self) {
            let mut is_waiting = self.is_waiting.lock().unwrap();
            if std::mem::take(&mut *is_waiting) {
                self.is_woken.notify_one();
            }
        }
    }
}

/// The broker's thread: drains the queue and waits until it is woken, until `count` tasks have been run.
fn run(broker: &broker::Loop, queue: &MainQueue, count: usize) -> Vec<u64> {
    let mut run = Vec::new();
    loop {
        run.extend(queue.drain());
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

fn push(queue: &Arc<MainQueue>, task: u64) -> std::thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    std::thread::spawn(move || queue.push(task))
}

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn queue(broker: &Arc<broker::Loop>) -> Arc<MainQueue> {
    Arc::new(MainQueue::new(Arc::clone(broker) as Arc<dyn Broker>))
}

#[test]
fn a_task_is_run_however_its_signal_falls() {
    model(3, || {
        let broker = Arc::new(broker::Loop::default());
        let queue = queue(&broker);
        queue.start_waking().unwrap();
        let pushing = push(&queue, 1);
        assert_eq!(run(&broker, &queue, 1), [1]);
        pushing.join().unwrap();
        assert!(queue.drain().is_empty());
    });
}

#[test]
fn tasks_of_two_threads_are_both_run() {
    model(2, || {
        let broker = Arc::new(broker::Loop::default());
        let queue = queue(&broker);
        queue.start_waking().unwrap();
        let pushing = [push(&queue, 1), push(&queue, 2)];
        let mut tasks = run(&broker, &queue, 2);
        tasks.sort();
        assert_eq!(tasks, [1, 2]);
        for thread in pushing {
            thread.join().unwrap();
        }
    });
}

#[test]
fn tasks_that_are_given_back_are_run_first() {
    model(2, || {
        let broker = Arc::new(broker::Loop::default());
        let queue = queue(&broker);
        queue.start_waking().unwrap();
        queue.push(1);
        queue.push(2);
        let mut drained = queue.drain();
        assert_eq!(drained.pop_front(), Some(1));
        let pushing = push(&queue, 3);
        queue.give_back(drained);
        assert_eq!(run(&broker, &queue, 2), [2, 3]);
        pushing.join().unwrap();
    });
}

#[test]
fn waking_that_starts_late_wakes_for_what_waits() {
    model(2, || {
        let broker = Arc::new(broker::Loop::default());
        let queue = queue(&broker);
        queue.push(1);
        queue.start_waking().unwrap();
        let pushing = push(&queue, 2);
        assert_eq!(run(&broker, &queue, 2).len(), 2);
        pushing.join().unwrap();
    });
}
