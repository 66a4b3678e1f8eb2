//! An index over a list's entries, for look-ups in microseconds: exact values, names with their subdomains, networks.
//! `sources/list.rs` reads the formats and fills it; `fetch` holds it and looks up. No I/O, no format is known here.
//!
//! The entries share one buffer, and a hash table holds where each begins: a million entries cost their text and about
//! 24 bytes each. The hasher is keyed at random, so that nobody can prepare a list of colliding values.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::SystemTime;

use aho_corasick::{AhoCorasick, MatchKind};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ipnet::IpNet;

use super::network_set::NetworkSet;
use crate::finding::{SourceError, SourceErrorKind};
use crate::indicator::{Form, Host, Indicator, IndicatorType};

/// Maximum bytes of a list, unpacked.
pub const MAX_LIST_BYTES: usize = 256 * 1024 * 1024;
/// Maximum bytes of an entry's note.
const MAX_NOTE: usize = 256;
/// Maximum bytes of all entries that are looked for within a value: the automaton takes many times as much.
const MAX_SUBSTRINGS: usize = 4 * 1024 * 1024;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    /// The entry in normal form, with the credentials of a URL redacted.
    pub value: String,
    /// What the list says beside it (a comment, the other columns), cut to 256 bytes; the list's title if nothing.
    pub note: String,
}

/// The copy of a list that an answer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStatus {
    /// When it was last loaded with success.
    pub loaded: SystemTime,
    /// Why the last reload was not taken, if it was not.
    pub stale: Option<String>,
    /// How many different entries it has.
    pub entries: usize,
    /// How many entries of the list were skipped.
    pub skipped: usize,
    /// Which entries were skipped and why, in one sentence; empty if none was.
    pub skipped_note: String,
}

/// An immutable index over the entries of one list.
#[derive(Default)]
pub struct ListIndex {
    entries: Entries,
    by_value: HashTable<Slot>,
    hasher: RandomState,
    networks: NetworkSet,
    /// Finds the entries that are looked for within a value, which are these.
    substrings: Option<(AhoCorasick, Vec<EntryId>)>,
    /// The types of indicators that the list is for; `None`: all.
    only: Option<Vec<IndicatorType>>,
    title: String,
    urls_by_host: bool,
    skipped: usize,
    skipped_note: String,
}

/// Where an entry begins.
type EntryId = u32;

/// An entry in the hash table. With its hash, neither a miss nor a table that grows has to read the entry.
struct Slot {
    hash: u32,
    entry: EntryId,
}

/// All entries one after the other, each as its head, its value and its note.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: usize,
}

/// The lengths of an entry's value and note, and whether it covers subdomains, packed into four bytes.
#[derive(Clone, Copy)]
struct EntryHead(u32);

impl EntryHead {
    const BYTES: usize = 4;
    const NOTE_BITS: u32 = 9;
    const SUBDOMAINS: u32 = 1;

    /// `None` if a length is too large.
    fn new(value: usize, note: usize, subdomains: bool) -> Option<Self> {
        let (value, note) = (u32::try_from(value).ok()?, u32::try_from(note).ok()?);
        let fits = note < 1 << Self::NOTE_BITS && value < 1 << (31 - Self::NOTE_BITS);
        fits.then_some(Self(value << (Self::NOTE_BITS + 1) | note << 1 | u32::from(subdomains)))
    }

    fn value_length(self) -> usize {
        (self.0 >> (Self::NOTE_BITS + 1)) as usize
    }

    fn note_length(self) -> usize {
        (self.0 >> 1 & ((1 << Self::NOTE_BITS) - 1)) as usize
    }

    fn has_subdomains(self) -> bool {
        self.0 & Self::SUBDOMAINS != 0
    }
}

impl Entries {
    fn head(&self, entry: EntryId) -> EntryHead {
        let head = self.bytes.get(entry as usize..).and_then(|rest| rest.first_chunk());
        EntryHead(u32::from_le_bytes(head.copied().unwrap_or_default()))
    }

    fn value(&self, entry: EntryId) -> &[u8] {
        let start = entry as usize + EntryHead::BYTES;
        self.bytes.get(start..start + self.head(entry).value_length()).unwrap_or_default()
    }

    fn note(&self, entry: EntryId) -> &[u8] {
        let head = self.head(entry);
        let start = entry as usize + EntryHead::BYTES + head.value_length();
        self.bytes.get(start..start + head.note_length()).unwrap_or_default()
    }

    fn push(&mut self, value: &str, note: &str, subdomains: bool) -> Result<EntryId, SourceError> {
        let full = || SourceError::new(SourceErrorKind::TooLarge, "the list has more than an index can hold: split it");
        let entry = EntryId::try_from(self.bytes.len()).map_err(|_| full())?;
        let head = EntryHead::new(value.len(), note.len(), subdomains).ok_or_else(full)?;
        self.bytes.extend_from_slice(&head.0.to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.extend_from_slice(note.as_bytes());
        self.count += 1;
        Ok(entry)
    }

    /// Lets the entry cover subdomains from now on.
    fn add_subdomains(&mut self, entry: EntryId) {
        // The least significant byte is the first.
        if let Some(byte) = self.bytes.get_mut(entry as usize) {
            *byte |= EntryHead::SUBDOMAINS as u8;
        }
    }
}

impl Slot {
    /// The hash as the table wants it, which looks at its upper bits too.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl ListIndex {
    /// The most specific entry that names the indicator: itself, its name with subdomains, its network, a part of it.
    pub fn find(&self, indicator: &Indicator) -> Option<ListEntry> {
        if self.only.as_ref().is_some_and(|only| !only.contains(&indicator.indicator_type())) {
            return None;
        }
        let by_substring = || {
            let (substrings, entries) = self.substrings.as_ref()?;
            entries.get(substrings.find(indicator.value())?.pattern().as_usize()).copied()
        };
        let entry = match indicator.form() {
            Form::Ipv4 | Form::Ipv6 => self.find_ip(indicator.value(), indicator.ip()),
            Form::Domain => self.find_name(indicator.value()),
            Form::Url => self.find_url(indicator),
            Form::Md5 | Form::Sha1 | Form::Sha256 => self.find_value(indicator.value()),
        };
        let entry = entry.or_else(by_substring)?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let (value, note) = (text(self.entries.value(entry)), text(self.entries.note(entry)));
        let is_url = value.contains("://");
        let value = if is_url { Indicator::from_stored(Form::Url, value).redacted() } else { value.to_owned() };
        let note = if note.is_empty() { &self.title } else { note };
        Some(ListEntry { value, note: note.to_owned() })
    }

    /// How many different entries the list has.
    pub fn len(&self) -> usize {
        self.entries.count
    }

    /// Whether the list has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.count == 0
    }

    /// How many entries of the list were skipped, since they cannot be read or are of no sort that is looked up.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Which entries were skipped and why, in one sentence; empty if none was.
    pub fn skipped_note(&self) -> &str {
        &self.skipped_note
    }

    fn find_value(&self, value: &str) -> Option<EntryId> {
        let hash = hash(&self.hasher, value);
        let is_it = |slot: &Slot| slot.hash == hash && self.entries.value(slot.entry) == value.as_bytes();
        self.by_value.find(Slot::spread(hash), is_it).map(|slot| slot.entry)
    }

    fn find_url(&self, url: &Indicator) -> Option<EntryId> {
        let by_host = || match url.host().filter(|_| self.urls_by_host)? {
            Host::Ip(ip) => self.find_ip(&ip.to_string(), Some(ip)),
            Host::Name(name) => self.find_name(&name),
        };
        self.find_value(url.value()).or_else(by_host)
    }

    fn find_ip(&self, text: &str, ip: Option<IpAddr>) -> Option<EntryId> {
        self.find_value(text).or_else(|| self.networks.find(ip?))
    }

    fn find_name(&self, name: &str) -> Option<EntryId> {
        let by_parent = || {
            name.match_indices('.').find_map(|(dot, _)| {
                let parent = name.get(dot + 1..)?;
                self.find_value(parent).filter(|entry| self.entries.head(*entry).has_subdomains())
            })
        };
        self.find_value(name).or_else(by_parent)
    }
}

fn hash(hasher: &RandomState, value: &str) -> u32 {
    let hash = hasher.hash_one(value);
    (hash ^ hash >> 32) as u32
}

impl fmt::Debug for ListIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A million entries, some with passwords in their URLs, do not belong in a log.
        f.debug_struct("ListIndex").field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// Fills a [`ListIndex`]. Of entries with the same value the first wins.
#[derive(Debug, Default)]
pub struct ListIndexBuilder {
    index: ListIndex,
}

impl ListIndexBuilder {
    /// A builder with room for entries of together `bytes` bytes of text.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut builder = Self::default();
        // Beside the text, each entry has a head.
        builder.index.entries.bytes.reserve(bytes + bytes / 4);
        builder
    }

    /// Sets the title of the list: the note of every entry that has none of its own.
    pub fn title(&mut self, title: &str) {
        clipped(title).clone_into(&mut self.index.title);
    }

    /// Sets whether an entry for a name or an address also names the URLs on it.
    pub fn urls_by_host(&mut self, yes: bool) {
        self.index.urls_by_host = yes;
    }

    /// Sets the types of indicators that the list is for: others are not found in it.
    pub fn only(&mut self, types: Vec<IndicatorType>) {
        self.index.only = Some(types);
    }

    /// Sets the entries that are looked for within a value, in whatever letter case; none of them is empty.
    ///
    /// # Errors
    /// `TooLarge` when the index is full, or they have more than 4 MiB together.
    pub fn substrings(&mut self, entries: &[&str]) -> Result<(), SourceError> {
        let full =
            || SourceError::new(SourceErrorKind::TooLarge, "the list has more substrings than an index can hold");
        if entries.iter().map(|entry| entry.len()).sum::<usize>() > MAX_SUBSTRINGS {
            return Err(full());
        }
        let mut automaton = AhoCorasick::builder();
        automaton.ascii_case_insensitive(true).match_kind(MatchKind::LeftmostLongest);
        let automaton = automaton.build(entries).map_err(|_| full())?;
        let entries =
            entries.iter().map(|entry| self.index.entries.push(entry, "", false)).collect::<Result<_, _>>()?;
        self.index.substrings = Some((automaton, entries));
        Ok(())
    }

    /// Sets how many entries of the list were skipped, and which and why.
    pub fn skipped(&mut self, count: usize, note: String) {
        (self.index.skipped, self.index.skipped_note) = (count, note);
    }

    /// Adds an indicator that is named itself, and nothing beside it.
    ///
    /// # Errors
    /// `TooLarge` when the index is full (4 GiB, or a value of 4 MiB).
    pub fn value(&mut self, indicator: &Indicator, note: &str) -> Result<(), SourceError> {
        self.add(indicator.value(), note, false).map(|_| ())
    }

    /// Adds a domain name, in its normal form, with all its subdomains.
    ///
    /// # Errors
    /// `TooLarge` when the index is full.
    pub fn name(&mut self, name: &str, note: &str) -> Result<(), SourceError> {
        self.add(name, note, true).map(|_| ())
    }

    /// Adds a network with all its addresses; bits behind the prefix are cleared.
    ///
    /// # Errors
    /// `TooLarge` when the index is full.
    pub fn network(&mut self, network: IpNet, note: &str) -> Result<(), SourceError> {
        let network = network.trunc();
        if let Some(entry) = self.add(&network.to_string(), note, false)? {
            self.index.networks.push(network, entry);
        }
        Ok(())
    }

    /// The finished index.
    pub fn build(self) -> ListIndex {
        let mut index = self.index;
        index.entries.bytes.shrink_to_fit();
        index.networks.finish();
        index
    }

    /// Adds an entry and returns it, unless there is one with this value.
    fn add(&mut self, value: &str, note: &str, subdomains: bool) -> Result<Option<EntryId>, SourceError> {
        let ListIndex { entries, by_value, hasher, .. } = &mut self.index;
        let hash = hash(hasher, value);
        let is_it = |slot: &Slot| slot.hash == hash && entries.value(slot.entry) == value.as_bytes();
        match by_value.entry(Slot::spread(hash), is_it, |slot| Slot::spread(slot.hash)) {
            Entry::Occupied(slot) => {
                if subdomains {
                    entries.add_subdomains(slot.get().entry);
                }
                Ok(None)
            }
            Entry::Vacant(slot) => {
                let entry = entries.push(value, clipped(note), subdomains)?;
                slot.insert(Slot { hash, entry });
                Ok(Some(entry))
            }
        }
    }
}

/// At most [`MAX_NOTE`] bytes of a note, cut between characters.
fn clipped(note: &str) -> &str {
    let note = note.trim();
    note.get(..note.floor_char_boundary(MAX_NOTE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn indicator(form: Form, value: &str) -> Indicator {
        Indicator::from_normal(form, value).unwrap()
    }

    fn found(index: &ListIndex, form: Form, value: &str) -> Option<String> {
        index.find(&indicator(form, value)).map(|entry| entry.value)
    }

    #[test]
    fn the_longest_of_nested_networks_names_an_address_and_the_address_itself_comes_first() {
        let mut builder = ListIndexBuilder::default();
        for network in ["192.0.2.0/24", "192.0.0.0/16", "192.0.2.128/25", "2001:db8::/32"] {
            builder.network(network.parse().unwrap(), "").unwrap();
        }
        builder.value(&indicator(Form::Ipv4, "192.0.2.200"), "").unwrap();
        let index = builder.build();
        assert_eq!(found(&index, Form::Ipv4, "192.0.2.200").as_deref(), Some("192.0.2.200"));
        assert_eq!(found(&index, Form::Ipv4, "192.0.2.201").as_deref(), Some("192.0.2.128/25"));
        assert_eq!(found(&index, Form::Ipv4, "192.0.2.1").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(found(&index, Form::Ipv4, "192.0.3.1").as_deref(), Some("192.0.0.0/16"));
        assert_eq!(found(&index, Form::Ipv4, "192.1.0.1"), None);
        assert_eq!(found(&index, Form::Ipv6, "2001:db8::7").as_deref(), Some("2001:db8::/32"));
        assert_eq!(found(&index, Form::Ipv6, "2001:db9::7"), None);
    }

    #[test]
    fn a_name_covers_its_subdomains_only_where_it_was_added_so() {
        let mut builder = ListIndexBuilder::default();
        builder.name("with.example.com", "").unwrap();
        builder.value(&indicator(Form::Domain, "exact.example.com"), "").unwrap();
        let index = builder.build();
        assert_eq!(found(&index, Form::Domain, "a.b.with.example.com").as_deref(), Some("with.example.com"));
        assert_eq!(found(&index, Form::Domain, "exact.example.com").as_deref(), Some("exact.example.com"));
        assert_eq!(found(&index, Form::Domain, "a.exact.example.com"), None);
        assert_eq!(found(&index, Form::Domain, "notwith.example.com"), None);
        assert_eq!(found(&index, Form::Domain, "example.com"), None);
    }

    #[test]
    fn an_entry_that_comes_twice_counts_once_keeps_its_first_note_and_gains_subdomains() {
        let mut builder = ListIndexBuilder::default();
        builder.value(&indicator(Form::Domain, "example.com"), "first").unwrap();
        builder.name("example.com", "second").unwrap();
        let index = builder.build();
        assert_eq!(index.len(), 1);
        let entry = index.find(&indicator(Form::Domain, "www.example.com")).unwrap();
        assert_eq!(entry, ListEntry { value: "example.com".into(), note: "first".into() });
    }

    #[test]
    fn a_note_is_cut_between_characters_and_the_title_stands_in_for_a_missing_one() {
        let mut builder = ListIndexBuilder::default();
        builder.title("Example list");
        builder.name("long.example.com", &"é".repeat(200)).unwrap();
        builder.name("bare.example.com", " ").unwrap();
        let index = builder.build();
        let note = |name| index.find(&indicator(Form::Domain, name)).unwrap().note;
        assert_eq!(note("long.example.com"), "é".repeat(128));
        assert_eq!(note("bare.example.com"), "Example list");
    }

    #[test]
    fn an_empty_index_names_nothing() {
        let index = ListIndexBuilder::default().build();
        assert!(index.is_empty());
        assert_eq!(found(&index, Form::Ipv4, "192.0.2.1"), None);
        assert_eq!(found(&index, Form::Domain, "example.com"), None);
    }

    #[test]
    fn every_one_of_twenty_thousand_entries_is_found_and_no_other() {
        let mut builder = ListIndexBuilder::default();
        let hash = |number: u32| format!("{number:032x}");
        for number in 0..20_000 {
            builder.value(&indicator(Form::Md5, &hash(number)), "").unwrap();
        }
        let index = builder.build();
        assert_eq!(index.len(), 20_000);
        assert!((0..20_000).all(|number| found(&index, Form::Md5, &hash(number)).is_some()));
        assert!((20_000..40_000).all(|number| found(&index, Form::Md5, &hash(number)).is_none()));
    }

    /// The slow and plain way to the same answer.
    fn scanned(networks: &[IpNet], ip: IpAddr) -> Option<IpNet> {
        networks.iter().filter(|network| network.contains(&ip)).max_by_key(|network| network.prefix_len()).copied()
    }

    fn scanned_name<'a>(exact: &'a [String], covering: &'a [String], name: &str) -> Option<&'a String> {
        let exactly = exact.iter().filter(|entry| *entry == name);
        let below = covering.iter().filter(|entry| entry.as_str() == name || name.ends_with(&format!(".{entry}")));
        exactly.chain(below).max_by_key(|entry| entry.len())
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        // Few bits vary, so that networks nest and addresses hit.
        let ipv4 = (0u32..64).prop_map(|low| IpAddr::from((0xC000_0200 | low).to_be_bytes()));
        let ipv6 = (0u128..64).prop_map(|low| IpAddr::from(((0x2001_0db8u128 << 96) | low).to_be_bytes()));
        prop_oneof![ipv4, ipv6]
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        (any_address(), 0u8..=12).prop_map(|(ip, host_bits)| {
            let length = if ip.is_ipv4() { 32 } else { 128 } - host_bits;
            IpNet::new(ip, length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn an_address_is_found_as_a_scan_over_all_networks_finds_it(
            networks in prop::collection::vec(any_network(), 0..20),
            ip in any_address(),
        ) {
            let mut builder = ListIndexBuilder::default();
            for network in &networks {
                builder.network(*network, "").unwrap();
            }
            let form = if ip.is_ipv4() { Form::Ipv4 } else { Form::Ipv6 };
            let expected = scanned(&networks, ip).map(|network| network.to_string());
            prop_assert_eq!(found(&builder.build(), form, &ip.to_string()), expected);
        }

        #[test]
        fn a_name_is_found_as_a_scan_over_all_names_finds_it(
            exact in prop::collection::vec("[ab](\\.[ab]){1,3}", 0..12),
            covering in prop::collection::vec("[ab](\\.[ab]){1,3}", 0..12),
            name in "[ab](\\.[ab]){1,4}",
        ) {
            let mut builder = ListIndexBuilder::default();
            for entry in &exact {
                builder.value(&indicator(Form::Domain, entry), "").unwrap();
            }
            for entry in &covering {
                builder.name(entry, "").unwrap();
            }
            let expected = scanned_name(&exact, &covering, &name).cloned();
            prop_assert_eq!(found(&builder.build(), Form::Domain, &name), expected);
        }
    }
}
