//! Pascal VOC annotations: one XML file per image, corners in pixels.
//!
//! Format: <http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html>. Coordinates
//! are used as they are in the file: tools disagree on whether they count from 0 or 1.

use crate::DataError;
use crate::annotations::AnnotationStore;
use crate::boxes::{BoxXyxy, ImageSize};
use roxmltree::{Document, Node};
use std::path::Path;

/// An annotated image.
#[derive(Debug, Clone, PartialEq)]
pub struct VocImage {
    /// The image's file name in the annotation; some tools omit the extension.
    pub file_name: String,
    /// Height and width in the annotation; some tools write 0.
    pub size: ImageSize,
    /// The objects, in the order of the file.
    pub objects: Vec<VocObject>,
}

/// An object of a [`VocImage`].
#[derive(Debug, Clone, PartialEq)]
pub struct VocObject {
    /// The class.
    pub name: String,
    /// `xmin, ymin, xmax, ymax` in pixels; it may have no area.
    pub box_in_image: BoxXyxy,
    /// Whether the object is hard to recognize; VOC's evaluation ignores such objects.
    pub difficult: bool,
    /// Whether the box does not contain the whole object.
    pub truncated: bool,
    /// Names of the other elements that have a value, such as `pose`, `occluded` and `part`; without
    /// those that are empty, 0 or `Unspecified`.
    pub others: Vec<String>,
}

/// Parses the text of an annotation; `path` is used in error messages only.
///
/// # Errors
/// The text is not well-formed XML, or an element is missing or has an unexpected content.
pub fn parse(text: &str, path: &Path) -> Result<VocImage, DataError> {
    // Some tools begin with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = Document::parse(text)
        .map_err(|error| DataError::labels(path, format!("not well-formed XML: {error}")))?;
    let reader = Reader { path };
    let root = document.root_element();
    let size = reader.child(root, "size", "<width> and <height>")?;
    Ok(VocImage {
        file_name: reader.text(root, "filename")?.to_owned(),
        size: ImageSize::new(
            reader.pixels(size, "height")?,
            reader.pixels(size, "width")?,
        ),
        objects: root
            .children()
            .filter(|node| node.has_tag_name("object"))
            .map(|node| reader.object(node))
            .collect::<Result<_, _>>()?,
    })
}

/// Reader of child elements; error messages name the file.
struct Reader<'p> {
    path: &'p Path,
}

impl Reader<'_> {
    fn error(&self, parent: Node, element: &'static str, expected: &'static str) -> DataError {
        let line = parent.document().text_pos_at(parent.range().start).row;
        let parent = parent.tag_name().name();
        let problem = format!("line {line}: <{parent}> needs <{element}> with {expected}");
        DataError::labels(self.path, problem)
    }

    fn child<'a, 'i>(
        &self,
        parent: Node<'a, 'i>,
        element: &'static str,
        expected: &'static str,
    ) -> Result<Node<'a, 'i>, DataError> {
        parent
            .children()
            .find(|node| node.has_tag_name(element))
            .ok_or_else(|| self.error(parent, element, expected))
    }

    fn text<'a>(&self, parent: Node<'a, '_>, element: &'static str) -> Result<&'a str, DataError> {
        self.child(parent, element, "a text")?
            .text()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.error(parent, element, "a text"))
    }

    fn pixels(&self, parent: Node, element: &'static str) -> Result<usize, DataError> {
        self.text(parent, element)?
            .parse()
            .map_err(|_| self.error(parent, element, "a whole number of pixels"))
    }

    fn coordinate(&self, parent: Node, element: &'static str) -> Result<f32, DataError> {
        self.text(parent, element)?
            .parse()
            .ok()
            .filter(|value: &f32| value.is_finite())
            .ok_or_else(|| self.error(parent, element, "a finite number"))
    }

    /// Reads a flag of 0 or 1; a missing or empty element is 0, as is `Unspecified`, written by
    /// some tools.
    fn flag(&self, parent: Node, element: &'static str) -> Result<bool, DataError> {
        let text = parent
            .children()
            .find(|node| node.has_tag_name(element))
            .and_then(|node| node.text())
            .map_or("", str::trim);
        match text {
            "1" => Ok(true),
            "0" | "" | "Unspecified" => Ok(false),
            _ => Err(self.error(parent, element, "0 or 1")),
        }
    }

    fn object(&self, node: Node) -> Result<VocObject, DataError> {
        let corners = self.child(node, "bndbox", "<xmin>, <ymin>, <xmax> and <ymax>")?;
        Ok(VocObject {
            name: self.text(node, "name")?.to_owned(),
            box_in_image: BoxXyxy::new(
                self.coordinate(corners, "xmin")?,
                self.coordinate(corners, "ymin")?,
                self.coordinate(corners, "xmax")?,
                self.coordinate(corners, "ymax")?,
            ),
            difficult: self.flag(node, "difficult")?,
            truncated: self.flag(node, "truncated")?,
            others: others(node),
        })
    }
}

/// Returns the names of the elements that have a value and are not read.
fn others(object: Node) -> Vec<String> {
    const READ: [&str; 4] = ["name", "bndbox", "difficult", "truncated"];
    let has_value = |node: &Node| {
        let text = node.text().map_or("", str::trim);
        node.children().any(|child| child.is_element())
            || !matches!(text, "" | "0" | "Unspecified" | "unspecified")
    };
    let elements = object.children().filter(Node::is_element);
    elements
        .filter(|node| !READ.contains(&node.tag_name().name()) && has_value(node))
        .map(|node| node.tag_name().name().to_owned())
        .collect()
}

/// Formats the annotation of an image, with corners to a ten-thousandth of a pixel. Crowd annotations are
/// skipped.
pub(super) fn format(store: &AnnotationStore, index: usize, file_name: &str) -> String {
    let size = store.image(index).size;
    let mut text = format!(
        "<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{}</filename>\n\t<size>\n\t\t<width>{}</width>\n\t\t<height>{}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n",
        xml_text(file_name),
        size.width,
        size.height,
    );
    for (annotation, xywh) in store.annotations(index).zip(store.boxes_xywh(index)) {
        if annotation.is_crowd {
            continue;
        }
        let [x, y, w, h] = xywh.map(f64::from);
        text += &format!(
            "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{}</xmax>\n\t\t\t<ymax>{}</ymax>\n\t\t</bndbox>\n\t</object>\n",
            xml_text(&store.categories()[annotation.class].name),
            pixels(x),
            pixels(y),
            pixels(x + w),
            pixels(y + h),
        );
    }
    text + "</annotation>\n"
}

fn pixels(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn xml_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // XML 1.0 has no escape for control characters.
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<annotation><filename>a.jpg</filename>
<size><width>640</width><height>480</height><depth>3</depth></size>
<object><name>RBC</name><part><name>x</name></part><difficult> 1 </difficult><truncated>0</truncated>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax> 30 </xmax><ymax>40</ymax></bndbox></object>
<object><bndbox><ymax>4</ymax><xmax>3</xmax><ymin>2</ymin><xmin>1</xmin></bndbox><name>WBC</name><truncated>1</truncated><difficult>Unspecified</difficult></object>
</annotation>";

    #[test]
    fn size_and_objects_are_read_whatever_the_order_of_their_elements() {
        let image = parse(XML, Path::new("a.xml")).unwrap();
        assert_eq!(image.file_name, "a.jpg");
        assert_eq!(image.size, ImageSize::new(480, 640));
        let object = |name: &str, box_in_image, difficult, truncated| VocObject {
            name: name.into(),
            box_in_image,
            difficult,
            truncated,
            others: match name {
                "RBC" => vec!["part".into()],
                _ => Vec::new(),
            },
        };
        assert_eq!(
            image.objects,
            [
                object("RBC", BoxXyxy::new(1.0, 2.5, 30.0, 40.0), true, false),
                object("WBC", BoxXyxy::new(1.0, 2.0, 3.0, 4.0), false, true),
            ]
        );
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_element() {
        for (from, to, says) in [
            ("2.5", "NaN", "<bndbox> needs <ymin> with a finite number"),
            ("480", "-1", "<size> needs <height> with a whole number"),
            (
                " 1 </diff",
                "2</diff",
                "<object> needs <difficult> with 0 or 1",
            ),
            ("<name>WBC</name>", "", "line 5: <object> needs <name>"),
            ("</annotation>", "", "not well-formed XML"),
        ] {
            let error = parse(&XML.replace(from, to), Path::new("dir/a.xml")).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("dir/a.xml"), "{message}");
            assert!(message.contains(says), "{message}");
        }
    }
}
