//! `PhoneNumbers` of a trunk: the account's numbers whose calls go to the PBX of the trunk.

use std::sync::Arc;

use serde_json::{Value, json};
use tandem_routing::customer_trunk::CustomerTrunk;
use tandem_routing::inventory::Number;
use tandem_store::resources::Resource;

use super::super::super::error::{ApiError, allow};
use super::super::super::family::Owner;
use super::super::super::{format, path, resource_fields, sid};
use super::super::{Answer, Verb, created, deleted, ok};
use super::{INVALID, TrunkingContext, date, place, url};

/// Keys of the 2010-04-01 number resource that the number resource of this API does not have.
const ABSENT_KEYS: [&str; 11] = [
    "address_sid",
    "bundle_sid",
    "emergency_address_sid",
    "emergency_address_status",
    "emergency_status",
    "identity_sid",
    "origin",
    "status",
    "type",
    "uri",
    "voice_receive_mode",
];

pub(super) async fn answer(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>, below: &[&str]) -> Answer {
    let x = v.x;
    let represent = |row: &Resource<Number>| represent(&v.base, x.owner(), trunk.id, row);
    match (below, x.verb) {
        ([], Verb::Get) => {
            let paging = x.paging("PN")?;
            let rows = numbers(v, trunk).iter().map(|row| (sid::spell("PN", row.id), represent(row))).collect();
            let items = paging.part(rows, |(sid, _): &(String, Value)| sid::parse("PN", sid));
            v.list("phone_numbers", &format!("{}/PhoneNumbers", place(trunk.id)), &paging, items)
        }
        ([], Verb::Post) => {
            let sid = x.parameters.get("PhoneNumberSid");
            let sid = sid.ok_or_else(|| ApiError::bad(INVALID, "PhoneNumberSid is required"))?;
            let unknown = || ApiError::bad(INVALID, format!("PhoneNumberSid is not a number of the account: {sid}"));
            let id = sid::parse("PN", sid).ok_or_else(unknown)?;
            let row = x.numbers().get(id).ok_or_else(unknown)?;
            let row = x.numbers().attach(&row, Some(sid::spell("TK", trunk.id))).await?;
            Ok(created(represent(&row)))
        }
        ([name], Verb::Get) => Ok(ok(represent(&*find(v, trunk, name)?))),
        ([name], Verb::Delete) => {
            x.numbers().attach(&*find(v, trunk, name)?, None).await?;
            Ok(deleted())
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::GET_DELETE)),
        _ => Err(x.not_found()),
    }
}

/// The numbers of the trunk. The newest number comes first.
fn numbers(v: &TrunkingContext<'_>, trunk: &Resource<CustomerTrunk>) -> Vec<Arc<Resource<Number>>> {
    v.x.numbers().of_trunk(&sid::spell("TK", trunk.id))
}

fn find(
    v: &TrunkingContext<'_>,
    trunk: &Resource<CustomerTrunk>,
    name: &str,
) -> Result<Arc<Resource<Number>>, ApiError> {
    let id = sid::parse("PN", name).ok_or_else(|| v.x.not_found())?;
    numbers(v, trunk).into_iter().find(|row| row.id == id).ok_or_else(|| v.x.not_found())
}

/// The PhoneNumber resource: the number resource of the 2010-04-01 API, in this API's format.
pub(super) fn represent(base: &str, owner: Owner<'_>, trunk: u128, row: &Resource<Number>) -> Value {
    let sid = sid::spell("PN", row.id);
    let mut number = resource_fields::number(owner, row);
    let at = owner.path(format_args!("IncomingPhoneNumbers/{sid}"));
    format::without(&mut number, &ABSENT_KEYS);
    format::extend(
        &mut number,
        json!({
            "api_version": path::VERSION,
            "trunk_sid": sid::spell("TK", trunk),
            "date_created": date(row.created_at),
            "date_updated": date(row.updated_at),
            "url": url(base, &format!("{}/PhoneNumbers/{sid}", place(trunk))),
            "links": { "phone_number": format!("{}{at}", base.replace("//trunking.", "//api.")) },
        }),
    );
    number
}
