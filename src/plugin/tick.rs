//! A turn of the broker's loop, which is where other threads have the broker do something.

use std::time::Instant;

use super::event::Event;
use super::orders::{Order, Recipient};
use super::tasks::{Task, is_over};
use super::{CONTROL_TOPIC, Plugin};
use crate::broker::{BrokerThread, Caller, Client};
use crate::command::Done;

impl Plugin {
    /// Begins a turn of the broker's loop (`MOSQ_EVT_TICK`): completes parked clients and runs tasks.
    pub fn tick(&self, caller: &Caller, now: Instant) {
        // It comes on no other thread.
        let Some(thread) = caller.broker_thread() else { return };
        // First: as long as a round goes on, a login may be taken for the check of a session.
        self.recheck.new_turn(thread, now);
        self.api.new_turn(thread, now);
        self.sessions.new_turn();
        let settings = self.settings.now();
        let event = Event { now, caller, settings: &settings };
        self.logins.forget_those_who_hung_up(thread, now);
        // In this order: whoever has its answer is not to be turned away because its time is up.
        self.run_tasks(thread, &event);
        self.logins.complete_due(thread, &event);
        if settings.config.sys_topics {
            self.sys_topics.turn(&self.steering, &*self.broker, thread, now);
        }
        self.log.tick(now);
    }

    /// Whether the broker should tick again soon: the time of a parked client may be up, or one waits for an answer and
    /// the loop cannot be woken for it.
    pub fn wants_tick(&self, thread: &BrokerThread) -> bool {
        self.logins.wants_tick(thread)
    }

    /// Runs what other threads have left for the broker's, as much as there is time for. It calls the broker, which may call
    /// back, so nothing is held here.
    fn run_tasks(&self, thread: &BrokerThread, event: &Event<'_>) {
        let mut tasks = self.tasks.drain();
        let mut until = None;
        while let Some(task) = tasks.pop_front() {
            self.logins.guarded(task.ticket(), thread, event, || self.run(task, thread, event));
            if is_over(&mut until) && !tasks.is_empty() {
                return self.tasks.give_back(tasks);
            }
        }
    }

    fn run(&self, task: Task, thread: &BrokerThread, event: &Event<'_>) {
        match task {
            Task::Answered(ticket, answer, api) => {
                self.logins.answered(ticket, &answer, api, thread, event);
            }
            Task::PasswordChecked(ticket, matches) => {
                self.logins.password_checked(ticket, matches, thread, event);
            }
            Task::NextTurn(group) => self.logins.next_turns(group, thread, event),
            Task::Order(order) => self.carry_out(order, thread, event),
            Task::AskAgain => self.recheck.ask_on(thread, event.now),
            Task::SomebodyLeaves => self.recheck.revoke_all(thread, event.now),
            Task::Disbelieved => self.recheck.stop(),
        }
    }

    /// Carries an order out.
    fn carry_out(&self, order: Order, thread: &BrokerThread, event: &Event<'_>) {
        match order {
            Order::Kick(named, reply) => {
                let kicked = self.logins.kick(&named, thread, event);
                self.metrics.kicked(kicked);
                reply(Ok(Done::Kicked(kicked)));
            }
            Order::Recheck(username, reply) => self.recheck.ask_about(username, reply, thread),
            Order::Answer(to, payload, _place) => {
                if self.is_still_there(&to, thread) {
                    let topic = format!("{CONTROL_TOPIC}/response");
                    self.broker.publish(thread, Some(&to.client_id), &topic, &payload);
                }
            }
        }
    }

    /// Whether a client is still connected: the broker sends to whoever has its id by now.
    fn is_still_there(&self, to: &Recipient, thread: &BrokerThread) -> bool {
        let Recipient { connection, client_id, username } = to;
        let client = Client { connection: *connection, id: client_id, address: None };
        if self.sessions.has(client, username) {
            self.sessions.is_connected(client, username)
        } else if self.broker.is_2_1() {
            // A certificate or another plugin has let it in.
            self.broker.is_session(thread, client_id, *connection)
        } else {
            self.broker.has_socket(thread, *connection) != Some(false)
        }
    }
}
