//! The JSON of an answer, parsed once into one list of nodes. Texts are borrowed from the body wherever they stand there as they
//! are, and an object needs no table of its own. `json` reads members by their rules.

use std::borrow::Cow;
use std::fmt;
use std::iter;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use smallvec::SmallVec;

/// A report has about so many bytes a node, so that the list seldom grows.
const BYTES_PER_NODE: usize = 12;

/// A JSON document.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    /// In the order of the text: a list before its entries, a name before its value.
    nodes: Vec<Node<'a>>,
}

#[derive(Debug)]
enum Node<'a> {
    Null,
    Flag(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Content),
    Object(Content),
}

/// The nodes of a list or an object.
#[derive(Clone, Copy, Debug)]
struct Content {
    /// The first node after it.
    end: u32,
    /// The list or object that it is in.
    parent: u32,
}

/// A value in a document.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null,
    Flag(bool),
    Number(&'a Number),
    Text(&'a str),
    List(Entries<'a>),
    Object(Members<'a>),
}

/// The entries of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries<'a> {
    document: &'a Document<'a>,
    at: usize,
}

/// The members of an object. Of members with the same name the last counts where it is looked up, as with most parsers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Members<'a> {
    document: &'a Document<'a>,
    at: usize,
}

impl<'a> Document<'a> {
    /// Parses the whole text as one JSON value.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut nodes = Vec::with_capacity(text.len() / BYTES_PER_NODE);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Parse { nodes: &mut nodes, parent: 0 }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(Self { nodes })
    }

    /// The outermost value; null for an empty document.
    pub(super) fn root(&self) -> Value<'_> {
        self.value(0)
    }

    fn value(&self, at: usize) -> Value<'_> {
        match self.nodes.get(at) {
            Some(Node::Null) | None => Value::Null,
            Some(Node::Flag(flag)) => Value::Flag(*flag),
            Some(Node::Number(number)) => Value::Number(number),
            Some(Node::Text(text)) => Value::Text(text),
            Some(Node::List(_)) => Value::List(Entries { document: self, at }),
            Some(Node::Object(_)) => Value::Object(Members { document: self, at }),
        }
    }

    fn name(&self, at: usize) -> &str {
        if let Some(Node::Text(name)) = self.nodes.get(at) { name } else { "" }
    }

    /// The first node after the value at this place.
    fn after(&self, at: usize) -> usize {
        self.content(at).map_or(at + 1, |content| content.end as usize)
    }

    fn content(&self, at: usize) -> Option<Content> {
        if let Node::List(content) | Node::Object(content) = self.nodes.get(at)? { Some(*content) } else { None }
    }

    /// The places of the values in the list or object at this place, each of which has so many nodes before it: its name.
    fn places(&self, at: usize, before_value: usize) -> impl Iterator<Item = usize> {
        let end = self.content(at).map_or(at, |content| content.end as usize);
        let mut next = at + 1;
        iter::from_fn(move || {
            let place = next + before_value;
            (place < end).then(|| {
                next = self.after(place);
                place
            })
        })
    }

    /// The path of a list or an object, as in `data.urls[].tags`.
    fn path(&self, mut at: usize) -> String {
        let mut steps = Vec::new();
        while at > 0 {
            let Some(Content { parent, .. }) = self.content(at) else { break };
            let is_entry = matches!(self.nodes.get(parent as usize), Some(Node::List(_)));
            steps.push(if is_entry { "[]" } else { self.name(at - 1) });
            at = parent as usize;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            if !path.is_empty() && step != "[]" {
                path.push('.');
            }
            path.push_str(step);
        }
        path
    }
}

impl<'a> Value<'a> {
    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn as_text(self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The text without blanks around it, unless it is empty.
    pub(super) fn as_non_empty_text(self) -> Option<&'a str> {
        self.as_text().map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn as_number(self) -> Option<&'a Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn as_list(self) -> Option<Entries<'a>> {
        if let Self::List(entries) = self { Some(entries) } else { None }
    }

    pub(super) fn as_object(self) -> Option<Members<'a>> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }
}

impl<'a> Entries<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let document = self.document;
        document.places(self.at, 0).map(|at| document.value(at))
    }

    pub(super) fn len(self) -> usize {
        self.iter().count()
    }
}

impl<'a> Members<'a> {
    /// No members.
    pub(super) fn none() -> Members<'static> {
        static EMPTY: Document<'static> = Document { nodes: Vec::new() };
        Members { document: &EMPTY, at: 0 }
    }

    /// Names and values, in the order of the text.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let document = self.document;
        document.places(self.at, 1).map(|at| (document.name(at - 1), document.value(at)))
    }

    pub(super) fn len(self) -> usize {
        self.iter().count()
    }

    /// The value of the member of this name.
    pub(super) fn get(self, name: &str) -> Option<Value<'a>> {
        let document = self.document;
        let (mut found, mut at) = (None, self.at + 1);
        let end = document.after(self.at).min(document.nodes.len());
        while at < end {
            if let Node::Text(known) = &document.nodes[at]
                && known == name
            {
                found = Some(at + 1);
            }
            at = document.after(at + 1);
        }
        found.map(|at| document.value(at))
    }

    /// The members in a form in which many of them are found quickly.
    pub(super) fn index(self) -> Index<'a> {
        let places = self.document.places(self.at, 1);
        let entry = |at: usize| (hint(self.document.name(at - 1)), at);
        Index { document: self.document, places: places.map(entry).collect() }
    }

    /// Where the object stands in the document, as in `data.attributes`; empty for the outermost.
    pub(super) fn path(self) -> String {
        self.document.path(self.at)
    }
}

/// The members of an object, each with a hint of its name.
pub(super) struct Index<'a> {
    document: &'a Document<'a>,
    places: SmallVec<[(u32, usize); 32]>,
}

impl<'a> Index<'a> {
    /// As [`Members::get`].
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        let document = self.document;
        let wanted = hint(name);
        let is_it = |(hint, at): &&(u32, usize)| *hint == wanted && document.name(at - 1) == name;
        self.places.iter().rev().find(is_it).map(|(_, at)| document.value(*at))
    }
}

/// The length of a name and its first, middle and last byte: most names differ in one of them.
fn hint(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return 0 };
    u32::from_le_bytes([bytes.len() as u8, *first, bytes[bytes.len() / 2], *last])
}

/// Appends the nodes of the next value.
struct Parse<'n, 'a> {
    nodes: &'n mut Vec<Node<'a>>,
    parent: u32,
}

impl<'a> Parse<'_, 'a> {
    fn add<E>(self, node: Node<'a>) -> Result<(), E> {
        self.nodes.push(node);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Parse<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parse<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.add(Node::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.add(Node::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.add(Node::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.add(Node::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.add(Number::from_f64(number).map_or(Node::Null, Node::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.add(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.add(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { nodes, parent } = self;
        let own = place(nodes)?;
        nodes.push(Node::List(Content { end: own, parent }));
        while entries.next_element_seed(Parse { nodes, parent: own })?.is_some() {}
        nodes[own as usize] = Node::List(Content { end: place(nodes)?, parent });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { nodes, parent } = self;
        let own = place(nodes)?;
        nodes.push(Node::Object(Content { end: own, parent }));
        while members.next_key_seed(Parse { nodes, parent: own })?.is_some() {
            members.next_value_seed(Parse { nodes, parent: own })?;
        }
        nodes[own as usize] = Node::Object(Content { end: place(nodes)?, parent });
        Ok(())
    }
}

/// The place of the next node.
fn place<E: Error>(nodes: &[Node<'_>]) -> Result<u32, E> {
    u32::try_from(nodes.len()).map_err(|_| E::custom("too many values"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_is_walked_in_the_order_of_its_text_and_the_last_of_equal_names_counts() {
        let text = r#"{"a": [1, {"b": null}, []], "c\n": {"d": {"e": "x\u0041"}, "f": -1.5}, "a": true}"#;
        let document = Document::parse(text).expect("JSON");
        let root = document.root().as_object().expect("an object");
        assert_eq!(root.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c\n", "a"]);
        assert!(matches!(root.get("a"), Some(Value::Flag(true))));
        assert!(root.get("b").is_none());
        let index = root.index();
        assert!(matches!(index.get("a"), Some(Value::Flag(true))), "the last here, too");
        assert!(matches!((index.get("c\n"), index.get("b"), index.get("")), (Some(Value::Object(_)), None, None)));
        let inner = root.get("c\n").and_then(Value::as_object).expect("an object");
        assert_eq!(inner.get("f").and_then(Value::as_number).and_then(Number::as_f64), Some(-1.5));
        let deepest = inner.get("d").and_then(Value::as_object).expect("an object");
        assert_eq!(deepest.get("e").and_then(Value::as_text), Some("xA"));
        assert_eq!((deepest.path().as_str(), root.path().as_str()), ("c\n.d", ""));
    }

    proptest! {
        #[test]
        fn an_index_finds_what_a_look_up_of_one_member_finds(names in vec("[ab\u{e4}]{0,3}|a{255,258}", 0..12), wanted in "[ab\u{e4}]{0,3}|a{255,258}") {
            let members: Vec<String> =
                names.iter().enumerate().map(|(number, name)| format!("\"{name}\": {number}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let document = Document::parse(&text).expect("JSON");
            let root = document.root().as_object().expect("an object");
            let index = root.index();
            for name in names.iter().chain([&wanted]) {
                let number = |value: Option<Value<'_>>| value.and_then(Value::as_number).and_then(Number::as_u64);
                let last = names.iter().rposition(|known| known == name).map(|place| place as u64);
                prop_assert_eq!((number(index.get(name)), number(root.get(name))), (last, last));
            }
        }
    }

    #[test]
    fn the_path_of_an_entry_shows_the_lists_around_it() {
        let document = Document::parse(r#"{"urls": [7, [{"a": 1}]]}"#).expect("JSON");
        let urls = document.root().as_object().and_then(|root| root.get("urls"));
        let Some(Value::List(entries)) = urls else { panic!("a list") };
        let Some(Value::List(within)) = entries.iter().nth(1) else { panic!("a list in it") };
        let object = within.iter().next().and_then(Value::as_object).expect("an object in that");
        assert_eq!((object.path().as_str(), entries.len(), within.len(), object.len()), ("urls[][]", 2, 1, 1));
    }

    #[test]
    fn what_is_not_one_whole_value_is_refused() {
        for text in ["", "{", "[1,]", "1 2", "{\"a\" 1}", "nul", "\"\\ud800\"", "1e999"] {
            assert!(Document::parse(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Document::parse(&deep).is_err(), "the stack is bounded");
        let empty = Document::default();
        assert!(
            empty.root().is_null() && Members::none().get("a").is_none() && Members::none().iter().next().is_none()
        );
    }
}
