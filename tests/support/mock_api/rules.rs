//! The server's rules about logins and topics, in the format of `examples/api-rules.txt`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::Request;

/// Users with their passwords, and the topics that each may use.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    users: HashMap<String, User>,
}

#[derive(Debug, Clone)]
struct User {
    password: String,
    allowed: Vec<TopicRule>,
}

#[derive(Debug, Clone)]
struct TopicRule {
    /// The sum of the `acc` values that the rule allows.
    access: u64,
    filter: String,
}

/// A line of a rules file that cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub struct RulesError {
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let mut rules = Self::default();
        let mut current = None;
        for (number, line) in text.lines().enumerate() {
            rules
                .read_line(line.trim(), &mut current)
                .map_err(|problem| RulesError { line: number + 1, problem })?;
        }
        Ok(rules)
    }
}

impl Rules {
    fn read_line(&mut self, line: &str, current: &mut Option<String>) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (keyword, rest) = split_word(line);
        let (first, second) = split_word(rest);
        match keyword {
            "user" if first.is_empty() || second.is_empty() => {
                Err("expected `user NAME PASSWORD`".to_owned())
            }
            "user" if self.users.contains_key(first) => Err(format!("user {first:?} is there already")),
            "user" => {
                self.users
                    .insert(first.to_owned(), User { password: second.to_owned(), allowed: Vec::new() });
                *current = Some(first.to_owned());
                Ok(())
            }
            "allow" if second.is_empty() => {
                Err("expected `allow read|write|readwrite|subscribe|all FILTER`".to_owned())
            }
            "allow" => {
                let access = match first {
                    "read" => 1,
                    "write" => 2,
                    "readwrite" => 3,
                    "subscribe" => 4,
                    "all" => 7,
                    _ => {
                        return Err(format!(
                            "unknown access {first:?}, expected read, write, readwrite, subscribe or all"
                        ));
                    }
                };
                let user = current.as_ref().and_then(|name| self.users.get_mut(name));
                let user = user.ok_or("an `allow` line belongs below a `user` line")?;
                user.allowed.push(TopicRule { access, filter: second.to_owned() });
                Ok(())
            }
            _ => Err(format!("unknown keyword {keyword:?}, expected `user` or `allow`")),
        }
    }

    /// The status and the body with which a request is answered.
    pub fn reply(&self, request: &Request) -> (u16, Vec<u8>) {
        if request.path != "/acl-batch" {
            return (self.status(request), Vec::new());
        }
        let checks = request.checks();
        if request.method != "POST" || checks.is_empty() {
            return (400, Vec::new());
        }
        let results: Vec<_> = checks.iter().map(|check| self.status(check) == 200).collect();
        (200, json!({ "results": results }).to_string().into_bytes())
    }

    /// The status with which a request about one login or topic is answered.
    pub fn status(&self, request: &Request) -> u16 {
        let allowed = match request.path.as_str() {
            "/auth" | "/acl" if request.method != "POST" => return 405,
            "/auth" | "/acl" if !request.json.is_object() => return 400,
            "/auth" => self.may_connect(request.field("username"), request.field("password")),
            "/acl" => self.may_touch(
                request.field("username"),
                request.field("clientid"),
                request.field("topic"),
                request.acc(),
            ),
            _ => return 404,
        };
        if allowed { 200 } else { 403 }
    }

    /// What a login's answer says about the topics of a user, in the format of `answer_rules`.
    pub fn acl(&self, username: &str) -> Value {
        let allowed = self.users.get(username).into_iter().flat_map(|user| &user.allowed).map(|rule| {
            let action = match rule.access {
                2 => "publish",
                // Whoever may read may subscribe, too: the format knows no difference.
                1 | 4 => "subscribe",
                _ => "all",
            };
            let topic = rule.filter.replace("%u", "${username}").replace("%c", "${clientid}");
            json!({ "permission": "allow", "action": action, "topic": topic })
        });
        let rest = json!({ "permission": "deny", "action": "all", "topic": "#" });
        json!({ "result": "allow", "acl": allowed.chain([rest]).collect::<Vec<_>>() })
    }

    fn may_connect(&self, username: &str, password: &str) -> bool {
        self.users.get(username).is_some_and(|user| user.password == password)
    }

    fn may_touch(&self, username: &str, clientid: &str, topic: &str, acc: u64) -> bool {
        let topic = without_share(topic);
        self.users.get(username).is_some_and(|user| {
            let mut rules = user.allowed.iter().filter(|rule| acc != 0 && rule.access & acc == acc);
            rules.any(|rule| covers(&rule.filter, topic, username, clientid))
        })
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// The filter of a shared subscription, `$share/group/filter`.
fn without_share(topic: &str) -> &str {
    let shared = topic.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(topic, |(_group, filter)| filter)
}

/// Whether a rule's filter covers a topic, or every topic of a subscription's filter.
///
/// Names are filled in level by level, after wildcards were recognised, so that a client called `#` gains nothing.
fn covers(rule: &str, topic: &str, username: &str, clientid: &str) -> bool {
    if topic.starts_with('$') != rule.starts_with('$') {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in rule.split('/') {
        match (pattern, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (_, Some(level)) if level == pattern.replace("%u", username).replace("%c", clientid) => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}
