//! Holds the table of rooms: a room imports only rooms above it, and of those only what its line names.
//!
//! The same table stands in ARCHITECTURE.md, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const WORDS: [&str; 5] = ["error", "indicator", "finding", "verdict", "statistics"];

/// Rooms in reading order, each with what it may import beside itself. `*` stands for every room above.
const ROOMS: [(&str, &[&str]); 24] = [
    // floor 0
    ("error", &[]),
    ("indicator", &["error"]),
    ("finding", &["error", "indicator"]),
    ("verdict", &["error", "indicator", "finding"]),
    ("statistics", &["error", "indicator", "finding", "verdict"]),
    // floor 1
    ("source", &["words"]),
    ("sources", &["words", "source"]),
    ("clock", &[]),
    // tools of the engine's crate
    ("sync", &[]),
    ("offload", &[]),
    ("byte_cache", &[]),
    ("store", &["words", "source", "clock", "sync"]),
    // floor 2
    ("settings", &["words", "source", "sources", "store", "clock"]),
    ("fetch", &["words", "source", "store", "clock", "sync", "offload", "byte_cache"]),
    ("engine", &["*"]),
    ("submission", &["*"]),
    // floor 3
    ("pb", &[]),
    ("convert", &["words", "source", "settings", "store", "pb"]),
    ("rpc", &["*"]),
    ("telemetry", &["*"]),
    ("server", &["*"]),
    ("demo", &["*"]),
    ("cli", &["*"]),
    ("main", &["cli"]),
];

/// Where the code of each crate stands.
pub const CRATES: [&str; 5] =
    ["crates/core/src", "crates/descriptors/src", "crates/engine/src", "crates/service/src", "src"];

/// What floor 0 must not hold.
const NOT_ON_FLOOR_0: [&str; 9] =
    ["async ", ".await", "SystemTime::now", "Instant", "serde", "prost", "tonic", "tokio", "reqwest"];

#[test]
fn a_room_imports_only_what_its_line_in_the_table_names() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources().into_iter().filter(|(room, _, _)| room != "lib") {
        let allowed = allowed(&room);
        for import in imports(&text) {
            if import != room && !allowed.contains(import.as_str()) {
                wrong.push(format!("{}: {room} must not import {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_stands_in_the_table_and_every_line_of_the_table_is_a_room() {
    let rooms: BTreeSet<String> = sources().into_iter().map(|(room, _, _)| room).filter(|room| room != "lib").collect();
    let table: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, table);
}

#[test]
fn a_crate_is_named_in_the_first_file_of_another_alone_so_that_imports_can_be_read() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources().into_iter().filter(|(room, _, _)| room != "lib") {
        for name in ["concord_core::", "concord_engine::", "concord_service::"] {
            // `telemetry` speaks of the targets of log lines.
            if code(&text).contains(name) && room != "telemetry" {
                wrong.push(format!("{}: {name} instead of crate::", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_is_looked_at() {
    let folders = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut crates: Vec<_> = folders.map(|name| format!("crates/{}/src", name.to_string_lossy())).collect();
    crates.sort();
    crates.push("src".to_owned());
    assert_eq!(crates, CRATES);
}

#[test]
fn one_path_a_use_so_that_imports_can_be_read() {
    let grouped: Vec<_> = sources()
        .into_iter()
        .filter(|(_, _, text)| text.contains("use crate::{"))
        .map(|(_, file, _)| file.display().to_string())
        .collect();
    assert!(grouped.is_empty(), "`use crate::{{...}}` in {}", grouped.join(", "));
}

#[test]
fn floor_0_has_no_async_no_clock_and_no_transport() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        if !WORDS.contains(&room.as_str()) {
            continue;
        }
        for word in NOT_ON_FLOOR_0.iter().filter(|word| code(&text).contains(**word)) {
            wrong.push(format!("{}: {word}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_clock_reads_clocks_and_waits() {
    let mut wrong = Vec::new();
    for (_, file, text) in sources().into_iter().filter(|(room, _, _)| room != "clock") {
        for word in ["SystemTime::now", "Instant", "tokio::time"] {
            if code(&text).contains(word) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_modules_of_a_room_import_each_other_in_no_circle() {
    let mut rooms: BTreeMap<String, Vec<Module>> = BTreeMap::new();
    for (room, file, text) in sources() {
        let below = CRATES.iter().find_map(|folder| file.strip_prefix(root().join(folder).join(&room)).ok());
        let below = below.unwrap_or(Path::new("")).to_owned();
        let mut path: Vec<_> = below.iter().map(|part| part.to_string_lossy().replace(".rs", "")).collect();
        path.pop_if(|last| last == "mod");
        if path.first().is_some_and(|name| name != "tests") || below == Path::new("mod.rs") {
            rooms.entry(room).or_default().push(Module { path, code: code(&text) });
        }
    }
    let circles: Vec<_> = rooms.iter().filter_map(|(room, modules)| circle(room, modules)).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// A file of a room: where it stands below the room (nowhere: the room's `mod.rs`), and its code.
struct Module {
    path: Vec<String>,
    code: String,
}

/// The first circle among the imports of a room's modules, if there is one. A name that `mod.rs` takes from a module counts
/// as that module's; what stands in `mod.rs` itself is everybody's.
fn circle(room: &str, modules: &[Module]) -> Option<String> {
    let names: BTreeSet<&str> = modules.iter().filter_map(|module| module.path.first().map(String::as_str)).collect();
    let top = modules.iter().find(|module| module.path.is_empty()).map_or("", |module| module.code.as_str());
    let mut owners: BTreeMap<&str, &str> = names.iter().map(|name| (*name, *name)).collect();
    for name in &names {
        for import in top.split(&format!("use {name}::")).skip(1) {
            let import = import.split(';').next().unwrap_or_default();
            owners.extend(import.split(|c: char| !c.is_alphanumeric() && c != '_').map(|item| (item, *name)));
        }
    }
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in modules {
        let Some(name) = module.path.first() else { continue };
        for marker in ["super::".repeat(module.path.len()), format!("crate::{room}::")] {
            for piece in module.code.split(&marker).skip(1) {
                let imported = first_names(piece).into_iter().filter_map(|item| owners.get(item).copied());
                imports.entry(name).or_default().extend(imported.filter(|import| import != name));
            }
        }
    }
    // Whatever imports nothing that is left cannot be part of a circle.
    loop {
        let left: BTreeSet<&str> = imports.keys().copied().collect();
        let Some(free) = left.iter().find(|name| imports[*name].is_disjoint(&left)) else { break };
        imports.remove(free);
    }
    (!imports.is_empty()).then(|| format!("{room}: {:?}", imports.keys().collect::<Vec<_>>()))
}

/// The first name of each path that begins here: of one, or of those in braces.
fn first_names(text: &str) -> Vec<&str> {
    let end_of_name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(group) = text.strip_prefix('{') else { return vec![&text[..end_of_name(text)]] };
    let (mut depth, mut begin, mut names) = (1, 0, Vec::new());
    for (place, c) in group.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 || (depth == 1 && c == ',') {
            let item = group[begin..place].trim_start();
            names.push(&item[..end_of_name(item)]);
            begin = place + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn an_adapter_does_no_input_or_output() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        if room != "sources" {
            continue;
        }
        for word in [".await", "async fn", "reqwest", "tokio", "tracing", "SystemTime::now", "std::fs", "std::net::Tcp"]
        {
            if code(&text).contains(word) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_edge_names_the_protocol_and_store_alone_its_own_messages() {
    let edge = ["pb", "convert", "rpc", "telemetry", "server", "demo", "cli"];
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        let text = code(&text);
        let named = |names: &[&'static str]| {
            let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').collect();
            let names_one =
                |name: &&&str| words.iter().any(|word| *word == **name || word.starts_with(&format!("{name}::")));
            names.iter().find(names_one).copied()
        };
        let forbidden: &[&str] = match room.as_str() {
            "store" => &["tonic", "tonic_prost", "tonic_types"],
            room if edge.contains(&room) => &[],
            _ => &["prost", "prost_types", "tonic", "tonic_prost", "tonic_types", "include_proto"],
        };
        if let Some(name) = named(forbidden) {
            wrong.push(format!("{}: {room} names {name}", file.display()));
        }
        if room != "store" && text.contains("concord.store.v1") {
            wrong.push(format!("{}: {room} names the messages of the store", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_settings_and_sources_derive_serde() {
    let serde = ["settings", "sources"];
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        let derives = |attribute: &str| {
            let attribute = attribute.split(")]").next().unwrap_or_default();
            attribute.contains("Serialize") || attribute.contains("Deserialize")
        };
        if !serde.contains(&room.as_str()) && code(&text).split("derive(").skip(1).any(derives) {
            wrong.push(format!("{}: {room} derives serde", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_status_makes_a_status() {
    let mut wrong = Vec::new();
    for (_, file, text) in sources() {
        if file.ends_with("rpc/status.rs") {
            continue;
        }
        // Every function of `Status` that makes one; reading one (`Status::code`) is everybody's.
        let text = code(&text);
        for made in text.split("Status::").skip(1) {
            let name: String = made.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if made[name.len()..].starts_with('(') && !["code", "message", "metadata"].contains(&name.as_str()) {
                wrong.push(format!("{}: Status::{name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_its_fixtures() {
    let kinds: Vec<_> = concord::sources::all().iter().map(|kind| kind.about().kind.clone()).collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    for kind in kinds {
        let folder = root().join("tests/fixtures/sources").join(&kind);
        let cases = fs::read_to_string(folder.join("cases.json")).unwrap_or_default();
        assert!(cases.len() > 2, "the kind {kind} has no cases in {}", folder.display());
    }
}

#[test]
fn only_fetch_connects_only_store_opens_databases_and_only_server_listens() {
    // Each word, and the rooms that may say it. `cli` connects to the server, `demo` plays the sources on loopback, `main`
    // and tests aside.
    let words: [(&str, &[&str]); 8] = [
        ("reqwest", &["fetch"]),
        ("TcpStream::connect", &["fetch"]),
        ("UdpSocket", &["fetch", "demo"]),
        ("UnixStream::connect", &["cli"]),
        ("rusqlite", &["store"]),
        ("TcpListener::bind", &["server", "demo"]),
        ("UnixListener::bind", &["server"]),
        ("Endpoint::", &["cli", "demo"]),
    ];
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        let text = code(&text);
        for (word, rooms) in words {
            if text.contains(word) && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{}: {room} says {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_settings_reads_the_environment_and_cli_what_its_arguments_name() {
    let mut wrong = Vec::new();
    for (room, file, text) in sources() {
        let reads = ["env::var", "env::vars", "env::var_os"].iter().any(|word| code(&text).contains(*word));
        if reads && !["settings", "cli"].contains(&room.as_str()) {
            wrong.push(file.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "the environment is read in {}", wrong.join(", "));
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let mut long = Vec::new();
    for folder in CRATES.into_iter().chain(["tests", "benches", "examples/rust"]) {
        for file in files(&root().join(folder)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            if lines > 600 {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

fn allowed(room: &str) -> BTreeSet<&'static str> {
    let place = ROOMS.iter().position(|(name, _)| *name == room).unwrap_or(0);
    let above: Vec<&str> = ROOMS.iter().take(place).map(|(name, _)| *name).collect();
    let mut allowed = BTreeSet::new();
    let lines: BTreeMap<_, _> = ROOMS.into_iter().collect();
    for name in lines.get(room).copied().unwrap_or_default() {
        match *name {
            "*" => allowed.extend(above.iter().copied()),
            "words" => allowed.extend(WORDS),
            one => {
                assert!(above.contains(&one), "{room} is above {one} in the table");
                allowed.insert(one);
            }
        }
    }
    allowed
}

/// The rooms that a file imports: `use crate::ROOM`, `crate::ROOM::` in code, and `concord::ROOM` in `main.rs`.
fn imports(text: &str) -> BTreeSet<String> {
    let text = code(text);
    let mut rooms = BTreeSet::new();
    for marker in ["crate::", "concord::"] {
        for piece in text.split(marker).skip(1) {
            let room: String =
                piece.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit()).collect();
            if ROOMS.iter().any(|(name, _)| *name == room) {
                rooms.insert(room);
            }
        }
    }
    rooms
}

/// The text without comments and without its unit tests.
fn code(text: &str) -> String {
    // Unit tests stand in a block at the end; `mod tests;` is a line like any other.
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every file of every crate with its room and text.
fn sources() -> Vec<(String, PathBuf, String)> {
    let of_crate = |src: PathBuf| {
        files(&src).into_iter().map(move |file| {
            let below = file.strip_prefix(&src).unwrap().components().next().unwrap();
            let room = Path::new(below.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).unwrap();
            (room, file, text)
        })
    };
    CRATES.iter().flat_map(|folder| of_crate(root().join(folder))).collect()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    files_ending(folder, &["rs"])
}

/// The files below a folder whose names end in one of these, sorted. What was installed below it is left out.
pub fn files_ending(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        // What tools write into the tree is not ours.
        let is_made = ["node_modules", "gen", "dist"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !is_made {
            found.extend(files_ending(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
