//! curl, with the sidecar on its way and without it: what it gets is to be the same.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use sidecar_tests::{Finished, Place};

use super::Http;

/// Fields of an answer that each hop says for itself.
const OF_THE_HOP: [&str; 3] = ["date:", "connection:", "keep-alive:"];

/// Fields of a request, as a server tells them, that a proxy adds.
const OF_THE_PROXY: [&str; 3] = ["x-request-id", "traceparent", "x-forwarded-"];

/// What curl got.
#[derive(PartialEq, Eq)]
pub(super) struct Fetched {
    /// The headers of all answers: the status, and the fields in an order of their own.
    pub(super) heads: Vec<Vec<String>>,
    /// The last one's body.
    pub(super) body: Vec<u8>,
    /// What `--write-out` was to say.
    pub(super) said: String,
}

/// Asks for a path at `place` with these options; the host is called `test`.
#[track_caller]
pub(super) fn fetch(
    place: &Place,
    (host, port): (&str, u16),
    files: &Path,
    options: &[&str],
    path: &str,
) -> Fetched {
    let (head, body) = (files.join("head"), files.join("body"));
    let _ = (std::fs::remove_file(&head), std::fs::remove_file(&body));
    let mut curl = place.command("curl");
    curl.args(["-sS", "--max-time", "40", "--connect-to", &format!("::{host}:{port}")]);
    curl.arg("-D").arg(&head).arg("-o").arg(&body).args(options).arg(format!("http://test{path}"));
    let said = Finished::of(&mut curl).success();
    let head = String::from_utf8(std::fs::read(head).unwrap()).unwrap();
    // With --head, curl's output is the header again. Where nothing came, there is no file.
    let body = if options.contains(&"--head") { Vec::new() } else { std::fs::read(body).unwrap_or_default() };
    Fetched { heads: Vec::new(), body, said }.compared(&head)
}

/// Asks a server on this port, past the sidecar and through it, and expects to get the same.
#[track_caller]
pub(super) fn same(http: &Http, port: u16, options: &[&str], path: &str) -> Fetched {
    let files = http.logs.path();
    let direct = fetch(&http.netns().place(), ("127.0.0.1", port), files, options, path);
    let through = fetch(&http.from(), http.way.reached(port), files, options, path);
    assert!(direct == through, "{path} {options:?}: {direct:#?} without the sidecar, with it {through:#?}");
    through
}

impl Fetched {
    /// The last status.
    pub(super) fn status(&self) -> &str {
        &self.heads.last().unwrap()[0]
    }

    /// A field of the last header.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.heads.last().unwrap().iter();
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix(": "))
    }

    /// With these headers, and without what may differ where all is well.
    fn compared(mut self, heads: &str) -> Self {
        self.heads = heads.split_terminator("\r\n\r\n").map(one_head).collect();
        if let Some(boundary) = self.field("content-type").and_then(|kind| kind.split_once("boundary=")) {
            let boundary = boundary.1.to_owned();
            let body = String::from_utf8_lossy(&self.body).replace(&boundary, "BOUNDARY");
            self.body = body.into_bytes();
            for field in self.heads.iter_mut().flatten() {
                *field = field.replace(&boundary, "BOUNDARY");
            }
        }
        if self.field("content-type") == Some("application/json")
            && let Ok(mut told) = serde_json::from_slice::<Value>(&self.body)
        {
            if let Some(told) = told.as_object_mut() {
                told.remove("origin");
            }
            if let Some(fields) = told["headers"].as_object_mut() {
                let added = |name: &str| OF_THE_PROXY.iter().any(|added| name.starts_with(added));
                // A form's boundary is made up for each request.
                let is_form = |value: &Value| value.as_str().is_some_and(|value| value.contains("boundary="));
                fields.retain(|name, value| !added(&name.to_ascii_lowercase()) && !is_form(value));
            }
            self.body = told.to_string().into_bytes();
            self.heads.iter_mut().for_each(|head| head.retain(|field| !field.starts_with("content-length:")));
        }
        self
    }
}

fn one_head(text: &str) -> Vec<String> {
    let (first, fields) = text.split_once("\r\n").unwrap_or((text, ""));
    let mut lines: Vec<String> = fields
        .lines()
        .filter_map(|field| field.split_once(':'))
        .map(|(name, value)| format!("{}:{value}", name.to_ascii_lowercase()))
        .filter(|field| !OF_THE_HOP.iter().any(|name| field.starts_with(name)))
        .collect();
    lines.sort();
    lines.insert(0, first.split(' ').nth(1).unwrap().to_owned());
    lines
}

impl fmt::Debug for Fetched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning = String::from_utf8_lossy(&self.body[..self.body.len().min(100)]);
        formatter
            .debug_struct("Fetched")
            .field("heads", &self.heads)
            .field("length", &self.body.len())
            .field("body", &beginning)
            .field("said", &self.said)
            .finish()
    }
}
