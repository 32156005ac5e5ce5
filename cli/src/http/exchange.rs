//! One question and what comes back.

use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Url, Version};
use rustls::ClientConfig;
use serde_json::Value;

use super::answer::MOST_BYTES;
use super::cause::cause;
use super::prepare::{Prepared, USER_AGENT, client};
use super::{dialect, wire};
use crate::config::{ApiUrl, Config};
use crate::question::Question;

/// The most bytes of a body that are read: with one more than the plugin takes, it is too long.
const BODY_LIMIT: usize = MOST_BYTES + 1;

/// A request as it is sent.
struct Sent {
    method: Method,
    body: Vec<u8>,
    credentials: Option<HeaderValue>,
}

/// Asks as the options say.
pub struct Asker {
    config: Config,
    prepared: Prepared,
    runtime: tokio::runtime::Runtime,
}

/// A question that was sent, and what came back.
#[derive(Debug)]
pub struct Exchange {
    /// The response, or why there is none.
    pub result: Result<Response, String>,
    /// From sending it until the response's head was there.
    pub took: Duration,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub version: Version,
    pub status: u16,
    pub headers: HeaderMap,
    /// Its beginning.
    pub body: Vec<u8>,
}

impl Asker {
    /// Reads the files that the options name.
    ///
    /// # Errors
    /// The first that cannot be used, in the plugin's words.
    pub fn new(config: &Config) -> Result<Self, String> {
        let prepared = Prepared::read(config).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("this program cannot work here ({error})"))?;
        Ok(Self { config: config.clone(), prepared, runtime })
    }

    /// How TLS is spoken.
    pub fn tls(&self) -> &ClientConfig {
        &self.prepared.tls
    }

    /// Sends one question to one URL several times, over one connection where that is kept, until one fails. Each waits for no longer
    /// than `limit`.
    pub fn ask(&self, api: &ApiUrl, question: &Question<'_>, times: usize, limit: Duration) -> Vec<Exchange> {
        let dialect = &self.config.dialect;
        let (body, credentials) =
            (dialect::body(dialect, question), dialect::credentials_of(dialect, question));
        self.send(api, &self.sent(body, credentials), times, limit)
    }

    /// The same with the question whether a user may do everything, by the name by which the API knows it.
    pub fn ask_superuser(&self, api: &ApiUrl, name: &str, times: usize, limit: Duration) -> Vec<Exchange> {
        let dialect = &self.config.dialect;
        let (body, credentials) =
            (dialect::superuser_body(dialect, name), dialect::credentials(dialect, name, ""));
        self.send(api, &self.sent(body, credentials), times, limit)
    }

    fn sent(&self, body: Vec<u8>, credentials: Option<HeaderValue>) -> Sent {
        let is_free = !self.prepared.headers.contains_key(AUTHORIZATION);
        Sent {
            method: self.config.dialect.method.clone(),
            body,
            credentials: credentials.filter(|_| is_free),
        }
    }

    /// The same with one request for several questions about topics.
    pub fn ask_together(
        &self,
        api: &ApiUrl,
        questions: &[Question<'_>],
        times: usize,
        limit: Duration,
    ) -> Vec<Exchange> {
        let body = wire::together(questions.iter().copied());
        self.send(api, &Sent { method: Method::POST, body, credentials: None }, times, limit)
    }

    fn send(&self, api: &ApiUrl, sent: &Sent, times: usize, limit: Duration) -> Vec<Exchange> {
        let Prepared { headers, tls, .. } = &self.prepared;
        let client = match client(&self.config, headers, tls, api).build() {
            Ok(client) => client,
            Err(error) => return vec![Exchange { result: Err(cause(&error)), took: Duration::ZERO }],
        };
        self.runtime.block_on(async {
            let mut exchanges = Vec::new();
            for _ in 0..times {
                let exchange = ask_once(&client, &api.url, sent, limit).await;
                let has_failed = exchange.result.is_err();
                exchanges.push(exchange);
                if has_failed {
                    break;
                }
            }
            exchanges
        })
    }

    /// The request as it is sent, for people. Unless `secrets` are to be shown, values that may be some are left out.
    pub fn shown_request(&self, api: &ApiUrl, question: &Question<'_>, secrets: bool) -> String {
        let url = &api.url;
        let path = if secrets {
            url.path().to_owned() + &url.query().map(|query| format!("?{query}")).unwrap_or_default()
        } else {
            url.path().to_owned() + if url.query().is_some() { "?..." } else { "" }
        };
        let dialect = &self.config.dialect;
        let mut lines = vec![format!("{} {path} HTTP/1.1", dialect.method)];
        let host = url.host_str().unwrap_or_default();
        lines.push(match url.port() {
            Some(port) => format!("host: {host}:{port}"),
            None => format!("host: {host}"),
        });
        if dialect.is_contract() {
            lines.push(format!("user-agent: {USER_AGENT}"));
        }
        if dialect.sends_credentials {
            lines.push("authorization: (of the client)".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            lines.push("authorization: (from the URL)".to_owned());
        }
        for (name, value) in &self.prepared.headers {
            let shown = value.to_str().ok().filter(|_| secrets || !value.is_sensitive());
            lines.push(format!("{name}: {}", shown.unwrap_or("(not shown)")));
        }
        let body = String::from_utf8_lossy(&dialect::body(dialect, question)).into_owned();
        let body = if secrets { body } else { without_password(body) };
        lines.push(String::new());
        lines.push(body);
        lines.join("\n")
    }
}

/// A body with dots for the password.
fn without_password(text: String) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(&text) else {
        // A form. What stands in front of its own fields may be secret, too.
        let hidden = |field: &str| match field.split_once('=') {
            Some(("username" | "clientid" | "topic" | "acc", _)) | None => field.to_owned(),
            Some((name, _)) => format!("{name}=..."),
        };
        return text.split('&').map(hidden).collect::<Vec<_>>().join("&");
    };
    match fields.get("password") {
        // As it was written, so that all else is shown as it is sent.
        Some(password) => text.replacen(&format!("\"password\":{password}"), "\"password\":\"...\"", 1),
        None => text,
    }
}

async fn ask_once(client: &Client, url: &Url, sent: &Sent, limit: Duration) -> Exchange {
    let began = Instant::now();
    let request = client.request(sent.method.clone(), url.clone()).body(sent.body.clone());
    let request = match &sent.credentials {
        Some(credentials) => request.header(AUTHORIZATION, credentials.clone()),
        None => request,
    };
    let sent = tokio::time::timeout(limit, request.send()).await;
    let took = began.elapsed();
    let result = match sent {
        Err(_) => Err(format!("nothing came within {limit:?}")),
        Ok(Err(error)) => Err(cause(&error)),
        Ok(Ok(mut response)) => {
            let mut body = Vec::new();
            let reading = async {
                while body.len() < BODY_LIMIT
                    && let Ok(Some(chunk)) = response.chunk().await
                {
                    body.extend_from_slice(&chunk);
                }
            };
            // A body that does not end is none of the plugin's business either.
            let _ = tokio::time::timeout(limit, reading).await;
            body.truncate(BODY_LIMIT);
            Ok(Response {
                version: response.version(),
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body,
            })
        }
    };
    Exchange { result, took }
}
