//! How many guesses may be made, by how good those before them were.

/// What a wrong guess costs, where a right one earns one: in the long run, one in ten is wrong at most.
const COST: i32 = 9;

/// The most that there can be: a fleet of five thousand that comes at once is asked about at once.
const MOST: i32 = 5_000;

/// The least that there can be, so that what turned out wrong is tried again some day.
const LEAST: i32 = -2_000;

/// From here on four times as many may be open: so much was right that a fleet need not be tried in small steps.
const PROVEN: i32 = 64;

/// How many guesses may wait for their outcome. What is not asked because of it is watched all the same: whether the
/// guess would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    left: i32,
    /// Guesses that were made and are neither right nor wrong yet.
    open: i32,
}

impl Credit {
    /// So many guesses may be made before anything is known.
    pub fn new(start: u16) -> Self {
        Self { left: i32::from(start), open: 0 }
    }

    /// Whether one more guess may be made now.
    pub fn may_guess(self) -> bool {
        self.open < if self.left > PROVEN { 4 * self.left } else { self.left }
    }

    /// Whether guesses are made at all.
    pub fn is_good(self) -> bool {
        self.left > 0
    }

    /// A guess is made.
    pub fn guess(&mut self) {
        self.open += 1;
    }

    /// An open guess was right or wrong.
    pub fn ended(&mut self, was_right: bool) {
        self.open = (self.open - 1).max(0);
        self.count(was_right);
    }

    /// What the outcome of a guess would have been that was not made.
    pub fn count(&mut self, would_be_right: bool) {
        let change = if would_be_right { 1 } else { -COST };
        self.left = (self.left + change).clamp(LEAST, MOST);
    }

    /// An open guess that nobody will hear of any more.
    pub fn forget(&mut self) {
        self.open = (self.open - 1).max(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fleet_is_asked_about_in_a_few_rounds() {
        let (mut credit, mut asked, mut rounds) = (Credit::new(16), 0, 0);
        while asked < 1_000 {
            let mut now = 0;
            while credit.may_guess() {
                credit.guess();
                now += 1;
            }
            asked += now;
            (0..now).for_each(|_| credit.ended(true));
            rounds += 1;
        }
        assert_eq!(rounds, 5);
    }

    #[test]
    fn what_was_right_for_long_is_dropped_once_it_is_wrong() {
        let mut credit = Credit::new(16);
        (0..100_000).for_each(|_| credit.count(true));
        let mut wrong = 0;
        while credit.may_guess() {
            credit.guess();
            credit.ended(false);
            wrong += 1;
        }
        assert_eq!(wrong, (MOST + COST - 1) / COST);
        (0..10_000).for_each(|_| credit.count(false));
        let in_a_row = (1..).find(|_| {
            credit.count(true);
            credit.is_good()
        });
        assert_eq!(in_a_row, Some(1 - LEAST));
    }

    proptest! {
        /// However right and wrong ones come, and however late.
        #[test]
        fn one_in_ten_is_wrong_at_most(outcomes in prop::collection::vec((0..100u8, 0..4u8), 1..3_000), share in 0..100u8) {
            const START: u16 = 16;
            let (mut credit, mut open) = (Credit::new(START), Vec::new());
            // Those that were watched were asked as well: by the broker.
            let (mut right, mut wrong) = (0, 0);
            let (mut most_open, mut watched) = (0, 0);
            let mut end = |credit: &mut Credit, is_right: bool| {
                credit.ended(is_right);
                if is_right { right += 1 } else { wrong += 1 }
            };
            for (draw, late) in outcomes {
                let is_right = draw < share;
                if credit.may_guess() {
                    credit.guess();
                    open.push(is_right);
                    most_open = most_open.max(open.len());
                } else if !credit.is_good() {
                    credit.count(is_right);
                    watched += usize::from(is_right);
                }
                if late > 0 && !open.is_empty() {
                    end(&mut credit, open.remove(0));
                }
            }
            open.into_iter().for_each(|is_right| end(&mut credit, is_right));
            let most = right + watched + 9 * most_open + usize::from(START);
            prop_assert!(9 * wrong <= most, "{} right, {} wrong", right, wrong);
        }
    }
}
