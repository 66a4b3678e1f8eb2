//! The methods of the `SourceService` on never-send rules.

use std::time::SystemTime;

use super::load::AnswerMemory;
use super::pagination::Page;
use super::source::SourceRpc;
use crate::convert::{Violations, read_name, write_timestamp};
use crate::error::{Error, Reason, Violation};
use crate::pb;
use crate::settings::{NeverSendOrigin, NeverSendRule};
use crate::store::{Cursor, Listed};

const MAX_COMMENT_BYTES: usize = 1024;

impl SourceRpc {
    pub(super) async fn create_rule(
        self,
        request: pb::CreateNeverSendRuleRequest,
        caller: String,
    ) -> Result<pb::NeverSendRule, Error> {
        let mut violations = Violations::default();
        let wanted = request.never_send_rule.unwrap_or_default();
        if wanted.rule.trim().is_empty() {
            let message = "what is never to be sent is needed: a domain, network, URL prefix or file hash";
            violations.add(Violation::new("never_send_rule.rule", Reason::FieldRequired, message));
        }
        let comment = violations.check(read_comment(&wanted.comment));
        let comment = violations.finish(comment)?;
        let now = self.clock.now();
        let rule = self.never_send.create(&wanted.rule, comment, caller, now, request.validate_only).await?;
        if !request.validate_only {
            self.registry.renew().await;
        }
        Ok(write(&rule))
    }

    pub(super) fn list_rules(
        &self,
        request: &pb::ListNeverSendRulesRequest,
        memory: AnswerMemory,
    ) -> Result<pb::ListNeverSendRulesResponse, Error> {
        let mut violations = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, "neverSendRules".into(), &mut violations);
        let page = violations.finish(page)?;
        let snapshot = self.never_send.snapshot();
        let after = page.after();
        let is_behind = |id: &str| after.as_ref().is_none_or(|after| id > after.id.as_str());
        let rows: Vec<_> = snapshot.iter().filter(|rule| is_behind(&rule.id)).collect();
        let listed = Listed { rows, has_more: false, bytes: 0 };
        let cursor = |rule: &&NeverSendRule| Cursor { time: SystemTime::UNIX_EPOCH, id: rule.id.clone() };
        let (never_send_rules, next_page_token) = page.write(&listed, memory, cursor, |rule| write(rule))?;
        Ok(pb::ListNeverSendRulesResponse { never_send_rules, next_page_token })
    }

    pub(super) async fn delete_rule(
        self,
        request: pb::DeleteNeverSendRuleRequest,
        caller: String,
    ) -> Result<(), Error> {
        let mut violations = Violations::default();
        let id = violations.check(read_name(&request.name, "neverSendRules", "name"));
        let id = violations.finish(id)?;
        self.never_send.delete(&id, &caller, request.validate_only).await?;
        if !request.validate_only {
            self.registry.renew().await;
        }
        Ok(())
    }
}

fn read_comment(comment: &str) -> Result<String, Violation> {
    let comment = comment.trim();
    if comment.len() > MAX_COMMENT_BYTES || comment.chars().any(char::is_control) {
        return Err(Violation::invalid("never_send_rule.comment", "one line of at most 1,024 bytes"));
    }
    Ok(comment.to_owned())
}

fn write(rule: &NeverSendRule) -> pb::NeverSendRule {
    let written = pb::NeverSendRule {
        name: format!("neverSendRules/{}", rule.id),
        rule: rule.rule.clone(),
        ..Default::default()
    };
    match &rule.origin {
        NeverSendOrigin::File(file) => pb::NeverSendRule { declared_in: file.display().to_string(), ..written },
        NeverSendOrigin::Api { comment, creator, create_time } => pb::NeverSendRule {
            comment: comment.clone(),
            creator: creator.clone(),
            create_time: Some(write_timestamp(*create_time)),
            ..written
        },
    }
}
