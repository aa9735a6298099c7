//! Which records of a batch are new: arithmetic over a stream's watermark. Pure.

/// What to do with a batch, given its stream's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Records at the front that are stored already.
    pub duplicate: u64,
    /// Records behind those, to be stored.
    pub fresh: u64,
    /// Sequence numbers between the watermark and the batch that never came: the sensor gave
    /// them up. They are counted, not waited for.
    pub gap: u64,
    /// Watermark once the batch is stored; also what is acknowledged.
    pub watermark: u64,
}

/// Admits records `first_seq ..= last_seq` to a stream whose records up to `watermark` are
/// stored. Numbers start at 1, so 0 is the watermark of a stream never seen.
#[must_use]
pub fn admit(watermark: u64, first_seq: u64, last_seq: u64) -> Admission {
    let count = last_seq.saturating_sub(first_seq).saturating_add(1);
    let duplicate = watermark
        .saturating_add(1)
        .saturating_sub(first_seq)
        .min(count);
    Admission {
        duplicate,
        fresh: count - duplicate,
        gap: first_seq.saturating_sub(watermark.saturating_add(1)),
        watermark: watermark.max(last_seq),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn next_duplicate_overlapping_and_gapped_batches_are_told_apart() {
        let admission = |duplicate, fresh, gap, watermark| Admission {
            duplicate,
            fresh,
            gap,
            watermark,
        };
        assert_eq!(admit(0, 1, 10), admission(0, 10, 0, 10));
        assert_eq!(admit(10, 1, 10), admission(10, 0, 0, 10));
        assert_eq!(admit(10, 5, 15), admission(6, 5, 0, 15));
        assert_eq!(admit(10, 21, 30), admission(0, 10, 10, 30));
        assert_eq!(admit(10, 2, 3), admission(2, 0, 0, 10));
    }

    proptest! {
        #[test]
        fn any_run_of_resends_stores_each_number_at_most_once_and_skips_only_what_is_counted(
            batches in prop::collection::vec((1u64..60, 1u64..12), 1..40)
        ) {
            let mut watermark = 0;
            let mut stored = BTreeSet::new();
            let mut gaps = 0;
            for (first, count) in batches {
                let last = first + count - 1;
                let a = admit(watermark, first, last);
                prop_assert_eq!(a.duplicate + a.fresh, count);
                for seq in first + a.duplicate..=last {
                    prop_assert!(stored.insert(seq));
                }
                gaps += a.gap;
                prop_assert!(a.watermark >= watermark);
                watermark = a.watermark;
            }
            prop_assert_eq!(watermark, stored.len() as u64 + gaps);
        }
    }
}
