//! The plan of the next rollout, as far as it was written.

use schemas::id::{AppId, GroupId};

use super::command::PlanLine;

/// A plan, line by line.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    keys: String,
    stages: String,
    groups: Vec<GroupId>,
}

impl Draft {
    /// Writes one more line.
    pub(super) fn write(&mut self, line: &PlanLine) {
        match line {
            PlanLine::Key(key) => self.keys.push_str(key),
            PlanLine::Stage(group, rules) => {
                self.stages.push_str("[[stage]]\n");
                self.stages.push_str(rules);
                self.groups.push(group.clone());
            }
        }
    }

    /// The plan as TOML, and the groups that it is about.
    pub(super) fn of(self, app: &AppId) -> (String, Vec<GroupId>) {
        (format!("app = \"{app}\"\n{}{}", self.keys, self.stages), self.groups)
    }
}
