//! `indicator.proto`: indicators and the field's words.

use super::{Violations, unknown_enum};
use crate::error::{Reason, Violation};
use crate::finding::{Disposition, Reliability};
use crate::indicator::{Indicator, IndicatorType, Parsed, Tlp};
use crate::pb;

/// Reads an indicator as it was sent.
///
/// # Errors
/// When it is missing, of an unknown type, or refused; the message is the refusal.
pub fn read(indicator: Option<&pb::Indicator>, field: &str) -> Result<Parsed, Violation> {
    let Some(indicator) = indicator.filter(|indicator| !indicator.value.trim().is_empty()) else {
        let message = "an indicator is needed: an IP address, a domain, a URL or a file hash";
        return Err(Violation::new(format!("{field}.value"), Reason::FieldRequired, message));
    };
    let wanted = read_type(indicator.r#type, &format!("{field}.type"))?;
    let parsed = match wanted {
        None => Indicator::parse(&indicator.value),
        Some(wanted) => Indicator::parse_as(&indicator.value, wanted),
    };
    parsed.map_err(|refusal| Violation::new(format!("{field}.value"), Reason::IndicatorInvalid, refusal.message))
}

/// What is wrong with the value of an indicator whose type is unknown too: both are told at once.
pub fn also_wrong(indicator: Option<&pb::Indicator>, field: &str) -> Option<Violation> {
    let indicator = indicator.filter(|one| !one.value.trim().is_empty() && read_type(one.r#type, "").is_err())?;
    let refusal = Indicator::parse(&indicator.value).err()?;
    Some(Violation::new(format!("{field}.value"), Reason::IndicatorInvalid, refusal.message))
}

/// Reads the indicator that a list is filtered by, in the field `indicator`, noting every mistake.
pub fn read_filter(indicator: Option<&pb::Indicator>, violations: &mut Violations) -> Option<Indicator> {
    let wire = Some(indicator?);
    let parsed = violations.check(read(wire, "indicator"));
    also_wrong(wire, "indicator").into_iter().for_each(|violation| violations.add(violation));
    parsed.map(|parsed| parsed.indicator)
}

/// The indicator in its normal form, as it may be shown.
pub fn write(indicator: &Indicator) -> pb::Indicator {
    pb::Indicator { r#type: write_type(indicator.indicator_type()).into(), value: indicator.redacted() }
}

fn read_type(number: i32, field: &str) -> Result<Option<IndicatorType>, Violation> {
    use pb::IndicatorType as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::Ip) => Ok(Some(IndicatorType::Ip)),
        Ok(Wire::Domain) => Ok(Some(IndicatorType::Domain)),
        Ok(Wire::Url) => Ok(Some(IndicatorType::Url)),
        Ok(Wire::File) => Ok(Some(IndicatorType::File)),
        Err(_) => Err(unknown_enum(number, "1 (IP), 2 (DOMAIN), 3 (URL), 4 (FILE)", field)),
    }
}

/// A type on the wire.
pub fn write_type(indicator_type: IndicatorType) -> pb::IndicatorType {
    match indicator_type {
        IndicatorType::Ip => pb::IndicatorType::Ip,
        IndicatorType::Domain => pb::IndicatorType::Domain,
        IndicatorType::Url => pb::IndicatorType::Url,
        IndicatorType::File => pb::IndicatorType::File,
    }
}

/// Reads a TLP label; unspecified is `None`.
///
/// # Errors
/// For an unknown number.
pub fn read_tlp(number: i32, field: &str) -> Result<Option<Tlp>, Violation> {
    use pb::Tlp as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::Clear) => Ok(Some(Tlp::Clear)),
        Ok(Wire::Green) => Ok(Some(Tlp::Green)),
        Ok(Wire::Amber) => Ok(Some(Tlp::Amber)),
        Ok(Wire::AmberStrict) => Ok(Some(Tlp::AmberStrict)),
        Ok(Wire::Red) => Ok(Some(Tlp::Red)),
        Err(_) => Err(unknown_enum(number, "1 (CLEAR), 2 (GREEN), 3 (AMBER), 4 (AMBER_STRICT), 5 (RED)", field)),
    }
}

/// A TLP label on the wire.
pub fn write_tlp(tlp: Tlp) -> pb::Tlp {
    match tlp {
        Tlp::Clear => pb::Tlp::Clear,
        Tlp::Green => pb::Tlp::Green,
        Tlp::Amber => pb::Tlp::Amber,
        Tlp::AmberStrict => pb::Tlp::AmberStrict,
        Tlp::Red => pb::Tlp::Red,
    }
}

/// Reads a disposition; unspecified is `None`.
///
/// # Errors
/// For an unknown number.
pub fn read_disposition(number: i32, field: &str) -> Result<Option<Disposition>, Violation> {
    use pb::Disposition as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::Unknown) => Ok(Some(Disposition::Unknown)),
        Ok(Wire::Benign) => Ok(Some(Disposition::Benign)),
        Ok(Wire::Suspicious) => Ok(Some(Disposition::Suspicious)),
        Ok(Wire::Malicious) => Ok(Some(Disposition::Malicious)),
        Err(_) => Err(unknown_enum(number, "1 (UNKNOWN), 2 (BENIGN), 3 (SUSPICIOUS), 4 (MALICIOUS)", field)),
    }
}

/// A disposition on the wire.
pub fn write_disposition(disposition: Disposition) -> pb::Disposition {
    match disposition {
        Disposition::Unknown => pb::Disposition::Unknown,
        Disposition::Benign => pb::Disposition::Benign,
        Disposition::Suspicious => pb::Disposition::Suspicious,
        Disposition::Malicious => pb::Disposition::Malicious,
    }
}

/// Reads a reliability letter; unspecified is `None`.
///
/// # Errors
/// For an unknown number.
pub fn read_reliability(number: i32, field: &str) -> Result<Option<Reliability>, Violation> {
    use pb::Reliability as Wire;
    match Wire::try_from(number) {
        Ok(Wire::Unspecified) => Ok(None),
        Ok(Wire::APlus) => Ok(Some(Reliability::APlus)),
        Ok(Wire::A) => Ok(Some(Reliability::A)),
        Ok(Wire::B) => Ok(Some(Reliability::B)),
        Ok(Wire::C) => Ok(Some(Reliability::C)),
        Ok(Wire::D) => Ok(Some(Reliability::D)),
        Ok(Wire::E) => Ok(Some(Reliability::E)),
        Ok(Wire::F) => Ok(Some(Reliability::F)),
        Err(_) => Err(unknown_enum(number, "1 (A+), 2 (A), 3 (B), 4 (C), 5 (D), 6 (E), 7 (F)", field)),
    }
}

/// A reliability letter on the wire.
pub fn write_reliability(letter: Reliability) -> pb::Reliability {
    match letter {
        Reliability::APlus => pb::Reliability::APlus,
        Reliability::A => pb::Reliability::A,
        Reliability::B => pb::Reliability::B,
        Reliability::C => pb::Reliability::C,
        Reliability::D => pb::Reliability::D,
        Reliability::E => pb::Reliability::E,
        Reliability::F => pb::Reliability::F,
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn every_word_survives_the_wire() {
        for &tlp in Tlp::VARIANTS {
            assert_eq!(read_tlp(write_tlp(tlp).into(), "tlp"), Ok(Some(tlp)));
        }
        for &disposition in Disposition::VARIANTS {
            assert_eq!(read_disposition(write_disposition(disposition).into(), "d"), Ok(Some(disposition)));
        }
        for &letter in Reliability::VARIANTS {
            assert_eq!(read_reliability(write_reliability(letter).into(), "r"), Ok(Some(letter)));
        }
        for &kind in IndicatorType::VARIANTS {
            assert_eq!(read_type(write_type(kind).into(), "t"), Ok(Some(kind)));
        }
    }

    #[test]
    fn an_unknown_enum_value_is_refused_with_its_field() {
        let refused = read_tlp(99, "tlp").unwrap_err();
        assert_eq!((refused.field.as_str(), refused.reason), ("tlp", Reason::EnumUnknown));
        let indicator = pb::Indicator { r#type: 77, value: "192.0.2.1".into() };
        assert_eq!(read(Some(&indicator), "indicator").unwrap_err().field, "indicator.type");
    }

    #[test]
    fn a_missing_indicator_names_the_field_and_what_is_needed() {
        let refused = read(None, "indicator").unwrap_err();
        assert_eq!((refused.field.as_str(), refused.reason), ("indicator.value", Reason::FieldRequired));
    }
}
