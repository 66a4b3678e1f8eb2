//! Reads the caller's deadline from the `grpc-timeout` header.

use std::time::Duration;

use http::HeaderMap;

/// The time that the caller still waits. A malformed header is ignored, as other gRPC servers do.
pub(crate) fn read_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        read_headers(&headers)
    }

    #[test]
    fn every_time_unit_of_the_protocol_is_read() {
        assert_eq!(read_text("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read_text("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read_text("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read_text("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read_text("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read_text("99999999n"), Some(Duration::from_nanos(99_999_999)));
    }

    #[test]
    fn a_malformed_timeout_is_ignored() {
        for odd in ["", "S", "5", "5s", "-5S", "123456789S", "5 S", "+5S"] {
            assert_eq!(read_text(odd), None, "{odd:?}");
        }
        assert_eq!(read_headers(&HeaderMap::new()), None);
    }
}
