//! Groups of tensors for messages: "SE units: 64 tensors" instead of 64 names.

use sedet_data::text::count;

/// Number of tensors that a message lists by name.
pub(crate) const LISTED: usize = 6;

/// Number of other groups that a message lists.
const OTHERS: usize = 4;

/// Describes tensors by native name: a few by their names, many by the parts of the network that they
/// belong to.
pub fn describe(names: &[String]) -> String {
    if names.len() <= LISTED {
        return names.join(", ");
    }
    let mut groups: Vec<(String, usize)> = Vec::new();
    for name in names {
        let group = group_of(name);
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, tensors)) => *tensors += 1,
            None => groups.push((group, 1)),
        }
    }
    let (known, others): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|(group, _)| is_part(group));
    let hidden = others.iter().skip(OTHERS).map(|(_, tensors)| tensors);
    let hidden: usize = hidden.sum();
    let listed = known.iter().chain(others.iter().take(OTHERS));
    let mut listed: Vec<String> = listed
        .map(|(group, tensors)| format!("{group}: {}", count(*tensors, "tensor")))
        .collect();
    if hidden > 0 {
        listed.push(format!("elsewhere: {}", count(hidden, "tensor")));
    }
    listed.join(", ")
}

/// The parts of a network that have a name.
const PARTS: [(&str, &str); 8] = [
    ("backbone.", "backbone"),
    ("fpn.", "FPN"),
    ("rpn.", "RPN"),
    ("box_head.cls_score.", "prediction layers"),
    ("box_head.bbox_pred.", "prediction layers"),
    ("box_head.", "box head"),
    ("fc.", "final layer"),
    ("head.", "head"),
];

/// The group of the SE units, wherever they are.
const UNITS: &str = "SE units";

/// Returns whether a tensor belongs to an SE unit, by its native name.
pub(crate) fn is_of_unit(name: &str) -> bool {
    name.split('.').any(|part| part == "se")
}

fn is_part(group: &str) -> bool {
    group == UNITS || PARTS.iter().any(|(_, part)| *part == group)
}

/// Returns the part of the network, or else the first part of the name, without the name of the tensor
/// itself.
fn group_of(name: &str) -> String {
    let part = PARTS.iter().find(|(start, _)| name.starts_with(start));
    match part {
        _ if is_of_unit(name) => UNITS.to_string(),
        Some((_, part)) => (*part).to_string(),
        None => name.split('.').next().unwrap_or(name).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize, name: impl Fn(usize) -> String) -> Vec<String> {
        (0..count).map(name).collect()
    }

    #[test]
    fn few_tensors_are_named() {
        let few = ["fc.weight", "fc.bias"].map(String::from);
        assert_eq!(describe(&few), "fc.weight, fc.bias");
    }

    #[test]
    fn many_tensors_are_counted_by_the_part_of_the_network() {
        let mut all = names(64, |n| format!("backbone.layer1.{n}.se.fc1.weight"));
        all.extend(names(3, |n| format!("backbone.layer2.{n}.convs.0.weight")));
        all.extend(["weight", "bias"].map(|end| format!("box_head.cls_score.{end}")));
        all.extend(["weight", "bias"].map(|end| format!("box_head.bbox_pred.{end}")));
        all.push("box_head.fc6.weight".into());
        assert_eq!(
            describe(&all),
            "SE units: 64 tensors, backbone: 3 tensors, prediction layers: 4 tensors, box head: 1 tensor"
        );
    }

    #[test]
    fn names_of_other_networks_give_a_short_line_too() {
        let all = names(300, |n| format!("module{}.block{n}.weight", n % 30));
        let line = describe(&all);
        assert!(
            line.ends_with("module3: 10 tensors, elsewhere: 260 tensors"),
            "{line}"
        );
        assert!(line.len() < 120, "{line}");
    }
}
