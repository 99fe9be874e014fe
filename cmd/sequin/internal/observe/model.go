package observe

import (
	"context"
	"errors"
	"strings"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// screen is something that is shown.
type screen interface {
	// title is the screen's part of the path in the first line.
	title() string
	// ask asks the server. It runs beside Update, and must not look at what the screen shows: it is made for one question.
	ask() func(context.Context) (any, error)
	// answered shows what ask has returned.
	answered(any)
	// summary is the line below the title.
	summary() string
	// body returns what is shown between the summary and the keys.
	body(width, height int) string
	// press handles a key. It returns false for one that it does not know.
	press(key string) (tea.Cmd, bool)
	// keys are the keys that it knows, the most useful first.
	keys() []binding
	// filtered takes what the user typed behind a slash. It reports whether the server has to be asked again.
	filtered(text string) (again bool)
	// filterText is what filters the screen now.
	filterText() string
}

// binding is a key and what it does.
type binding struct{ key, does string }

// Model is what the terminal shows. It implements tea.Model.
type Model struct {
	ctx           context.Context
	cfg           Config
	width, height int

	stack  []screen // the last one is shown
	asking screen   // which is being asked, or nil
	server overview.Server

	filter    textinput.Model
	filtering bool
	form      *form // nil for none
	help      bool
	busy      string    // the action that runs, "" for none
	status    string    // the result of the last action
	failed    bool      // status is an error
	problem   string    // why the server cannot be asked, "" if it can
	down      bool      // the last question failed without an answer
	heard     time.Time // of the last answer, or the start
	waiting   time.Time // since when a question has no answer; zero if none is asked
}

type (
	// tick asks for the screen again.
	tick struct{}
	// answer is what the server said to a screen.
	answer struct {
		to    screen
		value any
		err   error
	}
	// done is the result of an action.
	done struct {
		text string
		err  error
	}
)

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.ask(), m.tick()) }

func (m *Model) tick() tea.Cmd {
	return tea.Tick(m.cfg.Every, func(time.Time) tea.Msg { return tick{} })
}

func (m *Model) top() screen { return m.stack[len(m.stack)-1] }

// ask asks the server for the top screen, unless that is being done.
func (m *Model) ask() tea.Cmd {
	s := m.top()
	if m.asking == s {
		return nil
	}
	m.asking = s
	if m.waiting.IsZero() {
		m.waiting = m.cfg.Now()
	}
	question := s.ask()
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, questionTimeout)
		defer cancel()
		value, err := question(ctx)
		return answer{s, value, err}
	}
}

// open shows a screen above the others.
func (m *Model) open(s screen) tea.Cmd {
	m.stack = append(m.stack, s)
	m.clear()
	return m.ask()
}

// close goes back to the screen before.
func (m *Model) close() tea.Cmd {
	if len(m.stack) > 1 {
		m.stack = m.stack[:len(m.stack)-1]
		m.clear()
	}
	return m.ask()
}

// clear removes what is said about the screen that is left, and the result of the last action.
func (m *Model) clear() { m.status, m.failed, m.problem = "", false, "" }

// actionTimeout is how long an action may take. A redrive may take longer: it ends with the program.
const actionTimeout = 30 * time.Second

// act runs an action beside Update. It shows what is done, and then the result.
func (m *Model) act(doing string, action func(context.Context) (string, error)) tea.Cmd {
	return m.actLong(doing, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, actionTimeout)
		defer cancel()
		return action(ctx)
	})
}

func (m *Model) actLong(doing string, action func(context.Context) (string, error)) tea.Cmd {
	m.busy, m.status, m.failed = doing, "", false
	return func() tea.Msg {
		text, err := action(m.ctx)
		m.cfg.Watcher.Changed()
		return done{text, err}
	}
}

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tick:
		return m, tea.Batch(m.ask(), m.tick())
	case answer:
		m.answered(msg)
	case done:
		m.busy, m.status, m.failed = "", msg.text, msg.err != nil
		if msg.err != nil {
			m.status = strings.TrimSpace(msg.text + " " + oneLine(msg.err))
		}
		m.asking = nil // what is being asked is older than the change
		return m, m.ask()
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tea.PasteMsg:
		return m, m.edit(msg)
	}
	return m, nil
}

func (m *Model) answered(a answer) {
	if m.asking == a.to {
		m.asking = nil
	}
	switch err := a.err; {
	case err == nil:
		m.problem = ""
		a.to.answered(a.value)
	case m.ctx.Err() != nil:
		return
	case errors.Is(err, sequin.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		m.problem, m.down = oneLine(err), true
		return
	default:
		m.problem = oneLine(err)
	}
	m.down, m.heard, m.waiting = false, m.cfg.Now(), time.Time{}
	if m.asking != nil {
		m.waiting = m.heard // for the answer to another screen
	}
}

// silent reports whether the server does not answer.
func (m *Model) silent() bool {
	return m.down || !m.waiting.IsZero() && m.cfg.Now().Sub(m.waiting) > patience
}

// oneLine returns an error as one line that cannot control the terminal.
func oneLine(err error) string { return overview.Visible(cli.Line(err), false) }

// press handles a key: of the form, of the filter, of all screens, or of the top one.
func (m *Model) press(msg tea.KeyPressMsg) tea.Cmd {
	name := msg.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case m.form != nil:
		return m.pressForm(msg, name)
	case m.filtering:
		return m.pressFilter(msg, name)
	case m.help:
		m.help = false
		return nil
	}
	switch name {
	case "q":
		return tea.Quit
	case "?":
		m.help = true
	case "/":
		m.filtering = true
		m.filter.SetValue(m.top().filterText())
		m.filter.CursorEnd()
		return m.filter.Focus()
	case "esc", "backspace", "left", "h":
		return m.back()
	case "ctrl+r":
		return m.ask()
	default:
		cmd, _ := m.top().press(name)
		return cmd
	}
	return nil
}

// back removes the filter, or goes back to the screen before.
func (m *Model) back() tea.Cmd {
	if m.top().filterText() != "" {
		m.status, m.failed = "", false
		if m.top().filtered("") {
			m.asking = nil
			return m.ask()
		}
		return nil
	}
	return m.close()
}

func (m *Model) pressFilter(msg tea.KeyPressMsg, name string) tea.Cmd {
	switch name {
	case "esc", "enter":
		m.filtering, m.status, m.failed = false, "", false // the filter is shown where the result was
		m.filter.Blur()
		text := m.filter.Value()
		if name == "esc" {
			text = ""
		}
		if m.top().filtered(strings.TrimSpace(text)) {
			m.asking = nil
			return m.ask()
		}
		return nil
	}
	return m.edit(msg)
}

// edit gives a message to the field that is being edited.
func (m *Model) edit(msg tea.Msg) (cmd tea.Cmd) {
	switch {
	case m.form != nil:
		return m.form.edit(msg)
	case m.filtering:
		m.filter, cmd = m.filter.Update(msg)
	}
	return cmd
}
