//! Digests that identify questions and cached answers without holding them: a question may contain a key in its path.

use aws_lc_rs::digest::{Context, SHA256};

use crate::source::{HttpMethod, Question};
use crate::store::CacheDigest;

/// A digest of several parts, each with its length, so that no two lists of parts look alike.
#[derive(Clone)]
pub(super) struct Digest(Context);

impl Digest {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    #[must_use]
    pub(super) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    fn with_pairs(self, pairs: &[(String, String)]) -> Self {
        let number = self.with(pairs.len().to_le_bytes());
        pairs.iter().fold(number, |digest, (name, value)| digest.with(name).with(value))
    }

    pub(super) fn finish(self) -> CacheDigest {
        let mut half = CacheDigest::default();
        half.iter_mut().zip(self.0.finish().as_ref()).for_each(|(byte, whole)| *byte = *whole);
        half
    }
}

/// The digest of a question. A place for a credential is part of it, the credential is not.
pub(super) fn of_question(question: &Question) -> CacheDigest {
    let digest = match question {
        Question::Http(http) => {
            let digest = Digest::new().with(http.url.as_str()).with_pairs(&http.headers);
            let digest = digest.with(format!("{:?}", http.credential));
            match &http.method {
                HttpMethod::Get => digest.with("GET"),
                HttpMethod::PostForm(fields) => digest.with("POST").with_pairs(fields),
                HttpMethod::PostFile { field, file } => digest.with("file").with(field).with(&file.sha256),
            }
        }
        Question::Dns(dns) => Digest::new().with(&dns.name).with(format!("{:?}", dns.resolver)),
        Question::List(list) => Digest::new().with(list.indicator.value()),
    };
    digest.finish()
}
