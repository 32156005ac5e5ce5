//! How the API is spoken to: by the contract, or as another plugin did it whose configuration is understood (`moving_in`).

use reqwest::Method;

use super::url::ApiUrl;

/// How questions are put, and what answers mean, where no option says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialect {
    /// How a question is written.
    pub words: Words,
    /// How it is sent.
    pub method: Method,
    /// What a yes looks like.
    pub yes: Yes,
    /// Where to ask whether a user may do everything, before its topic is asked about; empty: nowhere.
    pub superuser_urls: Vec<ApiUrl>,
    /// Usernames that may do everything, without being asked about.
    pub superusers: Option<Pattern>,
    /// Whether the client id goes for the username.
    pub client_id_is_username: bool,
    /// Whether username and password go as `Authorization: Basic`, too, unless a header has that name.
    pub sends_credentials: bool,
    /// What stands in front of the fields of a form: for logins, superusers and topics.
    pub in_front: [String; 3],
    /// Whether a refusal is remembered for as long as a yes.
    pub remembers_no_like_yes: bool,
    /// What an operator should know of it, a line each.
    pub remarks: Vec<String>,
}

/// How a question is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// As JSON, by the contract.
    Contract,
    /// As the JSON of mosquitto-go-auth.
    GoJson,
    /// As the form of mosquitto-go-auth.
    GoForm,
    /// As the form of mosquitto-auth-plug.
    PlugForm,
}

/// What a yes looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yes {
    /// Status 200, by the contract.
    Contract,
    /// Every status from 200 to 299.
    Status,
    /// A status from 200 to 299, and the body `ok`.
    Text,
    /// A status from 200 to 299, and JSON with a true `ok`.
    Json,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            words: Words::Contract,
            method: Method::POST,
            yes: Yes::Contract,
            superuser_urls: Vec::new(),
            superusers: None,
            client_id_is_username: false,
            sends_credentials: false,
            in_front: Default::default(),
            remembers_no_like_yes: false,
            remarks: Vec::new(),
        }
    }
}

impl Dialect {
    /// Whether it is that of the contract.
    pub fn is_contract(&self) -> bool {
        self.words == Words::Contract
    }

    /// The type of a request's body.
    pub fn content_type(&self) -> &'static str {
        match self.words {
            Words::Contract | Words::GoJson => "application/json",
            Words::GoForm | Words::PlugForm => "application/x-www-form-urlencoded",
        }
    }

    /// Whether there is a question about users that goes before the one about their topics.
    pub fn knows_superusers(&self) -> bool {
        !self.superuser_urls.is_empty() || self.superusers.is_some()
    }

    /// What tells an API that is spoken to like this from one that is not, for verdicts that are shared or kept at a reload.
    pub fn told_apart_by(&self) -> Vec<u8> {
        if self.is_contract() {
            return Vec::new();
        }
        // All fields are named, so that a new one is not forgotten here.
        let Self {
            words,
            method,
            yes,
            superuser_urls,
            superusers,
            client_id_is_username,
            sends_credentials,
            in_front,
            // These change neither what the API gets nor what its answers mean.
            remembers_no_like_yes: _,
            remarks: _,
        } = self;
        let urls: Vec<_> = superuser_urls.iter().map(|api| format!("{:?} {}", api.socket, api.url)).collect();
        let asked = (words, method, client_id_is_username, sends_credentials, in_front, urls);
        let told = (asked, yes, superusers);
        format!("{told:?}").into_bytes()
    }

    /// No names: no option of this plugin sets it.
    #[allow(clippy::unused_self, reason = "every field of the options has this method")]
    pub(super) fn differing(&self, _: &Self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A pattern of names with `*` and `?`, as `fnmatch` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads one. `None` if more than `*` and `?` may be meant.
    pub(super) fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains(['[', ']', '\\'])).then(|| Self(text.to_owned()))
    }

    /// Whether a name is of this pattern.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        // Where to go on if it does not fit: behind the last star, one letter further each time.
        let (mut at, mut letter, mut again) = (0, 0, None);
        while letter < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    at += 1;
                    again = Some((at, letter));
                }
                Some(wanted) if *wanted == '?' || *wanted == name[letter] => {
                    (at, letter) = (at + 1, letter + 1)
                }
                _ => match again {
                    Some((star, from)) => {
                        (at, letter) = (star, from + 1);
                        again = Some((star, from + 1));
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|wanted| *wanted == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_fnmatch_do() {
        for (pattern, names, others) in [
            ("S*", vec!["S", "Super", "S*"], vec!["", "s", "aS"]),
            ("*", vec!["", "anybody", "*"], vec![]),
            ("a?c", vec!["abc", "a?c", "aéc"], vec!["ac", "abbc", "abcd"]),
            ("*ab*c", vec!["abc", "aabac", "xxabxabyc"], vec!["ab", "abcx", "ac"]),
            ("root", vec!["root"], vec!["roo", "root2", "Root", ""]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for name in names {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        }
        for unclear in ["", "[ab]", "a\\*", "a]"] {
            assert_eq!(Pattern::parse(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn an_api_is_told_apart_by_whatever_could_change_its_answer() {
        assert!(Dialect::default().told_apart_by().is_empty());
        let plain = Dialect { words: Words::GoJson, yes: Yes::Status, ..Dialect::default() };
        for other in [
            Dialect { yes: Yes::Text, ..plain.clone() },
            Dialect { method: Method::PUT, ..plain.clone() },
            Dialect { superusers: Pattern::parse("S*"), ..plain.clone() },
            Dialect { client_id_is_username: true, ..plain.clone() },
            Dialect { sends_credentials: true, ..plain.clone() },
            Dialect { in_front: ["a=1&".to_owned(), String::new(), String::new()], ..plain.clone() },
        ] {
            assert_ne!(other.told_apart_by(), plain.told_apart_by());
        }
        let same = Dialect { remembers_no_like_yes: true, remarks: vec!["r".to_owned()], ..plain.clone() };
        assert_eq!(same.told_apart_by(), plain.told_apart_by());
    }
}
