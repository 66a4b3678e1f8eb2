use std::sync::Arc;

use super::{About, Answer, Kind, Lookup, Probe, Question, Reading, Source};
use crate::finding::{SourceError, SourceErrorKind};

/// Stands in for a source that cannot be built yet. Asks nothing; its errors say what is missing.
pub struct Unconfigured {
    kind: Arc<dyn Kind>,
    reason: String,
}

impl Unconfigured {
    /// A source of this kind that lacks what the reason says.
    pub fn new(kind: Arc<dyn Kind>, reason: String) -> Self {
        Self { kind, reason }
    }

    fn error(&self) -> SourceError {
        SourceError::new(SourceErrorKind::BadQuestion, self.reason.clone())
    }
}

impl Source for Unconfigured {
    fn about(&self) -> &About {
        self.kind.about()
    }

    fn ask(&self, _: &Lookup) -> Result<Question, SourceError> {
        Err(self.error())
    }

    fn read(&self, _: &Lookup, _: &[Answer]) -> Result<Reading, SourceError> {
        Err(self.error())
    }

    fn probe(&self) -> Vec<Question> {
        Vec::new()
    }

    fn read_probe(&self, _: &[Result<Answer, SourceError>]) -> Probe {
        Probe::failed(self.error())
    }
}
