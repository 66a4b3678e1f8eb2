//! How much of what the sources could say is wanted.

/// How much of what the sources could say a request wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EnrichMode {
    /// What every source says.
    #[default]
    Complete,
    /// The disposition: nobody is asked whose answer cannot change it any more.
    Decisive,
    /// As decisive, for at most this many quota units.
    Frugal {
        /// Maximum of quota units, retries included.
        budget: u32,
    },
}
