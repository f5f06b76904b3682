//! Columns as kubectl aligns them.

/// Blanks between columns.
const GAP: usize = 3;

/// A header and rows; a cell never contains blanks, so that scripts can split at them, but where it is prose.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()] }
    }

    pub fn add(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|text| cell(&text)).collect());
    }

    /// With the blanks of prose. The last cell is mostly such, and nothing needs to be split behind it.
    pub fn add_as_is(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0) + GAP).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < row.len() {
                    text.extend(std::iter::repeat_n(' ', widths[column] - cell.chars().count()));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// `<none>` for an empty cell, `-` for each blank of what should have none.
fn cell(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.replace(char::is_whitespace, "-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_cells_have_no_blanks() {
        let mut table = Table::new(&["NAME", "IP"]);
        table.add(vec!["a-long-name".to_owned(), String::new()]);
        table.add(vec!["b c".to_owned(), "10.85.0.2".to_owned()]);
        assert_eq!(table.render(), "NAME          IP\na-long-name   <none>\nb-c           10.85.0.2\n");
    }
}
