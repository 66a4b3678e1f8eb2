//! How two indicators relate to each other.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::indicator::Indicator;

/// Another indicator that an answer names.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// How the indicator that was looked up relates to this one: "`example.com` resolves to `192.0.2.1`".
    pub name: RelationName,
    /// The source's own word for it: `contacted_domains`.
    pub source_name: String,
    /// The other indicator.
    pub indicator: Indicator,
}

/// The name of a relation, read from the indicator that was looked up to the other one. Names are those of Cortex XSOAR's
/// VirusTotal integration where that has a fitting one; `docs/virustotal.md` lists where ours differ and why.
#[derive(
    Clone, Copy, Debug, Display, EnumString, IntoStaticStr, VariantArray, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
#[strum(serialize_all = "kebab-case")]
pub enum RelationName {
    /// It has the other one attached, as an e-mail has a file.
    Attaches,
    /// It is attached to the other one.
    AttachmentOf,
    /// The other one contains it.
    BundledIn,
    /// It contains the other one.
    Bundles,
    /// The other one connects to it.
    CommunicatedBy,
    /// It connects to the other one.
    CommunicatesWith,
    /// It writes the other one as a new file or process.
    Creates,
    /// The other one writes it.
    CreatedBy,
    /// It is left behind by the other one.
    DroppedBy,
    /// It leaves the other one behind, or delivers it.
    Drops,
    /// The other one holds it as text.
    EmbeddedIn,
    /// It holds the other one as text.
    Embeds,
    /// The other one starts it.
    ExecutedBy,
    /// It starts the other one.
    Executes,
    /// It is found on the other one.
    HostedOn,
    /// The other one is found on it.
    Hosts,
    /// Both are names of one thing.
    IsAlso,
    /// It is where the other one sends its visitors.
    RedirectedFrom,
    /// It sends its visitors to the other one.
    RedirectsTo,
    /// Both are mentioned together; the source says no more.
    RelatedTo,
    /// It is an address of the other one.
    ResolvedFrom,
    /// The other one is its address.
    ResolvesTo,
    /// Both look alike.
    SimilarTo,
    /// It is a name below the other one.
    SubDomainOf,
    /// The other one is a name below it.
    SupraDomainOf,
}

impl RelationName {
    /// The word used in outputs, in kebab-case.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// How the other indicator relates to the one that was looked up.
    pub fn reverse(self) -> Self {
        match self {
            Self::Attaches => Self::AttachmentOf,
            Self::AttachmentOf => Self::Attaches,
            Self::BundledIn => Self::Bundles,
            Self::Bundles => Self::BundledIn,
            Self::CommunicatedBy => Self::CommunicatesWith,
            Self::CommunicatesWith => Self::CommunicatedBy,
            Self::Creates => Self::CreatedBy,
            Self::CreatedBy => Self::Creates,
            Self::DroppedBy => Self::Drops,
            Self::Drops => Self::DroppedBy,
            Self::EmbeddedIn => Self::Embeds,
            Self::Embeds => Self::EmbeddedIn,
            Self::ExecutedBy => Self::Executes,
            Self::Executes => Self::ExecutedBy,
            Self::HostedOn => Self::Hosts,
            Self::Hosts => Self::HostedOn,
            Self::RedirectedFrom => Self::RedirectsTo,
            Self::RedirectsTo => Self::RedirectedFrom,
            Self::ResolvedFrom => Self::ResolvesTo,
            Self::ResolvesTo => Self::ResolvedFrom,
            Self::SubDomainOf => Self::SupraDomainOf,
            Self::SupraDomainOf => Self::SubDomainOf,
            Self::IsAlso | Self::RelatedTo | Self::SimilarTo => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relation_turned_round_twice_is_itself_and_its_word_is_read_back() {
        for name in RelationName::VARIANTS {
            assert_eq!(name.reverse().reverse(), *name);
            assert_eq!(name.as_str().parse(), Ok(*name));
        }
    }
}
