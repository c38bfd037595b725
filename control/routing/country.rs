//! The countries of phone numbers: ISO 3166-1 codes, names, and the calling codes of ITU-T E.164.

/// Country code, calling code, and name of each country. If several countries share a calling code, a number belongs to
/// the first of these countries, unless the number's block belongs to another country.
const COUNTRIES: &[(&str, &str, &str)] = &[
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
    ("LY", "218", "Libya"),
    ("GM", "220", "Gambia"),
    ("MR", "222", "Mauritania"),
    ("BF", "226", "Burkina Faso"),
    ("NE", "227", "Niger"),
    ("TG", "228", "Togo"),
    ("LR", "231", "Liberia"),
    ("SL", "232", "Sierra Leone"),
    ("TD", "235", "Chad"),
    ("CF", "236", "Central African Republic"),
    ("CV", "238", "Cape Verde"),
    ("ST", "239", "Sao Tome and Principe"),
    ("GQ", "240", "Equatorial Guinea"),
    ("GA", "241", "Gabon"),
    ("CG", "242", "Congo"),
    ("CD", "243", "Democratic Republic of the Congo"),
    ("GW", "245", "Guinea-Bissau"),
    ("SC", "248", "Seychelles"),
    ("SD", "249", "Sudan"),
    ("SS", "211", "South Sudan"),
    ("ET", "251", "Ethiopia"),
    ("SO", "252", "Somalia"),
    ("DJ", "253", "Djibouti"),
    ("BI", "257", "Burundi"),
    ("MG", "261", "Madagascar"),
    ("RE", "262", "Reunion"),
    ("MW", "265", "Malawi"),
    ("LS", "266", "Lesotho"),
    ("SZ", "268", "Eswatini"),
    ("KM", "269", "Comoros"),
    ("ER", "291", "Eritrea"),
    ("AW", "297", "Aruba"),
    ("FO", "298", "Faroe Islands"),
    ("GL", "299", "Greenland"),
    ("SM", "378", "San Marino"),
    ("XK", "383", "Kosovo"),
    ("BY", "375", "Belarus"),
    ("CU", "53", "Cuba"),
    ("HT", "509", "Haiti"),
    ("GP", "590", "Guadeloupe"),
    ("GY", "592", "Guyana"),
    ("GF", "594", "French Guiana"),
    ("MQ", "596", "Martinique"),
    ("SR", "597", "Suriname"),
    ("CW", "599", "Curacao"),
    ("TL", "670", "Timor-Leste"),
    ("BN", "673", "Brunei"),
    ("NR", "674", "Nauru"),
    ("PG", "675", "Papua New Guinea"),
    ("TO", "676", "Tonga"),
    ("SB", "677", "Solomon Islands"),
    ("VU", "678", "Vanuatu"),
    ("FJ", "679", "Fiji"),
    ("PW", "680", "Palau"),
    ("CK", "682", "Cook Islands"),
    ("WS", "685", "Samoa"),
    ("KI", "686", "Kiribati"),
    ("NC", "687", "New Caledonia"),
    ("TV", "688", "Tuvalu"),
    ("PF", "689", "French Polynesia"),
    ("FM", "691", "Micronesia"),
    ("MH", "692", "Marshall Islands"),
    ("KP", "850", "North Korea"),
    ("LA", "856", "Laos"),
    ("MV", "960", "Maldives"),
    ("LB", "961", "Lebanon"),
    ("SY", "963", "Syria"),
    ("IQ", "964", "Iraq"),
    ("YE", "967", "Yemen"),
    ("PS", "970", "Palestine"),
    ("BT", "975", "Bhutan"),
    ("MN", "976", "Mongolia"),
    ("TJ", "992", "Tajikistan"),
    ("TM", "993", "Turkmenistan"),
    ("AF", "93", "Afghanistan"),
    ("MM", "95", "Myanmar"),
    ("IR", "98", "Iran"),
    ("IO", "246", "British Indian Ocean Territory"),
    ("AC", "247", "Ascension Island"),
    ("SH", "290", "Saint Helena"),
    ("FK", "500", "Falkland Islands"),
    ("PM", "508", "Saint Pierre and Miquelon"),
    ("NF", "672", "Norfolk Island"),
    ("WF", "681", "Wallis and Futuna"),
    ("NU", "683", "Niue"),
    ("TK", "690", "Tokelau"),
];

/// Area codes of the countries that share calling code 1 with the United States (North American Numbering Plan).
const AREAS_OF_OTHERS: &[(&str, &str)] = &[
    (
        "CA",
        "204 226 236 249 250 257 263 273 289 306 343 354 365 367 368 382 387 403 416 418 428 431 437 438 450 460 468 474 506 514 519 537 548 568 579 581 584 587 600 604 613 622 633 639 647 672 683 705 709 742 753 778 780 782 807 819 825 867 873 879 902 905 942",
    ),
    ("PR", "787 939"),
    ("DO", "809 829 849"),
    ("JM", "658 876"),
    ("TT", "868"),
    ("BS", "242"),
    ("BB", "246"),
    ("AG", "268"),
    ("AI", "264"),
    ("BM", "441"),
    ("VG", "284"),
    ("KY", "345"),
    ("DM", "767"),
    ("GD", "473"),
    ("MS", "664"),
    ("KN", "869"),
    ("LC", "758"),
    ("VC", "784"),
    ("SX", "721"),
    ("TC", "649"),
    ("GU", "671"),
    ("VI", "340"),
    ("MP", "670"),
    ("AS", "684"),
];

/// Area codes of the states of the United States.
const AREAS_OF_STATES: &[(&str, &str)] = &[
    ("AL", "205 251 256 334 659 938"),
    ("AK", "907"),
    ("AZ", "480 520 602 623 928"),
    ("AR", "327 479 501 870"),
    (
        "CA",
        "209 213 279 310 323 341 350 357 369 408 415 424 442 510 530 559 562 619 626 628 650 657 661 669 707 714 738 747 760 805 818 820 831 837 840 858 909 916 925 949 951",
    ),
    ("CO", "303 719 720 748 970 983"),
    ("CT", "203 475 860 959"),
    ("DE", "302"),
    ("DC", "202 771"),
    ("FL", "239 305 321 324 352 386 407 448 561 645 656 689 727 728 754 772 786 813 850 863 904 941 954"),
    ("GA", "229 404 470 478 678 706 762 770 912 943"),
    ("HI", "808"),
    ("ID", "208 986"),
    ("IL", "217 224 309 312 331 447 464 618 630 708 730 773 779 815 847 861 872"),
    ("IN", "219 260 317 463 574 765 812 930"),
    ("IA", "319 515 563 641 712"),
    ("KS", "316 620 785 913"),
    ("KY", "270 364 502 606 859"),
    ("LA", "225 318 337 504 985"),
    ("ME", "207"),
    ("MD", "227 240 301 410 443 667"),
    ("MA", "339 351 413 508 617 774 781 857 978"),
    ("MI", "231 248 269 313 517 586 616 679 734 810 906 947 989"),
    ("MN", "218 320 507 612 651 763 924 952"),
    ("MS", "228 601 662 769"),
    ("MO", "235 314 417 557 573 636 660 816 975"),
    ("MT", "406"),
    ("NE", "308 402 531"),
    ("NV", "702 725 775"),
    ("NH", "603"),
    ("NJ", "201 551 609 640 732 848 856 862 908 973"),
    ("NM", "505 575"),
    ("NY", "212 315 329 332 347 363 516 518 585 607 624 631 646 680 716 718 838 845 914 917 929 934"),
    ("NC", "252 336 472 704 743 828 910 919 980 984"),
    ("ND", "701"),
    ("OH", "216 220 234 283 326 330 380 419 436 440 513 567 614 740 937"),
    ("OK", "405 539 572 580 918"),
    ("OR", "458 503 541 971"),
    ("PA", "215 223 267 272 412 445 484 570 582 610 717 724 814 835 878"),
    ("RI", "401"),
    ("SC", "803 821 839 843 854 864"),
    ("SD", "605"),
    ("TN", "423 615 629 731 865 901 931"),
    (
        "TX",
        "210 214 254 281 325 346 361 409 430 432 469 512 682 713 726 737 806 817 830 832 903 915 936 940 945 956 972 979",
    ),
    ("UT", "385 435 801"),
    ("VT", "802"),
    ("VA", "276 434 540 571 686 703 757 804 826 948"),
    ("WA", "206 253 360 425 509 564"),
    ("WV", "304 681"),
    ("WI", "262 274 353 414 534 608 715 920"),
    ("WY", "307"),
];

/// Returns the ISO code of a number's country. If the calling code is unknown, returns `ZZ`, which is not the code of
/// any country.
pub fn of(number: &str) -> &'static str {
    let other = || area(number).and_then(|area| of_area(AREAS_OF_OTHERS, area));
    calling(number).map_or("ZZ", |(code, ..)| match *code {
        "US" => other().unwrap_or(code),
        "RU" if number.starts_with("+76") || number.starts_with("+77") => "KZ",
        code => code,
    })
}

/// Returns the US state of a number, if the area code of the number belongs to a state.
pub fn state(number: &str) -> Option<&'static str> {
    area(number).and_then(|area| of_area(AREAS_OF_STATES, area))
}

/// Returns the area code of a complete North American number.
fn area(number: &str) -> Option<&str> {
    number.strip_prefix("+1").filter(|rest| rest.len() == 10)?.get(..3)
}

fn of_area(table: &'static [(&'static str, &'static str)], area: &str) -> Option<&'static str> {
    let has = |(_, areas): &&(&str, &str)| areas.split(' ').any(|one| one == area);
    table.iter().find(has).map(|(place, _)| *place)
}

/// Returns the part of a number after its calling code.
pub fn national(number: &str) -> Option<&str> {
    let (_, calling, _) = calling(number)?;
    number.strip_prefix('+')?.strip_prefix(*calling)
}

/// Returns the name of a country. Returns the code itself if the country is unknown.
pub fn name(code: &str) -> &str {
    COUNTRIES.iter().find(|(known, ..)| *known == code).map_or(code, |(.., name)| name)
}

/// Whether the table contains this country code.
pub fn is_known(code: &str) -> bool {
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
    fn a_number_has_a_country_and_no_calling_code_is_the_prefix_of_another() {
        for (number, country, rest) in
            [("+14155550100", "US", "4155550100"), ("+442071838750", "GB", "2071838750"), ("+4930123", "DE", "30123")]
        {
            assert_eq!((of(number), national(number)), (country, Some(rest)));
        }
        assert_eq!((of("+999123"), of("100"), national("100")), ("ZZ", "ZZ", None));
        for &(code, calling, _) in COUNTRIES {
            let others = COUNTRIES.iter().filter(|(_, other, _)| *other != calling && other.starts_with(calling));
            assert_eq!(others.count(), 0, "{code}");
        }
        assert_eq!((name("DE"), name("XY")), ("Germany", "XY"));
    }

    #[test]
    fn a_north_american_number_has_a_country_and_a_state() {
        let place = |number: &str| (of(number), state(number));
        assert_eq!(place("+14155550100"), ("US", Some("CA")));
        assert_eq!(place("+14165550100"), ("CA", None));
        assert_eq!(place("+17875550100"), ("PR", None));
        assert_eq!((of("+77012345678"), of("+74951234567")), ("KZ", "RU"));
        assert_eq!(place("+15551230001"), ("US", None));
        assert_eq!((place("+1415"), place("+18005550100")), (("US", None), ("US", None)));
    }
}
