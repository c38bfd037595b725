//! The explanation for a refused call to a number that no account has.

use tandem_id::AccountName;

use crate::Routing;

/// Maximum number of numbers in the file, and in the inventory, with which an unknown number is compared. The comparison
/// reads every digit, so a caller who dials random numbers must not start an unlimited search.
const MAX_COMPARED: usize = 10_000;

/// The explanation for a refused call to an unknown number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownNumber {
    /// The reason why the call is refused.
    pub why: String,
    /// One sentence that says how to accept such calls.
    pub remedy: String,
}

impl UnknownNumber {
    /// Explains a refused call of a suspended or closed account, which can neither make nor receive calls.
    pub fn inactive(account: &AccountName) -> Self {
        Self {
            why: format!("the account {account} is suspended or closed"),
            remedy: "Activate the account with the API of its provider.".to_owned(),
        }
    }
}

impl Routing {
    /// Explains why a call to an unknown number is refused. The result names the most similar known number and one
    /// solution.
    pub fn unknown_number(&self, trunk: Option<&str>, user: &str) -> UnknownNumber {
        let given = self.configured().filter_map(|one| one.number.exact()).take(MAX_COMPARED).map(str::to_owned);
        let known = given.chain(self.inventory.numbers.some_keys(MAX_COMPARED));
        let near = known.filter_map(|own| Some((likeness(&own, user)?, own)));
        let near = near.max().map(|(_, own)| own);
        let why = match &near {
            Some(own) => format!("no account has this number, but {own} is known"),
            None => "no account has this number".to_owned(),
        };
        let lacks_plus = near.as_deref().filter(|own| own.strip_prefix('+') == Some(user));
        let remedy = match (lacks_plus, trunk) {
            (Some(own), Some(trunk)) => format!(
                "Trunk {trunk:?} sends {own} without \"+\": set inbound_add_prefix = \"+\" in its [[trunks]] entry."
            ),
            (Some(own), None) => format!("The caller has to dial {own}."),
            (None, _) => format!(
                "To take the call, add a [[numbers]] entry with these three keys: number = {user:?}, account = {:?}, \
                 voice_url = \"http://127.0.0.1:5000/voice\".",
                self.account_for(trunk, near.as_deref())
            ),
        };
        UnknownNumber { why, remedy }
    }

    /// Returns the most likely account for a new number. The first choice is the account of the trunk, the second
    /// choice is the account of the most similar number, and the last choice is the first account.
    fn account_for(&self, trunk: Option<&str>, near: Option<&str>) -> String {
        let of_trunk = self.trunk(trunk).and_then(|trunk| trunk.account.clone());
        let near = near.and_then(|near| self.configured_number(near));
        let of_near = near.map(|one| one.account.clone());
        let first = || self.accounts.all().first().map(|account| account.name.clone());
        of_trunk.or(of_near).or_else(first).map_or_else(|| "NAME".to_owned(), |name| name.to_string())
    }
}

/// Returns how similar a called number is to a known number. Returns `None` if the numbers are not similar. Two numbers
/// are similar if at least their last six digits are equal. Such numbers differ only at the start, for example in `+`,
/// `00` or a prefix of the trunk. Two numbers of the same length are also similar if at most two digits differ (one
/// digit in numbers of fewer than seven digits).
fn likeness(own: &str, called: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).collect::<Vec<u8>>();
    let (own, called) = (digits(own), digits(called));
    let common = own.iter().rev().zip(called.iter().rev()).take_while(|(one, other)| one == other).count();
    let wrong = own.iter().zip(&called).filter(|(one, other)| one != other).count();
    let typed_wrong = own.len() == called.len() && own.len() >= 3 && wrong <= if own.len() < 7 { 1 } else { 2 };
    match common {
        6.. => Some(1_000 + common),
        _ if typed_wrong => Some(own.len() - wrong),
        _ => None,
    }
}
