//! Messages of the protocol as JSON, in the one form that protobuf defines for them (proto3 JSON).

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::args::ListOutput;
use super::{Failure, print};
use crate::pb::DESCRIPTORS;

/// The message `concord.v1.{name}` as a document. Members that hold their default are written too, so that scripts need
/// not know which are left out.
pub(super) fn document(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{name} cannot be written as JSON: {error}"));
    let descriptor =
        DESCRIPTORS.get_message_by_name(&format!("concord.v1.{name}")).ok_or_else(|| failed(&"unknown type"))?;
    let message =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|error| failed(&error))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| failed(&error))
}

/// A document as an element of a list.
pub(super) fn indented(document: &Value) -> String {
    let text = serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string());
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// One list of documents.
pub(super) fn list(documents: &[Value]) -> String {
    match documents {
        [] => "[]\n".to_owned(),
        _ => format!("[\n{}\n]\n", documents.iter().map(indented).collect::<Vec<_>>().join(",\n")),
    }
}

/// One document a line.
pub(super) fn lines(documents: &[Value]) -> String {
    documents.iter().map(|document| format!("{document}\n")).collect()
}

/// Prints messages of one type as the caller wants them.
pub(super) fn print_messages<M: Message>(
    output: ListOutput,
    name: &str,
    messages: &[M],
    table: impl FnOnce(&[M]) -> String,
) -> Result<(), Failure> {
    let documents = || messages.iter().map(|message| document(name, message)).collect::<Result<Vec<_>, _>>();
    match output {
        ListOutput::Table => print(&table(messages)),
        ListOutput::Json => print(&list(&documents()?)),
        ListOutput::Jsonl => print(&lines(&documents()?)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pb;

    #[test]
    fn a_message_is_written_in_the_form_that_protobuf_defines() {
        let contribution = pb::Contribution {
            term: Some(pb::contribution::Term::Source("sources/a".into())),
            reliability: pb::Reliability::APlus.into(),
            age: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            micro_nats: -1_658_228,
            ..Default::default()
        };
        let expected = json!({
            "source": "sources/a",
            "reliability": "RELIABILITY_A_PLUS",
            "claim": "DISPOSITION_UNSPECIFIED",
            "age": "90s",
            "microNats": "-1658228",
            "sentence": "",
        });
        assert_eq!(document("Contribution", &contribution).unwrap(), expected);
    }
}
