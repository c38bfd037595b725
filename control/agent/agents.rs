//! The agents of the server: those of the configuration, and those that accounts have stored.

use std::sync::Arc;

use foldhash::HashMap;
use tandem_id::AccountName;

use super::config::AgentConfig;

/// The agents of the server, by name: those of the configuration, and those that accounts have stored.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    configured: HashMap<Arc<str>, Arc<AgentConfig>>,
    /// The first agent of the configuration.
    first: Option<Arc<str>>,
    stored: Arc<HashMap<Arc<str>, StoredAgent>>,
}

/// An agent that an account has stored by request. Only calls of this account use it.
#[derive(Clone, Debug)]
pub struct StoredAgent {
    /// The owner of the agent.
    pub account: AccountName,
    /// The settings of the agent.
    pub config: Arc<AgentConfig>,
}

impl Agents {
    /// Collects the agents and reads the `prompt_file` of each agent.
    ///
    /// # Errors
    /// Returns the reason for the first file that cannot be read or is too long.
    pub fn new(agents: impl IntoIterator<Item = AgentConfig>) -> Result<Self, String> {
        let (mut first, mut configured) = (None, HashMap::default());
        for agent in agents {
            let name = Arc::clone(&agent.name);
            first.get_or_insert_with(|| Arc::clone(&name));
            configured.insert(name, Arc::new(agent.with_prompt()?));
        }
        Ok(Self { configured, first, stored: Arc::default() })
    }

    /// Returns the same agents of the configuration, with these stored agents. If a stored agent has the name of an agent of
    /// the configuration, the latter applies.
    #[must_use]
    pub fn with_stored(&self, stored: impl IntoIterator<Item = StoredAgent>) -> Self {
        let stored = stored.into_iter().map(|agent| (Arc::clone(&agent.config.name), agent)).collect();
        Self { stored: Arc::new(stored), ..self.clone() }
    }

    /// Returns the same agents of the configuration, with the stored agents of `other`.
    #[must_use]
    pub fn with_stored_of(self, other: &Self) -> Self {
        Self { stored: Arc::clone(&other.stored), ..self }
    }

    /// Returns the agent that applies if a document names none: the first agent of the configuration.
    pub fn default_agent(&self) -> Option<&Arc<AgentConfig>> {
        self.first.as_ref().and_then(|name| self.configured.get(name))
    }

    /// Returns the agent with this name that the calls of an account may use. Without a name, this is the default agent.
    pub fn find(&self, account: &AccountName, name: &str) -> Option<&Arc<AgentConfig>> {
        if name.is_empty() {
            return self.default_agent();
        }
        let stored = || self.stored.get(name).filter(|agent| agent.account == *account).map(|agent| &agent.config);
        self.configured.get(name).or_else(stored)
    }

    /// Returns the name of the agent if the configuration has exactly one agent.
    pub fn only(&self) -> Option<&Arc<str>> {
        let mut names = self.configured.keys();
        names.next().filter(|_| names.next().is_none())
    }

    /// Returns the agents of the configuration, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<AgentConfig>> {
        self.configured.values()
    }

    /// Returns the agent of the configuration with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<AgentConfig>> {
        self.configured.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentConfig {
        let text = format!(r#"{{"name":"{name}","prompt":"You are.","model":{{"url":"http://127.0.0.1/v1"}}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_default_agent_is_the_first_of_the_configuration() {
        let agents = Agents::new([agent("zoe"), agent("ann")]).unwrap();
        let account = AccountName::new("acme");
        assert_eq!(&*agents.default_agent().unwrap().name, "zoe");
        assert_eq!(&*agents.find(&account, "").unwrap().name, "zoe");
        assert_eq!(&*agents.find(&account, "ann").unwrap().name, "ann");
        assert!(Agents::default().find(&account, "").is_none());
    }

    #[test]
    fn only_the_account_that_stored_an_agent_uses_it_and_a_reload_keeps_it() {
        let (acme, other) = (AccountName::new("acme"), AccountName::new("other"));
        let stored = StoredAgent { account: acme.clone(), config: Arc::new(agent("assistant-1")) };
        let before = Agents::new([agent("ann")]).unwrap().with_stored([stored]);
        let agents = Agents::new([agent("bob")]).unwrap().with_stored_of(&before);
        assert!(agents.find(&acme, "assistant-1").is_some());
        assert!(agents.find(&other, "assistant-1").is_none());
        assert!(agents.find(&acme, "ann").is_none(), "the configuration has changed");
    }
}
