//! The node record: what ops says about a node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, GroupId, NodeId, PublicKey, Seq},
    root::Role,
    seal::{Document, Head, RoleDocument},
};

/// Key, groups and labels of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What every document has in common.
    pub head: Head,
    /// The node.
    pub node: NodeId,
    /// Rises with every record of the node.
    pub seq: Seq,
    /// The key that signs its reports.
    pub key: PublicKey,
    /// The groups whose orders it obeys.
    pub groups: BTreeSet<GroupId>,
    /// What people say about it, as in `site=barn`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it still belongs to the fleet.
    pub status: RecordStatus,
    /// SHA-256 of the token by which it logs in to the relay; a token has 256 random bits, so this gives nothing away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Digest>,
    /// The environment of its apps, checks and hooks: above what a release and the node's own settings say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Whether a node belongs to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It does.
    Active,
    /// It was retired.
    Revoked,
}

impl Document for Record {
    const TYPE: &'static str = "record";
    const MAX_BYTES: usize = 16 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Record {
    const ROLE: Role = Role::Ops;
}
/// Variables by which loaders, shells and interpreters are told of code: `ld.so(8)` has those of `LD_*`.
const LOADERS: [&str; 33] = [
    "BASHOPTS",
    "BASH_ENV",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "ENV",
    "GCONV_PATH",
    "GIO_EXTRA_MODULES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "_JAVA_OPTIONS",
];

/// Whether programs may load code because of a variable of this name. Nodes take none of them from a record: what runs is what the
/// release key has signed.
pub fn loads_code(name: &str) -> bool {
    name.starts_with("LD_") || LOADERS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loads_code_is_known_by_its_name() {
        assert!(LOADERS.is_sorted());
        for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "_JAVA_OPTIONS"] {
            assert!(loads_code(name), "{name}");
        }
        for name in ["CAMPAIGN_NAME", "LOG_LEVEL", "LDAP_URL", "PYTHONUNBUFFERED", "PORT"] {
            assert!(!loads_code(name), "{name}");
        }
    }
}
