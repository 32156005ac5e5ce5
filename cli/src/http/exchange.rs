//! One question and what comes back.

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::{Client, Url, Version};
use rustls::ClientConfig;
use serde_json::Value;

use super::answer::MOST_BYTES;
use super::cause::cause;
use super::prepare::{Prepared, client};
use super::wire;
use crate::config::{ApiUrl, Config};
use crate::question::Question;

/// The most bytes of a body that are read: with one more than the plugin takes, it is too long.
const BODY_LIMIT: usize = MOST_BYTES + 1;

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
        self.send(api, &wire::body(question), times, limit)
    }

    /// The same with one request for several questions about topics.
    pub fn ask_together(
        &self,
        api: &ApiUrl,
        questions: &[Question<'_>],
        times: usize,
        limit: Duration,
    ) -> Vec<Exchange> {
        self.send(api, &wire::together(questions.iter().copied()), times, limit)
    }

    fn send(&self, api: &ApiUrl, body: &[u8], times: usize, limit: Duration) -> Vec<Exchange> {
        let Prepared { headers, tls, .. } = &self.prepared;
        let client = match client(&self.config, headers, tls, api).build() {
            Ok(client) => client,
            Err(error) => return vec![Exchange { result: Err(cause(&error)), took: Duration::ZERO }],
        };
        self.runtime.block_on(async {
            let mut exchanges = Vec::new();
            for _ in 0..times {
                let exchange = ask_once(&client, &api.url, body, limit).await;
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
        let mut lines = vec![format!("POST {path} HTTP/1.1")];
        let host = url.host_str().unwrap_or_default();
        lines.push(match url.port() {
            Some(port) => format!("host: {host}:{port}"),
            None => format!("host: {host}"),
        });
        lines.push(format!("user-agent: mosquitto-http-auth/{}", env!("CARGO_PKG_VERSION")));
        if !url.username().is_empty() || url.password().is_some() {
            lines.push("authorization: (from the URL)".to_owned());
        }
        for (name, value) in &self.prepared.headers {
            let shown = value.to_str().ok().filter(|_| secrets || !value.is_sensitive());
            lines.push(format!("{name}: {}", shown.unwrap_or("(not shown)")));
        }
        let body = wire::body(question);
        let body =
            if secrets { String::from_utf8_lossy(&body).into_owned() } else { without_password(&body) };
        lines.push(String::new());
        lines.push(body);
        lines.join("\n")
    }
}

/// A body with dots for the password.
fn without_password(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let Ok(Value::Object(fields)) = serde_json::from_str(&text) else { return text };
    match fields.get("password") {
        // As it was written, so that all else is shown as it is sent.
        Some(password) => text.replacen(&format!("\"password\":{password}"), "\"password\":\"...\"", 1),
        None => text,
    }
}

async fn ask_once(client: &Client, url: &Url, body: &[u8], limit: Duration) -> Exchange {
    let began = Instant::now();
    let sent = tokio::time::timeout(limit, client.post(url.clone()).body(body.to_vec()).send()).await;
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
