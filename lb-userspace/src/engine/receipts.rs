//! Receipts of drains that are over.

use super::drains::near;
use super::{Engine, Error};
use crate::api::types::{Receipt, ReceiptQuery, Receipts};

/// Receipts that are given where nobody says how many, and at most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

impl Engine {
    /// The newest first. A host that the config names no more has receipts, too.
    pub fn receipts(&self, query: &ReceiptQuery) -> Result<Receipts, Error> {
        let limit = query.limit.unwrap_or(USUAL).clamp(1, MOST);
        let receipts = self.journal.receipts(query.host.as_deref(), limit)?;
        match &query.host {
            Some(name) if receipts.is_empty() && !self.model.hosts.contains_key(name) => {
                Err(Error::NoHost { name: name.clone(), near: near(name, self.model.hosts.keys()) })
            }
            _ => Ok(Receipts { receipts }),
        }
    }

    pub fn receipt(&self, drain: u64) -> Result<Receipt, Error> {
        match self.journal.drain_row(drain)? {
            Some(row) => row.receipt.ok_or(Error::NoReceiptYet { drain, host: row.drain.host }),
            None => Err(Error::NoDrain(drain)),
        }
    }
}
