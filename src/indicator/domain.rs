//! Domain names: labels, lengths, and the one normal form (punycode, lower case, no trailing dot).

use super::Refusal;

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Suffixes of the public list that in free text are more often the end of a file's name. Those that many sites use
/// (`.cc`, `.ai`, `.app`, `.pl`) are not among them: a missed domain is worse than a look-up in vain.
const FILE_SUFFIXES: [&str; 10] = ["zip", "mov", "sh", "py", "rs", "md", "so", "ps", "pm", "cab"];

/// The normal form of a name, by form alone.
pub(super) fn normal(text: &str) -> Result<String, Refusal> {
    let name = normal_host(text)?;
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(Refusal::new(text, "has a label that begins or ends with a hyphen"));
    }
    Ok(name)
}

/// The same for the host of a URL, which may have what nobody can register and browsers follow all the same: labels that
/// begin or end with a hyphen.
pub(super) fn normal_host(text: &str) -> Result<String, Refusal> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(plain) = name.strip_prefix("*.") {
        return Err(Refusal::new(text, format!("names every host below {plain}: look up {plain} itself")));
    }
    if let Some(plain) = name.strip_prefix('.') {
        return Err(Refusal::new(text, format!("begins with a dot: look up {plain} itself")));
    }
    // Converting a very long name is slow, and even in the widest characters no domain takes more bytes.
    if name.len() > 4 * LONGEST_NAME {
        return Err(Refusal::new(text, "is longer than 253 characters, the most that a domain may have"));
    }
    let ascii =
        idna::domain_to_ascii(name).map_err(|_| Refusal::new(text, "is no valid internationalised name (UTS 46)"))?;
    check(text, &ascii)?;
    Ok(ascii)
}

fn check(text: &str, name: &str) -> Result<(), Refusal> {
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
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return refuse("ends in a label of digits alone: neither a domain nor an IPv4 address of four numbers");
    }
    Ok(())
}

/// Whether the last labels of a name in normal form are a suffix that somebody registers names under.
pub(super) fn has_public_suffix(name: &str) -> bool {
    psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known()) && psl::domain(name.as_bytes()).is_some()
}

/// Whether a bare name in free text is rather the name of a file.
pub(super) fn looks_like_file(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    let last = labels.next().unwrap_or_default();
    FILE_SUFFIXES.contains(&last) && name.matches('.').count() == 1
}

/// The Unicode form, if it differs.
pub(super) fn unicode(name: &str) -> Option<String> {
    let (unicode, valid) = idna::domain_to_unicode(name);
    (valid.is_ok() && unicode != name).then_some(unicode)
}
