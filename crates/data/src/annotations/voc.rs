//! Pascal VOC annotations: one XML file per image, corners in pixels.
//!
//! Format: <http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html>. Coordinates
//! are used as they are in the file: tools disagree on whether they count from 0 or 1.

use std::borrow::Cow;
use std::path::Path;

use encoding_rs::Encoding;
use roxmltree::{Document, Node};

use crate::DataError;
use crate::annotations::format::PlacedBox;
use crate::annotations::{AnnotationStore, ObjectFlags};
use crate::boxes::{BoxXyxy, ImageSize, around_rotated};
use crate::text_file::{read_bytes, text_of};

/// An annotated image.
#[derive(Debug, Clone, PartialEq)]
pub struct VocImage {
    /// The image's file name in the annotation, if it has one; some tools omit the extension.
    pub file_name: Option<String>,
    /// Height and width in the annotation; none if it has none or zeros, which some tools write.
    pub size: Option<ImageSize>,
    /// The objects, in the order of the file. An object with several boxes is listed once for each.
    pub objects: Vec<VocObject>,
    /// The number of objects that LabelMe's annotation tool marks as deleted, which are not listed.
    pub deleted: usize,
}

/// An object of a [`VocImage`].
#[derive(Debug, Clone, PartialEq)]
pub struct VocObject {
    /// The class.
    pub name: String,
    /// `xmin, ymin, xmax, ymax` in pixels; it may have no area. Of a rotated box it is the upright one around it.
    pub box_in_image: BoxXyxy,
    /// Whether the box is rotated.
    pub is_rotated: bool,
    /// `difficult` and `truncated`.
    pub flags: ObjectFlags,
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
    if !root.has_tag_name("annotation") {
        let found = root.tag_name().name();
        let problem = format!("<{found}> instead of Pascal VOC's <annotation>");
        return Err(DataError::labels(path, problem));
    }
    let (mut objects, mut deleted) = (Vec::new(), 0);
    for node in root.children().filter(|node| node.has_tag_name("object")) {
        if optional(node, "deleted") == Some("1") {
            deleted += 1;
        } else {
            reader.object(node, &mut objects)?;
        }
    }
    let file_name = optional(root, "filename");
    Ok(VocImage {
        file_name: file_name.map(str::to_owned),
        size: reader.size(root)?,
        objects,
        deleted,
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

    /// Reads the size. An absent or empty one is none: the image has it.
    fn size(&self, root: Node) -> Result<Option<ImageSize>, DataError> {
        let Some(size) = root.children().find(|node| node.has_tag_name("size")) else {
            return Ok(None);
        };
        if !["width", "height"]
            .iter()
            .all(|side| optional(size, side).is_some())
        {
            return Ok(None);
        }
        let (height, width) = (self.pixels(size, "height")?, self.pixels(size, "width")?);
        Ok((height > 0 && width > 0).then_some(ImageSize::new(height, width)))
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

    /// Reads an object once for each of its boxes.
    fn object(&self, node: Node, objects: &mut Vec<VocObject>) -> Result<(), DataError> {
        const CORNERS: &str = "<xmin>, <ymin>, <xmax> and <ymax>";
        self.child(node, "bndbox", CORNERS)?;
        let name = self.text(node, "name")?;
        let flags = ObjectFlags {
            difficult: self.flag(node, "difficult")?,
            truncated: self.flag(node, "truncated")?,
        };
        let rotation = rotation(node);
        for corners in node.children().filter(|node| node.has_tag_name("bndbox")) {
            let written = BoxXyxy::new(
                self.coordinate(corners, "xmin")?,
                self.coordinate(corners, "ymin")?,
                self.coordinate(corners, "xmax")?,
                self.coordinate(corners, "ymax")?,
            );
            objects.push(VocObject {
                name: name.to_owned(),
                box_in_image: match rotation {
                    Some(degrees) => {
                        let xywh = written.to_xywh().map(f64::from);
                        let around = around_rotated(xywh, degrees);
                        BoxXyxy::from_xywh(around.map(|value| value as f32))
                    }
                    None => written,
                },
                is_rotated: rotation.is_some(),
                flags,
                others: others(node),
            });
        }
        Ok(())
    }
}

/// Returns the degrees by which the box of an object is rotated about its center, if it is: CVAT's attribute `rotation`.
fn rotation(object: Node) -> Option<f64> {
    let all = object
        .children()
        .filter(|node| node.has_tag_name("attributes"));
    let mut attributes = all.flat_map(|node| node.children());
    let rotation = attributes.find(|node| optional(*node, "name") == Some("rotation"))?;
    let degrees: f64 = optional(rotation, "value")?.parse().ok()?;
    Some(degrees).filter(|degrees| degrees.is_finite() && degrees % 180.0 != 0.0)
}

/// Returns the text of a child element, if it has any.
fn optional<'a>(parent: Node<'a, '_>, element: &str) -> Option<&'a str> {
    let child = parent.children().find(|node| node.has_tag_name(element))?;
    let text = child.text().map(str::trim);
    text.filter(|text| !text.is_empty())
}

/// Reads an annotation file in the encoding that it declares; without a declaration it is UTF-8.
///
/// # Errors
/// The file cannot be read, is too large, or is not in its encoding.
pub(super) fn read_xml(path: &Path) -> Result<String, DataError> {
    let bytes = read_bytes(path)?;
    decode_xml(bytes, path)
}

/// Decodes an annotation file as [`read_xml`]; `path` is used in error messages only.
///
/// # Errors
/// The bytes are not in their encoding.
pub(super) fn decode_xml(bytes: Vec<u8>, path: &Path) -> Result<String, DataError> {
    let declared = match Encoding::for_bom(&bytes) {
        Some((encoding, _)) => Some(encoding),
        None => declared_encoding(&bytes)
            .map(|label| {
                Encoding::for_label(label.as_bytes())
                    .ok_or_else(|| DataError::labels(path, format!("unknown encoding `{label}`")))
            })
            .transpose()?,
    };
    match declared.filter(|encoding| *encoding != encoding_rs::UTF_8) {
        None => text_of(bytes, path),
        Some(encoding) => match encoding.decode(&bytes) {
            // The declaration no longer holds; the parser does not look at it.
            (text, _, false) => Ok(text.into_owned()),
            (_, encoding, true) => {
                let problem = format!("the content is not {}, as it declares", encoding.name());
                Err(DataError::labels(path, problem))
            }
        },
    }
}

/// Returns the encoding in the XML declaration.
fn declared_encoding(bytes: &[u8]) -> Option<&str> {
    const DECLARATION: usize = 200;
    let start = &bytes[..bytes.len().min(DECLARATION)];
    let end = start.windows(2).position(|pair| pair == b"?>")?;
    let declaration = std::str::from_utf8(&start[..end]).ok()?;
    let declaration = declaration.trim_start().strip_prefix("<?xml")?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split_once(quote).map(|(label, _)| label)
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

/// Formats the annotation of an image, with corners to a ten-thousandth of a pixel.
pub(super) fn format(
    store: &AnnotationStore,
    index: usize,
    file_name: &str,
    boxes: &[PlacedBox],
) -> String {
    let size = store.image(index).size;
    let mut text = format!(
        "<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{}</filename>\n\t<size>\n\t\t<width>{}</width>\n\t\t<height>{}</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n",
        xml_text(file_name),
        size.width,
        size.height,
    );
    for found in boxes {
        let [x, y, w, h] = found.xywh;
        text += &format!(
            "\t<object>\n\t\t<name>{}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>{}</truncated>\n\t\t<difficult>{}</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymin>{}</ymin>\n\t\t\t<xmax>{}</xmax>\n\t\t\t<ymax>{}</ymax>\n\t\t</bndbox>\n\t</object>\n",
            xml_text(&store.categories()[found.class].name),
            u8::from(found.flags.truncated),
            u8::from(found.flags.difficult),
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

/// Returns a class name as it is stored: XML 1.0 has no control characters, and readers remove the spaces
/// around a value.
pub(super) fn stored_name(name: &str) -> Cow<'_, str> {
    let trimmed = name.trim();
    if trimmed.contains(char::is_control) {
        Cow::Owned(trimmed.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(trimmed)
    }
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
    use proptest::prelude::*;

    const XML: &str = "<annotation><filename>a.jpg</filename>
<size><width>640</width><height>480</height><depth>3</depth></size>
<object><name>RBC</name><part><name>x</name></part><difficult> 1 </difficult><truncated>0</truncated>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax> 30 </xmax><ymax>40</ymax></bndbox></object>
<object><bndbox><ymax>4</ymax><xmax>3</xmax><ymin>2</ymin><xmin>1</xmin></bndbox><name>WBC</name><truncated>1</truncated><difficult>Unspecified</difficult></object>
</annotation>";

    #[test]
    fn size_and_objects_are_read_whatever_the_order_of_their_elements() {
        let image = parse(XML, Path::new("a.xml")).unwrap();
        assert_eq!(image.file_name.as_deref(), Some("a.jpg"));
        assert_eq!(image.size, Some(ImageSize::new(480, 640)));
        let object = |name: &str, box_in_image, difficult, truncated| VocObject {
            name: name.into(),
            box_in_image,
            is_rotated: false,
            flags: ObjectFlags {
                difficult,
                truncated,
            },
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
        for (from, to, expected) in [
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
            assert!(message.contains(expected), "{message}");
        }
    }

    proptest! {
        #[test]
        fn files_of_any_content_never_panic(mut bytes in Just(XML.as_bytes().to_vec()),
            at in 0usize..400, with in proptest::collection::vec(any::<u8>(), 0..8)) {
            let at = at.min(bytes.len());
            bytes.splice(at..(at + with.len()).min(bytes.len()), with);
            if let Ok(text) = decode_xml(bytes, Path::new("a.xml")) {
                let _ = parse(&text, Path::new("a.xml"));
            }
        }
    }

    #[test]
    fn a_box_with_the_attribute_rotation_is_the_upright_one_around_it() {
        let object = |attributes: &str| {
            let corners = "<xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>30</ymax>";
            let xml = format!(
                "<annotation><object><name>cat</name><bndbox>{corners}</bndbox><attributes>{attributes}</attributes></object></annotation>"
            );
            let read = parse(&xml, Path::new("a.xml")).unwrap();
            let BoxXyxy { x1, y1, x2, y2 } = read.objects[0].box_in_image;
            (read.objects[0].is_rotated, [x1, y1, x2, y2].map(f32::round))
        };
        let attribute = |name: &str, value: &str| {
            format!("<attribute><name>{name}</name><value>{value}</value></attribute>")
        };
        let upright = (false, [10.0, 20.0, 50.0, 30.0]);
        let both = attribute("color", "90") + &attribute("rotation", "90.0");
        assert_eq!(object(&both), (true, [25.0, 5.0, 35.0, 45.0]));
        for (name, value) in [("rotation", "0.0"), ("rotation", "left"), ("angle", "90")] {
            assert_eq!(object(&attribute(name, value)), upright);
        }
    }

    #[test]
    fn name_and_size_may_be_missing_and_an_object_may_have_several_boxes() {
        let corners = |x: u32| {
            format!(
                "<bndbox><xmin>{x}</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>5</ymax></bndbox>",
                x + 2
            )
        };
        let xml = format!(
            "<annotation><size><width>0</width><height>9</height></size><object><name>cat</name>{}{}{}</object></annotation>",
            corners(1),
            corners(10),
            corners(20)
        );
        let image = parse(&xml, Path::new("a.xml")).unwrap();
        assert_eq!((image.file_name, image.size), (None, None));
        let lefts: Vec<f32> = image.objects.iter().map(|o| o.box_in_image.x1).collect();
        assert_eq!(lefts, [1.0, 10.0, 20.0]);
    }

    #[test]
    fn a_file_is_read_in_the_encoding_that_it_declares() {
        let path = Path::new("a.xml");
        let xml = |encoding: &str, name: &[u8]| {
            let head = format!("<?xml version=\"1.0\" encoding='{encoding}'?><name>");
            [head.as_bytes(), name, b"</name>"].concat()
        };
        let decode = |bytes| decode_xml(bytes, path);
        assert!(
            decode(xml("gb2312", &[0xc3, 0xa8]))
                .unwrap()
                .contains("<name>猫<")
        );
        assert!(
            decode(xml("ISO-8859-1", &[0xe9]))
                .unwrap()
                .contains("<name>é<")
        );
        assert!(
            decode(xml("utf-8", "é".as_bytes()))
                .unwrap()
                .contains("<name>é<")
        );
        let utf16 = "\u{feff}<name>é</name>".encode_utf16();
        let utf16: Vec<u8> = utf16.flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(utf16).unwrap(), "<name>é</name>");
        let message = |bytes| decode(bytes).unwrap_err().to_string();
        assert!(message(xml("gb2312", &[0xff])).contains("not GBK"));
        assert!(message(xml("klingon", b"")).contains("unknown encoding `klingon`"));
        assert!(message(xml("utf-8", &[0xff])).contains("not UTF-8"));
    }
}
