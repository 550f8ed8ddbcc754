//! Logs by the OpenTelemetry protocol: HTTP with JSON (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::counts::{Counts, add};
use super::record::{Batch, Origin, Record, nanos};

/// A receiver.
pub(super) struct Receiver {
    uri: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    origin: Origin,
    counts: Counts,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It was taken, but for so many lines.
    Taken { rejected: usize },
    /// It will never be.
    Refused(StatusCode),
    /// It may be later, at the earliest after so long.
    Later(String, Option<Duration>),
}

/// `ExportLogsServiceResponse`
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    partial_success: PartialSuccess,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    /// A number, or, as JSON has numbers of 64 bits, a text.
    rejected_log_records: Value,
    error_message: String,
}

/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pauses between attempts, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What of an answer is read.
const ANSWER: usize = 64 * 1024;

// === impl Receiver ===

impl Receiver {
    pub(super) fn new(uri: &Uri, origin: Origin, counts: Counts) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(TIMEOUT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(1);
        Self { uri: uri.clone(), client: builder.build(connector), origin, counts }
    }

    /// Resolves when the lines are taken, or refused for good. Until then the files are what keeps them.
    pub(super) async fn send(&self, batch: &Batch, read_at: SystemTime) {
        let body = Bytes::from(body(batch, &self.origin, read_at).to_string());
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = timeout(TIMEOUT, self.ask(body.clone())).await;
            let (why, asked) = match outcome {
                Ok(Outcome::Taken { rejected }) => {
                    add(&self.counts.rejected, rejected);
                    return;
                }
                Ok(Outcome::Refused(status)) => {
                    tracing::error!(%status, lines = batch.records.len(), "the receiver refuses lines, which are lost");
                    add(&self.counts.rejected, batch.records.len());
                    return;
                }
                Ok(Outcome::Later(why, asked)) => (why, asked),
                Err(_) => (format!("no answer within {TIMEOUT:?}"), None),
            };
            add(&self.counts.retries, 1);
            let wait = asked.unwrap_or(pause).min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64());
            tracing::warn!(%why, ?wait, "the receiver does not take lines; they wait in their files");
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask(&self, body: Bytes) -> Outcome {
        let request =
            Request::post(self.uri.clone()).header(CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Later(error.to_string(), None),
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Outcome::Later(causes(&error), None),
        };
        let (parts, body) = response.into_parts();
        // Read to its end, so that the connection can be used again.
        let body = Limited::new(body, ANSWER).collect().await.map(http_body_util::Collected::to_bytes);
        outcome(parts.status, &parts.headers, &body.unwrap_or_default())
    }
}

/// Only what is wrong with the lines themselves is given up: all else, such as a token that is missing, can be mended.
fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        let Answer { partial_success } = serde_json::from_slice(body).unwrap_or_default();
        let rejected = match &partial_success.rejected_log_records {
            Value::String(text) => text.parse().unwrap_or(0),
            number => number.as_u64().unwrap_or(0),
        };
        if rejected > 0 {
            tracing::error!(
                rejected,
                why = partial_success.error_message,
                "the receiver refuses lines, which are lost"
            );
        }
        return Outcome::Taken { rejected: usize::try_from(rejected).unwrap_or(usize::MAX) };
    }
    if matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    ) {
        return Outcome::Refused(status);
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Outcome::Later(status.to_string(), seconds.map(Duration::from_secs))
}

/// `ExportLogsServiceRequest`
fn body(batch: &Batch, origin: &Origin, read_at: SystemTime) -> Value {
    let resource = [
        ("k8s.pod.name", &origin.pod),
        ("k8s.namespace.name", &origin.namespace),
        ("k8s.node.name", &origin.node),
        ("k8s.pod.uid", &origin.pod_uid),
    ];
    let resource: Vec<Value> =
        resource.into_iter().filter_map(|(key, value)| Some(attribute(key, value.as_ref()?))).collect();
    let time = nanos(read_at).to_string();
    let records: Vec<Value> = batch.records.iter().map(|record| log_record(record, &time)).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": resource},
        "scopeLogs": [{
            "scope": {"name": "sidecar", "version": env!("CARGO_PKG_VERSION")},
            "logRecords": records,
        }],
    }]})
}

fn log_record(record: &Record, time: &str) -> Value {
    let name = record.file.rsplit('/').next().unwrap_or_default();
    let mut attributes = vec![
        attribute("log.file.path", &record.file),
        attribute("log.file.name", name),
        attribute("log.record.uid", &record.id()),
    ];
    for (key, holds) in [("sidecar.partial", record.partial), ("sidecar.invalid_utf8", record.invalid)] {
        if holds {
            attributes.push(json!({"key": key, "value": {"boolValue": true}}));
        }
    }
    json!({"observedTimeUnixNano": time, "body": {"stringValue": record.message}, "attributes": attributes})
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn records_are_as_the_protocol_has_them() {
        let mut batch = Batch::default();
        batch.push(record(b"one"));
        let origin = Origin { pod: Some("web-0".into()), ..Origin::default() };
        let body = body(&batch, &origin, SystemTime::UNIX_EPOCH + Duration::from_nanos(5));
        let logs = &body["resourceLogs"][0];
        let pod = json!([{"key": "k8s.pod.name", "value": {"stringValue": "web-0"}}]);
        assert_eq!(logs["resource"]["attributes"], pod);
        let record = &logs["scopeLogs"][0]["logRecords"][0];
        assert_eq!(
            (&record["body"]["stringValue"], &record["observedTimeUnixNano"]),
            (&json!("one"), &json!("5"))
        );
        assert_eq!(record["attributes"][2]["value"]["stringValue"], "s1:105");
    }

    #[test]
    fn only_what_is_wrong_with_the_lines_is_given_up() {
        let of = |status: u16, body: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, "7".parse().unwrap());
            outcome(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
        };
        assert_eq!(of(200, "{}"), Outcome::Taken { rejected: 0 });
        assert_eq!(of(200, ""), Outcome::Taken { rejected: 0 });
        let partial = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"x"}}"#;
        assert_eq!(of(200, partial), Outcome::Taken { rejected: 3 });
        assert_eq!(of(400, ""), Outcome::Refused(StatusCode::BAD_REQUEST));
        for status in [401, 404, 429, 500, 502, 503, 504] {
            assert!(
                matches!(of(status, ""), Outcome::Later(_, Some(after)) if after.as_secs() == 7),
                "{status}"
            );
        }
    }
}
