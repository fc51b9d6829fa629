//! What is asked of the daemon, and what it answers.

use crate::api::client::ClientError;
use crate::api::types::{
    BrokenRule, DrainPlan, DrainRequest, DrainStatus, Event, HealthReport, MaintainRun, PlanRequest, Status,
    UndrainRequest,
};

/// What a look asks for beside status and runs: what is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Drains in force, each with its oldest flows.
    pub drains: bool,
    pub health: bool,
    /// Both of one host alone.
    pub host: Option<String>,
}

/// What a look saw.
#[derive(Debug, Clone)]
pub struct Look {
    pub wanted: Wanted,
    pub status: Status,
    pub runs: Vec<MaintainRun>,
    pub drains: Vec<DrainStatus>,
    pub health: Option<HealthReport>,
}

/// A call that somebody at the keyboard wants.
#[derive(Debug, Clone)]
pub enum Order {
    Plan(PlanRequest),
    Drain(DrainRequest),
    Undrain(UndrainRequest),
}

/// It was done.
#[derive(Debug, Clone)]
pub enum Answer {
    Plan(Box<DrainPlan>),
    Drained(Vec<DrainStatus>),
    Undrained(Vec<DrainStatus>),
}

/// It was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub hint: Option<String>,
    /// Rules that would be broken; it may be forced.
    pub rules: Vec<BrokenRule>,
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let rules = match error {
            ClientError::Api { error, .. } => error.rules,
            _ => Vec::new(),
        };
        Refusal { message, hint, rules }
    }
}

/// Whatever the core is told.
#[derive(Debug)]
pub enum News {
    Key(super::key::Key),
    /// Columns and lines.
    Size(u16, u16),
    Look(Box<Look>),
    /// No look succeeded, and why.
    Away(String),
    Event(Box<Event>),
    /// To the order of this number.
    Answer(u64, Box<Result<Answer, Refusal>>),
    /// Nothing; time has passed.
    Tick,
}
