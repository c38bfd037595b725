//! Ownership of numbers: the numbers that an account has, and the calling numbers that an account may use.

use std::sync::Arc;

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::header_fields::HeaderFields;
use tandem_id::AccountName;
use tandem_settings::{NumberConfig, NumberPattern};
use tandem_store::resources::Resource;

use crate::Routing;
use crate::inventory::{self, Number, VerifiedCaller};

/// Minimum number of digits of a prefix that makes an account the owner of a block of numbers. A shorter prefix only
/// defines a route.
const MIN_BLOCK_DIGITS: usize = 7;

/// The result of the check whether an account may use a calling number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallerIdCheck {
    /// The account may use the calling number: it is the account's own number, a verified caller ID, or not a telephone
    /// number.
    Own,
    /// The calling number does not belong to the account, and the configuration allows every number.
    Tolerated,
    /// The calling number does not belong to the account, and the call is refused.
    Refused,
}

impl Routing {
    /// Returns the number from the inventory, unless the configuration file gives the number to another account.
    pub(crate) fn number(&self, number: &str) -> Option<Arc<Resource<Number>>> {
        self.inventory.numbers.find(number).filter(|held| !self.belongs_to_another(held))
    }

    /// Whether the configuration file gives the number to an account other than its owner in the inventory.
    pub fn belongs_to_another(&self, held: &Resource<Number>) -> bool {
        self.is_configured_for_another(&held.account, &held.name)
    }

    /// Whether the configuration file gives the number to another account. A number of the parent account counts as the
    /// account's own.
    fn is_configured_for_another(&self, account: &AccountName, number: &str) -> bool {
        let parent = self.accounts.parent(account);
        let own = |one: &NumberConfig| one.account == *account || Some(&one.account) == parent.as_ref();
        self.numbers.fitting(number).any(|(one, _)| !own(one) && names(&one.number, number))
    }

    /// Whether another account owns a number, or the file assigns the number to an account. In both cases, `account`
    /// cannot take the number. An account can take numbers from its own blocks.
    pub fn is_taken(&self, account: &AccountName, number: &str) -> bool {
        let given = || self.configured_number(number).is_some();
        self.inventory.numbers.find(number).is_some() || given() || self.is_configured_for_another(account, number)
    }

    /// Returns the id of an account's number, in the form that a leg stores: 32 hex digits.
    pub fn stored_number_id(&self, account: &AccountName, address: &Address) -> Option<Arc<str>> {
        self.number_id(account, address).map(|id| format!("{id:032x}").into())
    }

    /// Returns the id of an account's number. The number is in the inventory of the account, is in the file, or is a
    /// verified caller ID of the account. Returns `None` for any other number.
    pub fn number_id(&self, account: &AccountName, address: &Address) -> Option<u128> {
        let Address::Phone(number) = address else { return None };
        let number = number.as_str();
        if let Some(held) = self.number(number).filter(|held| held.account == *account) {
            return Some(held.id);
        }
        if self.configured_number(number).is_some_and(|one| one.account == *account) {
            return Some(inventory::file_id(account, number));
        }
        self.inventory.callers.find(&VerifiedCaller::key(account, number)).map(|caller| caller.id)
    }

    /// Returns a number of the account whose calls go to this application or connection, if there is one.
    pub fn number_of_application(&self, account: &AccountName, id: &str) -> Option<Arc<Resource<Number>>> {
        let numbers = self.inventory.numbers.all(account);
        numbers.into_iter().find(|number| number.details.application.as_deref() == Some(id))
    }

    /// Returns one of the account's numbers in international format, if the account has such a number.
    pub fn any_number(&self, account: &AccountName) -> Option<Address> {
        let given = self.configured_of(account).filter_map(|one| one.number.exact());
        let given = given.filter_map(|number| number.parse().ok()).find(PhoneNumber::is_e164);
        let held = || self.inventory.numbers.all(account).into_iter().find_map(|held| held.name.parse().ok());
        given.or_else(held).map(Address::Phone)
    }

    /// Whether an account may use a calling number. If the configuration is not strict, every number is allowed.
    pub fn may_call_from(&self, account: &AccountName, from: &Address) -> bool {
        self.caller(account, from) != CallerIdCheck::Refused
    }

    /// Returns the first of these header fields of an application that states who calls. If the configuration is strict,
    /// an application may not set such a field, because it would replace the checked calling number at many carriers.
    pub fn refused_header<'a>(&self, headers: &'a HeaderFields) -> Option<&'a str> {
        let stated = headers
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| tandem_settings::header_pattern::states_caller(name));
        stated.filter(|_| self.strict_callers)
    }

    /// Applies the policy for calling numbers. The policy is the same for every dialect: a telephone number must belong
    /// to the account. The configuration decides whether another number is refused or tolerated.
    pub fn caller(&self, account: &AccountName, from: &Address) -> CallerIdCheck {
        match from {
            Address::Phone(number) if !self.owns(account, number.as_str()) => {
                if self.strict_callers {
                    CallerIdCheck::Refused
                } else {
                    CallerIdCheck::Tolerated
                }
            }
            _ => CallerIdCheck::Own,
        }
    }

    /// Whether a calling number belongs to an account. This is true if the number is in the account's inventory or is a
    /// verified caller ID of the account. It is also true if the file gives the account this number. A prefix with
    /// seven or more digits in the file gives the account all numbers with this prefix.
    pub fn owns(&self, account: &AccountName, number: &str) -> bool {
        let held = self.number(number).is_some_and(|held| held.account == *account);
        if held || self.inventory.callers.find(&VerifiedCaller::key(account, number)).is_some() {
            return true;
        }
        self.numbers.fitting(number).any(|(one, _)| one.account == *account && names(&one.number, number))
    }
}

/// Whether a pattern in the file makes its account the owner of a number. The pattern is the number itself, or a prefix
/// with seven or more digits.
pub(crate) fn names(pattern: &NumberPattern, number: &str) -> bool {
    pattern.prefix().is_none_or(|digits| digits.len() >= MIN_BLOCK_DIGITS) && pattern.fits(number).is_some()
}
