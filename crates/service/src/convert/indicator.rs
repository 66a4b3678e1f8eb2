//! `indicator.proto`: indicators, dispositions, reliabilities, TLP labels.

use std::fmt::Display;

use super::Violations;
use crate::error::{Reason, Violation};
use crate::finding::{Disposition, Reliability};
use crate::indicator::{Indicator, IndicatorType, Parsed, Tlp};
use crate::pb;

convert_enum!(
    read_type, write_type: IndicatorType <=> IndicatorType { Ip, Domain, Url, File },
    "1 (IP), 2 (DOMAIN), 3 (URL), 4 (FILE)"
);
convert_enum!(
    read_tlp, write_tlp: Tlp <=> Tlp { Clear, Green, Amber, AmberStrict, Red },
    "1 (CLEAR), 2 (GREEN), 3 (AMBER), 4 (AMBER_STRICT), 5 (RED)"
);
convert_enum!(
    read_disposition, write_disposition: Disposition <=> Disposition { Unknown, Benign, Suspicious, Malicious },
    "1 (UNKNOWN), 2 (BENIGN), 3 (SUSPICIOUS), 4 (MALICIOUS)"
);
convert_enum!(
    read_reliability, write_reliability: Reliability <=> Reliability { APlus, A, B, C, D, E, F },
    "1 (A+), 2 (A), 3 (B), 4 (C), 5 (D), 6 (E), 7 (F)"
);

/// Reads an indicator as it was sent. An unknown type and a refused value are both noted. The path of the field is only written
/// where something is wrong with it.
pub fn read(indicator: Option<&pb::Indicator>, field: impl Display, violations: &mut Violations) -> Option<Parsed> {
    let Some(indicator) = indicator.filter(|indicator| !indicator.value.trim().is_empty()) else {
        let message = "an indicator is needed: an IP address, a domain, a URL or a file hash";
        violations.add(Violation::new(format!("{field}.value"), Reason::FieldRequired, message));
        return None;
    };
    let stated = read_type(indicator.r#type, "type").map_err(|violation| violation.nested_in(&field.to_string()));
    let stated = violations.check(stated);
    let parsed = match stated.flatten() {
        None => Indicator::parse(&indicator.value),
        Some(stated) => Indicator::parse_as(&indicator.value, stated),
    };
    let refused = |refusal: crate::indicator::Refusal| {
        Violation::new(format!("{field}.value"), Reason::IndicatorInvalid, refusal.message)
    };
    violations.check(parsed.map_err(refused)).filter(|_| stated.is_some())
}

/// Reads the indicator that a list is filtered by.
pub fn read_filter(indicator: Option<&pb::Indicator>, violations: &mut Violations) -> Option<Indicator> {
    read(Some(indicator?), "indicator", violations).map(|parsed| parsed.indicator)
}

/// The indicator in its normal form, redacted.
pub fn write(indicator: &Indicator) -> pb::Indicator {
    pb::Indicator { r#type: write_type(indicator.indicator_type()).into(), value: indicator.redacted() }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::error::Error;

    #[test]
    fn every_enum_value_is_read_back_as_it_was_written() {
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

    fn refused(indicator: Option<&pb::Indicator>) -> Violation {
        let mut violations = Violations::default();
        assert_eq!(read(indicator, "indicator", &mut violations), None);
        let Err(Error::Invalid(mut violations)) = violations.finish(Some(())) else { panic!("no violation") };
        violations.remove(0)
    }

    #[test]
    fn an_unknown_enum_value_is_refused_with_its_field() {
        let unknown = read_tlp(99, "tlp").unwrap_err();
        assert_eq!((unknown.field.as_str(), unknown.reason), ("tlp", Reason::EnumUnknown));
        let indicator = pb::Indicator { r#type: 77, value: "192.0.2.1".into() };
        assert_eq!(refused(Some(&indicator)).field, "indicator.type");
    }

    #[test]
    fn a_missing_indicator_names_the_field_and_what_is_needed() {
        let missing = refused(None);
        assert_eq!((missing.field.as_str(), missing.reason), ("indicator.value", Reason::FieldRequired));
    }
}
