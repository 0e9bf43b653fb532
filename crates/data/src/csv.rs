//! Comma-separated values for spreadsheets and scripts.

/// Formats rows as comma-separated values (RFC 4180 with line feeds).
///
/// Fields with commas, quotes or line breaks are quoted. Rows may differ in length.
///
/// # Examples
/// ```
/// use sedet_data::csv::to_csv;
///
/// assert_eq!(to_csv([["class", "boxes"], ["flat, long", "3"]]), "class,boxes\n\"flat, long\",3\n");
/// ```
pub fn to_csv<Row>(rows: impl IntoIterator<Item = Row>) -> String
where
    Row: IntoIterator,
    Row::Item: AsRef<[u8]>,
{
    let mut writer = ::csv::WriterBuilder::new()
        .flexible(true)
        .from_writer(Vec::new());
    let written = rows
        .into_iter()
        .try_for_each(|row| writer.write_record(row));
    let bytes = written.and_then(|()| {
        writer
            .into_inner()
            .map_err(|error| error.into_error().into())
    });
    String::from_utf8_lossy(&bytes.expect("writing to a vector does not fail")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::to_csv;

    #[test]
    fn fields_with_commas_quotes_and_line_breaks_are_quoted() {
        let rows = [
            ["a", "b,c", "\"d\""],
            ["line\nbreak", "carriage\rreturn", ""],
        ];
        assert_eq!(
            to_csv(rows),
            "a,\"b,c\",\"\"\"d\"\"\"\n\"line\nbreak\",\"carriage\rreturn\",\n"
        );
        let text = to_csv(rows);
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(text.as_bytes());
        for (record, row) in reader.records().zip(rows) {
            assert_eq!(record.unwrap().iter().collect::<Vec<_>>(), row);
        }
    }

    #[test]
    fn rows_may_differ_in_length() {
        let rows = vec![vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]];
        assert_eq!(to_csv(&rows), "a\nb,c\n");
        assert_eq!(to_csv(Vec::<Vec<String>>::new()), "");
    }
}
