//! The relationships of VirusTotal: which a look-up may ask for, what each means, and the relations that a report holds.

use std::collections::HashSet;

use crate::finding::{Relation, RelationName, SourceError};
use crate::indicator::{Indicator, IndicatorType};
use crate::source::{Answer, Relationship};
use crate::sources::http;
use crate::sources::json::{self, Object};

/// What `relationships_*` says for none at all.
const NONE: &str = "none";

const fn free(indicator_type: IndicatorType, name: &'static str, relation: RelationName) -> Relationship {
    Relationship { indicator_type, name, relation, is_premium: false }
}

const fn premium(indicator_type: IndicatorType, name: &'static str, relation: RelationName) -> Relationship {
    Relationship { indicator_type, name, relation, is_premium: true }
}

/// Every relationship that a report can carry. `docs/virustotal.md` says where the relation is not the one of Cortex
/// XSOAR's integration, and why.
pub(super) const RELATIONSHIPS: &[Relationship] = {
    use IndicatorType::{Domain, File, Ip, Url};
    use RelationName as Is;
    &[
        premium(File, "carbonblack_children", Is::Creates),
        premium(File, "carbonblack_parents", Is::CreatedBy),
        premium(File, "compressed_parents", Is::BundledIn),
        free(File, "contacted_domains", Is::CommunicatesWith),
        free(File, "contacted_ips", Is::CommunicatesWith),
        free(File, "contacted_urls", Is::CommunicatesWith),
        free(File, "dropped_files", Is::Drops),
        premium(File, "email_attachments", Is::Attaches),
        premium(File, "email_parents", Is::AttachmentOf),
        premium(File, "embedded_domains", Is::Embeds),
        premium(File, "embedded_ips", Is::Embeds),
        premium(File, "embedded_urls", Is::Embeds),
        free(File, "execution_parents", Is::ExecutedBy),
        premium(File, "itw_domains", Is::HostedOn),
        premium(File, "itw_ips", Is::HostedOn),
        premium(File, "overlay_children", Is::Bundles),
        premium(File, "overlay_parents", Is::BundledIn),
        premium(File, "pcap_children", Is::Bundles),
        premium(File, "pcap_parents", Is::BundledIn),
        free(File, "pe_resource_children", Is::Bundles),
        free(File, "pe_resource_parents", Is::BundledIn),
        premium(File, "similar_files", Is::SimilarTo),
        premium(Domain, "caa_records", Is::RelatedTo),
        premium(Domain, "cname_records", Is::IsAlso),
        free(Domain, "communicating_files", Is::CommunicatedBy),
        premium(Domain, "downloaded_files", Is::Drops),
        free(Domain, "immediate_parent", Is::SubDomainOf),
        premium(Domain, "mx_records", Is::RelatedTo),
        premium(Domain, "ns_records", Is::RelatedTo),
        free(Domain, "parent", Is::SubDomainOf),
        free(Domain, "referrer_files", Is::EmbeddedIn),
        free(Domain, "siblings", Is::RelatedTo),
        premium(Domain, "soa_records", Is::RelatedTo),
        free(Domain, "subdomains", Is::SupraDomainOf),
        premium(Domain, "urls", Is::Hosts),
        free(Ip, "communicating_files", Is::CommunicatedBy),
        premium(Ip, "downloaded_files", Is::Drops),
        free(Ip, "referrer_files", Is::EmbeddedIn),
        premium(Ip, "urls", Is::Hosts),
        free(Url, "communicating_files", Is::CommunicatedBy),
        premium(Url, "contacted_domains", Is::CommunicatesWith),
        premium(Url, "contacted_ips", Is::CommunicatesWith),
        premium(Url, "downloaded_files", Is::Drops),
        free(Url, "last_serving_ip_address", Is::ResolvesTo),
        free(Url, "network_location", Is::HostedOn),
        premium(Url, "redirecting_urls", Is::RedirectedFrom),
        premium(Url, "redirects_to", Is::RedirectsTo),
        premium(Url, "referrer_files", Is::EmbeddedIn),
        premium(Url, "referrer_urls", Is::EmbeddedIn),
    ]
};

fn of(wanted: IndicatorType) -> impl Iterator<Item = &'static Relationship> {
    RELATIONSHIPS.iter().filter(move |relationship| relationship.indicator_type == wanted)
}

/// The relationships to ask for, given what the user wrote: nothing means all that the tier shows.
///
/// # Errors
/// What is wrong with a name.
pub(super) fn wanted(wanted: IndicatorType, written: &[String], is_premium: bool) -> Result<Vec<&'static str>, String> {
    if written.is_empty() {
        return Ok(of(wanted).filter(|known| is_premium || !known.is_premium).map(|known| known.name).collect());
    }
    if written.iter().any(|name| name.trim() == NONE) {
        return match written {
            [_] => Ok(Vec::new()),
            _ => Err(format!("{NONE:?} stands alone")),
        };
    }
    let mut names = Vec::new();
    for name in written {
        let relationship = find(wanted, name)?;
        if relationship.is_premium && !is_premium {
            return Err(format!("{} is shown to premium keys only: set tier = \"premium\", or drop it", name.trim()));
        }
        if !names.contains(&relationship.name) {
            names.push(relationship.name);
        }
    }
    Ok(names)
}

fn known(wanted: IndicatorType, name: &str) -> Option<&'static Relationship> {
    of(wanted).find(|known| known.name == name)
}

fn find(wanted: IndicatorType, name: &str) -> Result<&'static Relationship, String> {
    let name = name.trim();
    known(wanted, name).ok_or_else(|| {
        let near = of(wanted).max_by(|a, b| {
            let likeness = |known: &str| strsim::jaro_winkler(known, name);
            likeness(a.name).total_cmp(&likeness(b.name))
        });
        let mark = |known: &Relationship| format!("{}{}", known.name, if known.is_premium { " (premium)" } else { "" });
        let known: Vec<_> = of(wanted).map(mark).collect();
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {}?", near.name));
        format!("{name:?} is no relationship of type {}{hint} Known: {}", wanted.as_str(), known.join(", "))
    })
}

/// The names that a tier is shown, of those that a request wants.
pub(super) fn shown(of: IndicatorType, names: &[String], is_premium: bool) -> Vec<&str> {
    let is_shown = |name: &str| known(of, name.trim()).is_some_and(|known| is_premium || !known.is_premium);
    names.iter().map(String::as_str).filter(|name| is_shown(name)).collect()
}

/// The relations of a look-up, each once.
#[derive(Default)]
pub(super) struct Relations {
    pub(super) found: Vec<Relation>,
    seen: HashSet<(RelationName, Indicator)>,
}

impl Relations {
    /// Adds the descriptors of one relationship.
    fn add(&mut self, known: &Relationship, relationship: &Object<'_>) {
        for indicator in relationship.list_or_one("data").filter_map(|item| descriptor(&item)) {
            if self.seen.insert((known.relation, indicator.clone())) {
                self.found.push(Relation { name: known.relation, source_name: known.name.to_owned(), indicator });
            }
        }
    }

    /// How many relations have such a name.
    pub(super) fn count(&self, is_wanted: impl Fn(&str) -> bool) -> usize {
        self.found.iter().filter(|relation| is_wanted(&relation.source_name)).count()
    }

    /// The relations, those with such a name first: a finding holds only so many.
    pub(super) fn in_order(mut self, is_wanted: impl Fn(&str) -> bool) -> Vec<Relation> {
        self.found.sort_by_key(|relation| !is_wanted(&relation.source_name));
        self.found
    }

    /// Adds what a report carries. Returns the relationships that have a further page, each with its cursor.
    pub(super) fn add_report(&mut self, of: IndicatorType, record: &Object<'_>) -> Vec<(&'static str, String)> {
        let Ok(Some(relationships)) = record.object("data.relationships") else { return Vec::new() };
        let mut further = Vec::new();
        for (name, relationship) in relationships.objects_by_name() {
            let Some(known) = known(of, name) else { continue };
            self.add(known, &relationship);
            further.extend(cursor(&relationship).map(|cursor| (known.name, cursor)));
        }
        further
    }

    /// Adds a further page. Returns the cursor of the one after it.
    pub(super) fn add_page(
        &mut self,
        of: IndicatorType,
        name: &str,
        answer: &Answer,
    ) -> Result<Option<String>, SourceError> {
        let document = json::parse(http::success(answer)?)?;
        let page = Object::root(&document)?;
        if let Some(known) = known(of, name) {
            self.add(known, &page);
        }
        Ok(cursor(&page))
    }
}

fn cursor(page: &Object<'_>) -> Option<String> {
    page.text_if_any("meta.cursor").map(str::to_owned)
}

/// The types of descriptors that name an indicator.
const DESCRIBED: [(&str, IndicatorType); 5] = [
    ("ip", IndicatorType::Ip),
    ("ip_address", IndicatorType::Ip),
    ("domain", IndicatorType::Domain),
    ("file", IndicatorType::File),
    ("url", IndicatorType::Url),
];

/// The indicator that a descriptor names: by its identifier, a URL by its context, since its identifier is a hash.
fn descriptor(descriptor: &Object<'_>) -> Option<Indicator> {
    let id = descriptor.text_if_any("id")?;
    let kind = descriptor.text_if_any("type")?;
    let (_, wanted) = DESCRIBED.into_iter().find(|(name, _)| kind.eq_ignore_ascii_case(name))?;
    let value = if wanted == IndicatorType::Url { descriptor.text_if_any("context_attributes.url")? } else { id };
    Indicator::parse_as(value, wanted).ok().map(|parsed| parsed.indicator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_tier_asks_for_no_premium_relationship_and_refuses_one_by_name() {
        let free = wanted(IndicatorType::File, &[], false).expect("free ones");
        assert_eq!(free.len(), 7);
        assert_eq!(wanted(IndicatorType::File, &[], true).expect("all").len(), 22);
        let refused = wanted(IndicatorType::File, &["similar_files".into()], false).unwrap_err();
        assert!(refused.contains("premium keys only"), "{refused}");
        assert_eq!(wanted(IndicatorType::Ip, &["none".into()], true), Ok(Vec::new()));
    }

    #[test]
    fn an_unknown_relationship_is_refused_with_the_nearest_and_all_known_ones() {
        let refused = wanted(IndicatorType::Ip, &["comunicating_files".into()], true).unwrap_err();
        assert!(refused.contains("did you mean communicating_files?"), "{refused}");
        assert!(refused.contains("downloaded_files (premium)"), "{refused}");
    }

    #[test]
    fn descriptors_come_as_a_list_as_one_object_or_as_null_and_each_relation_counts_once() {
        let body = br#"{"data": {"relationships": {
            "contacted_domains": {"data": [
                {"type": "domain", "id": "example.org"}, {"type": "domain", "id": "EXAMPLE.org"}, {"id": "x"}, 7]},
            "contacted_urls": {"data": {"type": "url", "id": "ab", "context_attributes": {"url": "http://example.com/"}}},
            "contacted_ips": {"data": null, "meta": {"cursor": "abc"}}, "dropped_files": {"data": [{"type": "private_file", "id": "cd"}]},
            "invented": {"data": [{"type": "domain", "id": "example.net"}]}}}}"#;
        let document = json::parse(body).expect("JSON");
        let mut relations = Relations::default();
        let further = relations.add_report(IndicatorType::File, &Object::root(&document).expect("an object"));
        assert_eq!(further, [("contacted_ips", "abc".to_owned())]);
        let shown = |relation: &Relation| format!("{} {}", relation.name, relation.indicator.value());
        let shown: Vec<_> = relations.found.iter().map(shown).collect();
        assert_eq!(shown, ["communicates-with example.org", "communicates-with http://example.com/"]);
    }
}
