//! The number pool: numbers that accounts may take. Carriers have assigned these numbers to the server, and no account
//! uses them yet.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use tandem_call::address::PhoneNumber;
use tandem_id::AccountName;

/// Maximum number of telephone numbers in one block.
pub const LARGEST_BLOCK: u64 = 10_000;
/// Maximum number of telephone numbers in all blocks together. The limit exists because a search may have to check
/// every number.
pub const LARGEST_POOL: u64 = 100_000;

/// An entry of `[[number_pool]]`: one number, or a block of consecutive numbers. An account may take these numbers by
/// REST.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// The number, or the first number of the block, in E.164 format.
    pub number: PhoneNumber,
    /// The last number of the block. It has as many digits as the first number.
    #[serde(default)]
    pub last: Option<PhoneNumber>,
    /// The account that may take the numbers. `None` means every account.
    #[serde(default)]
    pub account: Option<AccountName>,
    /// The type of the numbers.
    #[serde(default, rename = "type")]
    pub kind: NumberKind,
    /// ISO 3166-1 alpha-2 code of the country. `None` means that the number determines the country.
    #[serde(default)]
    pub country: Option<Arc<str>>,
    /// State or province of the numbers.
    #[serde(default)]
    pub region: Option<Arc<str>>,
    /// Town of the numbers.
    #[serde(default)]
    pub locality: Option<Arc<str>>,
    #[serde(default)]
    pub postal_code: Option<Arc<str>>,
    /// Rate center of the numbers (North America).
    #[serde(default)]
    pub rate_center: Option<Arc<str>>,
    /// Local access and transport area (North America).
    #[serde(default)]
    pub lata: Option<Arc<str>>,
    /// Latitude of the numbers in degrees, from -90 to 90.
    #[serde(default)]
    pub latitude: Option<f64>,
    /// Longitude of the numbers in degrees, from -180 to 180.
    #[serde(default)]
    pub longitude: Option<f64>,
    /// The services that the numbers support.
    #[serde(default = "voice")]
    pub capabilities: Vec<Capability>,
    /// Whether the numbers are new to the provider's network.
    #[serde(default)]
    pub beta: bool,
    /// The address that an account must have to take one of the numbers.
    #[serde(default)]
    pub address_requirements: AddressRequirements,
}

/// The type of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberKind {
    /// A number of one town or region.
    #[default]
    Local,
    /// A number of a mobile phone.
    Mobile,
    /// A number for which the called party pays.
    TollFree,
    /// A number of a whole country.
    National,
    /// A number without a geographic location.
    Voip,
    /// A number for which both parties pay.
    SharedCost,
    /// A number for devices that communicate without people.
    MachineToMachine,
}

/// A service that a number supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Voice calls.
    Voice,
    /// Text messages (SMS).
    Sms,
    /// Multimedia messages (MMS).
    Mms,
    Fax,
}

/// The address that an account must have to take a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressRequirements {
    /// The account needs no address.
    #[default]
    None,
    /// The account needs an address, which may be anywhere.
    Any,
    /// The account needs an address in the town or region of the number.
    Local,
    /// The account needs an address in another country.
    Foreign,
}

fn voice() -> Vec<Capability> {
    vec![Capability::Voice]
}

impl Block {
    /// Returns the first number and the last number of the block as integers. Returns `None` if one of the numbers is
    /// not in E.164 format. Also returns `None` if the last number has another length or is lower than the first
    /// number, or if the block is larger than [`LARGEST_BLOCK`].
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let digits =
            |number: &PhoneNumber| number.is_e164().then(|| number.as_str().trim_start_matches('+').parse().ok())?;
        let first: u64 = digits(&self.number)?;
        let last = match &self.last {
            Some(last) if last.as_str().len() == self.number.as_str().len() => digits(last)?,
            Some(_) => return None,
            None => first,
        };
        (first..first.saturating_add(LARGEST_BLOCK)).contains(&last).then_some((first, last))
    }

    fn is_for(&self, account: &AccountName) -> bool {
        self.account.as_ref().is_none_or(|own| own == account)
    }
}

/// All blocks of numbers in the configuration.
#[derive(Clone, Debug)]
pub struct NumberPool {
    blocks: Vec<Block>,
    /// Whether accounts may also take numbers outside the blocks.
    is_open: bool,
}

/// Area code, state and town of the numbers that are offered if the server has no trunk for calls to real numbers.
const FICTITIOUS: [(&str, &str, &str); 4] =
    [("415", "CA", "San Francisco"), ("212", "NY", "New York"), ("312", "IL", "Chicago"), ("206", "WA", "Seattle")];

impl Default for NumberPool {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl NumberPool {
    /// Creates a pool of these blocks. An empty pool is open, so that an account may take any number.
    pub fn new(blocks: Vec<Block>) -> Self {
        let is_open = blocks.is_empty();
        Self { blocks, is_open }
    }

    /// Creates the pool of a server that has neither `[[number_pool]]` nor a trunk. With this pool, example programs
    /// that search for a number find a number. The pool offers numbers that are reserved for fiction in North America:
    /// 555-0100 to 555-0199 of several area codes. Accounts may also take any other number.
    pub fn fictitious() -> Self {
        let number = |area: &str, last: u8| format!("+1{area}555{last:04}").parse().ok();
        let block = |(area, region, town): &(&str, &str, &str)| {
            Some(Block {
                number: number(area, 100)?,
                last: number(area, 199),
                account: None,
                kind: NumberKind::Local,
                country: Some("US".into()),
                region: Some((*region).into()),
                locality: Some((*town).into()),
                postal_code: None,
                rate_center: None,
                lata: None,
                latitude: None,
                longitude: None,
                capabilities: voice(),
                beta: false,
                address_requirements: AddressRequirements::None,
            })
        };
        Self { blocks: FICTITIOUS.iter().filter_map(block).collect(), is_open: true }
    }

    /// Whether accounts may take numbers outside all blocks, because the configuration lists no numbers.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Returns an iterator over the blocks from which the account may take numbers.
    pub fn blocks(&self, account: &AccountName) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.is_for(account))
    }

    /// Returns an iterator over the numbers of the pool, in the order of the configuration. The iterator uses only the
    /// blocks that `matches` accepts and from which the account may take numbers. Numbers that are already taken are
    /// included.
    pub fn numbers(
        &self,
        account: &AccountName,
        matches: impl Fn(&Block) -> bool,
    ) -> impl Iterator<Item = (String, &Block)> {
        let mut seen = HashSet::new();
        let all = self.blocks(account).filter(move |block| matches(block)).flat_map(|block| {
            let (first, last) = block.bounds().unwrap_or((1, 0));
            (first..=last).map(move |number| (format!("+{number}"), block))
        });
        all.filter(move |(number, _)| seen.insert(number.clone()))
    }

    /// Returns the block that contains a number, if the account may take numbers from this block.
    pub fn find(&self, account: &AccountName, number: &str) -> Option<&Block> {
        let digits: u64 = number.strip_prefix('+')?.parse().ok()?;
        let holds = |block: &&Block| block.bounds().is_some_and(|(first, last)| (first..=last).contains(&digits));
        self.blocks(account).find(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(blocks: serde_json::Value) -> NumberPool {
        NumberPool::new(serde_json::from_value(blocks).unwrap())
    }

    #[test]
    fn a_block_offers_each_number_once_and_only_to_its_account() {
        let pool = pool(serde_json::json!([
            { "number": "+15551230009", "last": "+15551230011" },
            { "number": "+15551230010" },
            { "number": "+445551230010", "account": "other", "type": "toll_free" },
        ]));
        let numbers = |account: &str| {
            pool.numbers(&AccountName::new(account), |_| true).map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(numbers("acme"), ["+15551230009", "+15551230010", "+15551230011"]);
        assert_eq!(numbers("other").last().unwrap(), "+445551230010");
        assert!(
            pool.find(&AccountName::new("acme"), "+15551230011").is_some()
                && pool.find(&AccountName::new("acme"), "+15551230012").is_none()
        );
        assert!(pool.find(&AccountName::new("acme"), "+445551230010").is_none());
        assert_eq!(pool.find(&AccountName::new("other"), "+445551230010").unwrap().kind, NumberKind::TollFree);
    }

    #[test]
    fn an_empty_number_pool_offers_fictitious_numbers_and_accepts_others() {
        let pool = NumberPool::fictitious();
        let numbers: Vec<_> = pool.numbers(&AccountName::new("acme"), |_| true).map(|(number, _)| number).collect();
        assert_eq!((numbers.len(), numbers[0].as_str()), (400, "+14155550100"));
        assert!(numbers.iter().all(|number| number[5..].starts_with("55501")));
        assert!(pool.is_open() && NumberPool::default().blocks(&AccountName::new("acme")).count() == 0);
        let one = serde_json::json!([{ "number": "+15551230009" }]);
        assert!(NumberPool::new(Vec::new()).is_open() && !self::pool(one).is_open());
    }

    #[test]
    fn an_invalid_block_has_no_numbers() {
        for (number, last) in
            [("100", None), ("+15", Some("+14")), ("+15551", Some("+155512")), ("+10000", Some("+20000"))]
        {
            let pool = pool(serde_json::json!([{ "number": number, "last": last }]));
            assert_eq!(pool.numbers(&AccountName::new("acme"), |_| true).count(), 0, "{number}");
        }
    }
}
