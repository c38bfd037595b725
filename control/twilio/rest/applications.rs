//! `Applications`: applications that clients created by REST, and applications of the configuration file.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_operations::applications::{AccountApplication, ApplicationError, Applications};
use tandem_routing::inventory::{self, VoiceApplication};
use tandem_store::resources::Resource;

use super::super::error::{ApiError, allow};
use super::super::resource_fields;
use super::{Answer, RestContext, Verb, ok, resource_pages};

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x),
        ([], Verb::Post) => create(x).await,
        ([name], verb) => one(x, name, verb).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        _ => Err(x.not_found()),
    }
}

fn list(x: &RestContext<'_>) -> Answer {
    let named = |row: &AccountApplication| x.parameters.get("FriendlyName").is_none_or(|name| name == row.name);
    let rows = applications(x).all().into_iter().filter(named).collect();
    resource_pages::page(x, ("applications", "Applications", "AP"), rows, |row| {
        resource_fields::application(x.owner(), row)
    })
}

async fn create(x: &RestContext<'_>) -> Answer {
    let details = VoiceApplication { dialect: x.provider.name().to_owned(), ..VoiceApplication::default() };
    let mut row = Resource::new(&x.account.name, "", details);
    row.details.id = x.ids().spell("AP", row.id);
    resource_fields::change_application(&mut row.details, &mut row.name, x.parameters)?;
    let row = keep(x, row).await?;
    Ok((StatusCode::CREATED, Json(resource_fields::application(x.owner(), &row))).into_response())
}

async fn one(x: &RestContext<'_>, name: &str, verb: Verb) -> Answer {
    let id = x.ids().parse("AP", name).ok_or_else(|| x.not_found())?;
    let row = applications(x).find(|row| row.id == id).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(resource_fields::application(x.owner(), &row))),
        Verb::Post => {
            let mut row = inventory::changed(&row);
            resource_fields::change_application(&mut row.details, &mut row.name, x.parameters)?;
            Ok(ok(resource_fields::application(x.owner(), &*keep(x, row).await?)))
        }
        Verb::Delete => match applications(x).delete(&row).await {
            Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
            Err(ApplicationError::InTheFile(_)) => Err(resource_pages::in_the_file(name)),
            // Only `delete_unused` checks whether a number uses the application.
            Err(ApplicationError::Unknown | ApplicationError::InUse(_)) => Err(x.not_found()),
            Err(ApplicationError::Store(error)) => Err(error.into()),
        },
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

async fn keep(x: &RestContext<'_>, row: Resource<VoiceApplication>) -> Result<AccountApplication, ApiError> {
    // A conflict is impossible, because a SID is random or is unique in the configuration file.
    let kept = applications(x).keep(row).await;
    kept.map_err(|error| resource_pages::inventory_error(error, ApiError::internal()))
}

/// The applications of the account that have SIDs.
fn applications<'a>(x: &'a RestContext<'_>) -> Applications<'a> {
    let ids = x.ids();
    let (account, dialect) = (&x.account.name, x.provider.name());
    Applications::new(x.routing(), x.store(), account, dialect, move |id| ids.parse("AP", id)).with_every_dialect()
}
