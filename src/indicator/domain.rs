//! Domain names: length limits, and the normal form (punycode, lower case, no trailing dot).

use super::Refusal;

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Public suffixes that are more often file name extensions in free text. Those that many sites use (`.cc`, `.ai`,
/// `.app`, `.pl`) are not among them: a missed domain is worse than a needless look-up.
const FILE_SUFFIXES: [&str; 10] = ["zip", "mov", "sh", "py", "rs", "md", "so", "ps", "pm", "cab"];

/// What stands before the last extension of a file name: another extension, or a word for a version of the file.
const FILE_WORDS: [&str; 52] = [
    "pdf", "doc", "docx", "docm", "xls", "xlsx", "xlsm", "ppt", "pptx", "rtf", "txt", "csv", "xml", "json", "yaml",
    "html", "htm", "js", "vbs", "ps1", "exe", "dll", "bin", "sys", "scr", "bat", "cmd", "jar", "apk", "iso", "img",
    "tar", "gz", "zip", "rar", "log", "jpg", "jpeg", "png", "gif", "mp4", "mp3", "eml", "msg", "lnk", "bak", "old",
    "final", "draft", "copy", "test", "min",
];

/// The normal form of a domain name, without regard to the public suffix list.
pub(super) fn normalize(text: &str) -> Result<String, Refusal> {
    let name = normalize_host(text)?;
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(Refusal::new(text, "has a label that begins or ends with a hyphen"));
    }
    Ok(name)
}

/// The same for the host of a URL. Its labels may begin or end with a hyphen: nobody can register such a name, but
/// browsers follow it.
pub(super) fn normalize_host(text: &str) -> Result<String, Refusal> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(plain) = name.strip_prefix("*.") {
        return Err(Refusal::new(text, format!("names every host below {plain}: look up {plain} itself")));
    }
    if let Some(plain) = name.strip_prefix('.') {
        return Err(Refusal::new(text, format!("begins with a dot: look up {plain} itself")));
    }
    // Converting a very long name is slow, and no domain takes more bytes even in 4-byte characters.
    if name.len() > 4 * LONGEST_NAME {
        return Err(Refusal::new(text, "is longer than 253 characters, the most that a domain may have"));
    }
    let ascii = match idna::domain_to_ascii(name) {
        Ok(ascii) => ascii,
        // Name servers know labels that only look like punycode.
        Err(_) if name.is_ascii() => name.to_ascii_lowercase(),
        Err(_) => return Err(Refusal::new(text, "is no valid internationalised name (UTS 46)")),
    };
    check_name(text, &ascii)?;
    Ok(ascii)
}

fn check_name(text: &str, name: &str) -> Result<(), Refusal> {
    let refuse = |why: &str| Err(Refusal::new(text, why));
    if !name.contains('.') {
        return refuse("is a single word: a domain has at least two labels, as example.com");
    }
    if name.len() > LONGEST_NAME {
        return refuse("is longer than 253 characters, the most that a domain may have");
    }
    for label in name.split('.') {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if label.is_empty() {
            return refuse("has an empty label: two dots in a row");
        }
        if label.len() > LONGEST_LABEL {
            return refuse("has a label of more than 63 characters");
        }
        if !allowed {
            return refuse("holds characters that no domain may have");
        }
    }
    // Browsers and resolvers take these for an IPv4 address: `10.0.0.0x1`.
    let hexadecimal = |label: &str| {
        label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit()) || hexadecimal(label);
    if name.rsplit('.').next().is_some_and(number) {
        return refuse("ends in a label of digits alone: neither a domain nor an IPv4 address of four numbers");
    }
    Ok(())
}

/// Whether a name in normal form is one that somebody can hold: below a suffix of the public suffix list, or itself a private
/// or wildcard rule of it, as `duckdns.org`. Only a plain suffix of a registry, as `co.uk`, is nobody's.
pub(super) fn has_public_suffix(name: &str) -> bool {
    let Some(suffix) = psl::suffix(name.as_bytes()).filter(psl::Suffix::is_known) else { return false };
    suffix.as_bytes() != name.as_bytes() || suffix.typ() == Some(psl::Type::Private) || is_wildcard(name)
}

/// Whether a name is a suffix by a wildcard rule, which makes any other label one too.
fn is_wildcard(name: &str) -> bool {
    let Some((_, rest)) = name.split_once('.') else { return false };
    let other = format!("xn--other.{rest}");
    psl::suffix(other.as_bytes()).is_some_and(|suffix| suffix.as_bytes() == other.as_bytes())
}

/// Whether a name holds a label that begins like punycode and is none.
pub(super) fn has_odd_punycode(name: &str) -> bool {
    name.contains("xn--") && idna::domain_to_ascii(name).is_err()
}

/// Whether a name in free text is more likely a file name.
pub(super) fn looks_like_file_name(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    let (last, before) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let number = !before.is_empty() && before.bytes().all(|byte| byte.is_ascii_digit());
    FILE_SUFFIXES.contains(&last) && (labels.next().is_none() || number || FILE_WORDS.contains(&before))
}

/// The Unicode form, if it differs from the normal form.
pub(super) fn unicode(name: &str) -> Option<String> {
    let (unicode, valid) = idna::domain_to_unicode(name);
    (valid.is_ok() && unicode != name).then_some(unicode)
}
