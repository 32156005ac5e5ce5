//! By which roads questions go, and how much may be sent by each.

use super::Priority;
use crate::config::UrlSet;

/// While so many requests about topics are on their way that may carry several, further questions gather, and go together
/// when one of these ends: as many as an API is asked at a time however slow it is (`http::limit`). So a question waits a
/// quarter of a round trip on average, and requests carry what comes in that time.
pub const FEW: usize = 4;

/// To which URL a question goes. Each has its own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// A login, to `auth_url`.
    Login,
    /// A topic, to `acl_url`.
    Topic,
    /// A topic that may go with others, to `acl_batch_url`. If none is with it, or while nothing goes there, it takes the
    /// road of [`Road::Topic`].
    Together,
}

impl Road {
    /// All roads, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Login, Self::Topic, Self::Together];
}

impl From<Road> for UrlSet {
    fn from(road: Road) -> Self {
        match road {
            Road::Login => UrlSet::Login,
            Road::Topic => UrlSet::Topic,
            Road::Together => UrlSet::Batch,
        }
    }
}

/// How much may be sent.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// How many requests are on their way in all, and how many may be.
    pub in_flight: (usize, usize),
    /// How many requests are on their way by each road.
    pub asked: [usize; 3],
    /// How many may be by each, by what is known of the API.
    pub limits: [usize; 3],
    /// The broker waits for the answer about a topic, and lets nobody in meanwhile.
    pub broker_waits: bool,
    /// How questions go together, where they do now.
    pub together: Option<Together>,
}

/// How questions about topics go together.
#[derive(Debug, Clone, Copy)]
pub struct Together {
    /// The most in one request.
    pub most: usize,
    /// Somebody is just sending many: they go when all are here, or as soon as they fill a request.
    pub are_coming: bool,
    /// [`FEW`] requests are on their way: what nobody waits for at this moment gathers.
    pub is_crowded: bool,
}

/// What may be sent, while so many questions wait that may go together.
pub(super) struct Door<'r> {
    pub(super) room: &'r Room,
    pub(super) gathered: usize,
}

impl Door<'_> {
    /// The road that a question takes in truth.
    pub(super) fn taken(&self, road: Road) -> Road {
        let is_alone = self.room.together.is_none() || self.gathered < 2;
        if road == Road::Together && is_alone { Road::Topic } else { road }
    }

    /// Whether one more may be asked by this road, if so many may be at a time.
    pub(super) fn has_room(&self, road: Road, limit: impl Fn(usize) -> usize) -> bool {
        let taken = self.taken(road) as usize;
        self.room.asked[taken] < limit(self.room.limits[taken])
    }

    /// Whether what waits there gathers until more have come, or until a request has ended.
    pub(super) fn gathers(&self, priority: Priority, road: Road) -> bool {
        let Some(together) = self.room.together.filter(|_| road == Road::Together) else { return false };
        let waits = together.are_coming || together.is_crowded && priority != Priority::Reader;
        waits && self.gathered < together.most
    }
}

/// The part of the room that refreshes take beyond their reserved share: three quarters are for questions that a client
/// may need soon.
pub(super) fn quarter(of: usize) -> usize {
    of.div_ceil(4)
}

/// What questions about readers may exceed a limit by.
pub(super) fn eighth(of: usize) -> usize {
    of / 8
}

pub(super) fn all(of: usize) -> usize {
    of
}
