//! The protocol as it stands, as a golden file: a change in it is seen in review (`UPDATE_GOLDEN=1` writes it).

use std::fmt::Write;
use std::path::PathBuf;

use prost::Message;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

#[test]
fn the_protocol_has_not_changed() {
    let set = FileDescriptorSet::decode(concord::pb::FILE_DESCRIPTOR_SET).unwrap();
    let mut text = String::new();
    let mut files: Vec<_> = set.file.iter().filter(|file| file.package() == "concord.v1").collect();
    files.sort_by_key(|file| file.name());
    for file in files {
        writeln!(text, "# {}", file.name()).unwrap();
        for service in &file.service {
            for method in &service.method {
                let streams = [method.client_streaming(), method.server_streaming()];
                let [sent, answered] = streams.map(|is_stream| if is_stream { "stream " } else { "" });
                let (input, output) = (method.input_type(), method.output_type());
                writeln!(text, "rpc {}.{}({sent}{input}) -> {answered}{output}", service.name(), method.name())
                    .unwrap();
            }
        }
        file.message_type.iter().for_each(|message| write_message(message, &mut text));
        file.enum_type.iter().for_each(|one| write_enum(one, &mut text));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/protocol.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "UPDATE_GOLDEN=1 writes it anew");
}

fn write_message(message: &DescriptorProto, text: &mut String) {
    writeln!(text, "message {}", message.name()).unwrap();
    message.field.iter().for_each(|field| write_field(field, text));
}

fn write_field(field: &FieldDescriptorProto, text: &mut String) {
    let label = if field.label() == Label::Repeated { "repeated " } else { "" };
    let kind = if field.type_name().is_empty() { field.r#type().as_str_name() } else { field.type_name() };
    writeln!(text, "  {} {label}{kind} {}", field.number(), field.name()).unwrap();
}

fn write_enum(one: &EnumDescriptorProto, text: &mut String) {
    writeln!(text, "enum {}", one.name()).unwrap();
    for value in &one.value {
        writeln!(text, "  {} {}", value.number(), value.name()).unwrap();
    }
}
