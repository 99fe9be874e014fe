package observe

import (
	"fmt"
	"strings"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
)

// form asks for some fields, or for a confirmation alone.
type form struct {
	question string
	warning  string // what cannot be undone, or ""
	names    []string
	fields   []textinput.Model
	current  int
	problem  string // why the values are refused

	// submit starts the action, or returns why it refuses the values.
	submit func(values []string) (tea.Cmd, error)
}

// field is a field of a form with its first value.
type field struct{ name, value string }

// ask shows a form.
func (m *Model) askForm(question, warning string, submit func(values []string) (tea.Cmd, error), fields ...field) tea.Cmd {
	f := &form{question: question, warning: warning, submit: submit}
	for _, x := range fields {
		f.names = append(f.names, x.name)
		f.fields = append(f.fields, newInput("", x.value))
	}
	m.form = f
	return f.focus(0)
}

// confirm shows a question that is answered with y or n.
func (m *Model) confirm(question, warning string, action func() tea.Cmd) tea.Cmd {
	return m.askForm(question, warning, func([]string) (tea.Cmd, error) { return action(), nil })
}

func (f *form) focus(i int) tea.Cmd {
	if len(f.fields) == 0 {
		return nil
	}
	f.fields[f.current].Blur()
	f.current = (i + len(f.fields)) % len(f.fields)
	return f.fields[f.current].Focus()
}

func (f *form) edit(msg tea.Msg) (cmd tea.Cmd) {
	if len(f.fields) > 0 {
		f.fields[f.current], cmd = f.fields[f.current].Update(msg)
	}
	return cmd
}

func (m *Model) pressForm(msg tea.KeyPressMsg, name string) tea.Cmd {
	f := m.form
	confirms := len(f.fields) == 0
	switch {
	case name == "esc", confirms && name == "n":
		m.form = nil
		return nil
	case confirms && name == "y", name == "enter" && f.current == len(f.fields)-1:
		return m.submitForm()
	case confirms:
		return nil
	case name == "enter", name == "tab", name == "down":
		return f.focus(f.current + 1)
	case name == "shift+tab", name == "up":
		return f.focus(f.current - 1)
	}
	return f.edit(msg)
}

func (m *Model) submitForm() tea.Cmd {
	f := m.form
	values := make([]string, len(f.fields))
	for i := range f.fields {
		values[i] = f.fields[i].Value()
	}
	cmd, err := f.submit(values)
	if err != nil {
		f.problem = oneLine(err)
		return nil
	}
	m.form = nil
	return cmd
}

func (f *form) view(width int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s\n", titleStyle.Render(f.question))
	if f.warning != "" {
		fmt.Fprintf(&out, "%s\n", f.warning)
	}
	out.WriteByte('\n')
	for i := range f.fields {
		mark := noMark
		if i == f.current {
			mark = cursorMark
		}
		f.fields[i].SetWidth(max(10, width-26))
		fmt.Fprintf(&out, "%s%-20s %s\n", mark, f.names[i], f.fields[i].View())
	}
	if f.problem != "" {
		fmt.Fprintf(&out, "\n%s\n", errorStyle.Render(f.problem))
	}
	return out.String()
}

func (f *form) keys() []binding {
	if len(f.fields) == 0 {
		return []binding{{"y", "yes"}, {"n", "no"}}
	}
	keys := []binding{{"enter", "go on"}, {"esc", "cancel"}}
	if len(f.fields) > 1 {
		keys = append(keys, binding{"tab", "next field"})
	}
	return keys
}
