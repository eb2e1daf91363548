//! Manifests: fixtures in the shape of real ones, wrong ones, and an independent reading of arbitrary ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use tcpsocket_policy::{App, Ask, Level, Manifest, Policy};

use Level::{Certified, Hosted, Privileged};

fn path(name: &str) -> PathBuf {
    let manifests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/manifests");
    manifests.join(name).with_extension("webapp")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The file, the level it claims, its description if it requests the permission, and whether the app may open and
/// may listen on port 80 if its host grants it everything.
const GOOD: [(&str, Level, Option<&str>, bool, bool); 17] = [
    (
        "email",
        Certified,
        Some("To talk IMAP, POP3 and SMTP with mail servers"),
        true,
        true,
    ),
    ("certified-server", Certified, Some(""), true, true),
    (
        "web-server",
        Privileged,
        Some("To answer browsers in the same network"),
        true,
        false,
    ),
    (
        "irc",
        Privileged,
        Some("To connect to IRC networks, with TLS on port 6697"),
        true,
        false,
    ),
    ("telnet", Privileged, Some(""), true, false),
    (
        "vnc",
        Privileged,
        Some("To fetch the picture, mostly on port 5900"),
        true,
        false,
    ),
    (
        "pc-sync",
        Privileged,
        Some("To wait for the computer on a port of its own"),
        true,
        false,
    ),
    (
        "chat",
        Privileged,
        Some("To keep a connection to your server, with STARTTLS"),
        true,
        false,
    ),
    ("bom-and-white-space", Privileged, Some(""), true, false),
    ("deep-nesting", Privileged, Some(""), true, false),
    ("duplicate-elsewhere", Privileged, Some(""), true, false),
    (
        "escaped-names",
        Privileged,
        Some("Written with escapes, meant the same"),
        true,
        false,
    ),
    ("hosted-asks", Hosted, Some("Please"), false, false),
    ("hosted-game", Hosted, None, false, false),
    ("privileged-silent", Privileged, None, false, false),
    ("privileged-no-permissions", Privileged, None, false, false),
    ("nested-elsewhere", Privileged, None, false, false),
];

const EMPTY: (&str, Level) = ("empty-object", Hosted);

const BAD: [(&str, &str); 29] = [
    (
        "bad-array",
        "invalid type: sequence, expected a manifest to be an object at line 1",
    ),
    (
        "bad-string",
        "invalid type: string \"certified\", expected a manifest to be an object at line 1",
    ),
    ("bad-empty", "EOF while parsing a value at line 1"),
    ("bad-utf-8", "invalid utf-8 sequence"),
    ("bad-utf-16", "invalid utf-8 sequence"),
    (
        "bad-two-documents",
        "trailing characters at line 1 column 19",
    ),
    ("bad-truncated", "EOF while parsing an object"),
    ("bad-comment", "key must be a string at line 1"),
    ("bad-trailing-comma", "trailing comma at line 1"),
    (
        "bad-type-number",
        "invalid type: integer `2`, expected \"type\" to be a string at line 1",
    ),
    (
        "bad-type-null",
        "invalid type: null, expected \"type\" to be a string at line 1",
    ),
    (
        "bad-type-array",
        "invalid type: sequence, expected \"type\" to be a string at line 1",
    ),
    (
        "bad-type-word",
        "\"type\" is \"trusted\", but the levels are \"web\", \"privileged\" and \"certified\" at line 1",
    ),
    (
        "bad-type-case",
        "\"type\" is \"Certified\", but the levels are",
    ),
    ("bad-type-empty", "\"type\" is \"\", but the levels are"),
    ("bad-type-twice", "\"type\" is there twice at line 1"),
    (
        "bad-permissions-array",
        "invalid type: sequence, expected \"permissions\" to be an object at line 1 column 39",
    ),
    (
        "bad-permissions-array-of-object",
        "invalid type: sequence, expected \"permissions\" to be an object",
    ),
    (
        "bad-permissions-null",
        "invalid type: null, expected \"permissions\" to be an object",
    ),
    (
        "bad-permissions-string",
        "invalid type: string \"tcp-socket\", expected \"permissions\" to be an object",
    ),
    (
        "bad-permissions-twice",
        "\"permissions\" is there twice at line 1",
    ),
    (
        "bad-tcp-socket-null",
        "invalid type: null, expected \"tcp-socket\" to be an object",
    ),
    (
        "bad-tcp-socket-string",
        "invalid type: string \"to read mail\", expected \"tcp-socket\" to be an object",
    ),
    (
        "bad-tcp-socket-true",
        "invalid type: boolean `true`, expected \"tcp-socket\" to be an object",
    ),
    (
        "bad-tcp-socket-array",
        "invalid type: sequence, expected \"tcp-socket\" to be an object",
    ),
    (
        "bad-tcp-socket-twice",
        "\"tcp-socket\" is there twice at line 1",
    ),
    (
        "bad-description-number",
        "invalid type: integer `143`, expected the \"description\" of \"tcp-socket\" to be a string",
    ),
    (
        "bad-description-null",
        "invalid type: null, expected the \"description\" of \"tcp-socket\" to be a string",
    ),
    (
        "bad-description-twice",
        "the \"description\" of \"tcp-socket\" is there twice at line 1",
    ),
];

const BAD_DEEP: (&str, &str) = (
    "bad-deep-description",
    "invalid type: sequence, expected the \"description\" of \"tcp-socket\" to be a string",
);

#[test]
fn good_manifests_claim_what_they_say() {
    for (name, level, description, opens, listens_low) in GOOD {
        let manifest =
            Manifest::parse(read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(manifest.level(), level, "{name}");
        assert_eq!(
            manifest.requests_tcp_socket(),
            description.is_some(),
            "{name}"
        );
        assert_eq!(
            manifest.description().unwrap_or(""),
            description.unwrap_or(""),
            "{name}"
        );

        let app = App::new(name, Certified, manifest);
        let policy = Policy::firefox_os();
        let open = policy.explain(&app, &Ask::open("imap.example.org", 993).unwrap());
        assert_eq!(open.is_allowed(), opens, "{open}");
        let listen = policy.explain(&app, &Ask::listen(80).unwrap());
        assert_eq!(listen.is_allowed(), listens_low, "{listen}");
    }
    let (name, level) = EMPTY;
    assert_eq!(Manifest::parse(read(name)).unwrap(), Manifest::new(level));
}

#[test]
fn wrong_manifests_are_errors_that_say_where_and_why() {
    for (name, message) in BAD.into_iter().chain([BAD_DEEP]) {
        let error = Manifest::parse(read(name)).expect_err(name).to_string();
        assert!(error.starts_with(message), "{name}: {error}");
    }
}

#[test]
fn every_fixture_is_in_a_table() {
    let files: BTreeSet<String> = fs::read_dir(path("x").parent().unwrap())
        .unwrap()
        .map(|it| {
            it.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let tables: BTreeSet<String> = GOOD
        .iter()
        .map(|it| it.0)
        .chain([EMPTY.0, BAD_DEEP.0])
        .chain(BAD.iter().map(|it| it.0))
        .map(str::to_owned)
        .collect();
    assert_eq!(files, tables);
}

/// What nobody reads may be as deep as it likes, and costs no stack.
#[test]
fn a_million_brackets_are_no_trouble() {
    const DEPTH: usize = 1_000_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let manifest = format!(
            r#"{{ "x": {deep}, "permissions": {{ "y": {deep}, "tcp-socket": {{ "z": {deep} }} }} }}"#
        );
        assert!(Manifest::parse(&manifest).unwrap().requests_tcp_socket());
        assert_eq!(Manifest::parse(&deep).is_ok(), open != "[");
        let unclosed = format!(r#"{{ "x": {}"#, open.repeat(DEPTH));
        assert!(Manifest::parse(&unclosed).is_err());
        let wrong =
            format!(r#"{{ "permissions": {{ "tcp-socket": {{ "description": {deep} }} }} }}"#);
        assert!(Manifest::parse(&wrong).is_err());
    }
}

#[test]
fn a_host_can_make_a_manifest_of_its_own() {
    let manifest = Manifest::new(Privileged);
    assert!(!manifest.requests_tcp_socket());
    let manifest = manifest.requesting_tcp_socket();
    let text = br#"{ "type": "privileged", "permissions": { "tcp-socket": {} } }"#;
    assert_eq!(manifest, Manifest::parse(text).unwrap());
    // A description that is there stays.
    let described = Manifest::parse(read("vnc")).unwrap();
    assert_eq!(described.clone().requesting_tcp_socket(), described);
}

/// The reading of a manifest in the plainest words, on another parser's tree. `None` is an error.
fn plainly(manifest: &Value) -> Option<(Level, bool)> {
    let manifest = manifest.as_object()?;
    let level = match manifest.get("type") {
        None => Hosted,
        Some(Value::String(it)) if it == "web" => Hosted,
        Some(Value::String(it)) if it == "privileged" => Privileged,
        Some(Value::String(it)) if it == "certified" => Certified,
        Some(_) => return None,
    };
    let Some(permissions) = manifest.get("permissions") else {
        return Some((level, false));
    };
    let Some(tcp_socket) = permissions.as_object()?.get("tcp-socket") else {
        return Some((level, false));
    };
    match tcp_socket.as_object()?.get("description") {
        None | Some(Value::String(_)) => Some((level, true)),
        Some(_) => None,
    }
}

/// JSON with a weakness for the words that matter.
fn any_json() -> impl Strategy<Value = Value> {
    let words = || {
        prop::sample::select(vec![
            "type",
            "permissions",
            "tcp-socket",
            "description",
            "web",
            "privileged",
            "certified",
            "Type",
            "",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((words(), inner), 0..4).prop_map(|it| it
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// Mostly right, so that much of it is accepted.
fn nearly_a_manifest() -> impl Strategy<Value = Value> {
    let level = prop_oneof![
        4 => prop::sample::select(vec!["web", "privileged", "certified"]).prop_map(Value::from),
        1 => any_json(),
    ];
    let tcp_socket = prop_oneof![
        4 => Just(json!({})),
        2 => Just(json!({ "description": "to read mail" })),
        1 => any_json().prop_map(|it| json!({ "description": it })),
        1 => any_json(),
    ];
    (
        prop::option::of(level),
        prop::option::of(tcp_socket),
        any_json(),
    )
        .prop_map(|(level, tcp_socket, other)| {
            let mut manifest = json!({ "name": other, "permissions": { "storage": other } });
            if let Some(level) = level {
                manifest["type"] = level;
            }
            if let Some(tcp_socket) = tcp_socket {
                manifest["permissions"]["tcp-socket"] = tcp_socket;
            }
            manifest
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_manifest_reads_as_in_plain_words(json in prop_oneof![any_json(), nearly_a_manifest()]) {
        for text in [json.to_string(), format!("\u{feff} {json:#} ")] {
            let read = Manifest::parse(text).ok();
            let read = read.map(|it| (it.level(), it.requests_tcp_socket()));
            prop_assert_eq!(read, plainly(&json));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Manifest::parse(bytes);
    }
}
