//! The flags of `concord source set`: one for each field of a source, derived from the fields themselves.

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use serde_json::{Map, Value, json};

use crate::settings::{SOURCE_FIELDS, SourceField, SourcePatch, Syntax};

/// The field that `--ca-file` sets: nobody types a certificate.
const READ_FROM_FILE: &str = "ca_pem";

/// What the flags set.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceFlags(pub(super) SourcePatch);

fn flags() -> impl Iterator<Item = &'static SourceField> {
    SOURCE_FIELDS.iter().filter(|field| field.name != READ_FROM_FILE)
}

fn flag(field: &'static SourceField) -> Arg {
    let flag = Arg::new(field.name).long(field.name.replace('_', "-")).help(field.help.trim());
    match field.syntax {
        Syntax::Flag => flag
            .value_name("true|false")
            .value_parser(["true", "false"].map(PossibleValue::new))
            .hide_possible_values(true),
        Syntax::Text(what) | Syntax::Number(what) => flag.value_name(what),
        Syntax::Quota => flag.value_name("WINDOW=CALLS").value_delimiter(',').action(ArgAction::Append),
    }
}

/// The values as the configuration file has them.
fn document(field: &SourceField, texts: &[&String]) -> Result<Value, String> {
    let last = texts.last().map(|text| text.as_str()).unwrap_or_default();
    Ok(match field.syntax {
        Syntax::Flag => json!(last == "true"),
        Syntax::Text(_) => json!(last),
        Syntax::Number(_) => json!(last.parse::<u32>().map_err(|_| "must be a whole number")?),
        Syntax::Quota => {
            let mut windows = Map::new();
            for text in texts {
                let (window, calls) = text.split_once('=').ok_or("write minute=4,day=500,week=50 or month=15500")?;
                let calls: u64 = calls.parse().map_err(|_| "the number of calls must be a whole number")?;
                windows.insert(window.to_owned(), json!(calls));
            }
            Value::Object(windows)
        }
    })
}

/// The patch that sets this field alone.
fn read(field: &SourceField, texts: &[&String]) -> Result<SourcePatch, String> {
    let document = Map::from_iter([(field.name.to_owned(), document(field, texts)?)]);
    serde_json::from_value(Value::Object(document)).map_err(|error| error.to_string())
}

impl FromArgMatches for SourceFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for field in flags() {
            let Some(texts) = matches.get_many::<String>(field.name) else { continue };
            let texts: Vec<_> = texts.collect();
            let patch = read(field, &texts).map_err(|why| {
                let flag = field.name.replace('_', "-");
                Error::raw(ErrorKind::ValueValidation, format!("invalid value for '--{flag}': {why}\n"))
            })?;
            self.0 = self.0.overlaid_with(&patch);
        }
        Ok(())
    }
}

impl Args for SourceFlags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Clearable;

    fn parse(line: &str) -> Result<SourcePatch, String> {
        let command = SourceFlags::augment_args(Command::new("set").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        SourceFlags::from_arg_matches(&matches).map(|flags| flags.0).map_err(|error| error.to_string())
    }

    #[test]
    fn each_field_has_a_flag_that_sets_it_alone() {
        let patch = parse(
            "--reliability A+ --quota minute=4,day=500 --quota month=9,week=50 --no-record-ttl 2h --enabled false",
        )
        .unwrap();
        let text = r#"{"enabled":false,"reliability":"A+","quota":{"day":500,"minute":4,"month":9,"week":50},"no_record_ttl":"2h","options":{}}"#;
        assert_eq!(serde_json::to_string(&patch).unwrap(), text);
        assert_eq!(parse("--proxy=").unwrap().proxy, Some(Clearable::Cleared));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_flag() {
        for (line, part) in [
            ("--reliability Z", "'--reliability': "),
            ("--quota minute", "'--quota': write minute=4"),
            ("--quota minute=0", "'--quota': must be at least 1"),
            ("--quota second=3", "'--quota': "),
            ("--quota-reserve some", "'--quota-reserve': must be a whole number"),
            ("--max-tlp PINK", "'--max-tlp': "),
            ("--max-concurrency some", "'--max-concurrency': must be a whole number"),
            ("--timeout soon", "'--timeout': "),
            ("--enabled maybe", "true|false"),
            ("--ca-pem x", "unexpected argument"),
        ] {
            let refused = parse(line).unwrap_err();
            assert!(refused.contains(part), "{line}: {refused}");
        }
    }
}
