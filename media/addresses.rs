//! The addresses of the media: at most one IPv4 address and one IPv6 address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde::de::{Error, SeqAccess, Visitor};

use crate::handle::StartError;

/// At most one address of each family. The configuration writes one address as text, and two addresses as a list or as
/// text with a comma.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Adds an address. Returns false if there is already an address of its family.
    pub fn add(&mut self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.replace(address).is_none(),
            IpAddr::V6(address) => self.v6.replace(address).is_none(),
        }
    }

    /// The addresses, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The address of the same family as `other`.
    pub fn of_family(self, other: IpAddr) -> Option<IpAddr> {
        self.iter().find(|address| address.is_ipv4() == other.is_ipv4())
    }

    /// Whether there is no address.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.add(address);
        addresses
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.iter().enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(formatter, "{separator}{address}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Addresses, D::Error> {
        struct Reader;

        fn add<E: Error>(addresses: &mut Addresses, address: IpAddr) -> Result<(), E> {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let both = || E::custom(format!("has two {family} addresses; name at most one of each family"));
            addresses.add(address).then_some(()).ok_or_else(both)
        }

        impl<'de> Visitor<'de> for Reader {
            type Value = Addresses;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an address, or a list of an IPv4 and an IPv6 address")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                let mut addresses = Addresses::default();
                for address in text.split(',') {
                    add(&mut addresses, address.trim().parse().map_err(E::custom)?)?;
                }
                Ok(addresses)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Addresses::default();
                while let Some(address) = list.next_element()? {
                    add(&mut addresses, address)?;
                }
                if addresses.is_empty() {
                    return Err(A::Error::custom("is empty; name at least one address"));
                }
                Ok(addresses)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The place of the sessions of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPlace {
    /// The address that the sockets are bound to.
    pub listen: IpAddr,
    /// The address in our SDP.
    pub advertise: IpAddr,
}

/// Returns the place of each family that has one, IPv4 first. The wildcard `::` stands for both families, if
/// `advertise` has an address of both.
pub(crate) fn places(listen: Addresses, advertise: Addresses) -> Result<Vec<MediaPlace>, StartError> {
    let mut places = Vec::new();
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let both = listen.v6.is_some_and(|address| address.is_unspecified());
        let own = listen.of_family(any);
        match (own.or(both.then_some(any)), advertise.of_family(any)) {
            (Some(listen), Some(advertise)) => places.push(MediaPlace { listen, advertise }),
            (Some(listen), None) if !listen.is_unspecified() => {
                places.push(MediaPlace { listen, advertise: listen });
            }
            // The wildcard `::` serves only the other family.
            (Some(_), None) if both && !advertise.is_empty() => {}
            (Some(listen), None) if own.is_some() => return Err(StartError::NoAddress(listen)),
            (None, Some(advertise)) => return Err(StartError::Families { listen, advertise }),
            (Some(_) | None, None) => {}
        }
    }
    match places.iter().find(|place| place.advertise.is_unspecified()) {
        Some(place) => Err(StartError::NoAddress(place.advertise)),
        None => Ok(places),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Addresses {
        let mut addresses = Addresses::default();
        for address in text.split_ascii_whitespace() {
            assert!(addresses.add(address.parse().unwrap()), "{text}");
        }
        addresses
    }

    #[test]
    fn each_address_family_uses_its_own_listen_and_advertise_address() {
        for (listen, advertise, expected) in [
            ("192.0.2.1", "", Ok("192.0.2.1=192.0.2.1")),
            ("::1", "", Ok("::1=::1")),
            ("192.0.2.1 2001:db8::1", "", Ok("192.0.2.1=192.0.2.1 2001:db8::1=2001:db8::1")),
            ("10.0.0.5 2001:db8::1", "203.0.113.5", Ok("10.0.0.5=203.0.113.5 2001:db8::1=2001:db8::1")),
            ("0.0.0.0", "203.0.113.5", Ok("0.0.0.0=203.0.113.5")),
            ("::", "2001:db8::1", Ok("::=2001:db8::1")),
            ("::", "203.0.113.5", Ok("0.0.0.0=203.0.113.5")),
            ("::", "203.0.113.5 2001:db8::1", Ok("0.0.0.0=203.0.113.5 ::=2001:db8::1")),
            ("0.0.0.0 ::", "203.0.113.5 2001:db8::1", Ok("0.0.0.0=203.0.113.5 ::=2001:db8::1")),
            ("0.0.0.0", "", Err("set `advertise`")),
            ("::", "", Err("set `advertise`")),
            ("0.0.0.0 2001:db8::1", "", Err("set `advertise`")),
            ("192.0.2.1", "2001:db8::1", Err("different address families")),
            ("2001:db8::1", "192.0.2.1", Err("different address families")),
            ("0.0.0.0", "203.0.113.5 2001:db8::1", Err("different address families")),
            ("192.0.2.1", "0.0.0.0", Err("set `advertise`")),
        ] {
            let found = places(addresses(listen), addresses(advertise)).map(|places| {
                let shown = |place: &MediaPlace| format!("{}={}", place.listen, place.advertise);
                places.iter().map(shown).collect::<Vec<_>>().join(" ")
            });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{listen}, {advertise}"),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{listen}: {found}"),
                (found, expected) => panic!("{listen}, {advertise}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn one_address_is_written_as_text_and_two_as_a_list() {
        #[derive(Debug, Deserialize)]
        struct Table {
            listen: Addresses,
        }
        let read = |value: &str| toml::from_str::<Table>(&format!("listen = {value}")).map(|table| table.listen);
        assert_eq!(read("\"::1\"").unwrap(), addresses("::1"));
        for both in ["[\"::1\", \"127.0.0.1\"]", "\"127.0.0.1, ::1\""] {
            assert_eq!(read(both).unwrap().to_string(), "127.0.0.1, ::1");
        }
        for (wrong, why) in [
            ("[]", "name at least one"),
            ("[\"127.0.0.1\", \"127.0.0.2\"]", "two IPv4 addresses"),
            ("\"host\"", "invalid IP address syntax"),
            ("7", "an address, or a list"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.message().contains(why), "{wrong}: {error}");
        }
    }
}
