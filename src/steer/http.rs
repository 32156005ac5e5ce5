//! What the admin listener answers, and to whom.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::commands::{Given, Name};
use super::history::History;
use super::{figures, page};
use crate::command::Giver;
use crate::log::quoted;
use crate::plugin::Steering;

/// The largest body of a request, in bytes.
const BODY: usize = 16 * 1024;

/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// How long the broker's thread may take to come round: longer than it waits for any question with usual time-outs.
const BROKER_WITHIN: Duration = Duration::from_secs(5);

/// OpenMetrics, as Prometheus asks for it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The way somebody has come in.
#[derive(Debug, Clone)]
pub enum Door {
    /// Over TCP.
    Tcp {
        /// Where the connection comes from.
        from: SocketAddr,
    },
    /// Over a Unix socket.
    Unix {
        /// The number of the user.
        user: Option<u32>,
        /// The socket.
        path: String,
    },
}

impl Door {
    fn giver(&self) -> Giver {
        match self {
            Door::Tcp { from } => Giver::Token(from.to_string()),
            Door::Unix { user, path } => Giver::User(*user, path.clone()),
        }
    }
}

/// All that the admin listener shows of one plugin.
pub struct Site {
    steering: Arc<Steering>,
    history: Arc<History>,
}

impl Site {
    /// The site of this plugin.
    pub fn new(steering: Arc<Steering>, history: Arc<History>) -> Self {
        Self { steering, history }
    }
}

/// An answer before it is a response.
struct Reply {
    status: StatusCode,
    kind: &'static str,
    body: Bytes,
    more: Option<(HeaderName, &'static str)>,
}

impl Reply {
    fn new(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, kind, body: body.into(), more: None }
    }

    fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, JSON, value.to_string() + "\n")
    }

    fn error(status: StatusCode, what: &str) -> Self {
        Self::json(status, &json!({"error": what}))
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.more = Some((name, value));
        self
    }
}

/// Answers a request. `is_trusted` is set once it has shown that it may steer.
///
/// # Errors
/// None.
pub async fn answer(
    request: Request<Incoming>,
    site: Arc<Site>,
    door: Arc<Door>,
    is_trusted: Arc<AtomicBool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let Reply { status, kind, body, more } = match said(request, &site, &door, &is_trusted).await {
        Ok(said) | Err(said) => said,
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = if kind == HTML { page::policy() } else { HeaderValue::from_static("default-src 'none'") };
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Ok(response)
}

async fn said(
    request: Request<Incoming>,
    site: &Arc<Site>,
    door: &Door,
    is_trusted: &AtomicBool,
) -> Result<Reply, Reply> {
    let path = request.uri().path().to_owned();
    refuse_foreign_origin(request.headers(), door)?;
    // Figures that Prometheus reads may be read by any name; what names clients or steers may not.
    match path.as_str() {
        "/healthz" => return only_get(&request).map(|()| Reply::new(StatusCode::OK, TEXT, "ok\n")),
        "/readyz" => {
            return only_get(&request).map(|()| match site.steering.trouble(Instant::now()) {
                None => Reply::new(StatusCode::OK, TEXT, "ready\n"),
                Some(why) => Reply::new(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            });
        }
        "/metrics" => {
            only_get(&request)?;
            let text = site.steering.metrics().as_text(&site.steering.gauges(Instant::now()));
            return Ok(Reply::new(StatusCode::OK, OPENMETRICS, text));
        }
        _ => refuse_foreign_host(request.headers(), door)?,
    }
    match path.as_str() {
        "/" => only_get(&request).map(|()| Reply::new(StatusCode::OK, HTML, page::HTML)),
        "/figures" => {
            only_get(&request)?;
            let figures = figures::figures(&site.steering, &site.history);
            Ok(Reply::json(StatusCode::OK, &Value::Object(figures)))
        }
        path => match path.strip_prefix("/v1/") {
            Some(name) => command(Name::of(name), request, site, door, is_trusted).await,
            None => Err(Reply::error(StatusCode::NOT_FOUND, "there is nothing here; see docs/commands.md")),
        },
    }
}

fn only_get(request: &Request<Incoming>) -> Result<(), Reply> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(not_allowed(request, "GET").with(ALLOW, "GET, HEAD"))
}

fn not_allowed(request: &Request<Incoming>, expected: &str) -> Reply {
    let what = format!("found {}, expected {expected}", quoted(request.method().as_str()));
    Reply::error(StatusCode::METHOD_NOT_ALLOWED, &what)
}

/// A page of another site must neither steer nor read.
fn refuse_foreign_origin(headers: &HeaderMap, door: &Door) -> Result<(), Reply> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let own = headers.get(HOST).map(|host| [b"http://", host.as_bytes()].concat());
    let is_own = matches!(door, Door::Tcp { .. }) && own.is_some_and(|own| own == origin.as_bytes());
    if is_own {
        return Ok(());
    }
    Err(Reply::error(StatusCode::FORBIDDEN, "found a foreign Origin: no other site's page may come here"))
}

/// A name that somebody else's name server may have pointed here, so that a page of that name could read what is here.
fn refuse_foreign_host(headers: &HeaderMap, door: &Door) -> Result<(), Reply> {
    if matches!(door, Door::Unix { .. }) {
        return Ok(());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    Err(Reply::error(StatusCode::FORBIDDEN, "found a name as the Host, expected an IP address or localhost"))
}

/// Whether a request may steer: over TCP it has to show the token.
fn authorise(headers: &HeaderMap, site: &Site, door: &Door) -> Result<(), Reply> {
    if matches!(door, Door::Unix { .. }) {
        return Ok(());
    }
    let Some(token) = site.steering.token() else {
        let what = "no token is set (plugin_opt_admin_token_file): only a Unix socket may steer";
        return Err(Reply::error(StatusCode::FORBIDDEN, what));
    };
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let shown = match (given.next().map(HeaderValue::as_bytes), given.next()) {
        (Some(value), None) => value.split_at_checked(7),
        _ => None,
    };
    if let Some((scheme, shown)) = shown
        && scheme.eq_ignore_ascii_case(b"bearer ")
        && token.is(shown.trim_ascii())
    {
        return Ok(());
    }
    let what = "expected the token of plugin_opt_admin_token_file (Authorization: Bearer TOKEN)";
    Err(Reply::error(StatusCode::UNAUTHORIZED, what)
        .with(WWW_AUTHENTICATE, "Bearer realm=\"mosquitto-http-auth\""))
}

/// Carries out the command of this name, if there is one.
async fn command(
    name: Option<Name>,
    request: Request<Incoming>,
    site: &Arc<Site>,
    door: &Door,
    is_trusted: &AtomicBool,
) -> Result<Reply, Reply> {
    authorise(request.headers(), site, door)?;
    is_trusted.store(true, Ordering::Relaxed);
    let Some(name) = name else {
        let names: Vec<_> = Name::all().map(Name::as_text).collect();
        let what = format!("there is no such command; expected one of {}", names.join(", "));
        return Err(Reply::error(StatusCode::NOT_FOUND, &what));
    };
    let fields = match (request.method(), name) {
        (&Method::GET | &Method::HEAD, Name::Status) => Map::new(),
        (&Method::POST, _) => fields(request).await?,
        _ => {
            let allowed = if name == Name::Status { "GET, HEAD, POST" } else { "POST" };
            return Err(not_allowed(&request, "POST").with(ALLOW, allowed));
        }
    };
    let given = Given::read(name, fields).map_err(|what| Reply::error(StatusCode::BAD_REQUEST, &what))?;
    let (sender, answer) = oneshot::channel();
    let respond = Box::new(move |result| drop(sender.send(result)));
    let giver = door.giver();
    given.carry_out(&giver, &site.steering, respond);
    let why = match timeout(BROKER_WITHIN, answer).await {
        Ok(Ok(Ok(value))) => return Ok(Reply::json(StatusCode::OK, &value)),
        Ok(Ok(Err(why))) => why,
        Ok(Err(_)) => "the broker is stopping".to_owned(),
        Err(_) => format!(
            "the broker's own thread has not come round within {} s; it carries this out when it does",
            BROKER_WITHIN.as_secs()
        ),
    };
    Err(Reply::error(StatusCode::SERVICE_UNAVAILABLE, &why))
}

/// The fields of a command, which the body holds as one JSON object.
async fn fields(request: Request<Incoming>) -> Result<Map<String, Value>, Reply> {
    // A form of another site could send anything else without asking first.
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.eq_ignore_ascii_case(JSON.as_bytes()) {
        let found = String::from_utf8_lossy(kind);
        let found = if found.is_empty() { "none".to_owned() } else { quoted(&found).to_string() };
        let what = format!("Content-Type: found {found}, expected {JSON}");
        return Err(Reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &what));
    }
    let body = match timeout(BODY_WITHIN, Limited::new(request.into_body(), BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let what = format!("expected no more than {} KiB", BODY / 1024);
            return Err(Reply::error(StatusCode::PAYLOAD_TOO_LARGE, &what));
        }
        Ok(Err(_)) => return Err(Reply::error(StatusCode::BAD_REQUEST, "the body ended too early")),
        Err(_) => {
            let what = format!("the body has not come within {} s", BODY_WITHIN.as_secs());
            return Err(Reply::error(StatusCode::REQUEST_TIMEOUT, &what));
        }
    };
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => {
            let what = format!("found {}, expected one JSON object", json_kind(&other));
            Err(Reply::error(StatusCode::BAD_REQUEST, &what))
        }
        Err(error) => {
            let what = format!("expected one JSON object ({error})");
            Err(Reply::error(StatusCode::BAD_REQUEST, &what))
        }
    }
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
