//! Countries of numbers: ISO 3166-1 codes, names, and the calling codes of ITU-T E.164.

/// Code, calling code, name. Where several share a calling code, the first of them is what a number is of unless its block says
/// otherwise.
const COUNTRIES: [(&str, &str, &str); 128] = [
    ("US", "1", "United States"),
    ("CA", "1", "Canada"),
    ("PR", "1", "Puerto Rico"),
    ("DO", "1", "Dominican Republic"),
    ("JM", "1", "Jamaica"),
    ("TT", "1", "Trinidad and Tobago"),
    ("BS", "1", "Bahamas"),
    ("BB", "1", "Barbados"),
    ("EG", "20", "Egypt"),
    ("MA", "212", "Morocco"),
    ("DZ", "213", "Algeria"),
    ("TN", "216", "Tunisia"),
    ("SN", "221", "Senegal"),
    ("ML", "223", "Mali"),
    ("GN", "224", "Guinea"),
    ("CI", "225", "Ivory Coast"),
    ("BJ", "229", "Benin"),
    ("MU", "230", "Mauritius"),
    ("GH", "233", "Ghana"),
    ("NG", "234", "Nigeria"),
    ("CM", "237", "Cameroon"),
    ("AO", "244", "Angola"),
    ("RW", "250", "Rwanda"),
    ("KE", "254", "Kenya"),
    ("TZ", "255", "Tanzania"),
    ("UG", "256", "Uganda"),
    ("MZ", "258", "Mozambique"),
    ("ZM", "260", "Zambia"),
    ("ZW", "263", "Zimbabwe"),
    ("NA", "264", "Namibia"),
    ("BW", "267", "Botswana"),
    ("ZA", "27", "South Africa"),
    ("GR", "30", "Greece"),
    ("NL", "31", "Netherlands"),
    ("BE", "32", "Belgium"),
    ("FR", "33", "France"),
    ("ES", "34", "Spain"),
    ("GI", "350", "Gibraltar"),
    ("PT", "351", "Portugal"),
    ("LU", "352", "Luxembourg"),
    ("IE", "353", "Ireland"),
    ("IS", "354", "Iceland"),
    ("AL", "355", "Albania"),
    ("MT", "356", "Malta"),
    ("CY", "357", "Cyprus"),
    ("FI", "358", "Finland"),
    ("BG", "359", "Bulgaria"),
    ("HU", "36", "Hungary"),
    ("LT", "370", "Lithuania"),
    ("LV", "371", "Latvia"),
    ("EE", "372", "Estonia"),
    ("MD", "373", "Moldova"),
    ("AM", "374", "Armenia"),
    ("AD", "376", "Andorra"),
    ("MC", "377", "Monaco"),
    ("UA", "380", "Ukraine"),
    ("RS", "381", "Serbia"),
    ("ME", "382", "Montenegro"),
    ("HR", "385", "Croatia"),
    ("SI", "386", "Slovenia"),
    ("BA", "387", "Bosnia and Herzegovina"),
    ("MK", "389", "North Macedonia"),
    ("IT", "39", "Italy"),
    ("RO", "40", "Romania"),
    ("CH", "41", "Switzerland"),
    ("CZ", "420", "Czech Republic"),
    ("SK", "421", "Slovakia"),
    ("LI", "423", "Liechtenstein"),
    ("AT", "43", "Austria"),
    ("GB", "44", "United Kingdom"),
    ("DK", "45", "Denmark"),
    ("SE", "46", "Sweden"),
    ("NO", "47", "Norway"),
    ("PL", "48", "Poland"),
    ("DE", "49", "Germany"),
    ("BZ", "501", "Belize"),
    ("GT", "502", "Guatemala"),
    ("SV", "503", "El Salvador"),
    ("HN", "504", "Honduras"),
    ("NI", "505", "Nicaragua"),
    ("CR", "506", "Costa Rica"),
    ("PA", "507", "Panama"),
    ("PE", "51", "Peru"),
    ("MX", "52", "Mexico"),
    ("AR", "54", "Argentina"),
    ("BR", "55", "Brazil"),
    ("CL", "56", "Chile"),
    ("CO", "57", "Colombia"),
    ("VE", "58", "Venezuela"),
    ("BO", "591", "Bolivia"),
    ("EC", "593", "Ecuador"),
    ("PY", "595", "Paraguay"),
    ("UY", "598", "Uruguay"),
    ("MY", "60", "Malaysia"),
    ("AU", "61", "Australia"),
    ("ID", "62", "Indonesia"),
    ("PH", "63", "Philippines"),
    ("NZ", "64", "New Zealand"),
    ("SG", "65", "Singapore"),
    ("TH", "66", "Thailand"),
    ("RU", "7", "Russia"),
    ("KZ", "7", "Kazakhstan"),
    ("JP", "81", "Japan"),
    ("KR", "82", "South Korea"),
    ("VN", "84", "Vietnam"),
    ("HK", "852", "Hong Kong"),
    ("MO", "853", "Macao"),
    ("KH", "855", "Cambodia"),
    ("CN", "86", "China"),
    ("BD", "880", "Bangladesh"),
    ("TW", "886", "Taiwan"),
    ("TR", "90", "Turkey"),
    ("IN", "91", "India"),
    ("PK", "92", "Pakistan"),
    ("LK", "94", "Sri Lanka"),
    ("JO", "962", "Jordan"),
    ("KW", "965", "Kuwait"),
    ("SA", "966", "Saudi Arabia"),
    ("OM", "968", "Oman"),
    ("AE", "971", "United Arab Emirates"),
    ("IL", "972", "Israel"),
    ("BH", "973", "Bahrain"),
    ("QA", "974", "Qatar"),
    ("NP", "977", "Nepal"),
    ("AZ", "994", "Azerbaijan"),
    ("GE", "995", "Georgia"),
    ("KG", "996", "Kyrgyzstan"),
    ("UZ", "998", "Uzbekistan"),
];

/// The country of a number; `ZZ`, which is no country's, when it is of none of these.
pub(super) fn of(number: &str) -> &'static str {
    calling(number).map_or("ZZ", |(code, ..)| code)
}

/// What follows a number's calling code.
pub(super) fn national(number: &str) -> Option<&str> {
    let (_, calling, _) = calling(number)?;
    number.strip_prefix('+')?.strip_prefix(*calling)
}

/// The name of a country, or its code again.
pub(super) fn name(code: &str) -> &str {
    COUNTRIES.iter().find(|(known, ..)| *known == code).map_or(code, |(.., name)| name)
}

/// Whether it is one of these.
pub(super) fn is_known(code: &str) -> bool {
    COUNTRIES.iter().any(|(known, ..)| *known == code)
}

fn calling(number: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let digits = number.strip_prefix('+')?;
    COUNTRIES.iter().find(|(_, calling, _)| digits.starts_with(calling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_its_country_and_no_calling_code_begins_another() {
        for (number, country, rest) in
            [("+14155550100", "US", "4155550100"), ("+442071838750", "GB", "2071838750"), ("+4930123", "DE", "30123")]
        {
            assert_eq!((of(number), national(number)), (country, Some(rest)));
        }
        assert_eq!((of("+999123"), of("100"), national("100")), ("ZZ", "ZZ", None));
        for (code, calling, _) in COUNTRIES {
            let others = COUNTRIES.iter().filter(|(_, other, _)| *other != calling && other.starts_with(calling));
            assert_eq!(others.count(), 0, "{code}");
        }
        assert_eq!((name("DE"), name("XY")), ("Germany", "XY"));
    }
}
