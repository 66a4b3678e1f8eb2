//! Every decision of `docs/indicators.md` on a value or a text as a sentence, and what holds for any text.

use concord::indicator::{
    ExtractOptions, Form, Host, Indicator, IndicatorType, Parsed, Refusal, SpecialAddress, extract, refang,
};
use proptest::prelude::*;
use strum::VariantArray;

fn value(text: &str) -> String {
    Indicator::parse(text).unwrap_or_else(|refusal| panic!("{refusal}")).indicator.value().to_owned()
}

fn refused(text: &str) -> String {
    match Indicator::parse(text) {
        Ok(read) => panic!("{text:?} is read as {:?}", read.indicator),
        Err(refusal) => refusal.message,
    }
}

fn values(text: &str) -> Vec<String> {
    values_with(text, ExtractOptions::default())
}

fn values_with(text: &str, options: ExtractOptions) -> Vec<String> {
    extract(text, &options).into_iter().map(|found| found.indicator.value().to_owned()).collect()
}

fn note(text: &str) -> String {
    Indicator::parse(text).unwrap().notes.join("; ")
}

#[test]
fn every_way_to_defang_is_reversed() {
    for text in [
        "hxxp://evil.example.com/a",
        "hXXp://evil[.]example[.]com/a",
        "h**p://evil(.)example{.}com/a",
        "meow://evil[dot]example(dot)com/a",
        "http[:]//evil.example.com/a",
        "http[://]evil.example.com/a",
        "http:\\\\evil.example.com/a",
        "http://evil\\.example\\.com/a",
        "http://evil．example。com/a",
        "http:// evil.example.com/a",
        "http%3A%2F%2Fevil.example.com%2Fa",
        "http://evil<.>example<dot>com/a",
        "evil[.)example(.]com[/]a",
        "\"http://evil.example.com/a\",",
        "<http://evil.example.com/a>;",
        "(http://evil.example.com/a).",
        "[http://evil.example.com/a]",
        "http://e\u{200b}vil.exa\u{ad}mple.com/a\u{feff}",
    ] {
        assert_eq!(value(text), "http://evil.example.com/a", "{text}");
    }
    assert_eq!(value("httpx://evil.example.com/a"), "https://evil.example.com/a");
    assert_eq!(value("fxp://evil.example.com/a"), "ftp://evil.example.com/a");
}

#[test]
fn words_for_dots_count_only_without_a_real_dot() {
    assert_eq!(value("evil-dot-example-dot-com"), "evil.example.com");
    assert_eq!(value("evil dot example dot com"), "evil.example.com");
    assert_eq!(value("example . com"), "example.com");
    assert_eq!(value("evil-dot-proj.appspot.com"), "evil-dot-proj.appspot.com");
}

#[test]
fn an_encoded_url_is_decoded_once_and_only_as_a_whole() {
    assert_eq!(value("https%3A%2F%2Fexample.com%2F%252F"), "https://example.com/%2F");
    assert_eq!(value("https://example.com/%2F"), "https://example.com/%2F");
}

#[test]
fn an_ipv4_address_has_four_decimal_numbers() {
    assert_eq!(value("192.0.2.1"), "192.0.2.1");
    for (text, why) in [
        ("192.0.02.1", "leading zeros"),
        ("127.1", "2 of the four numbers"),
        ("3221225985", "1 of the four numbers"),
        ("0x7f.0.0.1", "hexadecimal"),
        ("0xc0000201", "hexadecimal"),
        ("192.0.2.256", "above 255"),
        ("192.0.2", "3 of the four numbers"),
        ("192.0.2.1.5", "5 of the four numbers"),
        ("192.0.2.1:65536", "no IP address"),
    ] {
        assert!(refused(text).contains(why), "{text}: {}", refused(text));
    }
}

#[test]
fn an_ipv4_host_within_a_url_is_read_as_a_browser_reads_it() {
    for text in ["http://3221225985/a", "http://0xc0.0.2.1/a", "http://192.0.0x201/a", "http://0300.0.2.01/a"] {
        assert_eq!(value(text), "http://192.0.2.1/a", "{text}");
    }
}

#[test]
fn an_ipv6_address_is_written_in_one_way() {
    for text in ["2001:0DB8:0:0:0:0:0:1", "[2001:db8::1]", "2001[:]db8[:][:]1"] {
        assert_eq!(value(text), "2001:db8::1", "{text}");
    }
    let folded = Indicator::parse("::ffff:192.0.2.1").unwrap();
    assert_eq!((folded.indicator.form(), folded.indicator.value()), (Form::Ipv4, "192.0.2.1"));
    assert!(note("::ffff:192.0.2.1").contains("the IPv4 address within"));
    assert!(refused("fe80::1%eth0").contains("zone"));
    assert!(refused("[2001:db8::1]x").contains("closing bracket"));
}

#[test]
fn a_port_is_dropped_with_a_note() {
    for (text, left) in
        [("192.0.2.1:80", "192.0.2.1"), ("[2001:db8::1]:80", "2001:db8::1"), ("example.com:80", "example.com")]
    {
        assert_eq!(value(text), left);
        assert!(note(text).contains("port 80 dropped"), "{text}");
    }
}

#[test]
fn a_network_is_refused_with_where_networks_go() {
    for text in ["192.0.2.0/24", "2001:db8::/32"] {
        assert!(refused(text).contains("lists and never-send rules"), "{text}");
        for &wanted in IndicatorType::VARIANTS {
            assert!(Indicator::parse_as(text, wanted).is_err(), "{text} as {wanted:?}");
        }
    }
    assert_eq!(value("192.0.2.0/99"), "http://192.0.2.0/99");
}

#[test]
fn a_domain_has_the_form_that_name_servers_know() {
    assert_eq!(value("EXAMPLE.com."), "example.com");
    assert_eq!(value("_dmarc.example.com"), "_dmarc.example.com");
    assert_eq!(value("Bücher.example.com"), "xn--bcher-kva.example.com");
    assert_eq!(value("straße.de"), "xn--strae-oqa.de");
    let longest = format!("{}.com", "a".repeat(63));
    assert_eq!(value(&longest), longest);
    for (text, why) in [
        (".example.com", "look up example.com itself"),
        ("*.example.com", "look up example.com itself"),
        ("example..com", "empty label"),
        ("-example.com", "hyphen"),
        ("localhost", "single word"),
        (&*format!("a{longest}"), "63 characters"),
        (&*format!("{}com", "abcdefg.".repeat(32)), "253"),
        ("example.123", "digits alone"),
    ] {
        let message = Indicator::parse_as(text, IndicatorType::Domain).unwrap_err().message;
        assert!(message.contains(why), "{text}: {message}");
    }
}

#[test]
fn the_unicode_form_of_a_domain_is_kept_for_people() {
    let read = Indicator::parse("bücher.example.com").unwrap();
    assert_eq!(read.indicator.unicode().as_deref(), Some("bücher.example.com"));
    assert_eq!(Indicator::parse("example.com").unwrap().indicator.unicode(), None);
}

#[test]
fn guessing_needs_a_public_suffix_and_stating_the_type_does_not() {
    assert!(refused("report.docx").contains("file"));
    assert!(refused("host.corp").contains("no public suffix"));
    for text in ["report.docx", "host.corp", "update.zip"] {
        assert_eq!(Indicator::parse_as(text, IndicatorType::Domain).unwrap().indicator.value(), text);
    }
}

#[test]
fn a_bare_file_name_in_prose_is_no_domain_unless_defanged_or_beside_a_scheme() {
    assert_eq!(values("open update.zip, clip.mov, run.sh and main.py"), Vec::<String>::new());
    assert_eq!(values("open update[.]zip"), ["update.zip"]);
    assert_eq!(values("open http://update.zip/"), ["http://update.zip/"]);
    assert_eq!(values("seen in files.example.sh"), ["files.example.sh"]);
}

#[test]
fn a_url_is_parsed_as_browsers_do() {
    for (text, normal) in [
        ("HTTP://EXAMPLE.com:80", "http://example.com/"),
        ("https://example.com:443/A/../B/./c?X=%7e#frag", "https://example.com/B/c?X=%7e"),
        ("http://example.com:8080/%41", "http://example.com:8080/%41"),
        ("http://example.com./a", "http://example.com/a"),
        ("http://bücher.example.com/ü", "http://xn--bcher-kva.example.com/%C3%BC"),
        ("http://[::ffff:192.0.2.1]/", "http://192.0.2.1/"),
        ("http://intranet/a", "http://intranet/a"),
        ("ftp://example.com/a", "ftp://example.com/a"),
    ] {
        assert_eq!(value(text), normal, "{text}");
    }
    for scheme in ["ssh", "ldap", "ws", "javascript"] {
        assert!(refused(&format!("{scheme}://example.com/")).contains(scheme));
    }
    assert!(refused("javascript:alert(1)").contains("scheme javascript"));
    assert!(refused("http://exam_ple..com/").contains("empty label"));
}

#[test]
fn paths_that_a_server_can_distinguish_stay_two() {
    let apart = ["http://example.com/a", "http://example.com/A", "http://example.com/%61", "http://example.com/a/"];
    let normal: std::collections::BTreeSet<_> = apart.iter().map(|text| value(text)).collect();
    assert_eq!(normal.len(), apart.len());
}

#[test]
fn a_host_with_a_path_is_read_as_http_with_a_note() {
    assert_eq!(value("example.com/a?b"), "http://example.com/a?b");
    assert_eq!(value("192.0.2.1:8080/a"), "http://192.0.2.1:8080/a");
    assert!(note("example.com/a").contains("read as http"));
    assert_eq!(value("www.example.com/)"), "http://www.example.com/");
    assert!(refused("and/or").contains("no scheme"));
}

#[test]
fn credentials_are_kept_and_never_shown() {
    let read = Indicator::parse("hxxp://user:s3cret@example[.]com/a").unwrap();
    assert_eq!(read.indicator.value(), "http://user:s3cret@example.com/a");
    assert_eq!(read.indicator.redacted(), "http://***@example.com/a");
    assert!(read.indicator.has_url_credentials());
    assert!(!format!("{read:?}").contains("s3cret"));
    assert!(!Indicator::parse("http://example.com/@user").unwrap().indicator.has_url_credentials());
}

#[test]
fn no_refusal_tells_a_password_or_more_than_a_hundred_characters() {
    for text in [
        "http://user:s3cret@exa mple.com/",
        "http://s3cret@host..com/",
        "ssh://user:s3cret@example.com",
        "ssh://s3cret:s3@cret@example.com",
        "hxxp[:]\\\\user:s3cret@exa..mple.com",
        "user:s3cret@example.nosuchsuffix/path",
        "https%3A%2F%2Fuser:s3cret@exa..mple.com",
        "user:s3cret@example.com",
    ] {
        let message = refused(text);
        assert!(!message.contains("s3cret") && !message.contains("cret@"), "{message}");
    }
    let (short, long) = (refused("zz zz"), refused(&"zz zz".repeat(1000)));
    assert!(long.chars().count() <= short.chars().count() + 100, "{long}");
    assert!(refused(&"a".repeat(9000)).contains("8 KiB"));
}

#[test]
fn the_type_of_a_hash_follows_from_its_length() {
    for (digits, form) in [(32, Form::Md5), (40, Form::Sha1), (64, Form::Sha256)] {
        let read = Indicator::parse(&"Ab".repeat(digits / 2)).unwrap().indicator;
        assert_eq!((read.form(), read.value()), (form, &*"ab".repeat(digits / 2)));
    }
    for (text, kind) in [
        ("ab".repeat(64), "SHA-512"),
        ("ab".repeat(48), "SHA-384"),
        ("ab".repeat(28), "SHA-224"),
        (format!("T1{}", "AB".repeat(35)), "TLSH"),
        ("3:AXGBicFlgVNhBGcL6wCrFQEv:AXGHsNhxLsr2C".to_owned(), "SSDEEP"),
        ("ab".repeat(15), "has 30 hexadecimal digits"),
    ] {
        assert!(refused(&text).contains(kind), "{}", refused(&text));
    }
}

#[test]
fn what_is_known_and_not_looked_up_is_named() {
    for (text, kind) in [
        ("CVE-2026-0001", "CVE"),
        ("AS64496", "AS number"),
        ("user@example.com", "e-mail"),
        ("user[at]example[.]com", "e-mail"),
        ("mailto:user@example.com", "mailto"),
        ("", "nothing"),
        ("  \"\" ", "nothing"),
    ] {
        assert!(refused(text).contains(kind), "{text}: {}", refused(text));
    }
    assert_eq!(value("cve-archive.com"), "cve-archive.com");
}

#[test]
fn another_type_than_the_stated_one_is_named() {
    let read = |text: &str, wanted| Indicator::parse_as(text, wanted).unwrap_err().message;
    assert!(read("192.0.2.1", IndicatorType::Domain).contains("an IP address, not a domain"));
    assert!(read("http://example.com/", IndicatorType::Domain).contains("a URL, not a domain"));
    assert!(read("example.com", IndicatorType::Url).contains("a domain, not a URL"));
    assert!(read(&"a".repeat(32), IndicatorType::Domain).contains("a file hash, not a domain"));
    assert!(read("example.com", IndicatorType::File).contains("a domain, not a file hash"));
}

#[test]
fn a_url_in_prose_yields_the_url_and_its_host_on_request() {
    let text = "see http://evil.example.com/a, then evil.example.org/b.";
    assert_eq!(values(text), ["http://evil.example.com/a", "http://evil.example.org/b"]);
    let hosts = ExtractOptions { url_hosts: true, email_domains: false };
    assert_eq!(
        values_with(text, hosts),
        ["http://evil.example.com/a", "evil.example.com", "http://evil.example.org/b", "evil.example.org"]
    );
    assert_eq!(values_with("http://192.0.2.1/", hosts), ["http://192.0.2.1/", "192.0.2.1"]);
}

#[test]
fn an_email_address_yields_its_domain_on_request() {
    let text = "from user@example.com, user[at]example[.]org and user@192.0.2.1";
    assert_eq!(values(text), Vec::<String>::new());
    let domains = ExtractOptions { url_hosts: false, email_domains: true };
    assert_eq!(values_with(text, domains), ["example.com", "example.org", "192.0.2.1"]);
}

#[test]
fn the_same_value_is_found_once_and_in_order_of_first_appearance() {
    assert_eq!(
        values("b.example.com a.example.com B[.]example.com 192.0.2.1"),
        ["b.example.com", "a.example.com", "192.0.2.1"]
    );
}

#[test]
fn each_find_points_at_the_text_that_it_was_read_from() {
    let text = "é (evil[.]example[.]com), hxxps[:]//example.com/ü; 2001[:]db8[:][:]1|198.51.100.1:80";
    let found = extract(text, &ExtractOptions::default());
    let read: Vec<_> = found.iter().map(|found| (&*found.text, found.indicator.value())).collect();
    assert_eq!(
        read,
        [
            ("evil[.]example[.]com", "evil.example.com"),
            ("hxxps[:]//example.com/ü", "https://example.com/%C3%BC"),
            ("2001[:]db8[:][:]1", "2001:db8::1"),
            ("198.51.100.1:80", "198.51.100.1"),
        ]
    );
    for found in &found {
        assert_eq!(text.get(found.span.clone()), Some(&*found.text));
    }
    assert_eq!(found.last().unwrap().notes, ["port 80 dropped", "198.51.100.1 is a documentation address"]);
}

#[test]
fn a_hash_glued_to_letters_or_digits_is_no_hash() {
    let hash = "ab".repeat(16);
    assert_eq!(values(&format!("md5:{hash}, x")), [&*hash]);
    assert_eq!(values(&format!("x{hash} {hash}0 {hash}_")), Vec::<String>::new());
}

#[test]
fn numbers_in_a_longer_dotted_run_are_no_address() {
    assert_eq!(values("OID 1.3.6.1.4.1.311, version 1.2.3.4.5 and 1.2.3.4-rc1"), Vec::<String>::new());
    assert_eq!(values("label:192.0.2.1 and (192.0.2.2), 192.0.2.3."), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert_eq!(values("the network 192.0.2.0/24"), Vec::<String>::new());
}

#[test]
fn code_and_paths_are_no_domains() {
    for text in [
        "date.today()",
        "fi.search=\"x\"",
        "C:\\dir\\evil.example.com",
        "./example.com",
        "std::vector at 12:30:45",
        "example.notasuffix",
        "http://localhost:8080/x",
    ] {
        assert_eq!(values(text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(values("evil.example.com(192.0.2.1)"), ["evil.example.com", "192.0.2.1"]);
    assert_eq!(values("<a href='http://example.com/a'b>"), ["http://example.com/a"]);
    assert_eq!(values("http://a.example.com,http://b.example.com"), ["http://a.example.com/", "http://b.example.com/"]);
    assert_eq!(values("見よhttps://example.com/a、b"), ["https://example.com/a"]);
    assert_eq!(values("ssh://host.example.com/a"), ["host.example.com"]);
    assert_eq!(values("https%3A%2F%2Fexample.com%2Fa"), ["https://example.com/a"]);
}

#[test]
fn an_address_within_a_special_range_is_read_and_named() {
    let ip = Indicator::parse("10.0.0.1").unwrap().indicator.ip().unwrap();
    assert_eq!(SpecialAddress::from_ip(ip), Some(SpecialAddress::Private));
}

#[test]
fn a_host_that_ends_in_more_dots_than_one_is_refused_and_one_dot_is_dropped() {
    assert!(refused("http://printer.local../x").contains("two dots in a row"));
    assert!(refused("http://intranet../x").contains("two dots in a row"));
    assert_eq!(Indicator::parse("http://example.com./x").unwrap().indicator.value(), "http://example.com/x");
}

#[test]
fn a_name_that_begins_like_something_else_is_a_name() {
    for text in ["0x00sec.org", "cve-2024-3094.xyz", "0x1f.example.com"] {
        assert_eq!(Indicator::parse(text).unwrap().indicator.value(), text);
    }
    assert!(refused("0x7f.1").contains("hexadecimal") && refused("0x7f000001").contains("hexadecimal"));
    assert!(refused("CVE-2024-3094").contains("CVE number"));
}

#[test]
fn a_host_within_a_url_may_have_hyphens_that_a_domain_may_not() {
    let url = Indicator::parse("https://secure-login-.example.com/").unwrap().indicator;
    assert_eq!(url.value(), "https://secure-login-.example.com/");
    assert!(refused("secure-login-.example.com").contains("hyphen"));
}

#[test]
fn how_a_text_was_understood_is_noted() {
    assert_eq!(note("198.51.100.1"), "198.51.100.1 is a documentation address");
    assert_eq!(note("http://10.0.0.1/"), "10.0.0.1 is a private address");
    assert_eq!(note("8.8.8.8"), "");
    assert!(note("exam\u{202e}ple.com").contains("cannot be seen"));
    assert!(note("http://example.com/a#b").contains("fragment"));
    assert!(refused("co.uk").contains("is a public suffix"));
}

#[test]
fn only_the_normal_form_is_taken_back() {
    assert!(Indicator::from_normal(Form::Domain, "example.com").is_ok());
    assert!(Indicator::from_normal(Form::Domain, "Example.com").is_err());
    assert!(Indicator::from_normal(Form::Ipv6, "192.0.2.1").is_err());
}

/// Whatever is read comes back unchanged from its normal form, its defanged form, and its shown form has no secret.
fn holds(indicator: &Indicator) -> Result<(), TestCaseError> {
    let same = |read: Result<Parsed, Refusal>| read.map(|read| read.indicator);
    let wanted = indicator.indicator_type();
    prop_assert_eq!(same(Indicator::parse_as(indicator.value(), wanted)), Ok(indicator.clone()));
    prop_assert_eq!(Indicator::from_normal(indicator.form(), indicator.value()), Ok(indicator.clone()));
    prop_assert_eq!(refang(&indicator.defanged()), indicator.value());
    prop_assert_eq!(same(Indicator::parse_as(&indicator.defanged(), wanted)), Ok(indicator.clone()));
    if let Some(Host::Name(name)) = indicator.host() {
        prop_assert_eq!(name.to_lowercase(), name);
    }
    Ok(())
}

fn never_panics(text: &str) -> Result<(), TestCaseError> {
    let stated = IndicatorType::VARIANTS.iter().map(|wanted| Indicator::parse_as(text, *wanted));
    for read in stated.chain([Indicator::parse(text)]).flatten() {
        holds(&read.indicator)?;
    }
    let all = ExtractOptions { url_hosts: true, email_domains: true };
    for found in extract(text, &all) {
        prop_assert_eq!(text.get(found.span.clone()), Some(&*found.text));
        prop_assert!(!found.text.is_empty());
        holds(&found.indicator)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_panic_and_stays_in_its_normal_form(text in any::<String>()) {
        never_panics(&text)?;
    }

    #[test]
    fn texts_full_of_marks_are_read_without_panic(
        text in "(h(tt|xx)ps?|ftp|\\[|\\]|\\(|\\)|\\{|<|>|:|//|/|\\\\|\\.|dot| |@|a|evil|com|[0-9]{1,3}|::|%2F|#|\\?|,|'|\t|é|\u{200b}){0,24}"
    ) {
        never_panics(&text)?;
    }

    #[test]
    fn any_url_keeps_its_normal_form(
        scheme in "https?|ftp|hxxps?",
        user in "([a-z.:]{1,6}@)?",
        host in "[a-z0-9_]{1,8}(\\.[a-z0-9é]{1,8}){0,2}\\.(com|zip|de|local)[.。]{0,3}|[a-z]{1,5}[.]{0,3}|192\\.0\\.2\\.[1-9]|\\[2001:db8::[1-9]\\]",
        path in "(/[a-zA-Z0-9.%~\\[\\]()^',;!?&=+\\\\é\t-]{0,12}){0,3}(#[a-z.]{0,3})?",
    ) {
        if let Ok(read) = Indicator::parse_as(&format!("{scheme}://{user}{host}{path}"), IndicatorType::Url) {
            holds(&read.indicator)?;
        }
    }

    #[test]
    fn what_is_nothing_but_an_address_or_a_hash_is_read_as_with_blanks_around_it(
        text in "((1?[0-9]{1,2}|2[0-5][0-9])\\.){3}[0-9]{1,2}|[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{64}"
    ) {
        let within_blanks = format!(" {text} ");
        prop_assert_eq!(Indicator::parse(&text).ok(), Indicator::parse(&within_blanks).ok());
        for &wanted in IndicatorType::VARIANTS {
            let [read, other] = [&text, &within_blanks].map(|text| Indicator::parse_as(text, wanted).ok());
            prop_assert_eq!(read, other);
        }
    }

    #[test]
    fn any_address_keeps_its_normal_form(v4 in any::<u32>(), v6 in any::<u128>()) {
        for ip in [std::net::Ipv4Addr::from_bits(v4).to_string(), std::net::Ipv6Addr::from_bits(v6).to_string()] {
            holds(&Indicator::parse(&ip).unwrap().indicator)?;
        }
    }
}

#[test]
fn a_password_is_redacted_wherever_in_a_url_it_stands_and_a_second_time_changes_nothing() {
    for (given, shown) in [
        ("http://user:pass-word@example.com/a", "http://***@example.com/a"),
        ("http://example.com/?u=http://user:pass-word@example.org/", "http://example.com/?u=http://***@example.org/"),
        ("http://example.com/web/http://user:pass-word@example.org/", "http://example.com/web/http://***@example.org/"),
        ("http://example.com/?u=http%3A%2F%2Fuser%3Apass-word%40example.org%2F", "http://example.com/***"),
        ("http://example.com/?mail=user@example.org", "http://example.com/?mail=user@example.org"),
        ("http://example.com/@user/post", "http://example.com/@user/post"),
    ] {
        let indicator = Indicator::parse(given).unwrap().indicator;
        assert_eq!(indicator.redacted(), shown, "{given}");
        let again = Indicator::from_stored(Form::Url, shown);
        assert_eq!(again.redacted(), shown);
    }
}
