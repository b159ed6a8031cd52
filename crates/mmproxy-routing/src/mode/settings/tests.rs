use proptest::prelude::*;

use super::*;

#[test]
fn marks_are_read_in_decimal_and_in_hexadecimal() {
    assert_eq!("123".parse(), Ok(Mark::default()));
    assert_eq!("0x7b".parse(), Ok(Mark::default()));
    assert_eq!("0X7B".parse(), Ok(Mark::default()));
    assert_eq!(Mark::default().to_string(), "0x7b");
}

#[test]
fn what_is_no_number_is_refused_as_such() {
    for text in ["", "0x", "0x+7b", "0x-1", "-1", "mark", "4294967296", "0x100000000", " 1", "1 "] {
        let error = text.parse::<Mark>().unwrap_err();
        assert!(matches!(error, SettingError::NotANumber { .. }), "{text:?}: {error}");
    }
}

#[test]
fn reserved_values_are_refused_with_their_reason() {
    assert_eq!(Mark::new(0), Err(SettingError::MarkZero));
    assert_eq!("0x0".parse::<Mark>(), Err(SettingError::MarkZero));
    for (table, name) in [(0, "no table"), (253, "default"), (254, "main"), (255, "local")] {
        assert_eq!(Table::new(table), Err(SettingError::TableReserved { table, name }));
    }
    assert_eq!(Priority::new(0), Err(SettingError::PriorityZero));
    assert_eq!(Priority::new(32766), Err(SettingError::PriorityAfterMain(32766)));
}

#[test]
fn a_mask_has_all_bits_of_its_mark() {
    let mark: Mark = "0x7b/0xff".parse().unwrap();
    assert_eq!((mark.get(), mark.mask()), (0x7b, 0xff));
    assert_eq!(mark.to_string(), "0x7b/0xff");
    assert_eq!("123/0xffffffff".parse(), Ok(Mark::default()));
    assert_eq!("0x7b/0".parse::<Mark>(), Err(SettingError::MaskZero));
    assert_eq!("0/0xff".parse::<Mark>(), Err(SettingError::MarkZero));
    let outside = SettingError::MarkOutsideMask { mark: 0x17b, mask: 0xff };
    assert_eq!("0x17b/0xff".parse::<Mark>(), Err(outside));
    for text in ["0x7b/", "/0xff", "0x7b/0xff/1", "0x7b/ff"] {
        assert!(matches!(text.parse::<Mark>(), Err(SettingError::NotANumber { .. })), "{text}");
    }
}

#[test]
fn ports_are_one_or_a_range() {
    let ports = |text: &str| text.parse::<Ports>().map(|ports| (ports.first(), ports.last()));
    assert_eq!(ports("20000-20100"), Ok((20000, 20100)));
    assert_eq!(ports("53"), Ok((53, 53)));
    for text in ["0", "", "-", "5-4", "1-65536", "+1-5", "1-+5", "1-2-3", "http"] {
        assert_eq!(ports(text), Err(SettingError::NotPorts(text.to_owned())), "{text}");
    }
}

#[test]
fn the_edges_of_what_is_allowed_are_allowed() {
    for table in [1, 252, 256, u32::MAX] {
        assert_eq!(Table::new(table).map(Table::get), Ok(table));
    }
    for priority in [1, Priority::LAST] {
        assert_eq!(Priority::new(priority).map(Priority::get), Ok(priority));
    }
}

proptest! {
    /// What is printed is read back as the same value.
    #[test]
    fn printing_and_reading_agree(mark in 1..=u32::MAX, more: u32, table in 256..=u32::MAX, priority in 1..=Priority::LAST) {
        prop_assert_eq!(Mark::new(mark)?.to_string().parse(), Mark::new(mark));
        prop_assert_eq!(mark.to_string().parse(), Mark::new(mark));
        prop_assert_eq!(Mark::masked(mark, mark | more)?.to_string().parse(), Mark::masked(mark, mark | more));
        prop_assert_eq!(Table::new(table)?.to_string().parse(), Table::new(table));
        prop_assert_eq!(Priority::new(priority)?.to_string().parse(), Priority::new(priority));
    }
}
