//! Domain names: length limits, and the normal form (punycode, lower case, no trailing dot).

use std::borrow::Cow;

use super::Refusal;

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
/// One byte less than the shortest hash, by which a file can be named.
const LONGEST_FIRST_LABEL: usize = 31;
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

/// Whether a text is a name in normal form and of the most frequent sort, of which only the public suffix is left to check:
/// lower-case labels, none of them punycode, the first one shorter than a hash, and the last one of letters alone.
pub(super) fn is_plain(text: &str) -> bool {
    let (mut longest, mut length, mut before, mut letters) = (LONGEST_FIRST_LABEL, 0, b'.', true);
    for byte in text.bytes() {
        let is_allowed = match byte {
            b'a'..=b'z' => true,
            b'0'..=b'9' | b'_' => {
                letters = false;
                true
            }
            b'-' => {
                letters = false;
                before != b'.' && (length, before) != (3, b'-')
            }
            b'.' => {
                let ends = (1..=longest).contains(&length) && before != b'-';
                (longest, length, letters) = (LONGEST_LABEL, 0, true);
                ends
            }
            _ => false,
        };
        if !is_allowed {
            return false;
        }
        length += usize::from(byte != b'.');
        before = byte;
    }
    // The limit is that of later labels once there was a dot.
    longest == LONGEST_LABEL && letters && (1..=longest).contains(&length) && text.len() <= LONGEST_NAME
}

/// The normal form of a domain name, without regard to the public suffix list.
pub(super) fn normalize(text: &str) -> Result<String, Refusal> {
    normal_form(text).map_err(|why| Refusal::new(text, why))
}

/// The normal form of a name that somebody can hold; `None` for any other text.
pub(super) fn known(text: &str) -> Option<Cow<'_, str>> {
    // Most words and numbers with dots need not be normalized to be none.
    let is_other = match text.rsplit_once('.') {
        Some((_, last)) => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
        None => text.is_ascii(),
    };
    if is_other {
        return None;
    }
    let name = if is_plain(text) { Cow::Borrowed(text) } else { Cow::Owned(normal_form(text).ok()?) };
    has_public_suffix(&name).then_some(name)
}

/// The normal form of a domain name, or why there is none.
fn normal_form(text: &str) -> Result<String, Cow<'static, str>> {
    let name = host_normal_form(text)?;
    if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err("has a label that begins or ends with a hyphen".into());
    }
    Ok(name)
}

/// The same for the host of a URL. Its labels may begin or end with a hyphen: nobody can register such a name, but
/// browsers follow it.
pub(super) fn normalize_host(text: &str) -> Result<String, Refusal> {
    host_normal_form(text).map_err(|why| Refusal::new(text, why))
}

fn host_normal_form(text: &str) -> Result<String, Cow<'static, str>> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(plain) = name.strip_prefix("*.") {
        return Err(format!("names every host below {plain}: look up {plain} itself").into());
    }
    if let Some(plain) = name.strip_prefix('.') {
        return Err(format!("begins with a dot: look up {plain} itself").into());
    }
    // Converting a very long name is slow, and no domain takes more bytes even in 4-byte characters.
    if name.len() > 4 * LONGEST_NAME {
        return Err("is longer than 253 characters, the most that a domain may have".into());
    }
    let ascii = match idna::domain_to_ascii(name) {
        Ok(ascii) => ascii,
        // Name servers know labels that only look like punycode.
        Err(_) if name.is_ascii() => name.to_ascii_lowercase(),
        Err(_) => return Err("is no valid internationalised name (UTS 46)".into()),
    };
    check_name(&ascii)?;
    Ok(ascii)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if !name.contains('.') {
        return Err("is a single word: a domain has at least two labels, as example.com");
    }
    if name.len() > LONGEST_NAME {
        return Err("is longer than 253 characters, the most that a domain may have");
    }
    for label in name.split('.') {
        let allowed = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if label.is_empty() {
            return Err("has an empty label: two dots in a row");
        }
        if label.len() > LONGEST_LABEL {
            return Err("has a label of more than 63 characters");
        }
        if !allowed {
            return Err("holds characters that no domain may have");
        }
    }
    // Browsers and resolvers take these for an IPv4 address: `10.0.0.0x1`.
    let hexadecimal = |label: &str| {
        label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit()) || hexadecimal(label);
    if name.rsplit('.').next().is_some_and(number) {
        return Err("ends in a label of digits alone: neither a domain nor an IPv4 address of four numbers");
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
    if !name.contains("xn--") {
        return None;
    }
    let (unicode, valid) = idna::domain_to_unicode(name);
    (valid.is_ok() && unicode != name).then_some(unicode)
}
