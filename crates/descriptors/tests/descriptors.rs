//! The descriptors that the code is generated from are those of the proto files (`UPDATE_GOLDEN=1` writes them anew).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use concord_descriptors::{DescriptorSet, PROTOCOL, STORE, proto};
use prost::Message;

#[test]
fn the_descriptors_are_those_of_the_proto_files() {
    for set in [PROTOCOL, STORE] {
        let compiled = protox::compile(set.sources, [proto()]).unwrap_or_else(|error| panic!("{error:?}"));
        let compiled = compiled.encode_to_vec();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(set.path(), &compiled).unwrap();
        }
        let kept = fs::read(set.path()).unwrap_or_default();
        assert!(
            kept == compiled,
            "{} is not made of these proto files: UPDATE_GOLDEN=1 cargo test -p concord-descriptors",
            set.file,
        );
    }
}

#[test]
fn every_proto_file_is_part_of_a_set() {
    for DescriptorSet { file, sources } in [PROTOCOL, STORE] {
        let folder = Path::new(file).parent().unwrap();
        let files = fs::read_dir(proto().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let files: BTreeSet<_> = files
            .map(|name| folder.join(name).display().to_string())
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "proto"))
            .collect();
        assert_eq!(files, sources.iter().map(|name| (*name).to_owned()).collect());
    }
}
