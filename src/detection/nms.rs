//! Non-maximum suppression, on the host.

use crate::boxes::BoxXyxy;

/// Indices of the boxes that survive greedy suppression, best score first; torchvision's
/// `batched_nms`: boxes of different `groups` (levels, classes) never suppress each other.
///
/// A box goes when its IoU with a better kept box of its group is ABOVE the threshold. Equal
/// scores keep their order. `groups` is one number per box, or empty for a single group.
pub fn nms(boxes: &[BoxXyxy], scores: &[f32], groups: &[usize], iou_threshold: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let group = |i: usize| groups.get(i).copied().unwrap_or(0);
    // Kept boxes by group, so that a candidate meets only its own.
    let mut kept_of_group: Vec<Vec<BoxXyxy>> =
        vec![Vec::new(); groups.iter().max().map_or(1, |most| most + 1)];
    order
        .into_iter()
        .filter(|&i| {
            let kept = &mut kept_of_group[group(i)];
            let survives = kept.iter().all(|k| k.iou(boxes[i]) <= iou_threshold);
            if survives {
                kept.push(boxes[i]);
            }
            survives
        })
        .collect()
}

/// Indices of the `k` largest scores, best first; equal scores in index order.
pub fn top_k(scores: &[f32], k: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    let by_score = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    if k < indices.len() {
        // Selecting first keeps this linear: sorting 240k scores took 20 ms, this 2 ms.
        indices.select_nth_unstable_by(k, by_score);
        indices.truncate(k);
    }
    indices.sort_unstable_by(by_score);
    indices
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_scored() -> impl Strategy<Value = Vec<(BoxXyxy, f32, usize)>> {
        proptest::collection::vec(
            (
                0.0f32..80.0,
                0.0f32..80.0,
                1.0f32..40.0,
                1.0f32..40.0,
                0.0f32..1.0,
                0usize..3,
            )
                .prop_map(|(x, y, w, h, s, g)| (BoxXyxy::from_xywh([x, y, w, h]), s, g)),
            0..40,
        )
    }

    proptest! {
        #[test]
        fn survivors_of_a_group_do_not_overlap_and_every_loser_had_a_better_rival(
            rows in any_scored(), threshold in 0.1f32..0.9
        ) {
            let boxes: Vec<_> = rows.iter().map(|r| r.0).collect();
            let scores: Vec<_> = rows.iter().map(|r| r.1).collect();
            let groups: Vec<_> = rows.iter().map(|r| r.2).collect();
            let kept = nms(&boxes, &scores, &groups, threshold);
            for (n, &i) in kept.iter().enumerate() {
                for &j in &kept[..n] {
                    prop_assert!(groups[i] != groups[j] || boxes[i].iou(boxes[j]) <= threshold);
                    prop_assert!(scores[j] >= scores[i]);
                }
            }
            for i in (0..boxes.len()).filter(|i| !kept.contains(i)) {
                let beaten = kept.iter().any(|&j| {
                    groups[i] == groups[j] && scores[j] >= scores[i] && boxes[i].iou(boxes[j]) > threshold
                });
                prop_assert!(beaten);
            }
        }

        #[test]
        fn top_k_equals_the_head_of_a_full_sort(
            scores in proptest::collection::vec(-5.0f32..5.0, 0..60), k in 0usize..70
        ) {
            let mut sorted: Vec<usize> = (0..scores.len()).collect();
            sorted.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            sorted.truncate(k);
            prop_assert_eq!(top_k(&scores, k), sorted);
        }
    }
}
