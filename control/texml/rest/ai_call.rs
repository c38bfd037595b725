//! `POST /v2/texml/ai_calls/{application}`: a call whose called party talks with an assistant. The call runs a document with
//! this assistant.

use axum::http::StatusCode;
use quick_xml::escape::escape;
use serde_json::{Map, Value};
use tandem_accounts::Account;
use tandem_runtime::app::App;

use super::super::envelope;
use super::{Pairs, Refusal, not_permitted};

const ASSISTANT: &str = "AIAssistantId";
const VARIABLES: &str = "AIAssistantDynamicVariables";
const VERSION: &str = "AIAssistantVersion";
/// Parameters of a call with a document, which such a call does not have.
const DOCUMENT: [&str; 4] = ["FallbackUrl", "Texml", "Url", "UrlMethod"];
/// Parameters for events that this server sends only for calls of commands.
const CALLBACKS: [&str; 3] = ["ConversationCallback", "ConversationCallbackMethod", "ConversationCallbacks"];

/// The parameters of a call with a document, made from those of a call with an assistant.
pub(super) fn pairs(app: &App, account: &Account, given: Pairs) -> Result<Pairs, Refusal> {
    let services = app.calls.services();
    let (agents, routing) = (services.conversations.agents.load(), services.routing.load());
    let exists =
        |id: &str| agents.find(id).is_some() || routing.inventory().agents.find_own(&account.name, id).is_some();
    translated(given, exists)
}

fn translated(mut given: Pairs, exists: impl Fn(&str) -> bool) -> Result<Pairs, Refusal> {
    let bad =
        |code: &str, title: &str, detail: String| envelope(StatusCode::UNPROCESSABLE_ENTITY, code, title, &detail);
    if let Some((name, _)) = given.iter().find(|(name, value)| CALLBACKS.contains(&name.as_str()) && !value.is_empty())
    {
        return Err(not_permitted(&format!("'{name}' is not available on this server")));
    }
    let value = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let id = value(ASSISTANT).filter(|id| !id.trim().is_empty()).ok_or_else(|| {
        let detail = format!("The '{ASSISTANT}' parameter is required and cannot be blank.");
        bad("10004", "Missing required parameter", detail)
    })?;
    if !exists(&id) {
        return Err(bad("10015", "Bad Request", format!("There is no assistant with the id {id}.")));
    }
    let mut attributes = format!("id=\"{}\"", escape(&id));
    if let Some(text) = value(VARIABLES) {
        let variables: Map<String, Value> = serde_json::from_str(&text).map_err(|_| {
            bad("10026", "Invalid parameter type", format!("The '{VARIABLES}' parameter must be of type 'object'."))
        })?;
        attributes.push_str(&format!(" dynamicVariables=\"{}\"", escape(Value::Object(variables).to_string())));
    }
    let is_own = |name: &str| [ASSISTANT, VARIABLES, VERSION].contains(&name) || DOCUMENT.contains(&name);
    given.retain(|(name, _)| !is_own(name) && !CALLBACKS.contains(&name.as_str()));
    let document = format!("<Response><Connect><AIAssistant {attributes}/></Connect></Response>");
    given.push(("Texml".to_owned(), document));
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(pairs: &[(&str, &str)]) -> Result<Pairs, Value> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        translated(pairs, |id| id == "assistant-1").map_err(|(_, body)| body["errors"][0]["code"].clone())
    }

    #[test]
    fn a_call_with_an_assistant_runs_a_document_with_the_assistant_and_its_variables() {
        let variables = r#"{"name":"Ann \"<&\""}"#;
        let given = [("To", "+15551230002"), (ASSISTANT, "assistant-1"), (VARIABLES, variables), ("Url", "http://x")];
        let pairs = made(&given).unwrap();
        assert_eq!(pairs[0], ("To".to_owned(), "+15551230002".to_owned()));
        let [_, (name, document)] = &pairs[..] else { panic!("{pairs:?}") };
        assert_eq!(name, "Texml");
        let program =
            tandem_markup::document(&crate::TEXML, tandem_markup::Origin::default(), document.as_bytes()).unwrap();
        assert!(program.warnings.is_empty(), "{:?}", program.warnings);
        let text = format!("{:?}", program.instructions);
        assert!(text.contains("assistant-1") && text.contains("variables"), "{text}");
    }

    #[test]
    fn a_call_without_a_known_assistant_is_refused() {
        assert_eq!(made(&[]).unwrap_err(), "10004");
        assert_eq!(made(&[(ASSISTANT, "assistant-2")]).unwrap_err(), "10015");
        assert_eq!(made(&[(ASSISTANT, "assistant-1"), (VARIABLES, "[]")]).unwrap_err(), "10026");
        assert_eq!(made(&[(ASSISTANT, "assistant-1"), ("ConversationCallback", "http://x")]).unwrap_err(), "10038");
    }
}
