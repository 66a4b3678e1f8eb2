//! What a never-send rule names: whatever the spelling, and nothing else.

use std::net::{Ipv4Addr, Ipv6Addr};

use concord::indicator::{Indicator, IndicatorType};
use concord::settings::NeverSend;
use proptest::prelude::*;

/// Whether the rules name a URL.
fn holds(list: &NeverSend, url: &str) -> bool {
    list.names(&Indicator::parse_as(url, IndicatorType::Url).unwrap_or_else(|why| panic!("{why}")).indicator).is_some()
}

fn list(rules: &[&str]) -> NeverSend {
    NeverSend::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn names(list: &NeverSend, text: &str) -> Option<String> {
    list.names(&Indicator::parse(text).unwrap().indicator)
}

#[test]
fn a_domain_covers_its_subdomains_and_the_urls_on_them() {
    let list = list(&["example.com"]);
    assert_eq!(names(&list, "example.com"), Some("example.com".into()));
    assert_eq!(names(&list, "a.b.example.com"), Some("example.com".into()));
    assert_eq!(names(&list, "https://www.example.com/x"), Some("example.com".into()));
    assert_eq!(names(&list, "notexample.com"), None);
}

#[test]
fn a_network_covers_addresses_and_the_urls_on_them() {
    let list = list(&["203.0.113.0/24", "2001:db8::/32"]);
    assert_eq!(names(&list, "203.0.113.9"), Some("203.0.113.0/24".into()));
    assert_eq!(names(&list, "http://203.0.113.9/a"), Some("203.0.113.0/24".into()));
    assert_eq!(names(&list, "2001:db8::1"), Some("2001:db8::/32".into()));
    assert_eq!(names(&list, "198.51.100.1"), None);
    for carries in ["64:ff9b::203.0.113.9", "2002:cb00:7109::1", "9.113.0.203.in-addr.arpa"] {
        assert_eq!(names(&list, carries), Some("203.0.113.0/24".into()), "{carries}");
    }
}

#[test]
fn the_usual_port_of_either_scheme_does_not_hide_a_url() {
    let rules = list(&["https://example.org/private/"]);
    for text in ["http://example.org:443/private/a", "https://example.org:80/private/a", "http://example.org/private/"]
    {
        assert!(names(&rules, text).is_some(), "{text}");
    }
    assert!(names(&rules, "http://example.org:8080/private/a").is_none());
}

#[test]
fn a_rule_that_ends_with_a_slash_names_what_is_below_it_and_no_namesakes() {
    let rules = list(&["https://example.org/private/", "https://example.net/a", "https://example.com/q?id=1"]);
    for text in [
        "https://example.org/private",
        "https://example.org/private?x=1",
        "https://example.org/private/a/b",
        "https://example.net/abc",
        "https://example.com/q?id=12",
    ] {
        assert!(names(&rules, text).is_some(), "{text}");
    }
    for text in ["https://example.org/privatex", "https://example.com/q", "https://example.com/q?id=2"] {
        assert!(names(&rules, text).is_none(), "{text}");
    }
    assert!(names(&list(&["https://example.org/"]), "https://example.org/x").is_some());
}

#[test]
fn an_encoded_slash_hides_no_url_whichever_way_a_server_reads_it() {
    let rules = list(&["https://example.org/private/"]);
    for text in [
        "https://example.org/x/%2e%2e%2fprivate/plan",
        "https://example.org/private%2fplan",
        "https://example.org/private/%2e%2e%2fplan",
        "https://example.org/.%2fprivate/",
    ] {
        assert!(names(&rules, text).is_some(), "{text}");
    }
    assert!(names(&rules, "https://example.org/x/%2e%2e%2fpublic").is_none());
}

#[test]
fn an_ipv4_mapped_network_is_the_ipv4_network() {
    let rules = list(&["::ffff:203.0.113.0/120", "::ffff:198.51.100.7"]);
    assert!(names(&rules, "203.0.113.9").is_some() && names(&rules, "198.51.100.7").is_some());
    assert!(names(&rules, "203.0.114.9").is_none());
    assert!(names(&list(&["::ffff:0:0/96"]), "192.0.2.1").is_some());
    assert!(names(&list(&["2001:db8::/32"]), "http://[2001:db8::1]/").is_some());
}

#[test]
fn nothing_before_or_between_hides_the_address_in_a_reverse_name() {
    let rules = list(&["203.0.113.0/24"]);
    for text in [
        "http://x.9.113.0.203.in-addr.arpa/",
        "http://09.113.0.203.in-addr.arpa/",
        "http://9.0-25.113.0.203.in-addr.arpa/",
        "http://113.0.203.in-addr.arpa/",
    ] {
        assert!(names(&rules, text).is_some(), "{text}");
    }
    assert!(names(&rules, "http://9.114.0.203.in-addr.arpa/").is_none());
}

#[test]
fn a_reverse_name_tells_the_address_that_it_maps() {
    let rules = list(&["203.0.113.0/24"]);
    let zeros = "0.".repeat(20);
    let name = format!("5.0.1.7.0.0.b.c.f.f.f.f.{zeros}ip6.arpa");
    assert!(rules.names(&Indicator::parse_as(&name, IndicatorType::Domain).unwrap().indicator).is_some());
}

#[test]
fn url_prefixes_and_hashes_are_rules_too() {
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    let list = list(&["https://example.org/private/", hash]);
    assert!(names(&list, "https://example.org/private/plan").is_some());
    assert!(names(&list, "https://example.org/public").is_none());
    // Other spellings of the same place.
    for same in ["http://example.org/private/plan", "https://example.org//private", "https://example.org/%70rivate/x"] {
        assert!(names(&list, same).is_some(), "{same}");
    }
    assert_eq!(names(&list, hash), Some(hash.into()));
}

#[test]
fn every_wrong_rule_is_named_by_its_place() {
    let wrong = NeverSend::parse(&["example.com".into(), "???".into(), "1.2.3".into()]).unwrap_err();
    let fields: Vec<_> = wrong.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["never_send[1]", "never_send[2]"]);
}

#[test]
fn a_query_is_compared_decoded_and_in_any_order() {
    let rules = list(&["https://example.com/find?id=1&kind=a%20b", "https://example.net/find.php?debug="]);
    for url in [
        "https://example.com/find?id=1&kind=a%20b",
        "https://example.com/find?kind=a+b&id=1",
        "https://example.com/find?x=2;kind=A%20b;%69d=%31",
        "https://example.com/find?%2569d=%2531&kind=a%2520b",
        "https://example.com/find?%u0069d=1&kind=a%20b",
        "https://example.com/find?id%3d1%26kind%3da%20b",
        "https://example.com/find%3Fid=1&kind=a+b",
        "https://example.com/find/?&id=12&%20kind=a%20bc",
        "https://example.com/f%69nd;v=1?id=1&kind=a%20b",
        "https://example.net/find.php?debug",
        "https://example.net/find.php/more?debug=1",
    ] {
        assert!(holds(&rules, url), "{url}");
    }
    for url in [
        "https://example.com/find?id=1",
        "https://example.com/find?id=2&kind=a%20b",
        "https://example.com/find/x?id=1&kind=a%20b",
        "https://example.com/finder?id=1&kind=a%20b",
        "https://example.net/find.php?bug=1",
    ] {
        assert!(!holds(&rules, url), "{url}");
    }
}

#[test]
fn what_servers_leave_out_or_undo_hides_no_path() {
    let rules = list(&["https://example.org/private/", "https://example.net/Priv\u{e9}/"]);
    for path in [
        "private/x",
        "PRIVATE/",
        "%70rivate/",
        "%2570rivate/",
        "%252570rivate/",
        "%u0070rivate/",
        "%C1%B0rivate/",
        "%e0%81%b0rivate/",
        "%ef%bd%90rivate/",
        ";x/private/",
        "private;x=1/",
        "private;/",
        "private%3Bx/",
        "private%20/x",
        "private./x",
        "private%00.html",
        "%0a/private%09/x",
        "private::$INDEX_ALLOCATION/x",
        "private:$i30:$INDEX_ALLOCATION/x",
        "x\\..\\private\\y",
        "x%5C..%5Cprivate%5Cy",
        "x%c0%af..%c0%afprivate/",
        "x/..;/private/",
        "x/%252e%252e/private/",
        // One server undoes a part of it, the next one the rest.
        "x/%2e%2e%2fprivate/%252e%252e%252fy",
        "y//%2e%2e%2fprivate/",
        "private%3fx",
        "private%23x",
    ] {
        assert!(holds(&rules, &format!("https://example.org/{path}")), "{path}");
    }
    for path in ["priv%C3%A9/", "priv%E9/", "prive%CC%81/", "PRIV%C3%89/x"] {
        assert!(holds(&rules, &format!("https://example.net/{path}")), "{path}");
    }
    for path in ["privat", "privates", "x/private", "public;private", "x;/private", "private/../public", "?/private/"] {
        assert!(!holds(&rules, &format!("https://example.org/{path}")), "{path}");
    }
}

#[test]
fn a_path_with_too_many_readings_is_named_by_every_rule_for_its_host() {
    let rules = list(&["https://example.org/private/"]);
    let mut path = String::new();
    for _ in 0..6 {
        let encoded = path.replace('%', "%25").replace('/', "%2f").replace(';', "%3b").replace('.', "%2e");
        path = format!("{encoded}/v;v//w/%2e%2e%2fx");
    }
    assert!(holds(&rules, &format!("https://example.org/{path}")));
    assert!(!holds(&rules, &format!("https://example.net/{path}")));
}

#[test]
fn a_host_is_the_same_by_name_and_by_each_of_its_addresses() {
    let rules = list(&["http://203.0.113.9/private/", "https://xn--asdf.example.com/private/"]);
    for url in [
        "http://0xcb.0.113.9/private/",
        "http://3405803785/private/",
        "http://[::ffff:203.0.113.9]/private/",
        "http://[64:ff9b::cb00:7109]/private/",
        "http://203.0.113.9.nip.io/private/",
        "http://XN--asdf.example.com./private/",
    ] {
        assert!(holds(&rules, url), "{url}");
    }
    for url in ["http://203.0.113.8/private/", "http://xn--asdf.example.com/public/"] {
        assert!(!holds(&rules, url), "{url}");
    }
    let embedded = list(&["2002:cb00:7109::", "64:ff9b::198.51.100.7/128"]);
    assert!(names(&embedded, "203.0.113.9").is_some() && names(&embedded, "198.51.100.7").is_some());
    assert!(names(&embedded, "203.0.113.8").is_none());
}

#[test]
fn a_password_in_a_rule_is_not_shown() {
    let rules = list(&["https://user:hunter2@example.org/private/"]);
    assert_eq!(rules.rules(), ["https://***@example.org/private/"]);
    assert!(holds(&rules, "https://example.org/private/x"));
}

/// A letter as some server reads it.
fn letter(letter: char) -> BoxedStrategy<String> {
    let code = u32::from(letter);
    let wide = char::from_u32(code + 0xfee0).unwrap().to_string();
    let wide: String = wide.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let spellings = vec![
        letter.to_string(),
        letter.to_ascii_uppercase().to_string(),
        format!("%{code:02x}"),
        format!("%{code:02X}"),
        format!("%{:02x}", code - 0x20),
        format!("%25{code:02x}"),
        format!("%2525{code:02x}"),
        format!(
            "%25%{:02x}%{:02x}",
            u32::from(b'6') + (code >> 4) - 6,
            u32::from(format!("{:x}", code & 15).as_bytes()[0])
        ),
        format!("%u00{code:02x}"),
        format!("%c1%{:02x}", 0x80 | code & 0x3f),
        format!("%E0%81%{:02X}", 0x80 | code & 0x3f),
        format!("%f0%80%81%{:02x}", 0x80 | code & 0x3f),
        wide,
    ];
    // Most are plain, so that the odd ones meet each other in all mixtures and few are all odd.
    prop_oneof![3 => Just(letter.to_string()), 2 => proptest::sample::select(spellings)].boxed()
}

fn spelled(word: &str) -> BoxedStrategy<String> {
    let letters: Vec<_> = word.chars().map(letter).collect();
    letters.prop_map(|letters| letters.concat()).boxed()
}

/// What leads to the segment after it.
fn slash() -> BoxedStrategy<String> {
    let spellings = [
        "/",
        "//",
        "/./",
        "/%2e/",
        "/;a=1/",
        "/x/../",
        "/x/%2e%2e/",
        "/x%2f..%2f",
        "/x/..;/",
        "\\",
        "%2f",
        "%5C",
        "%252F",
        "%c0%af",
        "/.%2f",
        "/x/%252e%252e/",
        "%u002f",
    ];
    prop_oneof![2 => Just("/".to_owned()), 3 => proptest::sample::select(spellings.map(str::to_owned).to_vec())].boxed()
}

/// What may follow a segment and leave it the same, and what may follow the path.
fn ending() -> BoxedStrategy<String> {
    let endings = ["", ";v=1", "%3bv=1", ";", "%20", "%20.", ".", "%00", "::$DATA", "?x=1", "#top", "%3fx", "%23top"];
    proptest::sample::select(endings.map(str::to_owned).to_vec()).boxed()
}

fn host() -> BoxedStrategy<String> {
    let hosts = ["example.org", "EXAMPLE.org", "example.org.", "ex%61mple.org", "example.org:80", "example.org:443"];
    proptest::sample::select(hosts.map(str::to_owned).to_vec()).boxed()
}

/// An IPv4 address in every form in which it reaches its place.
fn spellings(ip: Ipv4Addr, name: &str) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let bits = u128::from(ip.to_bits());
    let (high, low) = (bits >> 16, bits & 0xffff);
    let v6 = |bits: u128| format!("http://[{}]/x", Ipv6Addr::from_bits(bits));
    let global = 0x2001_0db8_u128 << 96;
    vec![
        format!("http://{ip}/x"),
        format!("http://{bits}/x"),
        format!("http://0x{bits:x}/x"),
        format!("http://0{a:o}.{b}.0x{c:x}.{d}/x"),
        format!("http://{a}.{}/x", bits & 0x00ff_ffff),
        v6(bits),
        v6(0xffff << 32 | bits),
        v6(0xffff << 48 | bits),
        v6(0x0064_ff9b << 96 | bits),
        v6(0x0064_ff9b_0001 << 80 | bits),
        v6(0x0064_ff9b_0001 << 80 | high << 64 | low << 40),
        v6(0x0064_ff9b_0001 << 80 | (bits >> 24) << 64 | (bits & 0x00ff_ffff) << 32),
        v6(0x0064_ff9b_0001 << 80 | bits << 24),
        v6(0x2002 << 112 | bits << 80 | 1),
        v6(0x2001 << 112 | bits << 64),
        v6(0x2001 << 112 | 0xc000_0201 << 64 | (!bits & 0xffff_ffff)),
        v6(global | 0x5efe << 32 | bits),
        v6(global | 0x0200_5efe << 32 | bits),
        format!("http://{ip}.nip.io/x"),
        format!("http://{name}.{ip}.sslip.io/x"),
        format!("http://{name}-{a}-{b}-{c}-{d}.xip.io/x"),
        format!("http://{bits:08x}.nip.io/x"),
        format!("http://{name}-{bits:08X}.NIP.io/x"),
        format!("http://--{:x}-{:x}.sslip.io/x", high, low),
        format!("http://{a}-{b}-{c}-{d}.{name}.plex.direct/x"),
        format!("http://{name}.{a}-{b}-{c}-{d}.traefik.me/x"),
        format!("http://{d}.{c}.{b}.{a}.in-addr.arpa/x"),
        format!("http://_{name}.{d}.{c}.{b}.{a}.in-addr.arpa./x"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_holds_for_every_spelling_of_its_place(
        scheme in "https?|ftp|HTTPS",
        host in host(),
        (first, second) in (slash(), slash()),
        (word, next) in (spelled("private"), spelled("plan")),
        ending in ending(),
        below in any::<bool>(),
    ) {
        let tail = if below { second + "y" } else { String::new() };
        let url = format!("{scheme}://{host}{first}{word}{ending}{tail}");
        // Decoded once, the path begins with an encoded slash.
        let url = if first.starts_with(['/', '\\']) { url } else { url.replacen(&first, &format!("/{first}"), 1) };
        prop_assert!(holds(&list(&["https://example.org/private/"]), &url), "{url}");
        let url = format!("{scheme}://{host}/{word}/{next}{ending}");
        prop_assert!(holds(&list(&["https://example.org/PRIVATE/pl%61n"]), &url), "{url}");
    }

    #[test]
    fn a_rule_holds_for_every_url_that_begins_with_it(tail in "[a-z0-9./;%\\\\?&=+ -]{0,24}", code in "(%2[ef5]|%5c|/|[.]){0,8}") {
        let rule = "https://example.org/private/";
        let text = format!("{rule}{code}{tail}");
        if let Ok(read) = Indicator::parse_as(&text, IndicatorType::Url)
            && read.indicator.value().starts_with(rule)
        {
            prop_assert!(list(&[rule]).names(&read.indicator).is_some(), "{text}");
        }
    }

    #[test]
    fn a_rule_names_no_other_place(
        host in host(),
        first in slash(),
        // No letter of the word that the rule begins with.
        word in "[a-o]{1,9}".prop_flat_map(|word| spelled(&word)),
        ending in ending(),
    ) {
        let url = format!("https://{host}/{}{word}{ending}", first.trim_start_matches('/'));
        let rules = ["https://example.org/private/", "https://example.org/p?id=1", "https://example.net/", "192.0.2.0/24"];
        prop_assert!(!holds(&list(&rules), &url), "{url}");
        prop_assert!(!holds(&list(&rules), &url.replacen("://", "://www.", 1).replacen("www.", "www-", 1)), "{url}");
    }

    #[test]
    fn a_network_holds_for_every_way_to_write_an_address(last in any::<u8>(), name in "[g-z]{1,8}") {
        let rules = list(&["203.0.113.0/24"]);
        for url in spellings(Ipv4Addr::new(203, 0, 113, last), &name) {
            prop_assert!(holds(&rules, &url), "{url}");
        }
        for url in spellings(Ipv4Addr::new(198, 51, 100, last), &name) {
            prop_assert!(!holds(&rules, &url), "{url}");
        }
    }
}
