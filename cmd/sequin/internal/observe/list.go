package observe

import (
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// column is a column of a list.
type column struct {
	name  string
	width int  // 0 for what is left
	right bool // aligned to the right
}

// row is a line of a list. Its cells cannot control the terminal.
type row struct {
	id    string // by which the cursor finds it again
	cells []string
}

// list is a table with a cursor. The cursor stays at its row when others come and go.
type list struct {
	columns []column
	rows    []row
	empty   string // what is shown when there are no rows

	cursor, offset, height int
}

// set replaces the rows.
func (l *list) set(columns []column, rows []row) {
	id := l.selected()
	l.columns, l.rows = columns, rows
	if i := slices.IndexFunc(rows, func(r row) bool { return r.id == id }); i >= 0 && id != "" {
		l.cursor = i
	}
	l.move(0)
}

// reset removes the rows: others take their place.
func (l *list) reset() { l.rows, l.cursor, l.offset, l.empty = nil, 0, 0, "Asking the server ..." }

// selected returns the id of the row at the cursor, or "".
func (l *list) selected() string {
	if l.cursor >= len(l.rows) {
		return ""
	}
	return l.rows[l.cursor].id
}

func (l *list) move(by int) { l.cursor = max(0, min(l.cursor+by, len(l.rows)-1)) }

// press moves the cursor. It returns false for a key that does not.
func (l *list) press(key string) bool {
	page := max(1, l.height-1)
	switch key {
	case "up", "k":
		l.move(-1)
	case "down", "j":
		l.move(1)
	case "pgup", "ctrl+b":
		l.move(-page)
	case "pgdown", "ctrl+f", "space":
		l.move(page)
	case "home", "g":
		l.move(-len(l.rows))
	case "end", "G":
		l.move(len(l.rows))
	default:
		return false
	}
	return true
}

// marks are what stands before a row. The cursor must be seen without colours, too.
const cursorMark, noMark = "> ", "  "

func (l *list) view(width, height int) string {
	l.height = height - 1 // without the head
	l.offset = max(0, min(l.offset, l.cursor, len(l.rows)-1))
	if l.cursor >= l.offset+l.height {
		l.offset = l.cursor - l.height + 1
	}
	widths := l.widths(width)
	names := make([]string, len(l.columns))
	for i, c := range l.columns {
		names[i] = c.name
	}
	lines := []string{headStyle.Render(noMark + l.line(names, widths))}
	if len(l.rows) == 0 {
		lines = append(lines, "", noMark+l.empty)
	}
	for i := l.offset; i < min(len(l.rows), l.offset+l.height); i++ {
		line := l.line(l.rows[i].cells, widths)
		if i == l.cursor {
			line = cursorStyle.Render(cursorMark + line)
		} else {
			line = noMark + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// widths shares what is left between the columns without a width.
func (l *list) widths(width int) []int {
	left, flexible := width-len(noMark), 0
	for _, c := range l.columns {
		left -= c.width + 1
		if c.width == 0 {
			flexible++
		}
	}
	left++ // no space behind the last
	out := make([]int, len(l.columns))
	for i, c := range l.columns {
		if out[i] = c.width; c.width == 0 {
			out[i] = max(4, left/flexible)
		}
	}
	return out
}

// line puts cells side by side.
func (l *list) line(cells []string, widths []int) string {
	var out strings.Builder
	for i, cell := range cells {
		if i > 0 {
			out.WriteByte(' ')
		}
		cell = ansi.Truncate(cell, widths[i], "…")
		space := strings.Repeat(" ", widths[i]-ansi.StringWidth(cell))
		if l.columns[i].right {
			out.WriteString(space + cell)
		} else {
			out.WriteString(cell + space)
		}
	}
	return out.String()
}
