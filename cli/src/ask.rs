//! `login` and `topic`: the question as the plugin would ask it now, and what comes back. Nothing is remembered, and the
//! broker has no part in it.

use anstream::println;
use serde_json::{Value, json};

use crate::Outcome;
use crate::arguments::{BROKER_CONF, Login, Topic, Which};
use crate::check::shown;
use crate::config::{ApiUrl, Config, Field};
use crate::http::{Asker, Exchange, Response, answer, meaning, name};
use crate::local::Placeholders;
use crate::output::{password, print_json, printable};
use crate::plugin_conf::{acl, options, users};
use crate::question::{Answer, Grounds, Kind, NoAnswer, Question, Verdict};

/// What comes of a question, by which step, and why.
struct Decision {
    outcome: Outcome,
    /// The word for it.
    ruling: &'static str,
    by: String,
}

impl Decision {
    fn new(outcome: Outcome, ruling: &'static str, by: impl Into<String>) -> Self {
        Self { outcome, ruling, by: by.into() }
    }

    fn allow(by: impl Into<String>) -> Self {
        Self::new(Outcome::Yes, "allow", by)
    }

    fn deny(by: impl Into<String>) -> Self {
        Self::new(Outcome::No, "deny", by)
    }

    /// The broker's other plugins and its own files decide, which this program does not know.
    fn defer(by: impl Into<String>) -> Self {
        Self::new(Outcome::NoAnswer, "defer", by)
    }

    fn print(&self, json: bool, asked: &[Value]) -> Outcome {
        if json {
            print_json(&json!({ "decision": self.ruling, "by": self.by, "requests": asked }));
        } else {
            println!("{}: {}", self.ruling, self.by);
        }
        self.outcome
    }
}

/// Asks about a login.
///
/// # Errors
/// What cannot be used: the configuration, a file, the terminal.
pub fn login(login: &Login, json: bool) -> Result<Outcome, String> {
    let config = options(&login.which)?;
    let password = password(login.password_stdin, false)?;
    if login.username.is_empty() && !config.asks_without_username {
        return Ok(Decision::deny("no username: refused without asking (username_missing)").print(json, &[]));
    }
    if let Some(hash) = users(&config)?.get(&login.username) {
        let decision = if hash.verify(password.as_bytes()) {
            Decision::allow("a local user, with the right password; the API is not asked")
        } else {
            Decision::deny("a local user, with a wrong password; the API is not asked")
        };
        return Ok(decision.print(json, &[]));
    }
    if config.auth_urls.is_empty() {
        return Ok(
            Decision::defer("there is no auth_url: the broker and its other plugins decide").print(json, &[])
        );
    }
    let more = more(&config.auth_fields, &login.client_id);
    let question = Question::Connect { username: &login.username, password: &password, more: &more };
    decide(&config, &question, &login.which, login.show_secrets, json)
}

/// Asks about a topic.
///
/// # Errors
/// What cannot be used: the configuration or a file.
pub fn topic(topic: &Topic, json: bool) -> Result<Outcome, String> {
    let config = options(&topic.which)?;
    let access = topic.access.into();
    if users(&config)?.get(&topic.username).is_some() {
        // The rules of 2.1; those of 2.0 fill %c and %u in anywhere.
        let decision = match acl(&config, Placeholders::WholeLevels)? {
            None => Decision::allow(
                "a local user, who may do everything without an acl_file; the API is not asked",
            ),
            Some(rules) if rules.allows(access, &topic.username, &topic.client_id, &topic.topic) => {
                Decision::allow("a local user, by the acl_file; the API is not asked")
            }
            Some(_) => Decision::deny("a local user, by the acl_file; the API is not asked"),
        };
        return Ok(decision.print(json, &[]));
    }
    if config.acl_urls.is_empty() && config.has_rules() {
        let by = "there is no acl_url: the rules in the login's answer decide, and `mosquitto-http-auth explain` asks a \
                  running plugin, which knows them";
        return Ok(Decision::new(Outcome::NoAnswer, "no answer", by).print(json, &[]));
    }
    if config.acl_urls.is_empty() {
        return Ok(Decision::defer("there is no acl_url: the broker's own acl_file decides").print(json, &[]));
    }
    if !config.acl_checks.contains(&access) {
        let by =
            format!("acl_checks leaves {access} out: allowed, of read only what follows from a subscription");
        return Ok(Decision::allow(by).print(json, &[]));
    }
    let more = more(&config.acl_fields, &topic.client_id);
    let question = Question::Access {
        username: &topic.username,
        client_id: &topic.client_id,
        topic: &topic.topic,
        access,
        more: &more,
    };
    decide(&config, &question, &topic.which, topic.show_secrets, json)
}

/// What `auth_fields` or `acl_fields` adds to a request: where there is no client, all but its id is not known.
pub fn more(fields: &[Field], client_id: &str) -> String {
    let value = |field: &Field| if *field == Field::ClientId { json!(client_id) } else { Value::Null };
    fields.iter().map(|field| format!(",\"{}\":{}", field.name(), value(field))).collect()
}

/// Asks the URLs in order until one decides, as the plugin does.
fn decide(
    config: &Config,
    question: &Question<'_>,
    which: &Which,
    secrets: bool,
    json: bool,
) -> Result<Outcome, String> {
    let asker = Asker::new(config)?;
    if let Some(decision) = superuser(&asker, question, config) {
        return Ok(decision.print(json, &[]));
    }
    let urls = match question.kind() {
        Kind::Connect => &config.auth_urls,
        Kind::Access => &config.acl_urls,
    };
    let (mut decision, mut asked) = (Decision::new(Outcome::NoAnswer, "no answer", ""), Vec::new());
    for api in urls {
        let request = asker.shown_request(api, question, secrets);
        let mut exchanges = asker.ask(api, question, 1, config.timeout);
        let Some(exchange) = exchanges.pop() else { continue };
        if json {
            asked.push(as_json(api, &request, &exchange));
        } else {
            print(api, &request, &exchange);
        }
        decision = judge(&exchange, question, config, which);
        if decision.ruling != "no answer" {
            break;
        }
    }
    Ok(decision.print(json, &asked))
}

/// The decision about a topic where its user may do everything.
fn superuser(asker: &Asker, question: &Question<'_>, config: &Config) -> Option<Decision> {
    let Question::Access { username, client_id, .. } = *question else { return None };
    let name = name(&config.dialect, username, client_id);
    if config.dialect.superusers.as_ref().is_some_and(|pattern| pattern.matches(name)) {
        return Some(Decision::allow("its username is one of plugin_opt_superusers; the API is not asked"));
    }
    let api = config.dialect.superuser_urls.first()?;
    let exchange = asker.ask_superuser(api, name, 1, config.timeout / 2).pop()?;
    let (said, is_yes) = match &exchange.result {
        Err(what) => (what.clone(), false),
        Ok(response) => {
            let (answer, _) = answer(response, question, config);
            let is_yes = matches!(answer, Answer::Verdict { verdict: Verdict::Allow, .. });
            (format!("status {}, {}", response.status, if is_yes { "yes" } else { "no yes" }), is_yes)
        }
    };
    anstream::eprintln!("{} (superusers): {said} ({} until the answer)", api.shown(), shown(exchange.took));
    is_yes.then(|| Decision::allow("the API said that the user may do everything"))
}

fn judge(exchange: &Exchange, question: &Question<'_>, config: &Config, which: &Which) -> Decision {
    let no_answer = |why: String| Decision::new(Outcome::NoAnswer, "no answer", why);
    let response = match &exchange.result {
        Err(what) => {
            let conf = if which.config.as_os_str() == BROKER_CONF {
                String::new()
            } else {
                format!(" {}", which.config.display())
            };
            return no_answer(format!("{what}. `mosquitto-http-auth check{conf}` goes the way step by step"));
        }
        Ok(response) => response,
    };
    let status = response.status;
    if config.defer_status.contains(&status) {
        return Decision::defer(format!(
            "status {status} is in defer_status: other plugins and the broker decide"
        ));
    }
    let (answer, problem) = answer(response, question, config);
    match answer {
        Answer::Verdict { verdict: Verdict::Allow, .. } => Decision::allow(format!("the API said {status}")),
        Answer::Verdict { verdict: Verdict::Deny, grounds, .. } => {
            let said = format!("the API said {grounds}");
            let meaning = match grounds {
                Grounds::Status(status) => {
                    meaning(status).filter(|_| config.dialect.is_contract() || status >= 300)
                }
                _ => None,
            };
            Decision::deny(match problem.as_deref().or(meaning) {
                Some(meaning) => format!("{said}, {meaning}"),
                None => said,
            })
        }
        Answer::None(NoAnswer::Status(status)) => {
            no_answer(format!("the API said {status}: refused this time"))
        }
        Answer::None(reason) => no_answer(reason.to_string()),
    }
}

fn head(response: &Response) -> Vec<String> {
    let mut lines = vec![format!("{:?} {}", response.version, response.status)];
    for (name, value) in &response.headers {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()).escape_debug()));
    }
    lines
}

/// Lines of a body that are shown, and bytes of it.
const SHOWN_LINES: usize = 20;
const SHOWN_BYTES: usize = 2000;

fn print(api: &ApiUrl, request: &str, exchange: &Exchange) {
    println!("{} ({} until the answer)", api.shown(), shown(exchange.took));
    for line in request.lines() {
        println!("  > {line}");
    }
    match &exchange.result {
        Err(what) => println!("  ! {what}"),
        Ok(response) => {
            for line in head(response) {
                println!("  < {line}");
            }
            let body = &response.body[..response.body.len().min(SHOWN_BYTES)];
            for line in String::from_utf8_lossy(body).lines().take(SHOWN_LINES) {
                println!("  < {}", printable(line));
            }
        }
    }
}

fn as_json(api: &ApiUrl, request: &str, exchange: &Exchange) -> Value {
    let took = exchange.took.as_secs_f64() * 1e3;
    match &exchange.result {
        Err(what) => json!({ "url": api.shown(), "milliseconds": took, "request": request, "error": what }),
        Ok(response) => json!({
            "url": api.shown(),
            "milliseconds": took,
            "request": request,
            "status": response.status,
            "head": head(response),
            "body": String::from_utf8_lossy(&response.body),
        }),
    }
}
