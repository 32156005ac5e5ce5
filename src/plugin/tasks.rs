//! What other threads, and earlier events, leave for the broker's thread.

use std::time::{Duration, Instant};

use super::delayed::Ticket;
use super::orders::Order;
use super::throttle::Group;
use crate::main_queue::MainQueue;
use crate::question::Answer;

/// How long one tick may go on with those who have waited, with tasks, and with those who have to leave: others hardly notice.
pub const AT_A_TICK: Duration = Duration::from_millis(20);

/// A task that another thread, or an earlier event, leaves for the broker's thread.
#[derive(Debug)]
pub enum Task {
    /// A parked client's question has been answered, by the API of this number.
    Answered(Ticket, Answer, u32),
    /// Whether a parked client's password matches a local hash. `None`: there was no room to compare it.
    PasswordChecked(Ticket, Option<bool>),
    /// There may be room in a group of tries, for clients that are parked until it is their turn.
    NextTurn(Group),
    /// The API is to be asked again about connected clients.
    AskAgain,
    /// Somebody has to leave: refused when the API was asked again, or at the end of its time.
    SomebodyLeaves,
    /// The API was asked again about connected clients and refused all of them, so it is not believed.
    Disbelieved,
    /// A command wants something done.
    Order(Order),
}

impl Task {
    /// The parked client that it is about.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Task::Answered(ticket, ..) | Task::PasswordChecked(ticket, _) => Some(*ticket),
            Task::NextTurn(_)
            | Task::AskAgain
            | Task::SomebodyLeaves
            | Task::Disbelieved
            | Task::Order(_) => None,
        }
    }
}

/// Those that wait for the broker's thread.
pub type Tasks = MainQueue<Task>;

/// Whether the time of a tick for work of one kind is over. It begins after the first piece, which has had the list of sockets
/// read that the others use as well.
pub fn is_over(until: &mut Option<Instant>) -> bool {
    Instant::now() > *until.get_or_insert_with(|| Instant::now() + AT_A_TICK)
}
