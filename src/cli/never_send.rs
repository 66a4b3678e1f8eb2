//! `concord never-send`.

use std::process::ExitCode;

use super::args::{Client, ListOutput, NeverSend};
use super::connect::Connection;
use super::enrich::full_name;
use super::history::all_pages;
use super::json::print_messages;
use super::{Failure, print, table};
use crate::pb;

const PAGE_SIZE: i32 = 1000;

pub(super) async fn run(client: &Client, command: NeverSend) -> Result<ExitCode, Failure> {
    let done = Connection::with(client, async |connection| match &command {
        NeverSend::List { output } => list(connection, *output).await,
        NeverSend::Add { rule, comment, validate_only, output } => {
            let rule = pb::NeverSendRule { rule: rule.clone(), comment: comment.clone(), ..Default::default() };
            let request = pb::CreateNeverSendRuleRequest { never_send_rule: Some(rule), validate_only: *validate_only };
            let made = connection.sources().create_never_send_rule(request).await?.into_inner();
            print_messages(*output, "NeverSendRule", &[made.never_send_rule.unwrap_or_default()], rules_table)
        }
        NeverSend::Delete { name } => {
            let name = full_name(name, "neverSendRules");
            let request = pb::DeleteNeverSendRuleRequest { name: name.clone(), validate_only: false };
            connection.sources().delete_never_send_rule(request).await?;
            print(&format!("deleted {}\n", table::printable(&name)))
        }
    });
    done.await.map(|()| ExitCode::SUCCESS)
}

async fn list(connection: &Connection, output: ListOutput) -> Result<(), Failure> {
    let rules = all_pages(usize::MAX, async |page_token| {
        let request = pb::ListNeverSendRulesRequest { page_size: PAGE_SIZE, page_token };
        let page = connection.sources().list_never_send_rules(request).await?.into_inner();
        Ok((page.never_send_rules, page.next_page_token))
    });
    print_messages(output, "NeverSendRule", &rules.await?, rules_table)
}

fn rules_table(rules: &[pb::NeverSendRule]) -> String {
    let mut rows = table::plain(&["RULE", "DECLARED", "BY", "TIME", "NAME", "COMMENT"]);
    for rule in rules {
        let declared = if rule.declared_in.is_empty() { "api" } else { &rule.declared_in };
        rows.add_row(table::row([
            rule.rule.clone(),
            declared.to_owned(),
            rule.creator.clone(),
            rule.create_time.as_ref().map(table::moment).unwrap_or_default(),
            rule.name.clone(),
            rule.comment.clone(),
        ]));
    }
    table::fitted(rows, Some(5))
}
