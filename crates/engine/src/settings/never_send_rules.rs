//! The never-send rules in effect: those that the configuration declares, and those that were made over the API.
//!
//! A change is durable before it is answered. A rule is named by a digest of its normal form, so that it cannot be made
//! twice, whatever its spelling.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use tokio::sync::Mutex;
use tracing::{error, info};

use super::{Config, NeverSend};
use crate::error::{Error, Reason};
use crate::indicator::hex;
use crate::store::{NeverSendRow, NeverSendStore, StoreError};

/// Most rules that can be made over the API: every question to a source is held against all of them.
const MAX_RULES: usize = 1000;
/// Characters of an identifier; enough that no two of the rules that there can be share one.
const ID_LENGTH: usize = 16;

/// A never-send rule in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverSendRule {
    /// Name without `neverSendRules/`.
    pub id: String,
    /// The rule in normal form.
    pub rule: String,
    /// Where it comes from.
    pub origin: NeverSendOrigin,
}

/// Where a never-send rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeverSendOrigin {
    /// This file declares it.
    File(PathBuf),
    /// It was made over the API.
    Api {
        /// Why; may be empty.
        comment: String,
        /// The caller who made it.
        creator: String,
        /// When it was made.
        create_time: SystemTime,
    },
}

/// All never-send rules.
pub struct NeverSendRules {
    store: Arc<dyn NeverSendStore>,
    rules: Mutex<BTreeMap<String, ApiRule>>,
    declared: ArcSwap<DeclaredRules>,
    snapshot: ArcSwap<Vec<NeverSendRule>>,
    effective: ArcSwap<NeverSend>,
}

/// A rule that was made over the API, and what it names.
struct ApiRule {
    row: NeverSendRow,
    list: NeverSend,
}

impl ApiRule {
    fn new(row: NeverSendRow) -> Self {
        let list = NeverSend::parse(std::slice::from_ref(&row.rule)).unwrap_or_else(|_| {
            error!(rule = row.rule, "a stored never-send rule cannot be read and is not in effect");
            NeverSend::default()
        });
        Self { row, list }
    }
}

struct DeclaredRules {
    list: NeverSend,
    file: PathBuf,
}

impl NeverSendRules {
    /// Reads the rules of the store and adds them to those that the configuration declares.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open(config: &Config, store: Arc<dyn NeverSendStore>) -> Result<Self, StoreError> {
        let rows = store.never_send_rows().await?;
        let made: BTreeMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), ApiRule::new(row))).collect();
        let rules = Self {
            store,
            rules: Mutex::default(),
            declared: ArcSwap::from_pointee(declared(config)),
            snapshot: ArcSwap::default(),
            effective: ArcSwap::default(),
        };
        rules.publish(&made);
        Ok(Self { rules: Mutex::new(made), ..rules })
    }

    /// Replaces the rules that the configuration declares.
    pub async fn reload(&self, config: &Config) {
        let made = self.rules.lock().await;
        self.declared.store(Arc::new(declared(config)));
        self.publish(&made);
    }

    /// All rules as one list.
    pub fn effective(&self) -> Arc<NeverSend> {
        self.effective.load_full()
    }

    /// Every rule, in order of name.
    pub fn snapshot(&self) -> Arc<Vec<NeverSendRule>> {
        self.snapshot.load_full()
    }

    /// Makes a rule; with `validate_only`, only answers with what would be made.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::AlreadyExists`], [`Error::Exhausted`], or that the store cannot be written.
    pub async fn create(
        &self,
        rule: &str,
        comment: String,
        creator: String,
        create_time: SystemTime,
        validate_only: bool,
    ) -> Result<NeverSendRule, Error> {
        let rule = NeverSend::normal_form(rule)
            .map_err(|message| Error::invalid("never_send_rule.rule", Reason::FieldInvalid, message))?;
        let row = NeverSendRow { id: id_of(&rule), rule, comment, creator, create_time };
        let mut made = self.rules.lock().await;
        if self.find(&row.id).is_some() {
            return Err(Error::AlreadyExists { name: full_name(&row.id) });
        }
        if made.len() >= MAX_RULES {
            let message = format!("{MAX_RULES} rules were made over the API: delete one first");
            return Err(Error::Exhausted { subject: "never-send rules".into(), message, retry_after: None });
        }
        if !validate_only {
            self.store.put_never_send_row(row.clone()).await?;
            info!(rule = row.rule, caller = row.creator, "a never-send rule was made");
            made.insert(row.id.clone(), ApiRule::new(row.clone()));
            self.publish(&made);
        }
        Ok(resolve(&row))
    }

    /// Deletes a rule that was made over the API; with `validate_only`, only checks whether it could be.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotReady`] for a rule that the configuration declares, or that the store cannot be
    /// written.
    pub async fn delete(&self, id: &str, caller: &str, validate_only: bool) -> Result<(), Error> {
        let mut made = self.rules.lock().await;
        let rule = self.find(id).ok_or_else(|| Error::NotFound {
            reason: Reason::NeverSendRuleNotFound,
            name: full_name(id),
            hint: "ListNeverSendRules shows those there are".into(),
        })?;
        if let NeverSendOrigin::File(file) = &rule.origin {
            return Err(Error::NotReady {
                reason: Reason::DeclaredElsewhere,
                subject: full_name(id),
                message: format!("{} is declared by never_send in {}: remove it there", rule.rule, file.display()),
            });
        }
        if !validate_only {
            self.store.delete_never_send_row(id).await?;
            info!(rule = rule.rule, caller, "a never-send rule was deleted");
            made.remove(id);
            self.publish(&made);
        }
        Ok(())
    }

    fn find(&self, id: &str) -> Option<NeverSendRule> {
        let snapshot = self.snapshot();
        let place = snapshot.binary_search_by(|rule| rule.id.as_str().cmp(id)).ok()?;
        snapshot.get(place).cloned()
    }

    /// Called while the rules are locked.
    fn publish(&self, made: &BTreeMap<String, ApiRule>) {
        let declared = self.declared.load();
        let mut effective = declared.list.clone();
        let mut rules: BTreeMap<_, _> = made.iter().map(|(id, rule)| (id.clone(), resolve(&rule.row))).collect();
        // A rule that the file declares, too, counts as the file's.
        for rule in declared.list.rules() {
            let (id, origin) = (id_of(&rule), NeverSendOrigin::File(declared.file.clone()));
            rules.insert(id.clone(), NeverSendRule { id, rule, origin });
        }
        made.values().for_each(|rule| effective.extend(&rule.list));
        self.effective.store(Arc::new(effective));
        self.snapshot.store(Arc::new(rules.into_values().collect()));
    }
}

impl fmt::Debug for NeverSendRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NeverSendRules").field("rules", &self.snapshot()).finish_non_exhaustive()
    }
}

fn declared(config: &Config) -> DeclaredRules {
    DeclaredRules { list: config.never_send.clone(), file: config.file.clone().unwrap_or_default() }
}

fn resolve(row: &NeverSendRow) -> NeverSendRule {
    let (comment, creator, create_time) = (row.comment.clone(), row.creator.clone(), row.create_time);
    let origin = NeverSendOrigin::Api { comment, creator, create_time };
    NeverSendRule { id: row.id.clone(), rule: row.rule.clone(), origin }
}

fn id_of(rule: &str) -> String {
    let digest = digest::digest(&digest::SHA256, rule.as_bytes());
    hex(digest.as_ref()).chars().take(ID_LENGTH).collect()
}

fn full_name(id: &str) -> String {
    format!("neverSendRules/{id}")
}
