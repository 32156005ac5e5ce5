//! What came with allows beside the verdict (`answer_rules`). Slots have no room for it and are copied, so they hold its
//! number.
use std::sync::Arc;

use crate::topic::Terms;

/// The number of nothing.
pub const NONE: u32 = u32::MAX;

/// Terms by number. There are never more than slots.
#[derive(Default)]
pub struct Attached {
    terms: Vec<Option<Arc<Terms>>>,
    free: Vec<u32>,
}

impl Attached {
    /// Keeps terms under a number.
    pub fn add(&mut self, terms: Arc<Terms>) -> u32 {
        if let Some(number) = self.free.pop() {
            self.terms[number as usize] = Some(terms);
            return number;
        }
        self.terms.push(Some(terms));
        (self.terms.len() - 1) as u32
    }

    /// The terms with a number; none for [`NONE`].
    #[inline]
    pub fn get(&self, number: u32) -> Option<Arc<Terms>> {
        if number == NONE { None } else { self.peek(number).cloned() }
    }

    /// The terms with a number, borrowed.
    pub fn peek(&self, number: u32) -> Option<&Arc<Terms>> {
        self.terms.get(number as usize)?.as_ref()
    }

    /// Gives a number up.
    pub fn remove(&mut self, number: u32) {
        if let Some(terms) = self.terms.get_mut(number as usize)
            && terms.take().is_some()
        {
            self.free.push(number);
        }
    }

    /// Drops some of them, after a store was cleared. Returns whether any are left.
    pub fn give_back(&mut self) -> bool {
        const AT_ONCE: usize = 256;
        self.terms.truncate(self.terms.len().saturating_sub(AT_ONCE));
        !self.terms.is_empty()
    }
}
