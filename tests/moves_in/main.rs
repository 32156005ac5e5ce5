//! Configurations of mosquitto-go-auth and mosquitto-auth-plug that work here when the plugin's path is changed: the API is
//! asked as they asked it, byte for byte, and its answers mean what they meant.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod files;
mod refusals;
mod samples;
mod superusers;
mod wire;

use support::broker::plugin;
use support::{Broker, MockApi, Reply, Request, Setup, Version, api};

/// An API that knows no superuser, and allows everything else.
fn friendly() -> MockApi {
    let api = api("");
    api.answer_with(|request| Reply::status(if request.path == "/superuser" { 403 } else { 200 }));
    api
}

/// A broker with the lines of another plugin's configuration, of which only the path is changed. `HOST` and `PORT` stand
/// for those of the API.
fn broker(version: Version, api: &MockApi, conf: &str) -> Setup {
    let path = plugin();
    let lines = conf
        .replace("PATH", path.to_str().unwrap())
        .replace("HOST", &api.address().ip().to_string())
        .replace("PORT", &api.address().port().to_string());
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.fold(Broker::with(version).without_plugin(), |setup, line| setup.line(line))
}

/// The options of mosquitto-go-auth that are always there, and these.
fn go_auth(more: &str) -> String {
    format!(
        "plugin PATH
         plugin_opt_backends http
         plugin_opt_http_host HOST
         plugin_opt_http_port PORT
         plugin_opt_http_getuser_uri /auth
         plugin_opt_http_aclcheck_uri /acl
         {more}"
    )
}

/// The same of mosquitto-auth-plug.
fn auth_plug(more: &str) -> String {
    format!(
        "auth_plugin PATH
         auth_opt_backends http
         auth_opt_http_ip HOST
         auth_opt_http_port PORT
         auth_opt_http_getuser_uri /auth
         auth_opt_http_superuser_uri /superuser
         auth_opt_http_aclcheck_uri /acl
         {more}"
    )
}

/// Requests as `METHOD PATH BODY`.
fn sent(requests: &[Request]) -> Vec<String> {
    let text = |request: &Request| {
        format!("{} {} {}", request.method, request.path, String::from_utf8_lossy(&request.body))
    };
    requests.iter().map(text).collect()
}

/// The requests about superusers.
fn about_superusers(api: &MockApi) -> Vec<Request> {
    api.requests().into_iter().filter(|request| request.path == "/superuser").collect()
}
