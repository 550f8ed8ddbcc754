use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::yaml::{Node, emit};
use super::scalar::{is_plain, resolve};

fn read(text: &str) -> Value {
    Node::read(text).unwrap().unwrap().value().unwrap()
}

fn why(text: &str) -> (usize, String) {
    let broken = match Node::read(text) {
        Ok(node) => node.unwrap().value().unwrap_err(),
        Err(broken) => broken,
    };
    (broken.line, broken.why)
}

#[test]
fn plain_scalars_are_what_kubectl_takes_them_for() {
    for (text, value) in [
        ("", json!(null)),
        ("~", json!(null)),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("oN", json!("oN")),
        ("0755", json!(493)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0b11", json!(3)),
        ("-0x10", json!(-16)),
        ("1_000", json!(1000)),
        ("+7", json!(7)),
        ("089", json!(89.0)),
        ("1e3", json!(1000.0)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("-1.", json!(-1.0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("1.2.3", json!("1.2.3")),
        ("1:30", json!("1:30")),
        ("2001-01-01", json!("2001-01-01")),
        ("10Mi", json!("10Mi")),
        ("0x", json!("0x")),
        ("-", json!("-")),
        ("é1", json!("é1")),
        ("1e999", json!("1e999")),
    ] {
        assert_eq!(resolve(text), value, "{text:?}");
    }
}

#[test]
fn documents_are_read_as_they_mean() {
    let value = read(
        "base: &base {a: 1, b: 'yes', c: !!str 0755, d: ! 12}\nother:\n  <<: *base\n  a: 2\nlist:\n- *base\n- |\n  ---\n  x\n\
         yes: no\n7: !!int \"8\"\n",
    );
    let base = json!({"a": 1, "b": "yes", "c": "0755", "d": 12});
    let expected = json!({
        "base": base,
        "other": {"a": 2, "b": "yes", "c": "0755", "d": 12},
        "list": [base, "---\nx\n"],
        "true": false,
        "7": 8,
    });
    assert_eq!(value, expected);
    assert_eq!(read("a:\r\n- b\r\n- \"c\\\r\n  d\"\r\n"), json!({"a": ["b", "cd"]}));
    assert_eq!(Node::read("# nothing\n---\n").unwrap(), None);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    assert_eq!(why("a: 1\nb: 2\na: 3\n"), (3, "\"a\" is given twice; leave one out".to_owned()));
    assert_eq!(why("a:\n  b: !secret x\n").0, 2);
    assert_eq!(why("a: 1\nb: [\n").0, 2);
    assert!(Node::read("a: 1\n\tb: 2\n").is_err());
    assert_eq!(why("x: &x [*x]\n").0, 1);
    let lol = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","))
    });
    assert_eq!(why(&lol).1, "its aliases stand for too much");
    assert!(Node::read(&"[".repeat(100_000)).is_err());
}

#[test]
fn what_was_there_is_written_as_it_was() {
    let text = "zeta: 0755\nalpha: yes\nlist:\n- name: b\n  mode: 0o17\n- name: a\n  mode: 1e3\nport: 1_000\ntime: 1:30\n\
                quoted: \"yes\"\n";
    let node = Node::read(text).unwrap().unwrap();
    let mut value = node.value().unwrap();
    assert_eq!(emit(&value, Some(&node)), text);
    value["list"].as_array_mut().unwrap().insert(0, json!({"name": "new", "value": "on"}));
    value["alpha"] = json!("yes");
    let written = emit(&value, Some(&node));
    assert!(written.contains("- name: new\n  value: \"on\"\n- name: b\n  mode: 0o17\n"), "{written}");
    assert!(written.contains("\nalpha: \"yes\"\n"), "{written}");
}

#[test]
fn texts_are_quoted_unless_everyone_takes_them_for_texts() {
    let written = emit(
        &json!({
            "a": "no", "b": "0755", "c": "nginx:1.25", "d": "a: b", "e": "", "f": "x #y", "g": "--flag=1", "h": "1e3",
            "i": "line\nline\n", "j": " line\nline", "k": "tab\there", "l": "\u{2028}\u{7f}\u{85}\u{feff}", "m": [], "n": {},
            "o": 1e300, "p": 1e-7, "q": "a\r\nb", "r": "trail \nx", "null": "null", "s": "#!/bin/sh\n  x\n\ny",
        }),
        None,
    );
    assert_eq!(
        written,
        concat!(
            "a: \"no\"\nb: \"0755\"\nc: nginx:1.25\nd: \"a: b\"\ne: \"\"\nf: \"x #y\"\ng: \"--flag=1\"\nh: \"1e3\"\n",
            "i: |\n  line\n  line\nj: \" line\\nline\"\nk: \"tab\\there\"\nl: \"\\u2028\\u007f\\u0085\\ufeff\"\nm: []\n\"n\": {}\n",
            "\"null\": \"null\"\no: 1.0e+300\np: 1.0e-7\nq: \"a\\r\\nb\"\nr: \"trail \\nx\"\ns: |-\n  #!/bin/sh\n    x\n\n  y\n",
        )
    );
}

fn text() -> impl Strategy<Value = String> {
    let word = "y|n|yes|No|ON|off|true|null|~|nan|\\.inf|0755|0o7|1_000|1e3|1:30|0x1f|=|<<|- a|a: b|a:|#x|a #b|\\*x|&x|!x|---|\\.\\.\\.";
    prop_oneof![
        word,
        "\\PC{0,12}",
        any::<String>(),
        "([ \\t]{0,2}[a-z:#-]{0,4}[ \\t]{0,1}(\\n|\\r\\n|\\r)){0,4}[a-z]{0,3}",
        "[a-z]{1,8}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((text(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in value()) {
        let written = emit(&value, None);
        let node = Node::read(&written).unwrap();
        let again = node.as_ref().map_or(Value::Null, |node| node.value().unwrap());
        prop_assert_eq!(&again, &value, "{}", written);
        // What was read is written the same, and so on.
        prop_assert_eq!(emit(&again, node.as_ref()), written);
    }

    /// A reader of YAML 1.2.
    #[test]
    fn others_read_the_same(value in value()) {
        let written = emit(&value, None);
        let read: Value = serde_saphyr::from_str(&written).unwrap();
        prop_assert_eq!(read, value, "{}", written);
    }

    #[test]
    fn no_text_panics(text in "[-:#!&*|>{}\\[\\],'\"? \\na-c0-9<~%@`\\t]{0,40}|.{0,40}") {
        if let Ok(Some(node)) = Node::read(&text)
            && let Ok(value) = node.value()
        {
            let written = emit(&value, Some(&node));
            let again = Node::read(&written).unwrap();
            prop_assert_eq!(again.map_or(Value::Null, |node| node.value().unwrap()), value, "{:?}", written);
        }
    }

    #[test]
    fn plain_texts_are_texts(text in text()) {
        if is_plain(&text) {
            prop_assert_eq!(resolve(&text), Value::String(text));
        }
    }
}
