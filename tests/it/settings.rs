//! Configuration files with one mistake each, and the text that each is answered with (`UPDATE_GOLDEN=1` writes it).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use concord::settings::{Config, Environment, Flags, LoadInput, Origin, load};
use concord::sources;
use secrecy::ExposeSecret;
use tempfile::TempDir;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn environment(entries: &[(&str, &str)]) -> Environment {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(file: &Path, environment: Environment) -> Result<Config, String> {
    let flags = Flags { listens: true, ..Flags::default() };
    let input = LoadInput { file: Some(file.to_owned()), environment, flags, kinds: sources::all() };
    load(input).map_err(|errors| errors.to_string())
}

fn read_text(text: &str, entries: &[(&str, &str)]) -> Result<Config, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("concord.toml");
    std::fs::write(&file, text).unwrap();
    read(&file, environment(entries))
}

#[test]
fn every_file_with_a_mistake_is_answered_with_its_text() {
    let folder = root().join("tests/fixtures/config");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut seen = 0;
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml")) {
        seen += 1;
        let error = read(file, Environment::new()).err().unwrap_or_else(|| panic!("{} was accepted", file.display()));
        let error = error.replace(&format!("{}/", folder.display()), "") + "\n";
        assert!(!error.contains("hunter2") && !error.contains("31337"), "{error}");
        let expected = file.with_extension("txt");
        if update {
            std::fs::write(&expected, &error).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != error {
            wrong.push(format!("{}:\n{error}", file.display()));
        }
    }
    assert!(seen >= 39, "only {seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_example_configuration_is_valid_and_every_setting_in_it_too() {
    let file = root().join("deploy/concord.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(read(&file, Environment::new()).is_ok(), "{:?}", read(&file, Environment::new()));
    // Settings that are commented out stand as `#name = value` without a space; text has a space.
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()).unwrap_or(line))
        .filter(|line| !line.contains("env:") && !line.contains("file:") && !line.contains("ca_file"))
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = TempDir::new().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let pems = [("server.pem", cert.pem()), ("server.key", signing_key.serialize_pem()), ("clients.pem", cert.pem())];
    pems.into_iter().for_each(|(name, pem)| std::fs::write(folder.path().join(name), pem).unwrap());
    let all = all.replace("/etc/concord", &folder.path().display().to_string());
    let config = read_text(&all, &[]).unwrap_or_else(|error| panic!("{error}\n{all}"));
    assert!(config.sources.len() >= 7 && config.tls.is_some(), "{config:?}");
}

#[test]
fn a_key_in_the_environment_alone_makes_a_source() {
    let keys = [
        ("VIRUSTOTAL_API_KEY", "a"),
        ("ABUSEIPDB_API_KEY", "b"),
        ("URLHAUS_AUTH_KEY", "c"),
        ("GREYNOISE_API_KEY", "d"),
    ];
    let config = read_text("", &keys).unwrap();
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["abuseipdb", "greynoise", "urlhaus", "virustotal"]);
    assert_eq!(config.sources[3].origin, Origin::Environment("VIRUSTOTAL_API_KEY".into()));
}

#[test]
fn the_file_overrides_the_defaults_the_environment_the_file_and_flags_override_all() {
    let text = "listen = \"127.0.0.1:1111\"\ndata_directory = \"/from/file\"\n";
    assert_eq!(read_text("", &[]).unwrap().listen.port(), 7700);
    assert_eq!(read_text(text, &[]).unwrap().listen.port(), 1111);
    let changed =
        read_text(text, &[("CONCORD_LISTEN", "127.0.0.1:2222"), ("CONCORD_DATA_DIRECTORY", "/from/environment")]);
    let changed = changed.unwrap();
    assert_eq!((changed.listen.port(), changed.data_directory.to_str()), (2222, Some("/from/environment")));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    let flags = Flags { listen: "127.0.0.1:3333".parse().ok(), ..Flags::default() };
    let environment = environment(&[("CONCORD_LISTEN", "127.0.0.1:2222")]);
    let config = load(LoadInput { file: Some(file), environment, flags, kinds: sources::all() }).unwrap();
    assert_eq!(config.listen.port(), 3333);
}

#[test]
fn a_credential_is_read_from_where_the_file_says_and_never_shown() {
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "from-file\n").unwrap();
    let text = format!(
        "[sources.a]\nkind = \"virustotal\"\ncredential = \"env:MY_KEY\"\n\
         [sources.b]\nkind = \"virustotal\"\ncredential = \"file:{}\"\n\
         [sources.c]\nkind = \"virustotal\"\ncredential = \"in-clear\"\n",
        key.display()
    );
    let config = read_text(&text, &[("MY_KEY", "from-environment")]).unwrap();
    let credentials: BTreeMap<_, _> = config
        .sources
        .iter()
        .map(|source| (source.name.as_str(), source.credential.as_ref().unwrap().expose_secret().to_owned()))
        .collect();
    assert_eq!(credentials["a"], "from-environment");
    assert_eq!(credentials["b"], "from-file");
    assert_eq!(credentials["c"], "in-clear");
    let shown = format!("{config:?}{}", config.render_masked());
    for secret in credentials.values() {
        assert!(!shown.contains(secret.as_str()), "{secret} is shown");
    }
}

#[test]
fn the_printed_configuration_can_be_read_again_except_for_secrets() {
    let text = "never_send = [\"example.com\"]\n[tokens]\nsoar = \"3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0\"\n\
        [sources.vt]\nkind = \"virustotal\"\ncredential = \"x\"\nquota = { minute = 9 }\noptions.malicious_threshold_ip = 7\n";
    let printed = read_text(text, &[]).unwrap().render_masked();
    let without_tokens: String =
        printed.lines().filter(|line| !line.starts_with("soar")).map(|line| format!("{line}\n")).collect();
    let again = read_text(&without_tokens, &[]).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.sources[0].patch, read_text(text, &[]).unwrap().sources[0].patch);
}

#[test]
fn what_is_printed_of_a_source_is_whole() {
    let folder = TempDir::new().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, rcgen::generate_simple_self_signed(["localhost".into()]).unwrap().cert.pem()).unwrap();
    let text = format!(
        "[sources.zone]\nkind = \"dnsbl\"\nquota = {{ minute = 9 }}\n[sources.zone.options]\nzone = \"zone.example.com\"\n\
         codes = {{ \"127.0.0.2\" = \"malicious 0.85 spam\" }}\n\
         [sources.gn]\nkind = \"greynoise\"\nca_file = {:?}\n",
        pem.display().to_string()
    );
    let config = read_text(&text, &[]).unwrap();
    let printed = config.render_masked();
    let again = read_text(&printed, &[]).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    let patches = |config: Config| config.sources.into_iter().map(|one| one.patch).collect::<Vec<_>>();
    assert!(config.sources[0].patch.ca_pem.is_some());
    assert_eq!(patches(again), patches(config), "{printed}");
}

#[test]
fn a_key_of_the_environment_is_one_line_of_text() {
    let error = read_text("", &[("ABUSEIPDB_API_KEY", "hunter2\nand more")]).unwrap_err();
    assert!(error.contains("ABUSEIPDB_API_KEY: must be one line of text") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_source_that_cannot_be_asked_as_it_is_says_what_it_lacks() {
    let text = "[sources.vt]\nkind = \"virustotal\"\n[sources.good]\nkind = \"hashlookup\"\n";
    let unready = read_text(text, &[]).unwrap().unready(sources::all());
    let names: Vec<_> = unready.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["vt"], "{unready:?}");
    assert!(unready[0].1.contains("a credential is needed"), "{unready:?}");
}

#[test]
fn a_key_of_the_environment_that_the_file_gives_to_a_source_makes_no_second_one() {
    let key = [("VIRUSTOTAL_API_KEY", "k")];
    let text =
        "[sources.vt-premium]\nkind = \"virustotal\"\ntier = \"premium\"\ncredential = \"env:VIRUSTOTAL_API_KEY\"\n";
    let names: Vec<_> = read_text(text, &key).unwrap().sources.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["vt-premium"]);
    let other = "[sources.vt-own]\nkind = \"virustotal\"\ncredential = \"another\"\n";
    assert_eq!(read_text(other, &key).unwrap().sources.len(), 2);
    let taken = "[sources.virustotal]\nkind = \"urlhaus\"\n";
    assert!(read_text(taken, &key).unwrap_err().contains("sources.virustotal: VIRUSTOTAL_API_KEY"));
}

#[test]
fn checking_the_configuration_reports_a_missing_list_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ours.txt");
    let list = |path: &std::path::Path| {
        let text = format!("[sources.ours]\nkind = \"list\"\noptions.path = {:?}\n", path.display().to_string());
        read_text(&text, &[]).unwrap().unready(sources::all())
    };
    assert!(list(&file)[0].1.contains("No such file"));
    assert!(list(folder.path())[0].1.ends_with("is not a file"));
    std::fs::write(&file, "192.0.2.1\n").unwrap();
    assert_eq!(list(&file), []);
}

#[test]
fn options_with_which_no_question_can_be_written_are_refused_with_their_path() {
    let text = "[sources.zone]\nkind = \"dnsbl\"\noptions.zone = \"..bad zone..\"\n\
        [sources.both]\nkind = \"list\"\noptions.path = \"a\"\noptions.url = \"https://example.com/list\"\n";
    let error = read_text(text, &[]).unwrap_err();
    assert!(error.contains("sources.zone.options.zone: ") && error.contains("sources.both.options.path: "), "{error}");
}

#[test]
fn a_source_that_uses_the_environments_proxies_needs_them_to_be_readable() {
    let source = "[sources.hashes]\nkind = \"hashlookup\"\nproxy = \"environment\"\n";
    let good = read_text(source, &[("HTTPS_PROXY", "proxy.example.com:3128")]).unwrap();
    assert_eq!(good.proxies.server("https").unwrap().to_string(), "http://proxy.example.com:3128/");
    assert!(good.render_masked().contains("proxy = \"environment\""), "{}", good.render_masked());
    let wrong = [("HTTPS_PROXY", "ftp://us3r:s3cret@proxy.example.com")];
    let refused = read_text(source, &wrong).unwrap_err();
    assert!(refused.contains("sources.hashes.proxy: HTTPS_PROXY must be"), "{refused}");
    assert!(!refused.contains("us3r") && !refused.contains("s3cret"), "{refused}");
    assert!(read_text(&source.replace("environment", ""), &wrong).is_ok(), "nobody uses it");
}
