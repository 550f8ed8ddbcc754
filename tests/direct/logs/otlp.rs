use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sidecar_tests::{DEADLINE, eventually};

use super::Volume;
use super::receiver::Receiver;

fn message(record: &Value) -> &str {
    record["body"]["stringValue"].as_str().unwrap()
}

fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    &found.unwrap_or_else(|| panic!("no {name} in {of}"))["value"]["stringValue"]
}

/// The metrics, once they are served.
fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A receiver that is not there, then is overloaded, then takes lines: they come once, in their order.
#[test]
fn lines_wait_for_their_receiver() {
    let mut volume = Volume::new();
    volume.write("app.log", 3000);
    let receiver = Receiver::start(&["503 Service Unavailable", "429 Too Many Requests", "404 Not Found"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let metrics = port.to_string();
    let program = volume.follow("app.log", &["--output", &receiver.output(), "--metrics", &metrics]);
    let records = eventually(3 * DEADLINE, "all lines", || {
        let records = receiver.records();
        (records.len() >= 3000).then_some(records)
    });
    let expected: Vec<String> = (1..=3000).map(|number| format!("this is line {number}")).collect();
    assert!(records.iter().map(message).eq(expected.iter().map(String::as_str)));
    assert_eq!(attribute(&records[0], "log.file.path"), volume.path("app.log").to_str().unwrap());
    let resource = &receiver.taken()[0]["resourceLogs"][0]["resource"];
    assert_eq!(attribute(resource, "k8s.pod.name"), "web-0");
    eventually(DEADLINE, "the lines to be counted", || {
        let text = scrape(port)?;
        let counted =
            ["sidecar_logs_lines_total 3000", "sidecar_logs_retries_total 3", "sidecar_logs_files 1"];
        counted.iter().all(|line| text.contains(line)).then_some(())
    });
    drop(program);
}

/// Killed between two attempts: the next process brings the same lines, under the same ids.
#[test]
fn a_kill_before_the_answer_loses_nothing() {
    let mut volume = Volume::new();
    volume.write("app.log", 10);
    let receiver = Receiver::start(&["503 Service Unavailable"; 2]);
    let program = volume.follow("app.log", &["--output", &receiver.output()]);
    eventually(DEADLINE, "an attempt", || (receiver.asked() > 0).then_some(()));
    program.signal(Signal::SIGKILL);
    drop(program);
    let _program = volume.follow("app.log", &["--output", &receiver.output()]);
    eventually(DEADLINE, "all lines", || (receiver.records().len() >= 10).then_some(()));
    let mut ids = BTreeMap::new();
    for record in receiver.records() {
        let id = attribute(&record, "log.record.uid").clone();
        assert_eq!(ids.entry(message(&record).to_owned()).or_insert(id.clone()), &id);
    }
    assert_eq!(ids.len(), 10);
}

/// What the receiver calls wrong is given up and said, so that it keeps no line that comes after it.
#[test]
fn what_is_refused_does_not_keep_the_rest() {
    let mut volume = Volume::new();
    volume.write("app.log", 1);
    let receiver = Receiver::start(&["400 Bad Request"]);
    let mut program = volume.follow("app.log", &["--output", &receiver.output()]);
    eventually(DEADLINE, "an attempt", || (receiver.asked() > 0).then_some(()));
    volume.write("app.log", 1);
    eventually(DEADLINE, "the next line", || (receiver.records().len() == 1).then_some(()));
    assert_eq!(receiver.records()[0]["body"], json!({"stringValue": "this is line 2"}));
    program.signal(Signal::SIGTERM);
    assert!(program.wait().stderr.contains("refuses lines"));
}
