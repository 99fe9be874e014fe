package observe

import (
	"fmt"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// Colours add to what is said otherwise: a terminal without them shows the same.
var (
	titleStyle  = lipgloss.NewStyle().Bold(true)
	headStyle   = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Cyan)
	cursorStyle = lipgloss.NewStyle().Reverse(true)
	errorStyle  = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
	keyStyle    = lipgloss.NewStyle().Bold(true)
)

// frameLines are the lines around the body: the title and the summary above it, the status and the keys below.
const frameLines = 4

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(m.render())
	v.AltScreen = true
	v.WindowTitle = "sequin observe"
	return v
}

func (m *Model) render() string {
	height := max(1, m.height-frameLines)
	var body string
	switch {
	case m.form != nil:
		body = m.form.view(m.width)
	case m.help:
		body = m.helpText()
	default:
		body = m.top().body(m.width, height)
	}
	lines := []string{titleStyle.Render(fit(m.titleLine(), m.width)), fit(m.top().summary(), m.width)}
	lines = append(lines, exactly(body, m.width, height)...)
	return strings.Join(append(lines, m.statusLine(), m.keyLine()), "\n")
}

// titleLine says where the user is, and which server answers.
func (m *Model) titleLine() string {
	var path []string
	for _, s := range m.stack {
		path = append(path, s.title())
	}
	left := strings.Join(path, " > ")
	right := m.cfg.URL
	kind := kindText(m.server)
	if m.silent() {
		kind = "no answer"
	}
	if kind != "" {
		right += " (" + kind + ")"
	}
	right = visible(right)
	if gap := m.width - ansi.StringWidth(left) - ansi.StringWidth(right); gap > 0 {
		return left + strings.Repeat(" ", gap) + right
	}
	return left
}

// kindText says what a server lacks.
func kindText(s overview.Server) string {
	switch {
	case s.Kind == "":
		return ""
	case s.Kind == sequin.Server2024:
		return "release of 2024"
	case !s.Metrics:
		return "no metrics"
	}
	return fmt.Sprintf("%d ms", s.RoundTrip.Round(time.Millisecond).Milliseconds())
}

func (m *Model) statusLine() string {
	switch {
	case m.filtering:
		return fit(m.filter.View(), m.width)
	case m.busy != "":
		return fit(m.busy+" ...", m.width)
	case m.silent():
		text := "no answer for " + short(m.cfg.Now().Sub(m.heard))
		if m.down && m.problem != "" {
			text += ": " + m.problem
		}
		return errorStyle.Render(fit(text, m.width))
	case m.problem != "":
		return errorStyle.Render(fit("error: "+m.problem, m.width))
	case m.failed:
		return errorStyle.Render(fit("error: "+m.status, m.width))
	case m.status != "":
		return fit(m.status, m.width)
	case m.top().filterText() != "":
		return fit("filter: "+visible(m.top().filterText())+"  (esc removes it)", m.width)
	}
	return ""
}

// keyLine shows as many keys as fit, the most useful first.
func (m *Model) keyLine() string {
	var out strings.Builder
	width := 0
	for _, b := range m.shownKeys() {
		text := b.key + " " + b.does
		if width > 0 {
			text = "  " + text
		}
		if width += ansi.StringWidth(text); width > m.width {
			break
		}
		if out.Len() > 0 {
			out.WriteString("  ")
		}
		out.WriteString(keyStyle.Render(b.key) + " " + b.does)
	}
	return out.String()
}

func (m *Model) shownKeys() []binding {
	switch {
	case m.form != nil:
		return m.form.keys()
	case m.filtering:
		return []binding{{"enter", "filter"}, {"esc", "show all"}}
	case m.help:
		return []binding{{"any key", "back"}}
	}
	shown := []binding{{"?", "help"}}
	if len(m.stack) > 1 {
		shown = append(shown, binding{"esc", "back"})
	}
	return append(shown, m.top().keys()...)
}

func (m *Model) helpText() string {
	var out strings.Builder
	line := func(b binding) { fmt.Fprintf(&out, "  %-12s %s\n", b.key, b.does) }
	for _, b := range m.top().keys() {
		line(b)
	}
	for _, b := range []binding{
		{"/", "filter"}, {"esc", "remove the filter, or go back"}, {"up, down", "move, also with j, k, page up and down, home, end"},
		{"ctrl+r", "ask the server now"}, {"q", "quit"},
	} {
		line(b)
	}
	return out.String()
}

// visible returns text of the server as one line that cannot control the terminal.
func visible(text string) string { return overview.Visible(text, false) }

// fit cuts a line that is wider than the terminal.
func fit(line string, width int) string { return ansi.Truncate(line, width, "…") }

// exactly returns the first lines of text, or blank ones behind it.
func exactly(text string, width, height int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		lines[i] = fit(lines[i], width)
	}
	if len(lines) > height {
		lines = lines[:height]
	}
	for len(lines) < height {
		lines = append(lines, "")
	}
	return lines
}

// short returns a time in its largest unit.
func short(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	var start time.Time
	return strings.TrimSuffix(cli.Age(start.Add(d+time.Hour), start.Add(time.Hour)), " ago")
}

// count returns a number in at most 6 characters: 999999, 1.5M, 12M.
func count(n int64) string {
	switch {
	case n < 1_000_000:
		return fmt.Sprint(n)
	case n < 9_950_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n < 999_500_000:
		return fmt.Sprintf("%.0fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fG", float64(n)/1e9)
}

// perSecond returns a rate, or "-" for an unknown one.
func perSecond(r overview.Rate) string {
	switch {
	case !r.Known:
		return "-"
	case r.Now > 0 && r.Now < 9.95:
		return fmt.Sprintf("%.1f", r.Now)
	}
	return count(int64(r.Now + 0.5))
}

// bars are the characters of a sparkline, the lowest first.
var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline shows the last rates, the highest at full height.
func sparkline(r overview.Rate, width int) string {
	history := r.History
	history = history[max(0, len(history)-width):]
	highest := 0.0
	for _, v := range history {
		highest = max(highest, v)
	}
	out := []rune(strings.Repeat(" ", width-len(history)))
	for _, v := range history {
		bar := bars[0]
		if highest > 0 {
			bar = bars[min(len(bars)-1, int(v/highest*float64(len(bars)-1)+0.5))]
		}
		out = append(out, bar)
	}
	return string(out)
}

func newInput(prompt, value string) textinput.Model {
	in := textinput.New()
	in.Prompt = prompt
	in.SetValue(value)
	return in
}
