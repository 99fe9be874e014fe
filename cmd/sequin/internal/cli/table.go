package cli

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"
)

// Table prints rows in aligned columns, below their names. Without rows it prints empty instead.
func Table(out io.Writer, columns []string, rows [][]string, empty string) error {
	if len(rows) == 0 {
		_, err := io.WriteString(out, empty+"\n")
		return err
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{columns}, rows...) {
		_, _ = io.WriteString(table, strings.Join(row, "\t")+"\n") // a strings.Builder never fails
	}
	_ = table.Flush()
	_, err := io.WriteString(out, trimLines(text.String()))
	return err
}

// Fields prints names and values, one pair a line.
func Fields(out io.Writer, fields [][2]string) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		_, _ = io.WriteString(table, f[0]+"\t"+f[1]+"\n")
	}
	_ = table.Flush()
	_, err := io.WriteString(out, trimLines(text.String()))
	return err
}

// trimLines removes the spaces at the ends of lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// JSON prints a value on one line. Characters that are special in HTML stay as they are.
func JSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
