//! The agents of the configuration.

use std::sync::Arc;

use foldhash::HashMap;

use super::config::AgentConfig;

/// The agents of the configuration, by name.
#[derive(Clone, Debug, Default)]
pub struct Agents {
    configured: HashMap<Arc<str>, Arc<AgentConfig>>,
    /// The first agent of the configuration.
    first: Option<Arc<str>>,
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
        Ok(Self { configured, first })
    }

    /// Returns the agent that applies if a document names none: the first agent of the configuration.
    pub fn default_agent(&self) -> Option<&Arc<AgentConfig>> {
        self.first.as_ref().and_then(|name| self.configured.get(name))
    }

    /// Returns the agent with this name. Without a name, this is the default agent.
    pub fn find(&self, name: &str) -> Option<&Arc<AgentConfig>> {
        if name.is_empty() { self.default_agent() } else { self.get(name) }
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
        assert_eq!(&*agents.default_agent().unwrap().name, "zoe");
        assert_eq!(&*agents.find("").unwrap().name, "zoe");
        assert_eq!(&*agents.find("ann").unwrap().name, "ann");
        assert!(Agents::default().find("").is_none());
    }
}
