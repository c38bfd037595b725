//! `Applications`: those created by REST, and those of the configuration file.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use tandem_routing::inventory::{self, Voice, VoiceApplication};
use tandem_settings::Application;
use tandem_store::resources::Resource;

use super::super::error::ApiError;
use super::super::resource_fields;
use super::{Answer, RestContext, Verb, ok, resource_pages};

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x),
        ([], Verb::Post) => create(x).await,
        ([name], verb) => one(x, name, verb).await,
        ([], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

fn list(x: &RestContext<'_>) -> Answer {
    let named =
        |row: &Arc<Resource<VoiceApplication>>| x.parameters.get("FriendlyName").is_none_or(|name| name == row.name);
    let rows = applications(x).into_iter().filter(named).collect();
    resource_pages::page(x, ("applications", "Applications", "AP"), rows, |row| {
        resource_fields::application(x.owner(), row)
    })
}

async fn create(x: &RestContext<'_>) -> Answer {
    let details = VoiceApplication { dialect: x.provider.name().to_owned(), ..VoiceApplication::default() };
    let mut row = Resource::new(&x.account.name, "", details);
    row.details.id = x.ids().spell("AP", row.id);
    resource_fields::change_application(&mut row.details, &mut row.name, x.parameters)?;
    let row = put(x, row).await?;
    Ok((StatusCode::CREATED, Json(resource_fields::application(x.owner(), &row))).into_response())
}

async fn one(x: &RestContext<'_>, name: &str, verb: Verb) -> Answer {
    let id = x.ids().parse("AP", name).ok_or_else(|| x.not_found())?;
    let row = applications(x).into_iter().find(|row| row.id == id).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(resource_fields::application(x.owner(), &row))),
        Verb::Post => {
            let mut row = inventory::changed(&row);
            resource_fields::change_application(&mut row.details, &mut row.name, x.parameters)?;
            Ok(ok(resource_fields::application(x.owner(), &*put(x, row).await?)))
        }
        Verb::Delete if inventory::is_of_the_file(&row) => Err(resource_pages::in_the_file(name)),
        Verb::Delete => match x.holdings().applications.delete(x.store(), &x.account.name, id).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(x.not_found()),
        },
        Verb::Other => Err(ApiError::method_not_allowed()),
    }
}

/// Stores an application. For an application of the configuration file, its voice settings are stored only if they
/// differ from the file's.
async fn put(
    x: &RestContext<'_>,
    mut row: Resource<VoiceApplication>,
) -> Result<Arc<Resource<VoiceApplication>>, ApiError> {
    let floor = of_the_file(x).into_iter().find(|floor| floor.id == row.id);
    if floor.as_ref().is_some_and(|floor| floor.details.voice == row.details.voice) {
        row.details.voice = Voice::default();
    }
    let kept = x.holdings().applications.put(x.store(), row).await;
    // A conflict is impossible: the SID is random, or it is unique in the configuration file.
    let kept = kept.map_err(|error| resource_pages::not_held(error, ApiError::internal()))?;
    Ok(over(kept, floor.as_ref()))
}

fn over(
    held: Arc<Resource<VoiceApplication>>,
    floor: Option<&Resource<VoiceApplication>>,
) -> Arc<Resource<VoiceApplication>> {
    match floor.filter(|_| held.details.voice.url.is_none()) {
        Some(floor) => {
            let details = VoiceApplication { voice: floor.details.voice.clone(), ..held.details.clone() };
            Arc::new(Resource { details, ..(*held).clone() })
        }
        None => held,
    }
}

/// All applications of the account that have SIDs. Stored settings replace those of the configuration file.
fn applications(x: &RestContext<'_>) -> Vec<Arc<Resource<VoiceApplication>>> {
    let mut file = of_the_file(x);
    let held = x.holdings().applications.all(&x.account.name).into_iter();
    let mut applications: Vec<_> = held
        .map(|row| {
            let place = file.iter().position(|floor| floor.id == row.id);
            over(row, place.map(|place| file.swap_remove(place)).as_ref())
        })
        .collect();
    applications.extend(file.into_iter().map(Arc::new));
    applications
}

fn of_the_file(x: &RestContext<'_>) -> Vec<Resource<VoiceApplication>> {
    let routing = x.routing();
    let own = routing
        .applications()
        .iter()
        .filter(|app| app.account == x.account.name && &*app.provider == x.provider.name());
    let row = |app: &Application| {
        let details = VoiceApplication {
            id: app.id.to_string(),
            dialect: x.provider.name().to_owned(),
            voice: Voice::from(app),
            ..VoiceApplication::default()
        };
        Some(inventory::of_the_file(x.ids().parse("AP", &app.id)?, &x.account.name, &app.id, details))
    };
    own.filter_map(row).collect()
}
