//! Tables of rules and patterns, with the decision of each broker.

use std::fmt::Debug;

use crate::support::Version;

/// What a client does, and where it shows whether it may.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// Publishes on a topic: the PUBACK tells.
    Write(&'static str),
    /// Subscribes to a filter, and somebody publishes on a topic: the message arrives or not.
    Read { filter: &'static str, topic: &'static str },
    /// Subscribes to a filter where a retained message lies on a topic: it arrives or not.
    ReadRetained { filter: &'static str, topic: &'static str },
    /// Subscribes to a filter: the SUBACK tells.
    Subscribe(&'static str),
    /// Goes away and leaves a will on a topic: it arrives at a reader of everything or not.
    Will(&'static str),
}

/// Reads a topic by its own name.
pub const fn read(topic: &'static str) -> Deed {
    Deed::Read { filter: topic, topic }
}

pub const fn read_by(filter: &'static str, topic: &'static str) -> Deed {
    Deed::Read { filter, topic }
}

use Deed::{ReadRetained, Subscribe, Write};

/// Which brokers let a deed happen by their own `acl_file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Everywhere,
    Nowhere,
    In2_0,
    In2_1,
}

impl Allowed {
    pub fn on(self, version: Version) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Nowhere => false,
            Self::In2_0 => !version.is_2_1(),
            Self::In2_1 => version.is_2_1(),
        }
    }
}

use Allowed::{Everywhere, In2_0, In2_1, Nowhere};

/// Username, client id, what is done, who lets it happen.
pub type Case = (&'static str, &'static str, Deed, Allowed);

/// Publishes and reads whatever a case needs. Its rules are in front of every table's own.
pub const ADMIN: &str = "user admin\ntopic readwrite #\ntopic readwrite $x/#\ntopic readwrite $CONTROL/#\n";

/// Every user of the tables. Names with wildcards and separators are legal in MQTT.
pub const USERS: [&str; 12] =
    ["admin", "u", "v", "w", "nobody", "two words", "ünï", "+", "#", "a+b", "a/b", "%c"];

pub const OWN_RULES: &str = "\
# before the first user: for anonymous clients
topic readwrite anonymous
user u
topic read r
topic write w
topic readwrite rw
topic both
topic read wild/+/card
topic read below/#
topic write below/#
topic deny below/secret/#
topic deny below/+/private
topic read two words/and more
topic readwrite share/#
topic deny late
topic late

user v
topic deny #
topic a
user w
topic #
topic deny $x/b
user two words
topic   read   spaced   out\t
user ünï
topic ünï/+
user +
topic plus
user #
topic hash
user a/b
topic slash
user u
topic again
";

#[rustfmt::skip]
pub const OWN_CASES: &[Case] = &[
    ("u", "c", Write("r"), Nowhere),
    ("u", "c", read("r"), Everywhere),
    ("u", "c", Write("w"), Everywhere),
    ("u", "c", read("w"), Nowhere),
    ("u", "c", Write("rw"), Everywhere),
    ("u", "c", read("rw"), Everywhere),
    ("u", "c", Write("both"), Everywhere),
    ("u", "c", read("both"), Everywhere),
    ("u", "c", Write("unnamed"), Nowhere),
    ("u", "c", read("unnamed"), Nowhere),
    ("u", "c", Write("anonymous"), Nowhere),
    ("u", "c", read("anonymous"), Nowhere),
    ("u", "c", Write("RW"), Nowhere),
    ("u", "c", Write("rw/"), Nowhere),
    ("u", "c", Write("/rw"), Nowhere),
    // Subscribing is free; what arrives is weighed.
    ("u", "c", Subscribe("unnamed"), Everywhere),
    ("u", "c", Subscribe("#"), Everywhere),
    ("u", "c", Subscribe("$SYS/#"), Everywhere),
    ("v", "c", Subscribe("a"), Everywhere),
    ("nobody", "c", Subscribe("+/x"), Everywhere),
    ("u", "c", Subscribe("$share/group/unnamed"), Everywhere),
    ("u", "c", read_by("#", "r"), Everywhere),
    ("u", "c", read_by("#", "unnamed"), Nowhere),
    // Wildcards.
    ("u", "c", read("wild/x/card"), Everywhere),
    ("u", "c", read("wild//card"), Everywhere),
    ("u", "c", read("wild/card"), Nowhere),
    ("u", "c", read("wild/x/y/card"), Nowhere),
    ("u", "c", read("below"), Everywhere),
    ("u", "c", read("below/"), Everywhere),
    ("u", "c", read("below/x/y"), Everywhere),
    ("u", "c", read("belowx"), Nowhere),
    ("u", "c", Write("below/x/y"), Everywhere),
    // Deny wins wherever it stands.
    ("u", "c", read("below/secret"), Nowhere),
    ("u", "c", read("below/secret/x"), Nowhere),
    ("u", "c", Write("below/secret/x"), Nowhere),
    ("u", "c", read_by("below/#", "below/x/private"), Nowhere),
    ("u", "c", read_by("below/#", "below/x/private/y"), Everywhere),
    ("u", "c", Write("late"), Nowhere),
    ("v", "c", Write("a"), Nowhere),
    ("v", "c", read("a"), Nowhere),
    // Names and topics with spaces and beyond ASCII.
    ("u", "c", read("two words/and more"), Everywhere),
    ("two words", "c", read("spaced   out"), Everywhere),
    ("two words", "c", read("spaced"), Nowhere),
    ("ünï", "c", Write("ünï/ü"), Everywhere),
    ("ünï", "c", Write("uni/ü"), Nowhere),
    // A user in two sections, and users without any.
    ("u", "c", Write("again"), Everywhere),
    ("nobody", "c", Write("again"), Nowhere),
    ("nobody", "c", read("r"), Nowhere),
    // Topics of the server.
    ("w", "c", Write("anything/at/all"), Everywhere),
    ("w", "c", read("/"), Everywhere),
    ("w", "c", Write("$x/a"), Nowhere),
    ("w", "c", read("$x/a"), Nowhere),
    ("w", "c", read("$x/b"), Nowhere),
    ("w", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Nowhere),
    ("w", "c", Write("$SYS/broker/version"), Nowhere),
    ("w", "c", Write("$CONTROL/x/v1"), Nowhere),
    // Shared subscriptions: the messages are weighed under their own topic.
    ("u", "c", read_by("$share/group/share/#", "share/x"), Everywhere),
    ("u", "c", read_by("$share/group/#", "unnamed"), Nowhere),
    ("u", "c", Write("$share/group/share/x"), Nowhere),
    // Retained messages and wills.
    ("u", "c", ReadRetained { filter: "#", topic: "r" }, Everywhere),
    ("u", "c", ReadRetained { filter: "#", topic: "w" }, Nowhere),
    ("u", "c", Deed::Will("w"), Everywhere),
    ("u", "c", Deed::Will("r"), Nowhere),
    // Without patterns, odd names are like others.
    ("+", "c", Write("plus"), Everywhere),
    ("+", "c", Write("hash"), Nowhere),
    ("#", "c", Write("hash"), Everywhere),
    ("#", "c", Write("plus"), Nowhere),
    ("a/b", "c", Write("slash"), Everywhere),
    ("u", "a+b", Write("w"), Everywhere),
    ("u", "#", read("r"), Everywhere),
    ("u", "c/d", Write("w"), Everywhere),
];

pub const PATTERNS: &str = "\
pattern readwrite users/%u/#
pattern clients/%c
pattern read both/%u/%c/+
pattern write both/%c/%u/+
pattern readwrite forbidden/#
pattern deny forbidden/%u
pattern read all/#
pattern dev-%u/x
pattern %%u/x
pattern %u%c/y
pattern %c/first/#
pattern read $SYS/#
pattern $x/%u
user u
topic mine
topic users/v/gift
topic deny users/u/taken
topic readwrite forbidden/u
user +
topic plus
user a/b
topic slash
user nobody
";

#[rustfmt::skip]
pub const PATTERN_CASES: &[Case] = &[
    ("u", "c", Write("users/u"), Everywhere),
    ("u", "c", Write("users/u/x"), Everywhere),
    ("u", "c", read("users/u/x/y"), Everywhere),
    ("u", "c", Write("users/v/x"), Nowhere),
    ("u", "c", read_by("users/#", "users/v/x"), Nowhere),
    ("u", "c", Write("users/%u/x"), Nowhere),
    ("u", "c", Write("users/c/x"), Nowhere),
    ("u", "c", Write("clients/c"), Everywhere),
    ("u", "c", Write("clients/d"), Nowhere),
    ("u", "c", Write("clients/u"), Nowhere),
    ("u", "c", read("both/u/c/x"), Everywhere),
    ("u", "c", Write("both/u/c/x"), Nowhere),
    ("u", "c", Write("both/c/u/x"), Everywhere),
    ("u", "c", read("both/c/u/x"), Nowhere),
    ("u", "c", read("both/u/c"), Nowhere),
    ("u", "c", Subscribe("users/v/#"), Everywhere),
    // A user's own section comes first, with its denials and its rights.
    ("u", "c", Write("mine"), Everywhere),
    ("v", "c", Write("mine"), Nowhere),
    ("u", "c", Write("users/v/gift"), Everywhere),
    ("u", "c", Write("users/u/taken"), Nowhere),
    ("u", "c", Write("forbidden/u"), Everywhere),
    // Among patterns, too, deny comes first.
    ("v", "c", Write("forbidden/v"), Nowhere),
    ("v", "c", Write("forbidden/u"), Everywhere),
    ("v", "c", read("forbidden/x/y"), Everywhere),
    // A user without a section, or with an empty one, has the patterns.
    ("nobody", "c", Write("users/nobody/x"), Everywhere),
    ("two words", "c d", Write("users/two words/x"), Everywhere),
    ("two words", "c d", Write("clients/c d"), Everywhere),
    ("ünï", "cü", Write("clients/cü"), Everywhere),
    // Patterns without a placeholder are for everybody.
    ("v", "c", read("all/x"), Everywhere),
    ("v", "c", Write("all/x"), Nowhere),
    // Placeholders within a level, which 2.1 takes for plain text.
    ("u", "c", Write("dev-u/x"), In2_0),
    ("u", "c", Write("dev-v/x"), Nowhere),
    ("u", "c", Write("dev-%u/x"), In2_1),
    ("u", "c", Write("%u/x"), In2_0),
    ("u", "c", Write("%%u/x"), In2_1),
    ("u", "c", Write("uc/y"), In2_0),
    ("u", "c", Write("%u%c/y"), In2_1),
    // What is filled in is not looked into again.
    ("%c", "c", Write("users/%c/x"), Everywhere),
    ("%c", "c", Write("users/c/x"), Nowhere),
    // Names with separators, which 2.1 lets fit nowhere.
    ("a/b", "c", Write("users/a/b/x"), In2_0),
    ("a/b", "c", Write("clients/c"), Everywhere),
    ("a/b", "c", Write("slash"), Everywhere),
    ("a/b", "c", read("all/x"), Everywhere),
    ("u", "c/d", Write("clients/c/d"), In2_0),
    ("u", "c/d", Write("users/u/x"), Everywhere),
    ("u", "/", Write("clients//"), In2_0),
    // Names with wildcards get their own section, and nothing of the patterns.
    ("+", "c", Write("plus"), Everywhere),
    ("+", "c", Write("users/u/x"), Nowhere),
    ("+", "c", read("users/u/x"), Nowhere),
    ("+", "c", read("all/x"), Nowhere),
    ("#", "c", read("users/u/x"), Nowhere),
    ("a+b", "c", Write("clients/c"), Nowhere),
    ("u", "+", Write("mine"), Everywhere),
    ("u", "+", Write("clients/x"), Nowhere),
    ("u", "#", read("users/u/x"), Nowhere),
    ("u", "a#b", read("all/x"), Nowhere),
    ("u", "+", Subscribe("users/v/#"), Everywhere),
    // Topics of the server.
    ("u", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Everywhere),
    ("+", "c", ReadRetained { filter: "$SYS/broker/version", topic: "$SYS/broker/version" }, Nowhere),
    ("u", "c", Write("$x/u"), Everywhere),
    ("u", "c", Write("$x/v"), Nowhere),
    ("u", "c", Write("c/first/x"), Everywhere),
];
