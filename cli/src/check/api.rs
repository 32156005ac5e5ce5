//! The API: its name, a connection, TLS, and what it says about somebody whom it cannot know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::broker::Broker;
use crate::ask::more;
use crate::config::{ApiUrl, Config};
use crate::http::{
    Asker, Exchange, Reached, Response, Trouble, answer, meaning, reach, says_otherwise, verdicts,
};
use crate::log::sentence;
use crate::output::Report;
use crate::question::{Access, Answer, Grounds, Kind, NoAnswer, Question, Verdict};

/// How often each URL is asked: the first question opens the connection, the others tell how long an answer takes.
const QUESTIONS: usize = 3;

/// How much longer than the plugin this waits, so that it can say how long an answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks each URL about somebody who does not exist.
pub fn check(config: &Config, offline: bool, broker: Option<&Broker>, report: &mut Report) {
    let asker = match Asker::new(config) {
        Ok(asker) => asker,
        Err(what) => {
            let cure = if what.contains("Permission denied") {
                "let the broker's user read it: sudo chgrp to its group, and chmod 640"
            } else {
                "correct the file or the option; the broker does not start with it"
            };
            report.error(sentence(what), cure);
            return;
        }
    };
    if offline {
        return;
    }
    let ways: [(_, _, Answers); 4] = [
        (&config.auth_urls, "logins", &|asker, api, report| {
            answers(asker, api, Kind::Connect, config, broker, report);
        }),
        (&config.acl_urls, "topics", &|asker, api, report| {
            answers(asker, api, Kind::Access, config, broker, report);
        }),
        (&config.dialect.superuser_urls, "superusers", &|asker, api, report| {
            answers_about_superusers(asker, api, config, report);
        }),
        (&config.acl_batch_urls, "many topics at once", &|asker, api, report| {
            answers_to_many(asker, api, config, report);
        }),
    ];
    for (urls, about, answers) in ways {
        for api in urls {
            report.about(format!("{} ({about})", api.shown()));
            match reach(api, config, asker.tls()) {
                Ok(reached) => way(&reached, config, report),
                Err(trouble) => {
                    trouble_on_the_way(&trouble, config, report);
                    continue;
                }
            }
            answers(&asker, api, report);
        }
    }
}

/// Asks a URL, and reports what it says.
type Answers<'a> = &'a dyn Fn(&Asker, &ApiUrl, &mut Report);

fn way(reached: &Reached, config: &Config, report: &mut Report) {
    if let Some((addresses, took)) = &reached.looked_up {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let text = format!("The name leads to {} (looked up in {}).", addresses.join(", "), shown(*took));
        if *took > config.timeout / 2 {
            report.warning(
                text,
                "ask why look-ups are so slow: getent ahosts NAME takes as long; a line in /etc/hosts helps",
            );
        } else {
            report.ok(text);
        }
    }
    let (to, took) = &reached.connected;
    let tls = reached.tls.as_ref().map(|(version, took)| format!(", {version} in {}", shown(*took)));
    report.ok(format!("Connected to {to} in {}{}.", shown(*took), tls.unwrap_or_default()));
}

fn trouble_on_the_way(trouble: &Trouble, config: &Config, report: &mut Report) {
    match trouble {
        Trouble::Name(what) => report.error(
            sentence(what),
            "correct the URL; `getent ahosts NAME`, as the broker's user and in its container, shows what this machine finds",
        ),
        Trouble::Connection(what) => report.error(
            sentence(format!("No connection: {what}")),
            "start the API, correct host or port, or open the firewall; in a container 127.0.0.1 is the container itself",
        ),
        Trouble::Tls(what) => report.error(
            sentence(what),
            if what.contains("speak TLS") || what.contains("no TLS") {
                "write http:// in place of https://, or the port where the API speaks TLS"
            } else if config.tls_ca_file.is_some() {
                "hold the certificate that the API shows against tls_ca_file: openssl s_client -connect HOST:PORT -showcerts"
            } else {
                "name the API's own authority, or its very certificate, in plugin_opt_tls_ca_file"
            },
        ),
    }
}

/// A name that no API can know.
fn made_up() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("mosquitto-http-auth-check-{:x}", now.as_nanos() & 0xffff_ffff)
}

fn answers(
    asker: &Asker,
    api: &ApiUrl,
    kind: Kind,
    config: &Config,
    broker: Option<&Broker>,
    report: &mut Report,
) {
    let (name, password) = (made_up(), made_up());
    let fields = if kind == Kind::Connect { &config.auth_fields } else { &config.acl_fields };
    let more = more(fields, &name);
    let question = match kind {
        Kind::Connect => Question::Connect { username: &name, password: &password, more: &more },
        Kind::Access => Question::Access {
            username: &name,
            client_id: &name,
            topic: &name,
            access: Access::Read,
            more: &more,
        },
    };
    let exchanges = asker.ask(api, &question, QUESTIONS, config.timeout + PATIENCE);
    let mut said = Vec::new();
    for exchange in &exchanges {
        match &exchange.result {
            Ok(response) if !said.contains(&response.status) => {
                said.push(response.status);
                status(response, &question, config, report);
            }
            Ok(_) => {}
            Err(what) => {
                report.error(
                    sentence(format!("The question about a made-up user got no answer: {what}")),
                    "look into the API's own log; `mosquitto-http-auth login USER` shows the request",
                );
                return;
            }
        }
    }
    if said.len() > 1 {
        report.warning(
            format!("The same question was answered by different statuses: {said:?}."),
            "a made-up user is to get the same answer each time, such as 403",
        );
    }
    latency(&exchanges, kind, config, broker, report);
}

/// Asks whether somebody may do everything who does not exist.
fn answers_about_superusers(asker: &Asker, api: &ApiUrl, config: &Config, report: &mut Report) {
    let name = made_up();
    let question =
        Question::Access { username: &name, client_id: &name, topic: &name, access: Access::Read, more: "" };
    let Some(exchange) = asker.ask_superuser(api, &name, 1, config.timeout + PATIENCE).pop() else { return };
    let response = match &exchange.result {
        Ok(response) => response,
        Err(what) => {
            report.error(
                sentence(format!("The question about a made-up user got no answer: {what}")),
                "look into the API's own log; until then topics go by acl_url, and a no of that counts as none",
            );
            return;
        }
    };
    match answer(response, &question, config).0 {
        Answer::Verdict { verdict: Verdict::Allow, .. } => report.error(
            format!("A made-up user is a superuser ({}): everybody may use every topic.", response.status),
            "answer 403 to whom the API does not know",
        ),
        Answer::Verdict { .. } => report.ok(format!("A made-up user is no superuser ({}).", response.status)),
        Answer::None(reason) => report.error(
            sentence(format!("Whether a made-up user is a superuser got no answer: {reason}")),
            "mend what ails the API (its log says what)",
        ),
    }
}

/// Asks two questions in one request.
fn answers_to_many(asker: &Asker, api: &ApiUrl, config: &Config, report: &mut Report) {
    let name = made_up();
    let more = more(&config.acl_fields, &name);
    let question =
        |access| Question::Access { username: &name, client_id: &name, topic: &name, access, more: &more };
    let questions = [question(Access::Read), question(Access::Write)];
    let exchanges = asker.ask_together(api, &questions, QUESTIONS, config.timeout + PATIENCE);
    let found = exchanges.iter().map(|exchange| match &exchange.result {
        Ok(response) => verdicts(response, questions.len()),
        Err(what) => Err(what.clone()),
    });
    match found.collect::<Result<Vec<_>, _>>() {
        Err(found) => report.error(
            format!(
                "Two questions about a made-up user in one request were answered by {found}: each is asked alone then, and this \
                 URL is left alone for a while."
            ),
            "answer 200 with {\"results\":[false,false]}, one for each question, see docs/batches.md; or take acl_batch_url out",
        ),
        Ok(verdicts) if verdicts.iter().flatten().any(|verdict| *verdict == Verdict::Allow) => report.warning(
            "A made-up user may use a made-up topic (true among the results).",
            "answer false to what the API does not know, unless all topics are for all",
        ),
        Ok(_) => {
            report.ok("Two questions about a made-up user in one request get a no each.");
            let took: Vec<_> = exchanges.iter().map(|exchange| shown(exchange.took)).collect();
            report.ok(format!("Answers took {}.", took.join(", ")));
        }
    }
}

fn status(response: &Response, question: &Question<'_>, config: &Config, report: &mut Report) {
    let status = response.status;
    if config.defer_status.contains(&status) {
        report.note(format!(
            "A made-up user gets {status}, which defer_status leaves to other plugins and the broker."
        ));
        return;
    }
    let (answer, problem) = answer(response, question, config);
    if let Some(problem) = problem {
        report.error(
            format!("A made-up user gets 200 with a body that cannot be used, which refuses ({problem})."),
            "correct it by docs/answers.md, or take answer_rules out",
        );
        return;
    }
    match (answer, question.kind()) {
        (Answer::Verdict { verdict: Verdict::Allow, .. }, Kind::Connect) => {
            let body = says_otherwise(&response.body).map(|what| format!(" ({what}, which does not count)"));
            report.error(
                format!("A made-up user with a made-up password gets {status}{}: everybody is let in.", body.unwrap_or_default()),
                "answer 403 to whom the API does not know; the status alone is the answer",
            );
        }
        (Answer::Verdict { verdict: Verdict::Allow, .. }, Kind::Access) => {
            let body = says_otherwise(&response.body).map(|what| format!(" ({what}, which does not count)"));
            report.warning(
                format!("A made-up user may read a made-up topic ({status}{}).", body.unwrap_or_default()),
                "answer 403 to what the API does not know, unless all topics are for all",
            );
        }
        (Answer::None(NoAnswer::Status(status)), _) => report.error(
            format!("A made-up user gets {status}, which is no answer: nobody is let in by it, and enough of them have the API left alone."),
            "mend what ails the API (its log says what), or answer 403 where it means no",
        ),
        (Answer::Verdict { grounds, .. }, _) if grounds != Grounds::Status(status) => {
            report.ok(format!("A made-up user gets {grounds}, a no."));
        }
        _ => match meaning(status) {
            Some(meaning) => report.warning(
                format!("A made-up user gets {status}, {meaning}."),
                "correct the URL, or answer 403 to those whom the API does not know",
            ),
            None => report.ok(format!("A made-up user gets {status}, a no.")),
        },
    }
}

fn latency(
    exchanges: &[Exchange],
    kind: Kind,
    config: &Config,
    broker: Option<&Broker>,
    report: &mut Report,
) {
    let times: Vec<_> = exchanges.iter().map(|exchange| exchange.took).collect();
    let Some(slowest) = times.iter().max() else { return };
    let shown_times: Vec<_> = times.iter().map(|took| shown(*took)).collect();
    let text = format!("Answers took {}", shown_times.join(", "));
    let timeout = config.timeout;
    if *slowest >= timeout {
        let wanted = (slowest.as_secs_f64() * 2.0).ceil().max(1.0);
        report.error(
            format!("{text}, and timeout is {}: the plugin would not have waited.", shown(timeout)),
            format!("make the API faster, or set plugin_opt_timeout {wanted}s"),
        );
    } else if *slowest > timeout / 2 {
        report.warning(
            format!("{text}; with a timeout of {} there is little to spare.", shown(timeout)),
            "make the API faster, or give it a longer plugin_opt_timeout",
        );
    } else {
        report.ok(format!("{text} (timeout {}).", shown(timeout)));
    }
    let waits = kind == Kind::Access || broker.is_some_and(|broker| !broker.is_2_1());
    let typical = times.last().copied().unwrap_or_default();
    if waits && typical > Duration::from_millis(20) {
        let what = if kind == Kind::Connect { "login" } else { "topic" };
        report.note(format!(
            "The broker stands still for about {} at each {what} that it has to ask about and that is not remembered.",
            shown(typical)
        ));
    }
}

/// A time for people.
pub fn shown(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(10) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        time if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        time => format!("{:.1} s", time.as_secs_f64()),
    }
}
