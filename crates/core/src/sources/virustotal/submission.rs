//! What VirusTotal takes for analysis: files up to 650 MB, above 32 MB by an address of their own, and URLs. Whatever is
//! submitted is shared with all its customers, unless it is for a private scan, which has paths of its own.

use url::Url;

use super::super::http::{Api, success};
use super::super::json::{self, Object};
use super::{NOT_FOUND, about, private, segments};
use crate::finding::{Finding, SourceError, SourceErrorKind};
use crate::indicator::Indicator;
use crate::source::{
    Accepted, AnalysisProgress, Answer, FileBody, HttpMethod, Question, SubmissionAbout, SubmissionSource, Visibility,
};

/// Largest file that the usual address takes.
const MAX_DIRECT_BYTES: u64 = 32 * 1024 * 1024;
/// Largest file that is taken at all.
const MAX_FILE_BYTES: u64 = 650 * 1024 * 1024;
/// Large files go to addresses under this domain.
const DOMAIN: &str = "virustotal.com";
/// The first segment of what is for private scans.
const PRIVATE: &str = "private";
/// The status by which it says that it is analysing the same already.
pub(super) const CONFLICT: u16 = 409;

pub(super) struct Submissions {
    api: Api,
    is_premium: bool,
}

impl Submissions {
    pub(super) fn new(api: Api, is_premium: bool) -> Self {
        Self { api, is_premium }
    }

    /// The address of these path segments, below those of private scans where it is for one.
    fn address(&self, path: &[&str], visibility: Visibility) -> Url {
        match visibility {
            Visibility::Public => self.api.address(path),
            Visibility::Private => self.api.address(&[&[PRIVATE], path].concat()),
        }
    }

    fn get(&self, path: &[&str], visibility: Visibility) -> Question {
        self.api.ask(self.address(path, visibility), HttpMethod::Get)
    }

    /// Whether a file may be sent to this address: one of the same host as the base address, or both of the service.
    fn is_own(&self, address: &Url) -> bool {
        let base = self.api.address(&[]);
        let of_service = |url: &Url| {
            let host = url.host_str().unwrap_or_default();
            host == DOMAIN || host.strip_suffix(DOMAIN).is_some_and(|rest| rest.ends_with('.'))
        };
        let is_as_secure = base.scheme() == address.scheme();
        let has_login = !address.username().is_empty() || address.password().is_some();
        let same_host = base.origin() == address.origin();
        is_as_secure && !has_login && (same_host || of_service(&base) && of_service(address))
    }
}

impl SubmissionSource for Submissions {
    fn about(&self) -> SubmissionAbout {
        SubmissionAbout {
            max_file_bytes: Some(MAX_FILE_BYTES),
            takes_urls: true,
            audience: "every customer of VirusTotal can download it",
            private_audience: match self.is_premium {
                true => Ok("VirusTotal sees it, and the account of the key"),
                false => Err("VirusTotal scans privately only for a key of the tier premium"),
            },
        }
    }

    fn ask_upload_address(&self, size: u64, visibility: Visibility) -> Option<Question> {
        (size > MAX_DIRECT_BYTES).then(|| self.get(&["files", "upload_url"], visibility))
    }

    fn read_upload_address(&self, answer: &Answer) -> Result<Url, SourceError> {
        let document = json::parse(success(answer)?)?;
        let text = Object::root(&document)?.need_text("data")?;
        let address = Url::parse(text).map_err(|_| SourceError::malformed("the upload address is no URL"))?;
        if self.is_own(&address) {
            return Ok(address);
        }
        let host = address.host_str().unwrap_or_default();
        let detail = format!("the upload address is at {host}, which is not the source's own: nothing is sent there");
        Err(SourceError::new(SourceErrorKind::Refused, detail))
    }

    fn submit_file(&self, file: FileBody, address: Option<&Url>, visibility: Visibility) -> Question {
        let url = address.cloned().unwrap_or_else(|| self.address(&["files"], visibility));
        self.api.ask(url, HttpMethod::PostFile { field: "file", file: Box::new(file) })
    }

    fn submit_url(&self, url: &Indicator, visibility: Visibility) -> Question {
        let form = vec![("url".to_owned(), url.value().to_owned())];
        self.api.ask(self.address(&["urls"], visibility), HttpMethod::PostForm(form))
    }

    fn rescan(&self, indicator: &Indicator) -> Question {
        let mut question = about(&self.api, indicator.form(), indicator.value(), &["analyse"]);
        if let Question::Http(http) = &mut question {
            http.method = HttpMethod::PostForm(Vec::new());
        }
        question
    }

    fn read_accepted(&self, answer: &Answer) -> Result<Accepted, SourceError> {
        if answer.http()?.0 == CONFLICT {
            return Ok(Accepted::AlreadyAnalysing);
        }
        let document = json::parse(success(answer)?)?;
        let id = Object::root(&document)?.need_text("data.id")?;
        // It becomes part of an address.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'+' | b'/');
        if id.is_empty() || id.len() > 512 || !id.bytes().all(is_plain) {
            return Err(SourceError::malformed("the identifier of the analysis is none (data.id)"));
        }
        Ok(Accepted::Analysis(id.to_owned()))
    }

    fn ask_analysis(&self, id: &str, visibility: Visibility) -> Question {
        self.get(&["analyses", id], visibility)
    }

    fn read_analysis(&self, answer: &Answer) -> Result<AnalysisProgress, SourceError> {
        if answer.http()?.0 == 404 {
            return Err(SourceError::new(SourceErrorKind::BadQuestion, "the source knows no such analysis"));
        }
        let document = json::parse(success(answer)?)?;
        match Object::root(&document)?.need_word("data.attributes.status", &["queued", "in-progress", "completed"])? {
            "completed" => Ok(AnalysisProgress::Completed),
            "in-progress" => Ok(AnalysisProgress::InProgress),
            _ => Ok(AnalysisProgress::Queued),
        }
    }

    fn ask_private_report(&self, indicator: &Indicator) -> Question {
        let [collection, id] = segments(indicator.form(), indicator.value());
        self.get(&[&collection, &id], Visibility::Private)
    }

    fn read_private_report(&self, indicator: &Indicator, answer: &Answer) -> Result<Option<Finding>, SourceError> {
        let (status, body) = answer.http()?;
        if status == 404 {
            return Object::root(&json::parse(body)?)?.need_word("error.code", &[NOT_FOUND]).map(|_| None);
        }
        let document = json::parse(success(answer)?)?;
        private::read_report(indicator, &Object::root(&document)?, answer.received).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::source::{AnswerBody, CredentialPlace};

    fn at(base: &str) -> Submissions {
        Submissions::new(Api::for_tests(base.parse().unwrap(), CredentialPlace::Header("x-apikey".into())), true)
    }

    fn answer(status: u16, body: &str) -> Answer {
        let body = AnswerBody::Http { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
        Answer { received: SystemTime::UNIX_EPOCH, ttl: None, body }
    }

    #[test]
    fn an_upload_address_on_another_host_is_refused() {
        let own = at("https://www.virustotal.com/api/v3/");
        let address = |url: &str| answer(200, &format!("{{\"data\": \"{url}\"}}"));
        for url in
            ["https://www.virustotal.com/_ah/upload/x", "https://bigfiles.virustotal.com/u", "https://virustotal.com/u"]
        {
            assert_eq!(own.read_upload_address(&address(url)).unwrap().as_str(), url);
        }
        for url in [
            "https://virustotal.com.example.net/u",
            "https://notvirustotal.com/u",
            "http://www.virustotal.com/u",
            "https://user:pass@www.virustotal.com/u",
            "file:///etc/passwd",
        ] {
            let refused = own.read_upload_address(&address(url)).unwrap_err();
            assert_eq!(refused.kind, SourceErrorKind::Refused, "{url}");
        }
        let mirror = at("http://127.0.0.1:8080/api/v3/");
        assert!(mirror.read_upload_address(&address("http://127.0.0.1:8080/u")).is_ok());
        for url in ["http://127.0.0.1:8081/u", "https://www.virustotal.com/u"] {
            assert!(mirror.read_upload_address(&address(url)).is_err(), "{url}");
        }
        assert!(own.read_upload_address(&answer(200, "{\"data\": \"no address\"}")).is_err());
    }

    #[test]
    fn an_identifier_that_would_lead_elsewhere_is_refused() {
        let own = at("https://www.virustotal.com/api/v3/");
        let accepted = |id: &str| own.read_accepted(&answer(200, &format!("{{\"data\": {{\"id\": \"{id}\"}}}}")));
        assert_eq!(accepted("u-0f11-1617088890"), Ok(Accepted::Analysis("u-0f11-1617088890".into())));
        for id in ["", "a?b", "a b", "..%2f"] {
            assert!(accepted(id).is_err(), "{id}");
        }
        assert_eq!(own.read_accepted(&answer(CONFLICT, "{}")), Ok(Accepted::AlreadyAnalysing));
    }

    #[test]
    fn only_a_large_file_is_uploaded_to_an_address_of_its_own() {
        let own = at("https://www.virustotal.com/api/v3/");
        for visibility in [Visibility::Public, Visibility::Private] {
            assert_eq!(own.ask_upload_address(MAX_DIRECT_BYTES, visibility), None);
            assert!(own.ask_upload_address(MAX_DIRECT_BYTES + 1, visibility).is_some());
        }
    }
}
