//! The admin service, the same on its port and on `control.sock`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{StreamExt, iter};

use super::serve::{Handler, Reply, not_found, only, reads, reply, text};
use crate::bypass::{Current, ProgramStanding};
use crate::observe::connection::ConnectionEvent;
use crate::observe::log::{LogError, LogLevel};
use crate::observe::table::ConnectionTable;

/// What the admin service shows and steers.
#[derive(Clone)]
pub struct AdminState {
    /// `/connections`.
    pub table: ConnectionTable,
    /// `/config_dump`: the configuration in use, and the last one that was refused.
    pub config_json: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// `/bypass`.
    pub ladder: Current,
    /// `/logging`.
    pub log_level: LogLevel,
    /// `/drain` and `/quitquitquit`.
    pub control: mpsc::Sender<ControlCommand>,
}

/// The answer of `/bypass`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BypassReport {
    /// Why there is none; null: there is.
    pub off: Option<String>,
    /// Programs by what they have shown.
    pub programs: Vec<ProgramStanding>,
}

/// What the admin service may ask of its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlCommand {
    /// Take no new connections; go on with those that are up.
    Drain,
    /// Drain, then exit.
    Quit,
}

/// Name, method, what it does.
const ENDPOINTS: [(&str, &str, &str); 7] = [
    ("/connections", "GET", "live connections, a JSON array"),
    ("/connections?watch=true", "GET", "the same, then each open and close: a JSON object a line"),
    ("/bypass", "GET", "which programs have earned the bypass, and which have lost it"),
    ("/config_dump", "GET", "the configuration in use"),
    ("/logging", "GET", "the log level; POST with ?level=debug changes it"),
    ("/drain", "POST", "take no new connections"),
    ("/quitquitquit", "POST", "drain, then exit"),
];

// === impl ===

impl Handler for AdminState {
    async fn handle(&self, request: &Request<Incoming>) -> Reply {
        let method = request.method();
        let post = method == Method::POST;
        if !post && !reads(method) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET shows, POST changes");
        }
        // A browser sends this with every POST: a web page must not steer a proxy on its visitor's machine.
        if post && request.headers().contains_key(ORIGIN) {
            return text(StatusCode::FORBIDDEN, "not from a web page");
        }
        match (request.uri().path(), post) {
            ("/", false) => page(self.table.instance()),
            ("/connections", false) if parameter(request, "watch").as_deref() == Some("true") => {
                self.watch().await
            }
            ("/connections", false) => self.list().await,
            ("/bypass", false) => json(&self.bypass()),
            ("/config_dump", false) => json(&(self.config_json)()),
            ("/logging", false) if parameter(request, "level").is_some() => only("POST"),
            ("/logging", false) => level_reply(self.log_level.get()),
            ("/logging", true) => self.set_level(parameter(request, "level").as_deref()),
            ("/drain", true) => self.ask(ControlCommand::Drain, "draining"),
            ("/quitquitquit", true) => self.ask(ControlCommand::Quit, "quitting"),
            ("/drain" | "/quitquitquit", false) => only("POST"),
            ("/" | "/connections" | "/bypass" | "/config_dump", true) => only("GET"),
            _ => not_found(),
        }
    }
}

impl AdminState {
    fn bypass(&self) -> BypassReport {
        match self.ladder.get() {
            Ok(ladder) => BypassReport { off: None, programs: ladder.programs() },
            Err(reason) => BypassReport { off: Some(reason.to_string()), programs: Vec::new() },
        }
    }

    async fn list(&self) -> Reply {
        let table = self.table.clone();
        // It asks the kernel about each connection.
        match tokio::task::spawn_blocking(move || json(&table.snapshot())).await {
            Ok(reply) => reply,
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the connections cannot be listed"),
        }
    }

    async fn watch(&self) -> Reply {
        let table = self.table.clone();
        let Ok((live, events)) = tokio::task::spawn_blocking(move || table.list_and_watch()).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the connections cannot be listed");
        };
        let events = BroadcastStream::new(events).map(|event| match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(missed)) => ConnectionEvent::Missed { missed },
        });
        let lines = iter(live.into_iter().map(ConnectionEvent::Live)).chain(events);
        let frames = lines.map(|event| {
            // A snapshot has string keys and finite numbers only, so this cannot fail.
            let mut json = serde_json::to_vec(&event).unwrap_or_default();
            json.push(b'\n');
            Ok::<_, Infallible>(Frame::data(Bytes::from(json)))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        response
    }

    fn set_level(&self, level: Option<&str>) -> Reply {
        let Some(level) = level else {
            return text(StatusCode::BAD_REQUEST, "say which: POST /logging?level=debug");
        };
        let set = self.log_level.set(level).and_then(|()| self.log_level.get());
        if let Ok(level) = &set {
            tracing::info!(%level, "log level changed by the admin service");
        }
        level_reply(set)
    }

    fn ask(&self, command: ControlCommand, done: &str) -> Reply {
        match self.control.try_send(command) {
            Ok(()) => text(StatusCode::OK, done),
            // A full queue holds such commands already; a closed one belongs to a process that is about to exit.
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "busy; try again"),
        }
    }
}

fn level_reply(level: Result<String, LogError>) -> Reply {
    match level {
        Ok(level) => text(StatusCode::OK, level),
        Err(error @ LogError::Level(_)) => text(StatusCode::BAD_REQUEST, error),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => reply(StatusCode::OK, "application/json", body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn page(instance: &str) -> Reply {
    let rows: String = ENDPOINTS
        .iter()
        .map(|(path, method, what)| match *method {
            "GET" => format!("<li><a href=\"{path}\">{path}</a>: {what}</li>\n"),
            _ => format!("<li>{method} {path}: {what}</li>\n"),
        })
        .collect();
    // Instances are named by their owner: no markup may come from there.
    let name = instance.replace('&', "&amp;").replace('<', "&lt;");
    let html = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>sidecar {name}</title></head>\n\
         <body><h1>sidecar {name}</h1>\n<ul>\n{rows}</ul></body></html>\n"
    );
    reply(StatusCode::OK, "text/html; charset=utf-8", html)
}

#[cfg(test)]
mod tests;
